import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bootstrap import bundled_model
from config import Settings
from errors import NotFittable
from models.base import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from models.conformal import ServedForecaster
from models.fitting import FitBlocks, FitSettings, FittedModel
from models.specs import MODEL_SPECS
from models.trading import MAX_IDLE, HaltAwareForecaster, idle_sessions, is_flat, is_untraded, with_ranges
from models.windows import future_closes, lookback_windows, sessions_needed
from services.storage.registry import ModelRegistry
from tests.fakes import FixedForecaster, InMemoryArtifactStore, random_walk

PRICES = [OPEN, HIGH, LOW, CLOSE]


def locked(last_close: float, n_sessions: int, move: float = 0.05) -> Bars:
    """Sessions that each open, trade and close at one price, ``move`` from the one before."""
    closes = last_close * (1 + move) ** np.arange(1, n_sessions + 1)
    return np.column_stack([closes, closes, closes, closes, np.full(n_sessions, 1e5)])


def halted(last_close: float, n_sessions: int) -> Bars:
    return np.column_stack([np.full((n_sessions, 4), last_close), np.zeros(n_sessions)])


def clustered(n_sessions: int) -> Bars:
    """A walk whose volatility changes every 20 sessions, around 1 %."""
    rng, last, parts = np.random.default_rng(3), 100.0, []
    for seed in range(n_sessions // 20):
        parts.append(random_walk(20, seed, 0.01 * float(np.exp(rng.normal(0, 0.5))), start=last))
        last = float(parts[-1][-1, CLOSE])
    return np.concatenate(parts)


def bundled() -> ServedForecaster:
    registry = ModelRegistry(InMemoryArtifactStore(), bundled_model(Settings(_env_file=None)))
    return registry.load(registry.card("default"))


def bounds_pct(forecaster: ServedForecaster, bars: Bars) -> tuple[float, float]:
    """The 95 % interval of the next close, in % of the last one."""
    forecast = forecaster.predict_quantiles(bars, np.array([len(bars) - 1])).intervals((0.95,))
    last = bars[-1, CLOSE]
    return 100 * (forecast.lower[0, 0, 0] / last - 1), 100 * (forecast.upper[0, 0, 0] / last - 1)


def garman_klass(bars: Bars) -> NDArray[np.float64]:
    opened, high, low, close = np.log(bars[..., PRICES]).transpose(-1, *range(bars.ndim - 1))
    variance: NDArray[np.float64] = 0.5 * (high - low) ** 2 - (2 * np.log(2) - 1) * (close - opened) ** 2
    return variance


def fit_to(kind: str, bars: Bars) -> FittedModel:
    n = len(bars)
    settings = FitSettings(lookback=60, horizon=5, max_epochs=1, patience=1, max_seconds=60, seed=0)
    return MODEL_SPECS[kind].fit([FitBlocks(bars, range(60, n - 50), range(n - 50, n - 1))], settings, lambda _: None)


def test_a_flat_bar_with_a_move_or_with_volume_has_traded() -> None:
    bars = np.concatenate([random_walk(3), locked(100.0, 1), halted(105.0, 2), halted(105.0, 1)])
    bars[-1, VOLUME] = 7
    bars[4, HIGH] += 1e-6  # as an adjusted price may be

    assert is_flat(bars).tolist() == [False] * 3 + [True] * 4
    assert is_untraded(bars).tolist() == [False] * 4 + [True, True, False]
    assert is_untraded(bars[4:]).tolist() == [False, True, False]  # the close before the first is not known


def test_a_session_without_a_close_is_untraded() -> None:
    bars = random_walk(3)
    bars[1] = np.nan

    assert is_untraded(bars).tolist() == [False, True, False]


def test_a_bar_with_the_smallest_of_ranges_is_not_flat() -> None:
    bars = np.concatenate([halted(1e6, 1), halted(100.0, 3)])  # the close before counts, not the first
    bars[2, HIGH] += 0.001
    bars[3, [OPEN, HIGH, LOW, CLOSE]] += 0.001

    assert is_flat(bars).tolist() == [True, True, False, True]
    assert not is_untraded(bars).any()


def test_closes_alone_never_count_as_untraded() -> None:
    bars = np.full((5, 5), np.nan)
    bars[:, CLOSE] = 10.0

    assert not is_untraded(bars).any()


def test_idle_sessions_are_bounded() -> None:
    bars = np.concatenate([random_walk(2), halted(random_walk(2)[-1, CLOSE], 300)])

    assert idle_sessions(bars, np.array([1, 2, 50, 301])).tolist() == [0, 1, 49, MAX_IDLE]
    assert idle_sessions(np.full((3, 5), np.nan), np.array([0, 2])).tolist() == [1, 3]


@pytest.mark.parametrize("kind", ["volatility_regression", "gjr_garch", "ewma", "rolling_empirical"])
def test_no_kind_reads_calm_from_locked_sessions(kind: str) -> None:
    calm = clustered(800)
    fitted = fit_to(kind, calm)
    forecaster = MODEL_SPECS[kind].load(fitted.files, fitted.quantile_levels)
    stormy = np.concatenate([calm, locked(calm[-1, CLOSE], 20)])

    def width(bars: Bars) -> float:
        quantiles = forecaster.predict_quantiles(bars, np.array([len(bars) - 1])).at(np.array([0.025, 0.975]))[0, 0]
        return float(np.log(quantiles[1] / quantiles[0]))

    assert width(stormy) >= width(calm)


def test_intervals_hold_after_locked_sessions() -> None:
    """A price limit of 5 % on returns with fat tails: what lies beyond the limit moves to the next sessions."""
    inside, n = 0, 0
    forecaster = bundled().up_to(1)
    for seed in range(4):
        bars, is_locked = price_limited(seed)
        origins = np.arange(300, len(bars) - 1)
        forecast = forecaster.predict_quantiles(bars, origins).intervals((0.95,))
        actual = future_closes(bars, origins, 1)[:, 0]
        covered = (actual >= forecast.lower[:, 0, 0]) & (actual <= forecast.upper[:, 0, 0])
        inside, n = inside + int(covered[is_locked[origins]].sum()), n + int(is_locked[origins].sum())

    assert n > 200
    assert 0.90 <= inside / n <= 0.98


def price_limited(seed: int, n_sessions: int = 1200, limit: float = 0.05) -> tuple[Bars, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    wanted = np.cumsum(rng.standard_t(4, n_sessions) * 0.025 * np.sqrt(0.5))
    bars, is_locked, before = np.empty((n_sessions, 5)), np.zeros(n_sessions, dtype=bool), 0.0
    for row, price in enumerate(wanted):
        close = float(np.clip(price, before + np.log(1 - limit), before + np.log(1 + limit)))
        is_locked[row] = abs(close - price) > 1e-12
        spread = 0.0 if is_locked[row] else 0.01
        opened = close if is_locked[row] else before
        high, low = max(opened, close) + spread * rng.random(), min(opened, close) - spread * rng.random()
        bars[row] = [*np.exp([opened, high, low, close]), 1e5]
        before = close
    return bars, is_locked


@pytest.mark.parametrize("n_halted", [1, 5, 20, 60, 100])
def test_after_a_halt_the_interval_is_wider_than_before_it(n_halted: int) -> None:
    forecaster = bundled()
    before = random_walk(700, daily_volatility=0.02)
    after = np.concatenate([before, halted(before[-1, CLOSE], n_halted)])

    narrow, wide = bounds_pct(forecaster, before), bounds_pct(forecaster, after)

    assert wide[0] < narrow[0] * 1.2
    assert wide[1] > narrow[1] * 1.2


def test_a_halt_leaves_no_mark_once_it_is_over() -> None:
    """The first session that trades again is followed by the interval that it would have had without the halt."""
    forecaster = bundled()
    bars = random_walk(701, daily_volatility=0.02)
    with_halt = np.concatenate([bars[:-1], halted(bars[-2, CLOSE], 40), bars[-1:]])

    np.testing.assert_allclose(bounds_pct(forecaster, with_halt), bounds_pct(forecaster, bars), rtol=0.05)


def test_windows_pass_over_sessions_without_a_trade() -> None:
    bars = random_walk(100)
    with_halt = np.concatenate([bars[:50], halted(bars[49, CLOSE], 7), bars[50:]])

    np.testing.assert_array_equal(
        lookback_windows(with_halt, np.array([60, 106]), 20), lookback_windows(bars, np.array([53, 99]), 20)
    )


def test_a_window_looks_no_further_back_than_it_says() -> None:
    bars = np.concatenate([random_walk(300), halted(50.0, 70), random_walk(40, seed=1)])
    for origin in (299, 330, 369, 380, 409):
        whole = lookback_windows(bars, np.array([origin]), 60)
        needed = bars[origin + 1 - sessions_needed(60) : origin + 1]
        np.testing.assert_array_equal(lookback_windows(needed, np.array([len(needed) - 1]), 60), whole)


@pytest.mark.parametrize(("n_traded", "n_halted", "passed_over"), [(3, 119, True), (3, 120, False), (2, 50, False)])
def test_a_window_passes_over_as_many_sessions_as_it_may_read(n_traded: int, n_halted: int, passed_over: bool) -> None:
    walk = random_walk(n_traded)
    bars = np.concatenate([walk, halted(walk[-1, CLOSE], n_halted)])

    (window,) = lookback_windows(bars, np.array([len(bars) - 1]), 3)

    np.testing.assert_array_equal(window[:, CLOSE], walk[:, CLOSE] if passed_over else bars[-3:, CLOSE])


def test_where_too_little_traded_the_window_stays_as_it_is() -> None:
    bars = np.concatenate([random_walk(5), halted(random_walk(5)[-1, CLOSE], 95)])

    window = lookback_windows(bars, np.array([99]), 60)[0]

    np.testing.assert_array_equal(window[:, CLOSE], bars[40:, CLOSE])


@given(seed=st.integers(0, 1000), share=st.floats(0.02, 0.45))
def test_a_bar_without_a_range_gets_the_variance_of_its_move_and_its_window(seed: int, share: float) -> None:
    bars = random_walk(60, seed=seed)
    bare = np.random.default_rng(seed).random(60) < share
    bare[0] = False
    bare[np.flatnonzero(bare)[29:]] = False  # at most half of them
    flat = bars.copy()
    flat[bare, :CLOSE] = flat[bare, CLOSE, None]

    (window,) = with_ranges(flat[None])

    moves = np.diff(np.log(bars[:, CLOSE]), prepend=np.log(bars[0, CLOSE]))
    usual = garman_klass(bars[~bare]).mean()
    np.testing.assert_allclose(garman_klass(window[bare]), (moves[bare] ** 2 + usual) / 2, rtol=1e-6)
    np.testing.assert_allclose(window[~bare], bars[~bare], rtol=1e-12)
    assert (window[:, HIGH] >= window[:, [OPEN, CLOSE]].max(1)).all()
    assert (window[:, LOW] <= window[:, [OPEN, CLOSE]].min(1)).all()
    np.testing.assert_array_equal((window[bare, CLOSE] < window[bare, OPEN]), moves[bare] < 0)


@pytest.mark.parametrize(("n_ranged", "closes_only"), [(29, True), (30, False)])
def test_a_window_that_is_mostly_without_ranges_is_read_from_its_closes(n_ranged: int, closes_only: bool) -> None:
    bars = random_walk(60)
    bars[n_ranged:, :CLOSE] = bars[n_ranged:, CLOSE, None]

    (window,) = with_ranges(bars[None])

    assert np.isnan(window[:, [OPEN, HIGH, LOW]]).all() == closes_only
    np.testing.assert_array_equal(window[:, CLOSE], bars[:, CLOSE])


def test_an_unknown_open_is_the_close_before() -> None:
    bars = random_walk(60)
    bars[:, OPEN] = np.nan

    (window,) = with_ranges(bars[None])

    expected = np.clip(bars[9, CLOSE], bars[10, LOW], bars[10, HIGH])
    assert window[10, OPEN] == pytest.approx(expected)
    np.testing.assert_allclose(window[:, [HIGH, LOW]], bars[:, [HIGH, LOW]])


def test_distances_grow_with_the_root_of_the_sessions_without_a_trade() -> None:
    bars = np.concatenate([random_walk(10), halted(random_walk(10)[-1, CLOSE], 3)])
    inner = FixedForecaster(horizon=3)

    plain = inner.predict_quantiles(bars, np.array([12]))
    wide = HaltAwareForecaster(inner).predict_quantiles(bars, np.array([12]))

    growth = np.log(wide.prices / bars[-1, CLOSE])[0, :, 0] / np.log(plain.prices / bars[-1, CLOSE])[0, :, 0]
    np.testing.assert_allclose(growth, np.sqrt([4 / 1, 5 / 2, 6 / 3]))


def test_a_price_that_is_only_repeated_is_no_outcome() -> None:
    bars = np.concatenate([random_walk(5), halted(random_walk(5)[-1, CLOSE], 2), random_walk(2, seed=9)])

    outcomes = future_closes(bars, np.array([4, 5]), horizon=3)

    assert np.isnan(outcomes).tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("volume", [0.0, 1000.0])
@pytest.mark.parametrize("kind", ["volatility_regression", "gjr_garch"])
def test_a_price_that_seldom_moves_is_refused_by_name(kind: str, volume: float) -> None:
    closes = 100.0 + np.arange(900) // 100
    bars = np.column_stack([closes, closes, closes, closes, np.full(900, volume)])

    if kind == "gjr_garch" and volume:
        fit_to(kind, bars)  # it does fit
        return
    with pytest.raises(NotFittable):
        fit_to(kind, bars)


@pytest.mark.parametrize("kind", sorted(MODEL_SPECS))
def test_every_kind_learns_from_dirty_bars(kind: str) -> None:
    rng = np.random.default_rng(5)
    bars = clustered(400)
    bars[rng.random(400) < 0.1, OPEN] = np.nan
    one_price = rng.random(400) < 0.05
    bars[one_price, :CLOSE] = bars[one_price, CLOSE, None]
    for first in (90, 200, 345, 380):  # halts in the parts for fitting, early stopping and after
        bars[first : first + 6] = [*[bars[first - 1, CLOSE]] * 4, 0.0]

    fitted = fit_to(kind, bars)
    forecast = (
        MODEL_SPECS[kind].load(fitted.files, fitted.quantile_levels).predict_quantiles(bars, np.array([385, 399]))
    )

    assert np.isfinite(fitted.validation_losses).all()
    assert (np.abs(np.log(forecast.median / bars[[385, 399], CLOSE, None])) < 0.2).all()
