from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest

from errors import ArtifactCorrupt, PricesUnreachable
from schemas.realised import ForecastRecord, RecordedStep
from services.evaluation.accuracy import CRPS_LEVELS
from services.monitoring.forecast_log import record_key
from services.monitoring.realised import realised_accuracy
from services.monitoring.scoring import score_due
from services.prices.series import PriceHistory
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history

HISTORY = walk_history()
SESSIONS = [session.item() for session in HISTORY.series.sessions]
CLOSE = HISTORY.series.close
NOW = datetime.combine(SESSIONS[-1], time(23), UTC)


def record(
    row: int, horizon: int = 1, model_id: str = "walk-1", minutes: int = 0, scale: float = 1.0
) -> ForecastRecord:
    """A forecast from the session of this row: the last close, one below and above it as 80 % interval."""
    last = scale * float(CLOSE[row])
    steps = tuple(
        RecordedStep(
            step=step,
            session=SESSIONS[row + step],
            median=last,
            lower=(last - scale,),
            upper=(last + scale,),
            quantiles=tuple((last + scale * (CRPS_LEVELS - 0.5)).tolist()),
        )
        for step in range(1, horizon + 1)
    )
    return ForecastRecord(
        ticker="WALK",
        model_id=model_id,
        model="persistence",
        target_column="Close",
        origin=SESSIONS[row],
        made_at=datetime.combine(SESSIONS[row], time(23), UTC),
        last=last,
        levels=(0.8,),
        steps=steps,
    )


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


def keep(store: InMemoryArtifactStore, *records: ForecastRecord) -> None:
    for one in records:
        store.create(record_key(one), one.model_dump_json().encode())


def prices(history: PriceHistory = HISTORY) -> FakePriceSource:
    return FakePriceSource(history)


def test_a_forecast_is_set_beside_the_close_that_came(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))

    report = score_due(store, prices(), NOW)

    (found,) = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert (report.n_sessions, report.n_pairs, report.unscored) == (1, 1, ())
    assert found.errors.mae == pytest.approx(abs(CLOSE[-1] - CLOSE[-2]))
    assert found.persistence.mae == found.errors.mae
    assert found.skill.mae == 0


def test_what_has_not_closed_waits(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))

    report = score_due(store, prices(), NOW - timedelta(hours=12))

    assert (report.n_sessions, store.list_keys("scores/")) == (0, [])


def test_each_step_is_scored_once_its_session_has_closed(store: InMemoryArtifactStore) -> None:
    keep(store, record(-4, horizon=3))
    yesterday = datetime.combine(SESSIONS[-2], time(23), UTC)

    first = score_due(store, prices(HISTORY.between(None, SESSIONS[-2])), yesterday)
    second = score_due(store, prices(), NOW)

    assert (first.n_pairs, second.n_pairs) == (2, 1)
    assert [one.step for one in realised_accuracy(store, NOW, 90, None, None).accuracy] == [1, 2, 3]


def test_of_two_forecasts_of_a_step_the_first_counts(store: InMemoryArtifactStore) -> None:
    early, late = record(-2), record(-3, horizon=2)
    longer = late.model_copy(update={"origin": early.origin, "made_at": early.made_at + timedelta(hours=1)})
    keep(store, early, longer)

    score_due(store, prices(), NOW)

    assert [one.n for one in realised_accuracy(store, NOW, 90, None, None).accuracy] == [1]


def test_a_split_since_then_changes_no_score(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2, scale=2.0))  # the prices of that day were twice those of today's history

    score_due(store, prices(), NOW)

    (found,) = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert found.errors.mae == pytest.approx(2 * abs(CLOSE[-1] - CLOSE[-2]))


def test_a_session_the_ticker_did_not_trade_in_is_closed_without_a_pair(store: InMemoryArtifactStore) -> None:
    series = HISTORY.series
    kept = np.delete(np.arange(len(series)), -2)
    halted = replace(HISTORY, series=replace(series, sessions=series.sessions[kept], bars=series.bars[kept]))
    keep(store, record(-3))

    first, second = (score_due(store, prices(halted), NOW) for _ in range(2))

    assert (first.n_sessions, first.n_pairs) == (1, 0)
    assert second.n_sessions == 0


def test_a_ticker_without_prices_is_named_and_tried_again(store: InMemoryArtifactStore) -> None:
    class Down(FakePriceSource):
        def history(self, ticker: str, now: datetime) -> PriceHistory:
            raise PricesUnreachable("yahoo is down")

    keep(store, record(-2))

    failed = score_due(store, Down(), NOW)
    worked = score_due(store, prices(), NOW)

    assert [one.code for one in failed.unscored] == ["prices_unreachable"]
    assert worked.n_pairs == 1


def test_models_are_told_apart(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2), record(-2, model_id="walk-2"))

    score_due(store, prices(), NOW)

    every = realised_accuracy(store, NOW, 90, None, None).accuracy
    (one,) = realised_accuracy(store, NOW, 90, "WALK", "walk-2").accuracy
    assert [found.model_id for found in every] == ["walk-1", "walk-2"]
    assert one.model_id == "walk-2"


def test_nothing_served_is_nothing_scored(store: InMemoryArtifactStore) -> None:
    assert score_due(store, prices(), NOW).n_sessions == 0
    assert realised_accuracy(store, NOW, 90, None, None).accuracy == ()
    assert realised_accuracy(store, NOW, 90, None, None).since == date.fromordinal(NOW.date().toordinal() - 90)


def test_a_corrupt_record_keeps_no_other_from_being_scored(
    store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = record(-2, model_id="walk-1"), record(-2, model_id="walk-2")
    keep(store, whole)
    store.put(record_key(broken), b"{")

    report = score_due(store, FakePriceSource(HISTORY), NOW)

    assert (report.n_sessions, report.n_pairs, report.unscored) == (1, 1, ())
    assert f"{record_key(broken)} is not readable" in caplog.text


def test_corrupt_scores_are_told_by_name(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))
    score_due(store, FakePriceSource(HISTORY), NOW)
    (key,) = store.list_keys("scores/")
    store.put(key, b"{")

    with pytest.raises(ArtifactCorrupt, match=key):
        realised_accuracy(store, NOW, 30, None, None)


def test_what_a_console_leaves_in_a_folder_is_no_document(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))
    for folder in ("forecasts/", "scores/", "scores/WALK/"):
        store._artifacts[folder] = b""

    score_due(store, FakePriceSource(HISTORY), NOW)

    assert realised_accuracy(store, NOW, 30, None, None).accuracy[0].n == 1
