import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest
from scipy import stats

from errors import PricesUnreachable
from schemas.realised import ForecastRecord
from services.evaluation.accuracy import CRPS_LEVELS
from services.monitoring.forecast_log import record_key
from services.monitoring.realised import measure_realised, realised_accuracy, scores_since
from services.monitoring.scoring import score_due, scores_key
from services.prices import calendars
from services.prices.calendars import next_sessions
from services.prices.cleaning import clean
from services.prices.series import Defects, PriceHistory
from telemetry.measures import DOCUMENTS_UNREADABLE, FORECASTS_SCORED, REALISED_FORECASTS
from tests.fakes import (
    FailingPriceSource,
    FakePriceSource,
    InMemoryArtifactStore,
    RecordingMeter,
    UnreliableStore,
    forecast_record,
    random_walk,
    walk_history,
)

HISTORY = walk_history()
SESSIONS = [session.item() for session in HISTORY.series.sessions]
CLOSE = HISTORY.series.close
NOW = datetime.combine(SESSIONS[-1], time(23), UTC)


def record(row: int, horizon: int = 1, model_id: str = "walk-1", scale: float = 1.0) -> ForecastRecord:
    """A forecast from the session of this row."""
    sessions = [SESSIONS[row + step] for step in range(1, horizon + 1)]
    last = scale * float(CLOSE[row])
    return forecast_record("WALK", SESSIONS[row], sessions, last, half=scale, model_id=model_id)


def keep(store: InMemoryArtifactStore, *records: ForecastRecord) -> None:
    for one in records:
        store.create(record_key(one), one.model_dump_json().encode())


def prices(history: PriceHistory = HISTORY) -> FakePriceSource:
    return FakePriceSource(history)


def without(session: date) -> PriceHistory:
    """The history as a source has it that has no row of a session."""
    return replace(HISTORY, series=HISTORY.series.where(HISTORY.series.sessions != np.datetime64(session)))


def test_a_forecast_is_compared_with_the_close_of_its_session(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))

    report = score_due(store, prices(), NOW)

    (found,) = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert (report.n_sessions, report.n_pairs, report.unscored) == (1, 1, ())
    assert found.report.model.mae == pytest.approx(abs(CLOSE[-1] - CLOSE[-2]))
    assert found.report.persistence.mae == found.report.model.mae
    assert (found.report.skill.mae, found.report.p_value.mae) == (0, None)


@pytest.mark.parametrize(("below", "pit"), [(-0.1, 0.005), (0.005, 0.005), (0.3, 0.3), (0.985, 0.985), (1.1, 0.995)])
def test_the_pit_is_the_share_of_the_distribution_below_the_close(
    store: InMemoryArtifactStore, below: float, pit: float
) -> None:
    one = record(-2)
    quantiles = tuple((CLOSE[-1] + CRPS_LEVELS - below).tolist())
    keep(store, one.model_copy(update={"steps": (one.steps[0].model_copy(update={"quantiles": quantiles}),)}))

    score_due(store, prices(), NOW)

    (scores,) = scores_since(store, SESSIONS[-1])
    assert scores.pairs[0].pit == pytest.approx(pit, abs=1e-6)


def test_each_level_counts_the_forecasts_that_have_it_and_skill_has_its_p_value(store: InMemoryArtifactStore) -> None:
    def asked(row: int) -> ForecastRecord:
        one = record(row)
        (step,) = one.steps
        wider = {"lower": (step.lower[0] - 9, *step.lower), "upper": (step.upper[0] + 9, *step.upper)}
        shifted = step.model_copy(update={"median": step.median + 0.1, **(wider if row % 2 else {})})
        return one.model_copy(update={"levels": (0.99, 0.8) if row % 2 else (0.8,), "steps": (shifted,)})

    keep(store, *(asked(row) for row in range(-10, -1)))

    score_due(store, prices(), NOW)

    (found,) = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert [(one.level, one.n_origins) for one in found.report.coverage] == [(0.8, 9), (0.99, 4)]
    assert found.report.coverage[1].empirical_coverage == 1
    assert found.report.coverage[1].width == pytest.approx(20)
    difference = np.abs(CLOSE[-9:] - CLOSE[-10:-1] - 0.1) - np.abs(CLOSE[-9:] - CLOSE[-10:-1])
    assert found.report.p_value.mae == pytest.approx(stats.ttest_1samp(difference, 0.0).pvalue)


def test_each_step_is_scored_once_its_session_has_closed(store: InMemoryArtifactStore) -> None:
    keep(store, record(-4, horizon=3))
    yesterday = datetime.combine(SESSIONS[-2], time(23), UTC)

    first = score_due(store, prices(HISTORY.between(None, SESSIONS[-2])), yesterday)
    second = score_due(store, prices(), NOW)

    assert (first.n_pairs, second.n_pairs) == (2, 1)
    assert [one.report.step for one in realised_accuracy(store, NOW, 90, None, None).accuracy] == [1, 2, 3]


def test_of_two_forecasts_of_a_step_the_first_counts(store: InMemoryArtifactStore) -> None:
    early = record(-2)
    (step,) = early.steps
    later = step.model_copy(update={"step": 2, "session": next_sessions("XNYS", step.session, 1)[0]})
    update = {"steps": (step, later), "made_at": early.made_at + timedelta(hours=1)}
    keep(store, early, early.model_copy(update=update))

    score_due(store, prices(), NOW)

    assert [one.report.n_origins for one in realised_accuracy(store, NOW, 90, None, None).accuracy] == [1]


def test_a_forecast_that_does_not_count_keeps_no_later_one_from_counting(store: InMemoryArtifactStore) -> None:
    early = record(-2)
    (step,) = early.steps
    later = step.model_copy(update={"step": 2, "session": next_sessions("XNYS", step.session, 1)[0]})
    again = early.model_copy(update={"steps": (step, later), "made_at": early.made_at + timedelta(hours=1)})
    other = record(-2, model_id="walk-2").model_copy(update={"made_at": early.made_at + timedelta(hours=2)})
    keep(store, early, again, other)

    score_due(store, prices(), NOW)

    every = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert [(one.model_id, one.report.n_origins) for one in every] == [("walk-1", 1), ("walk-2", 1)]


def test_a_split_since_then_changes_no_score(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2, scale=2.0))  # the prices of that day were twice those of today's history

    score_due(store, prices(), NOW)

    (found,) = realised_accuracy(store, NOW, 90, None, None).accuracy
    assert found.report.model.mae == pytest.approx(2 * abs(CLOSE[-1] - CLOSE[-2]))


def test_a_session_that_never_traded_is_reported_once(store: InMemoryArtifactStore) -> None:
    keep(store, record(-3))

    first, second = (score_due(store, prices(without(SESSIONS[-2])), NOW) for _ in range(2))

    (found,) = first.unscored
    assert (first.n_sessions, first.n_pairs) == (0, 0)
    assert (found.ticker, found.session, found.code) == ("WALK", SESSIONS[-2], "session_not_traded")
    assert f"WALK did not trade on {SESSIONS[-2]}" in found.detail
    assert (second.n_sessions, second.n_pairs, second.unscored) == (0, 0, ())


def test_later_sessions_are_scored_by_date_where_one_never_traded(store: InMemoryArtifactStore) -> None:
    keep(store, record(-4, horizon=3))

    report = score_due(store, prices(without(SESSIONS[-2])), NOW)

    assert (report.n_sessions, report.n_pairs) == (2, 2)
    assert [(one.session, one.code) for one in report.unscored] == [(SESSIONS[-2], "session_not_traded")]
    pairs = {scores.session: scores.pairs for scores in scores_since(store, SESSIONS[-4])}
    (pair,) = pairs[SESSIONS[-1]]
    assert (pair.step, SESSIONS[-2] in pairs) == (3, False)
    assert pair.actual == pytest.approx(CLOSE[-1])


def test_a_session_waits_until_newer_prices_show_that_it_never_traded(store: InMemoryArtifactStore) -> None:
    keep(store, record(-3))
    evening = datetime.combine(SESSIONS[-2], time(23), UTC)

    report = score_due(store, prices(HISTORY.between(None, SESSIONS[-3])), evening)

    assert (report.n_sessions, report.unscored, store.list_keys("scores/")) == (0, (), [])


def test_a_session_with_an_unusable_close_is_reported_as_that(store: InMemoryArtifactStore) -> None:
    bad = np.array([SESSIONS[-2]], dtype="datetime64[D]")
    history = replace(without(SESSIONS[-2]), defects=Defects(dropped={"contradictory": bad}))
    keep(store, record(-3))

    report = score_due(store, prices(history), NOW)

    assert [(one.session, one.code) for one in report.unscored] == [(SESSIONS[-2], "session_price_unusable")]


SEOUL = [date(2026, 5, 28), date(2026, 5, 29), date(2026, 6, 1), date(2026, 6, 2), date(2026, 6, 4), date(2026, 6, 5)]
ELECTION_DAY = date(2026, 6, 3)  # exchange_calendars 4.13 does not know that Seoul was closed


def seoul_history() -> PriceHistory:
    series, defects = clean("005930.KS", SEOUL, random_walk(len(SEOUL)), "KRW")
    return PriceHistory(series, "fake", defects=defects)


def seoul_record(exchange: str | None) -> ForecastRecord:
    history = seoul_history()
    last = float(history.series.close[3])
    sessions = [ELECTION_DAY, date(2026, 6, 4), date(2026, 6, 5)]
    template = record(-4, horizon=3)
    steps = [
        step.model_copy(update={"session": session}) for step, session in zip(template.steps, sessions, strict=True)
    ]
    return template.model_copy(
        update={
            "ticker": "005930.KS",
            "exchange": exchange,
            "origin": date(2026, 6, 2),
            "made_at": datetime(2026, 6, 2, 8, tzinfo=UTC),
            "last": last,
            "steps": tuple(steps),
        }
    )


@pytest.mark.parametrize("exchange", ["XKRX", None], ids=["of today", "of an earlier version"])
@pytest.mark.parametrize("learned", [False, True], ids=["unknown to the calendar", "learned since"])
def test_a_closure_announced_late_spoils_no_later_session(
    store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch, exchange: str | None, learned: bool
) -> None:
    if learned:
        timetable = calendars._timetable("XKRX")
        kept = timetable.sessions != np.datetime64(ELECTION_DAY)
        known = replace(timetable, sessions=timetable.sessions[kept], closes=timetable.closes[kept])
        monkeypatch.setattr(calendars, "_timetable", lambda _: known)
    one = seoul_record(exchange)
    key = record_key(one) if exchange else record_key(one).replace("_2026-06-05", "")
    store.create(key, one.model_dump_json(exclude_none=True).encode())

    reports = [
        score_due(store, FakePriceSource(seoul_history().between(None, day)), datetime.combine(day, time(12), UTC))
        for day in [date(2026, 6, 2), ELECTION_DAY, *SEOUL[-2:], SEOUL[-1]]
    ]

    assert [report.n_pairs for report in reports] == [0, 0, 1, 1, 0]
    assert [[one.session for one in report.unscored] for report in reports] == [[], [], [ELECTION_DAY], [], []]
    scored = {scores.session: scores for scores in scores_since(store, date(2026, 6, 1))}
    assert {day: [pair.step for pair in scores.pairs] for day, scores in scored.items()} == {
        date(2026, 6, 4): [2], date(2026, 6, 5): [3]
    }  # fmt: skip
    actual = [pair.actual for day in SEOUL[-2:] for pair in scored[day].pairs]
    assert actual == pytest.approx(seoul_history().series.close[-2:].tolist())
    assert {scores.exchange for scores in scored.values()} == {"XKRX"}


def test_a_halted_session_has_no_outcome(store: InMemoryArtifactStore) -> None:
    bars = HISTORY.series.bars.copy()
    bars[-1] = [bars[-2, 3]] * 4 + [0.0]
    history = replace(HISTORY, series=replace(HISTORY.series, bars=bars))
    keep(store, record(-2))

    report = score_due(store, prices(history), NOW)

    (unscored,) = report.unscored
    assert (report.n_pairs, unscored.code) == (0, "session_not_traded")


def test_an_unknown_open_leaves_its_session_to_be_tried_again(store: InMemoryArtifactStore) -> None:
    bars = HISTORY.series.bars.copy()
    bars[-1, 0] = np.nan
    history = replace(HISTORY, series=replace(HISTORY.series, bars=bars))
    opens = record(-3, horizon=2).model_copy(update={"target_column": "Open"})
    keep(store, opens)

    report = score_due(store, prices(history), NOW)

    assert (report.n_sessions, report.n_pairs) == (1, 1)
    assert [(one.session, one.code) for one in report.unscored] == [(SESSIONS[-1], "session_price_unusable")]
    assert score_due(store, prices(), NOW).n_pairs == 1


def days_after(session: date, days: int) -> datetime:
    return datetime.combine(session + timedelta(days=days), time(23), UTC)


@pytest.mark.parametrize("days", [1, 5, 14])
def test_a_session_whose_bar_was_missing_is_scored_when_its_source_has_it(
    store: InMemoryArtifactStore, meter: RecordingMeter, days: int
) -> None:
    keep(store, record(-3))
    session = SESSIONS[-2]
    first = score_due(store, prices(without(session)), NOW)

    late = score_due(store, prices(), days_after(session, days), meter)
    again = score_due(store, prices(), days_after(session, days), meter)

    assert (first.n_pairs, late.n_pairs, again.n_pairs) == (0, 1, 0)
    assert (late.unscored, meter.values(FORECASTS_SCORED)) == ((), [1])
    (found,) = realised_accuracy(store, days_after(session, days), 90, None, None).accuracy
    assert found.report.model.mae == pytest.approx(abs(CLOSE[-2] - CLOSE[-3]))


def test_a_bar_that_its_source_corrects_is_scored_as_corrected(store: InMemoryArtifactStore) -> None:
    bad = np.array([SESSIONS[-2]], dtype="datetime64[D]")
    contradictory = replace(without(SESSIONS[-2]), defects=Defects(dropped={"contradictory": bad}))
    keep(store, record(-3))
    score_due(store, prices(contradictory), NOW)

    assert score_due(store, prices(), NOW).n_pairs == 1
    (scores,) = scores_since(store, SESSIONS[-2])
    assert scores.pairs[0].actual == pytest.approx(CLOSE[-2])


def test_a_session_that_was_missing_for_two_weeks_is_given_up(store: InMemoryArtifactStore) -> None:
    keep(store, record(-3))
    session, source = SESSIONS[-2], CountingSource(without(SESSIONS[-2]))
    waiting = [score_due(store, source, days_after(session, days)).n_waiting for days in (1, 2, 14, 15)]

    late = score_due(store, prices(), days_after(session, 16))

    assert waiting == [0, 1, 1, 0]
    assert (late.n_pairs, late.n_waiting, late.unscored) == (0, 0, ())
    assert [scores.pairs for scores in scores_since(store, session)] == [()]
    assert len(source.asked) == 4


def test_an_earlier_session_of_a_record_is_tried_again_although_its_last_is_scored(
    store: InMemoryArtifactStore,
) -> None:
    keep(store, record(-4, horizon=3))
    score_due(store, prices(without(SESSIONS[-3])), NOW)

    assert score_due(store, prices(), NOW).n_pairs == 1
    assert [scores.session for scores in scores_since(store, SESSIONS[-4])] == SESSIONS[-3:]


def test_a_ticker_without_prices_has_waiting_sessions(store: InMemoryArtifactStore) -> None:
    keep(store, record(-3))

    report = score_due(store, FailingPriceSource(PricesUnreachable("down")), days_after(SESSIONS[-2], 3))

    assert (report.n_waiting, [one.code for one in report.unscored]) == (1, ["prices_unreachable"])


def test_a_session_of_months_ago_is_not_scored_again(store: InMemoryArtifactStore) -> None:
    keep(store, record(-3))

    report = score_due(store, prices(), days_after(SESSIONS[-2], 91))

    assert (report.n_pairs, store.list_keys("scores/")) == (0, [])


def test_of_a_record_only_the_sessions_of_the_last_months_are_scored(store: InMemoryArtifactStore) -> None:
    keep(store, record(-4, horizon=3))

    score_due(store, prices(), days_after(SESSIONS[-1], 90))

    assert [scores.session for scores in scores_since(store, SESSIONS[-4])] == [SESSIONS[-1]]


def test_runs_at_the_same_time_count_each_session_once(store: InMemoryArtifactStore, meter: RecordingMeter) -> None:
    keep(store, *(record(row) for row in (-8, -7, -6, -5, -4, -2)))
    together = threading.Barrier(4)

    class Together(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            together.wait(10)
            return super().history(ticker, now, recent)

    source = Together(without(SESSIONS[-3]))
    with ThreadPoolExecutor(4) as runs:
        reports = list(runs.map(lambda _: score_due(store, source, NOW, meter), range(4)))

    assert sum(report.n_sessions for report in reports) == sum(report.n_pairs for report in reports) == 5
    assert sum(meter.values(FORECASTS_SCORED)) == 5
    assert [one.session for report in reports for one in report.unscored] == [SESSIONS[-3]]


def test_a_record_that_is_forgotten_meanwhile_fails_no_run() -> None:
    class Forgetting(InMemoryArtifactStore):
        def get(self, key: str) -> bytes:
            if "walk-1" in key:
                self.delete(key)
            return super().get(key)

    store = Forgetting()
    keep(store, record(-2), record(-2, model_id="walk-2"))

    report = score_due(store, prices(), NOW)

    assert (report.n_pairs, report.unscored) == (1, ())


class CountingSource(FakePriceSource):
    """Records how many sessions each call asks for."""

    def __init__(self, *histories: PriceHistory) -> None:
        super().__init__(*histories)
        self.asked: list[int | None] = []

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self.asked.append(recent)
        return super().history(ticker, now, recent)


def test_prices_are_asked_for_only_when_something_is_due() -> None:
    store, source = UnreliableStore(), CountingSource(HISTORY)
    keep(store, record(-4, horizon=3))

    score_due(store, source, datetime.combine(SESSIONS[-4], time(23), UTC))
    assert (source.asked, store.calls.count("get")) == ([], 0)

    for _ in range(3):
        score_due(store, source, NOW)

    assert len(source.asked) == 1
    assert source.asked[0] is not None
    assert 4 <= source.asked[0] < 15
    assert store.calls.count("get") == 1


def test_a_ticker_whose_exchange_only_its_record_knows_is_scored(store: InMemoryArtifactStore) -> None:
    series = replace(HISTORY.series, ticker="^CNXIT", exchange="XNYS")
    source = FakePriceSource(replace(HISTORY, series=series))
    keep(store, record(-2).model_copy(update={"ticker": "^CNXIT", "exchange": "XNYS"}))

    report = score_due(store, source, NOW)

    assert (report.n_pairs, report.unscored) == (1, ())


def test_a_ticker_without_prices_is_named_and_tried_again(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))

    failed = score_due(store, FailingPriceSource(PricesUnreachable("yahoo is down")), NOW)
    worked = score_due(store, prices(), NOW)

    assert [one.code for one in failed.unscored] == ["prices_unreachable"]
    assert worked.n_pairs == 1


def test_models_are_scored_separately(store: InMemoryArtifactStore) -> None:
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


@pytest.mark.parametrize(
    "key",
    [
        "forecasts/notes.json",
        "forecasts/WALK/walk-1/notes.json",
        "forecasts/WALK/walk-1/2024-07-17_xx_2024-07-18.json",
        "forecasts/WALK/walk-1/2024-13-17_01_2024-07-18.json",
        "forecasts/WALK/walk-1/2024-07-17_01_2024-07-18_more.json",
        "scores/WALK/notes.json",
        "scores/notes.json",
        "scores/WALK/old/2024-07-18.json",
    ],
)
def test_a_document_with_another_name_is_left_out(
    store: InMemoryArtifactStore, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep(store, record(-2))
    store.put(key, b"{}")

    report = score_due(store, FakePriceSource(HISTORY), NOW)

    assert (report.n_sessions, report.n_pairs, report.unscored) == (1, 1, ())
    (found, *_) = realised_accuracy(store, NOW, 30, None, None).accuracy
    assert found.first_session == found.last_session
    assert key in caplog.text


def test_corrupt_scores_are_named_and_counted_and_hide_no_others(
    store: InMemoryArtifactStore, meter: RecordingMeter, caplog: pytest.LogCaptureFixture
) -> None:
    for back in (-3, -2):
        keep(store, record(back))
    score_due(store, FakePriceSource(HISTORY), NOW)
    key, *others = store.list_keys("scores/")
    store.put(key, b"{")

    (found, *_) = realised_accuracy(store, NOW, 30, None, None, meter).accuracy

    assert f"{found.first_session}" in others[0]
    assert key in caplog.text
    assert meter.values(DOCUMENTS_UNREADABLE) == [1]


@pytest.mark.parametrize(
    ("good", "bad"), [(b'"step":1', b'"step":0'), (b'"lower":[', b'"lower":[1,'), (b'"pit":', b'"pit":1')]
)
def test_scores_of_impossible_values_are_left_out(store: InMemoryArtifactStore, good: bytes, bad: bytes) -> None:
    keep(store, record(-2))
    score_due(store, FakePriceSource(HISTORY), NOW)
    (key,) = store.list_keys("scores/")
    content = store.get(key)
    assert good in content
    store.put(key, content.replace(good, bad, 1))

    assert realised_accuracy(store, NOW, 30, None, None).accuracy == ()


def test_an_empty_object_that_a_console_leaves_is_ignored(store: InMemoryArtifactStore) -> None:
    keep(store, record(-2))
    for folder in ("forecasts/", "scores/", "scores/WALK/"):
        store._artifacts[folder] = b""

    score_due(store, FakePriceSource(HISTORY), NOW)

    assert realised_accuracy(store, NOW, 30, None, None).accuracy[0].report.n_origins == 1


@pytest.mark.parametrize(("ticker", "kind"), [("WALK", "share"), ("ABC.QQ", "share"), ("^CNXIT", "index")])
def test_scores_of_an_earlier_version_are_still_counted_by_kind(
    store: InMemoryArtifactStore, meter: RecordingMeter, ticker: str, kind: str
) -> None:
    keep(store, record(-2))
    score_due(store, prices(), NOW)
    (scores,) = scores_since(store, SESSIONS[-1])
    older = InMemoryArtifactStore()
    renamed = scores.model_copy(update={"ticker": ticker})
    older.create(scores_key(ticker, scores.session), renamed.model_dump_json(exclude={"exchange"}).encode())

    measure_realised(older, NOW, meter)

    counted = dict(
        zip((one["kind"] for one in meter.labels(REALISED_FORECASTS)), meter.values(REALISED_FORECASTS), strict=True)
    )
    assert {name for name, count in counted.items() if count} == {kind}
