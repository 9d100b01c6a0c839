"""Turn a forecast into the answers of the routes: by model, and by symbol for legacy contract v2."""

from typing import Any

from errors import AppError
from models.base import CLOSE
from schemas.accuracy import StepReport
from schemas.batch import BatchForecast, SymbolError, SymbolResult
from schemas.by_symbol import NOT_KNOWN, DailyForecast, DayForecast, SymbolForecast, SymbolPrediction
from schemas.predict import Evidence, ForecastResponse, Interval, PredictResponse, Step
from services.forecasting.forecast import Batch, Forecast, ticker_warnings


def predict_response(forecast: Forecast) -> PredictResponse:
    (step,) = _steps(forecast)
    return PredictResponse(
        **_context(forecast),
        prediction=(step.price,),
        target_session=step.session,
        estimated=step.estimated,
        intervals=step.intervals,
        persistence=step.persistence,
    )


def forecast_response(forecast: Forecast) -> ForecastResponse:
    return ForecastResponse(**_context(forecast), horizon=len(forecast.median), forecast=_steps(forecast))


def symbol_prediction(forecast: Forecast) -> SymbolPrediction:
    """The next close of a ticker."""
    given, history = forecast.given, forecast.given.history
    return SymbolPrediction(
        **_model(forecast, forecast.card.evidence(history.series.ticker, 1)),
        **_prices(forecast),
        **_next_close(forecast),
        symbol=history.series.ticker,
        prediction_for_date=given.sessions[0],
        estimated=given.estimated[0],
        last_data_date=history.as_of,
    )


def closes_prediction(forecast: Forecast, symbol: str | None) -> SymbolPrediction:
    """The close after prices that the caller sent; ``symbol`` is the ticker that they belong to."""
    return SymbolPrediction(
        **_model(forecast, (forecast.card.tickers, forecast.card.test_closes_only)),
        **_next_close(forecast),
        symbol=symbol or NOT_KNOWN,
        prediction_for_date=NOT_KNOWN,
        estimated=False,
        last_data_date=NOT_KNOWN,
        currency=None,
        source="request",
        stale=None,
        demo=False,
        dropped={},
        repaired={},
        warnings=(*forecast.warnings, *ticker_warnings(forecast.card, symbol)),
    )


def symbol_forecast(forecast: Forecast) -> SymbolForecast:
    symbol = forecast.given.history.series.ticker
    return SymbolForecast(
        **_model(forecast, forecast.card.evidence(symbol, len(forecast.median))),
        **dict(_daily(forecast)),
        symbol=symbol,
        forecast_days=len(forecast.median),
    )


def batch_forecast(batch: Batch) -> BatchForecast:
    """Every symbol's forecast or error, in the order of the request."""
    return BatchForecast(
        **_model(batch, batch.card.evidence(None, batch.horizon)),
        forecast_days=batch.horizon,
        results=tuple(_result(symbol, one) for symbol, one in batch.forecasts.items()),
    )


def _result(symbol: str, forecast: Forecast | AppError) -> SymbolResult:
    if isinstance(forecast, Forecast):
        return SymbolResult(symbol=symbol, result=_daily(forecast), error=None)
    error = SymbolError(
        code=forecast.code,
        detail=forecast.message,
        status=forecast.status_code,
        did_you_mean=forecast.did_you_mean,
    )
    return SymbolResult(symbol=symbol, result=None, error=error)


def _daily(forecast: Forecast) -> DailyForecast:
    last_close = forecast.given.last_close
    return DailyForecast(
        **_prices(forecast),
        base_price=last_close,
        base_date=forecast.given.history.as_of,
        persistence=forecast.given.last_value,
        forecast=tuple(
            DayForecast(
                day=step.step,
                date=step.session,
                estimated=step.estimated,
                predicted_price=step.price,
                expected_change_pct=100 * (step.price - last_close) / last_close,
                intervals=step.intervals,
            )
            for step in _steps(forecast)
        ),
    )


def _steps(forecast: Forecast) -> tuple[Step, ...]:
    given, prices = forecast.given, forecast.median.tolist()
    return tuple(
        Step(
            step=h + 1,
            session=session,
            estimated=given.estimated[h],
            price=prices[h],
            intervals=_intervals(forecast, h),
            persistence=given.last_value,
        )
        for h, session in enumerate(given.sessions)
    )


def _intervals(forecast: Forecast, h: int) -> tuple[Interval, ...]:
    bounds = zip(forecast.levels, forecast.lower[h].tolist(), forecast.upper[h].tolist(), strict=True)
    return tuple(Interval(level=level, lower=lower, upper=upper) for level, lower, upper in bounds)


def _next_close(forecast: Forecast) -> dict[str, Any]:
    price, last_close = float(forecast.median[0]), forecast.given.last_close
    reference = float(forecast.given.bars[-forecast.card.lookback, CLOSE])
    return {
        "predicted_price": price,
        "intervals": _intervals(forecast, 0),
        "persistence": forecast.given.last_value,
        "predicted_ratio": price / reference,
        "reference_price": reference,
        "last_known_price": last_close,
        "expected_change_pct": 100 * (price - last_close) / last_close,
    }


def _model(forecast: Forecast | Batch, found: tuple[tuple[str, ...], StepReport]) -> dict[str, Any]:
    card = forecast.card
    return {
        "model_id": card.model_id,
        "model": card.model,
        "target_column": card.target_column,
        "test": _evidence(found, forecast.levels),
        "inference_time_ms": forecast.elapsed_ms,
        "timestamp": forecast.made_at,
    }


def _evidence(found: tuple[tuple[str, ...], StepReport], levels: tuple[float, ...]) -> Evidence:
    tickers, report = found
    coverage = tuple(one for one in report.coverage if one.level in levels)
    return Evidence(**{**dict(report), "coverage": coverage}, tickers=tickers)


def _prices(forecast: Forecast) -> dict[str, Any]:
    history = forecast.given.history
    return {
        "currency": history.series.currency,
        "source": history.source,
        "stale": history.stale,
        "demo": history.demo,
        "dropped": history.dropped,
        "repaired": history.repaired,
        "warnings": forecast.warnings,
    }


def _context(forecast: Forecast) -> dict[str, Any]:
    history = forecast.given.history
    return {
        **_prices(forecast),
        "model_id": forecast.card.model_id,
        "model": forecast.card.model,
        "ticker": history.series.ticker,
        "as_of": history.as_of,
        "target_column": forecast.card.target_column,
        "last_close": forecast.given.last_close,
        "last_session": history.as_of,
        "test": _evidence(forecast.card.evidence(history.series.ticker, len(forecast.median)), forecast.levels),
    }
