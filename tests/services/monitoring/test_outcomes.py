"""Past forecasts with their closes: one for each session, the newest ones, in order of time."""

from datetime import UTC, date, datetime, timedelta

from schemas.realised import ForecastOutcome, SessionScores
from services.monitoring.outcomes import outcomes_of
from services.monitoring.scoring import scores_key
from tests.fakes import InMemoryArtifactStore

MADE = datetime(2024, 1, 1, tzinfo=UTC)


def outcome(session: date, model: str = "m-1", step: int = 1, hour: int = 0, median: float = 10.0) -> ForecastOutcome:
    return ForecastOutcome(
        model_id=model, model="ewma", origin=session - timedelta(days=step), step=step,
        made_at=MADE + timedelta(hours=hour), last=10.0, actual=11.0, median=median, levels=(0.8,), lower=(9.0,),
        upper=(12.0,), crps=0.1, persistence_crps=0.1, pit=0.5,
    )  # fmt: skip


def keep(store: InMemoryArtifactStore, session: date, *pairs: ForecastOutcome) -> None:
    scores = SessionScores(ticker="PETR4.SA", session=session, scored_at=MADE, pairs=pairs)
    store.put(scores_key("PETR4.SA", session), scores.model_dump_json().encode())


def days(n: int) -> list[date]:
    return [date(2024, 1, 1) + timedelta(days=day) for day in range(n)]


def test_the_newest_sessions_come_in_order_of_time(store: InMemoryArtifactStore) -> None:
    for session in days(5):
        keep(store, session, outcome(session))

    found = outcomes_of(store, "PETR4.SA", None, 1, 3).outcomes

    assert [one.session for one in found] == days(5)[2:]
    assert (found[0].actual, found[0].lower, found[0].persistence) == (11.0, (9.0,), 10.0)


def test_the_last_forecast_of_the_model_and_step_counts(store: InMemoryArtifactStore) -> None:
    session = days(1)[0]
    keep(
        store,
        session,
        outcome(session, median=1.0),
        outcome(session, hour=2, median=2.0),
        outcome(session, hour=1, median=3.0),
        outcome(session, "other", hour=9, median=4.0),
        outcome(session, step=2, hour=9, median=5.0),
    )

    assert [one.median for one in outcomes_of(store, "PETR4.SA", "m-1", 1, 60).outcomes] == [2.0]
    assert [one.median for one in outcomes_of(store, "PETR4.SA", None, 1, 60).outcomes] == [4.0]
    assert [one.median for one in outcomes_of(store, "PETR4.SA", None, 2, 60).outcomes] == [5.0]


def test_a_damaged_document_hides_no_other(store: InMemoryArtifactStore) -> None:
    first, second = days(2)
    keep(store, first, outcome(first))
    store.put(scores_key("PETR4.SA", second), b"{")

    assert [one.session for one in outcomes_of(store, "PETR4.SA", None, 1, 60).outcomes] == [first]


def test_a_ticker_without_scores_has_none(store: InMemoryArtifactStore) -> None:
    assert outcomes_of(store, "NONE", None, 1, 60).outcomes == ()
