"""Publications for tests of what is read from them."""

from datetime import UTC, date, datetime

from schemas.latest import FailedTicker, Publication, StoredForecast
from schemas.predict import Explanation
from services.prices.calendars import next_sessions

AS_OF = date(2024, 7, 18)
MADE_AT = datetime(2024, 7, 18, 23, 30, tzinfo=UTC)  # New York has closed
LEVELS = (0.8, 0.95)


def stored(ticker: str = "AAA", **changes: object) -> StoredForecast:
    """Two steps after a close of 100: a median of 101, and an 80 % range of 98 to 104."""
    as_of = changes.get("as_of", AS_OF)
    exchange = str(changes.get("exchange", "XNYS"))
    assert isinstance(as_of, date)
    fields: dict[str, object] = {
        "ticker": ticker,
        "currency": "USD",
        "exchange": exchange,
        "source": "fake",
        "demo": False,
        "model_id": "walk-1",
        "alias": "default",
        "model": "return_lstm",
        "target_column": "Close",
        "as_of": as_of,
        "last_close": 100.0,
        "persistence": 100.0,
        "closes": (99.0, 100.0),
        "drift": "ok",
        "warnings": (),
        "made_at": MADE_AT,
        "explanation": Explanation(expected_move_pct=2.0, usual_move_pct=1.0, parts=None, sentence="Twice the usual."),
        "sessions": next_sessions(exchange, as_of, 2),
        "estimated": (False, False),
        "median": (101.0, 102.0),
        "lower": ((98.0, 96.0), (97.0, 95.0)),
        "upper": ((104.0, 106.0), (105.0, 107.0)),
    }
    return StoredForecast.model_validate({**fields, **changes})


def failed(ticker: str, at: datetime = MADE_AT) -> FailedTicker:
    return FailedTicker(
        ticker=ticker, code="ticker_not_found", detail=f"no prices of {ticker}", status=404, failed_at=at
    )


def publication(*forecasts: StoredForecast, made_at: datetime = MADE_AT, fails: tuple[str, ...] = ()) -> Publication:
    return Publication(
        made_at=made_at,
        horizon=2,
        levels=LEVELS,
        forecasts=forecasts or (stored(),),
        failed=tuple(map(failed, fails)),
    )
