"""Why a forecast is wide: the parts, the market that was read, and the sentence."""

from dataclasses import replace
from datetime import UTC, date, datetime
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.adaptive import AdaptiveForecaster
from models.base import (
    CLOSE,
    IMPLIED_VOLATILITY,
    MARKET_CLOSE,
    N_COLUMNS,
    N_INPUTS,
    QUANTILE_GRID,
    Bars,
    Origins,
    QuantileForecast,
    with_columns,
)
from models.conformal import YEAR, CalibratedForecaster, Calibration, ServedForecaster
from models.windows import lookback_windows
from schemas.predict import Explanation, MarketInputs
from services.forecasting.explain import (
    Width,
    expected_moves,
    explanation,
    market_inputs,
    market_read,
    static_width,
    width_of,
)
from services.forecasting.forecast_input import ForecastInput, input_from_history
from services.prices.market import MarketAwareSource
from services.prices.series import PriceHistory
from tests.fakes import FakePriceSource, FixedForecaster, random_walk, walk_history

LOOKBACK = 20
N_SESSIONS = LOOKBACK + 2 * YEAR
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_GRID])
INDEX = MarketInputs(market="^GSPC", as_of=date(2024, 7, 19), implied_volatility=None)
NO_MARKET = MarketInputs(market=None, as_of=None, implied_volatility=None)


class MarketForecaster:
    """The volatility of the window's closes, times that of the market over one percent where it is known."""

    lookback, horizon = LOOKBACK, 2

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        windows = lookback_windows(with_columns(bars, N_INPUTS), origins, LOOKBACK)
        own, market = (np.diff(np.log(windows[..., column]), axis=1).std(1) for column in (CLOSE, MARKET_CLOSE))
        scale = own * np.where(np.isnan(market), 1.0, market / 0.01)  # (n_origins,)
        returns = scale[:, None, None] * np.sqrt([[1.0], [2.0]]) * NORMAL  # (n_origins, horizon, n_levels)
        return QuantileForecast(np.array(QUANTILE_GRID), bars[origins, CLOSE, None, None] * np.exp(returns))


def closes(n_sessions: int, seed: int, last: float = 1.0) -> NDArray[np.float64]:
    """Closes of a random walk, ``last`` times as volatile in the newest window."""
    returns = np.random.default_rng(seed).normal(0, 0.01, n_sessions)
    returns[-LOOKBACK:] *= last
    return 100 * np.exp(np.cumsum(returns))


def bars_of(own: NDArray[np.float64], market: NDArray[np.float64] | None = None) -> Bars:
    bars = np.full((len(own), N_INPUTS), np.nan)
    bars[:, CLOSE] = own
    if market is not None:
        bars[:, MARKET_CLOSE] = market
    return bars


def adaptive_over(bars: Bars) -> AdaptiveForecaster:
    inner = MarketForecaster()
    return AdaptiveForecaster(inner, Calibration.of(inner, bars, np.arange(LOOKBACK, LOOKBACK + YEAR), LOOKBACK + YEAR))


def explained(bars: Bars, forecaster: ServedForecaster | None = None, *, reads_market: bool = True) -> Explanation:
    """The explanation of the newest session."""
    forecaster = forecaster or adaptive_over(bars)
    if isinstance(forecaster, AdaptiveForecaster):
        _, (year,) = forecaster.newest_replays([bars], YEAR + 1)
        width = width_of(forecaster, bars, year, reads_market=reads_market)
    else:
        width = static_width(forecaster, bars, reads_market=reads_market)
    (expected,) = expected_moves(forecaster.predict_quantiles(bars, np.array([len(bars) - 1])))
    known = not np.isnan(bars[-LOOKBACK:, MARKET_CLOSE]).any()
    inputs = INDEX if reads_market and known else NO_MARKET
    return explanation(float(expected), width, "WALK", inputs, reads_market=reads_market)


def whole(answer: Explanation) -> float:
    """The expected move over the usual one, in percent of the usual one."""
    assert answer.usual_move_pct is not None
    return 100 * (answer.expected_move_pct / answer.usual_move_pct - 1)


def parts(answer: Explanation) -> dict[str, float]:
    assert answer.parts is not None
    return {name: part for name, part in answer.parts if part is not None}


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 2),
    own=st.floats(0.2, 5.0),
    market=st.one_of(st.none(), st.floats(0.2, 5.0)),
    adapts=st.booleans(),
)
def test_the_parts_sum_to_the_difference_from_the_usual_move(
    seed: int, own: float, market: float | None, *, adapts: bool
) -> None:
    index = None if market is None else closes(N_SESSIONS, seed + 1, market)
    bars = bars_of(closes(N_SESSIONS, seed, own), index)
    adaptive = adaptive_over(bars)

    answer = explained(bars, adaptive if adapts else adaptive.static)

    assert sum(parts(answer).values()) == pytest.approx(whole(answer), abs=1e-6)
    assert set(parts(answer)) == {"own", "calibration"} | (set() if market is None else {"market"})


def test_the_expected_move_is_the_standard_deviation_of_a_normal_return() -> None:
    forecast = FixedForecaster().predict_quantiles(random_walk(10), np.array([5, 9]))

    assert expected_moves(forecast) == pytest.approx([0.01, 0.01], rel=1e-3)


def test_the_usual_move_is_the_median_of_the_year_before() -> None:
    bars = bars_of(closes(N_SESSIONS, 0))
    static = adaptive_over(bars).static
    moves = [
        expected_moves(static.predict_quantiles(bars, np.array([origin])))[0]
        for origin in range(N_SESSIONS - 1 - YEAR, N_SESSIONS - 1)
    ]

    assert explained(bars, static).usual_move_pct == pytest.approx(100 * np.median(moves), rel=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_range_that_doubled_is_the_largest_part(seed: int) -> None:
    answer = explained(bars_of(closes(N_SESSIONS, seed, last=2.0), closes(N_SESSIONS, seed + 50)))

    assert max(parts(answer), key=lambda name: abs(parts(answer)[name])) == "own"
    assert parts(answer)["own"] > 50
    assert "because of its own recent range" in answer.sentence


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_shock_of_the_market_is_the_markets_part(seed: int) -> None:
    answer = explained(bars_of(closes(N_SESSIONS, seed), closes(N_SESSIONS, seed + 50, last=3.0)))

    assert max(parts(answer), key=lambda name: abs(parts(answer)[name])) == "market"
    assert parts(answer)["market"] > 100
    assert answer.sentence.endswith("mostly because of its market (^GSPC).")


@pytest.mark.parametrize("adapts", [True, False])
def test_the_market_is_hidden_in_every_fifth_forecast_back_from_the_newest(*, adapts: bool) -> None:
    hidden: list[int] = []

    class Recording(MarketForecaster):
        def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
            if bars.shape[1] == N_COLUMNS:
                hidden.extend(origins.tolist())
            return super().predict_quantiles(bars, origins)

    bars = bars_of(closes(N_SESSIONS, 1), closes(N_SESSIONS, 2))
    forecaster = AdaptiveForecaster(Recording(), adaptive_over(bars).calibration)

    explained(bars, forecaster if adapts else forecaster.static)

    assert hidden == list(range(N_SESSIONS - 1 - YEAR, N_SESSIONS, 5))
    assert hidden[-1] == N_SESSIONS - 1


def test_misses_are_the_part_of_calibration() -> None:
    """Jumps on every tenth session are in no 68 % interval; a scale of constant width leaves all to calibration."""
    bars = bars_of(closes(N_SESSIONS + YEAR, 1))
    forecaster = AdaptiveForecaster(FixedForecaster(2, LOOKBACK), Calibration((np.linspace(0, 3, 99),) * 2))
    bars[-60:, CLOSE] *= np.exp(np.tile([0.05, -0.05], 30))

    answer = explained(bars, forecaster, reads_market=False)

    assert parts(answer)["calibration"] == pytest.approx(whole(answer))
    assert whole(answer) > 10
    assert answer.sentence.endswith("mostly because of recent misses of its intervals.")


def test_a_calm_ticker_is_said_to_move_less() -> None:
    answer = explained(bars_of(closes(N_SESSIONS, 1, last=0.3)), reads_market=False)

    assert parts(answer)["own"] < -30
    assert "less than usual for WALK" in answer.sentence


def test_an_index_that_is_missing_leaves_the_other_parts() -> None:
    answer = explained(bars_of(closes(N_SESSIONS, 1, last=2.0)))

    assert answer.parts is not None
    assert answer.parts.market is None
    assert parts(answer)["own"] > 50
    assert answer.sentence.endswith("Its market was not known.")


def test_an_index_that_is_known_for_some_weeks_has_no_usual_effect() -> None:
    bars = bars_of(closes(N_SESSIONS, 1), closes(N_SESSIONS, 2))
    bars[: -YEAR // 3, MARKET_CLOSE] = np.nan

    answer = explained(bars)

    assert answer.parts is not None
    assert answer.parts.market is None


@pytest.mark.parametrize("n_origins", [1, YEAR, YEAR + 1])
def test_less_than_a_year_is_compared_with_nothing(n_origins: int) -> None:
    whole_year = n_origins > YEAR
    bars = bars_of(closes(N_SESSIONS, 1))
    young = bars[-(LOOKBACK - 1 + n_origins) :]

    for forecaster in (adaptive_over(bars), adaptive_over(bars).static):
        answer = explained(young, forecaster)

        assert (answer.parts is not None, answer.usual_move_pct is not None) == (whole_year, whole_year)
        assert answer.sentence.endswith("There is less than a year of WALK to say what is usual.") is not whole_year


@pytest.mark.parametrize(
    ("expected", "width", "comparison"),
    [
        (
            0.021,
            Width(usual_move=0.015, market=0.02, calibration=-0.01),
            "2.10%, 40% more than usual for AAPL (1.50%): mostly because of its own recent range.",
        ),
        (
            0.021,
            Width(usual_move=0.015, market=0.2, calibration=0.0),
            "2.10%, 40% more than usual for AAPL (1.50%): because of its market (^GSPC) and its own recent range.",
        ),
        (
            0.012,
            Width(usual_move=0.015, market=0.1, calibration=-0.3),
            "1.20%, 20% less than usual for AAPL (1.50%): mostly because of recent hits of its intervals.",
        ),
        (
            0.18,
            Width(usual_move=0.015, market=0.3, calibration=0.1),
            "18.00%, 12.0 times what is usual for AAPL (1.50%): mostly because of its own recent range.",
        ),
        (
            0.0151,
            Width(usual_move=0.015, market=0.1, calibration=-0.1),
            "1.51%, about as usual for AAPL (1.50%).",
        ),
        (0.00004, None, "0.004%. There is less than a year of AAPL to say what is usual."),
    ],
)
def test_the_sentence_names_the_largest_causes(expected: float, width: Width | None, comparison: str) -> None:
    sentence = explanation(expected, width, "AAPL", INDEX, reads_market=True).sentence

    assert sentence == f"The expected daily move is {comparison}"


def test_closes_that_the_caller_sent_have_an_expected_move_alone() -> None:
    answer = explanation(0.01, None, None, NO_MARKET, reads_market=True)

    assert (answer.expected_move_pct, answer.usual_move_pct, answer.parts) == (1.0, None, None)
    assert answer.sentence.endswith("Closes in a request are too few to say what is usual.")


def test_prices_without_a_finite_logarithm_are_compared_with_nothing() -> None:
    class Overflowing(MarketForecaster):
        def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
            forecast = super().predict_quantiles(bars, origins)
            return QuantileForecast(forecast.quantile_levels, np.full_like(forecast.prices, np.nan))

    bars = bars_of(closes(N_SESSIONS, 1))
    forecaster = CalibratedForecaster(Overflowing(), adaptive_over(bars).calibration)

    assert static_width(forecaster, bars, reads_market=True) is None


def test_an_index_counts_as_read_where_all_its_closes_are_known() -> None:
    bars = bars_of(closes(100, 1), closes(100, 2))
    bars[50, MARKET_CLOSE] = np.nan
    bars[60, IMPLIED_VOLATILITY] = 20.0

    index, implied = market_read(bars, np.array([49, 50, 69, 70, 79, 80]), LOOKBACK)

    assert index.tolist() == [True, False, False, True, True, True]
    assert implied.tolist() == [False, False, True, True, False, False]


NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)


def given_of(*indices: PriceHistory) -> ForecastInput:
    history = MarketAwareSource(FakePriceSource(walk_history(), *indices)).history("WALK", NOW)
    return input_from_history(history, "Close", 100, LOOKBACK, 1)


def test_inputs_name_the_index_and_its_implied_volatility() -> None:
    index, implied = walk_history("^GSPC", seed=1), walk_history("^VIX", seed=2)

    inputs = market_inputs(
        given_of(index.between(None, index.series.sessions[-2].item()), implied), LOOKBACK, reads_market=True
    )

    assert inputs.market == "^GSPC"
    assert inputs.as_of == index.series.sessions[-2].item()
    assert inputs.implied_volatility == "^VIX"


def test_an_index_with_a_gap_in_the_window_was_not_read() -> None:
    index = walk_history("^GSPC", seed=1)
    kept = np.ones(len(index.series), dtype=bool)
    kept[-40:-10] = False

    inputs = market_inputs(given_of(replace(index, series=index.series.where(kept))), LOOKBACK, reads_market=True)

    assert inputs == NO_MARKET


def test_a_model_that_reads_no_market_has_none() -> None:
    assert market_inputs(given_of(walk_history("^GSPC", seed=1)), LOOKBACK, reads_market=False) == NO_MARKET
    assert market_inputs(given_of(), LOOKBACK, reads_market=True) == NO_MARKET
