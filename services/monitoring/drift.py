"""Drift: compares a ticker's recent daily ranges with its past, and outcomes with the forecasts.

Inputs: the mean log range of the last five sessions over that of the sixty before, ranked among the ticker's own past
windows. Volatility comes in clusters, so a theoretical distribution would not do.
Errors, one step ahead: a CUSUM of the misses of one level, and a Kolmogorov–Smirnov test of the PITs.

Source: Page (1954), Biometrika, for the CUSUM; Parkinson (1980), J. Business, for ranges.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from errors import AppError, InsufficientHistory, StoreUnavailable
from models.base import CLOSE, HIGH, LOW, Bars
from models.trading import is_untraded
from schemas.card import ModelCard
from schemas.realised import DriftOverview, DriftReport, DriftStatus, ErrorDrift, ForecastOutcome, InputDrift, Unjudged
from services.monitoring.realised import scores_since
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import ModelRegistry, ticker_alias
from services.storage.store import ArtifactStore
from telemetry.measures import DRIFT, Meter

RECENT, EARLIER = 5, 60
MIN_WINDOWS = 500  # of the past, to say what is unusual
WARNING_SHARE, DRIFTED_SHARE = 0.04, 0.005  # of past windows beyond

WINDOW = timedelta(days=365)
LEVEL = 0.8
ALLOWANCE = 0.1  # deviation of the share of misses that is no concern
DRIFTED_CUSUM = 6.0
MIN_PITS = 30
DRIFTED_P = 0.001

Values = NDArray[np.float64]


def drift_overview(
    registry: ModelRegistry,
    model: str | None,
    tickers: Sequence[str],
    prices: PriceSource,
    store: ArtifactStore,
    now: datetime,
) -> DriftOverview:
    """The drift status of a model for each ticker; a ticker that fails is reported and does not affect the others.

    Without ``model``, it is that of the model that answers for the ticker. The worst come first.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: the named model.
        StoreUnavailable: from the store.
    """
    named = None if model is None else registry.card(model)
    return overview_of(judged(ticker, named, registry, prices, store, now) for ticker in tickers)


def judged(
    ticker: str,
    named: ModelCard | None,
    registry: ModelRegistry,
    prices: PriceSource,
    store: ArtifactStore,
    now: datetime,
) -> DriftReport | Unjudged:
    """The drift status of the named model for a ticker, or of the model that answers for it; or why there is none.

    Raises:
        StoreUnavailable: from the store.
    """
    try:
        card = named or registry.card(ticker_alias(ticker))
        return drift(card, prices.history(ticker, now), store, now)
    except StoreUnavailable:
        raise
    except AppError as error:
        return Unjudged(ticker=ticker, code=error.code, detail=error.message)


def overview_of(found: Iterable[DriftReport | Unjudged]) -> DriftOverview:
    """The reports, the worst first, and the tickers without one."""
    every = tuple(found)
    reports = sorted((one for one in every if isinstance(one, DriftReport)), key=_severity)
    return DriftOverview(reports=tuple(reports), unjudged=tuple(one for one in every if isinstance(one, Unjudged)))


def _severity(report: DriftReport) -> tuple[int, float, float]:
    """Sorts drifted tickers before others; of those, forecasts that fail before prices that are merely wilder."""
    errors = report.errors
    cusum = 0.0 if errors is None else max(errors.cusum_high, errors.cusum_low)
    return ("drifted", "warning", "ok").index(report.status), -cusum, report.inputs.upper_tail_probability


def measure_drift(overview: DriftOverview, meter: Meter) -> None:
    """Record how many tickers have each status."""
    counts = Counter(report.status for report in overview.reports)
    for status in get_args(DriftStatus):
        meter.record(DRIFT, counts[status], status=status)


def drift(card: ModelCard, history: PriceHistory, store: ArtifactStore, now: datetime) -> DriftReport:
    """The drift status of a model for the ticker of a history, with its figures.

    Raises:
        InsufficientHistory: too few sessions to say what is unusual.
        StoreUnavailable: from the store.
    """
    ticker = history.series.ticker
    inputs = input_drift(ticker, history.series.bars)
    errors = error_drift(_one_step(store, ticker, card.model_id, now.date() - WINDOW))
    status, reasons = judge(inputs, errors)
    return DriftReport(
        ticker=ticker,
        model_id=card.model_id,
        as_of=history.as_of,
        status=status,
        reasons=reasons,
        inputs=inputs,
        errors=errors,
    )


def input_drift(ticker: str, bars: Bars) -> InputDrift:
    """The rank of the newest ratio of ranges among all earlier ones.

    During a halt, the last window with trading counts as the newest.

    Raises:
        InsufficientHistory: fewer than ``MIN_WINDOWS`` windows with trading.
    """
    needed = RECENT + EARLIER + MIN_WINDOWS
    if len(bars) < needed:
        raise InsufficientHistory(ticker, needed=needed, found=len(bars))
    ratios = range_ratios(bars)
    known = ratios[~np.isnan(ratios)]
    if known.size < MIN_WINDOWS:
        raise InsufficientHistory(ticker, needed=needed, found=needed - MIN_WINDOWS + known.size)
    newest, past = known[-1], known[:-1]
    return InputDrift(
        recent_sessions=RECENT,
        earlier_sessions=EARLIER,
        ratio=float(newest),
        upper_tail_probability=float((past >= newest).mean()),
    )


def range_ratios(bars: Bars) -> Values:
    """Mean log range of ``RECENT`` sessions divided by that of the ``EARLIER`` sessions before, for every full window.

    The range includes the close before, so that a gap counts. If high and low are unknown, it is the move of the
    close. Untraded sessions are left out of both means; a window without any trading is NaN.
    """
    before = bars[:-1, CLOSE]
    high = np.fmax(np.fmax(bars[1:, HIGH], bars[1:, CLOSE]), before)
    low = np.fmin(np.fmin(bars[1:, LOW], bars[1:, CLOSE]), before)
    ranges, traded = np.log(high / low), ~is_untraded(bars)[1:]
    recent = _window_means(ranges, traded, RECENT)[EARLIER:]
    earlier = _window_means(ranges, traded, EARLIER)[:-RECENT]
    ratios: Values = recent / np.maximum(earlier, np.finfo(np.float64).tiny)
    return ratios


def _window_means(values: Values, known: NDArray[np.bool_], size: int) -> Values:
    """Mean of the known values of each ``size`` successive ones, shape (n − size + 1,); NaN where none is known."""
    summed = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counted = np.concatenate([[0], np.cumsum(known)])
    total, n = summed[size:] - summed[:-size], counted[size:] - counted[:-size]
    means: Values = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return means


def error_drift(pairs: Sequence[ForecastOutcome]) -> ErrorDrift | None:
    """Misses and PITs of one-step forecasts, which are in the order of their sessions."""
    if not pairs:
        return None
    pits = np.array([pair.pit for pair in pairs])
    misses = (np.abs(2 * pits - 1) > LEVEL).astype(np.float64)
    excess = misses - (1 - LEVEL)
    return ErrorDrift(
        n_origins=len(pairs),
        level=LEVEL,
        empirical_coverage=float(1 - misses.mean()),
        cusum_high=_cusum(excess - ALLOWANCE),
        cusum_low=_cusum(-excess - ALLOWANCE),
        ks_p_value=_pit_uniformity_pvalue(pits),
    )


def judge(inputs: InputDrift, errors: ErrorDrift | None) -> tuple[DriftStatus, tuple[str, ...]]:
    drifted, warning = [], []
    unusual = (
        f"ranges of the last {inputs.recent_sessions} sessions are {inputs.ratio:.2f} times those of the "
        f"{inputs.earlier_sessions} before; {inputs.upper_tail_probability:.1%} of past windows had a larger ratio"
    )
    if inputs.upper_tail_probability < DRIFTED_SHARE:
        drifted.append(unusual)
    elif inputs.upper_tail_probability < WARNING_SHARE:
        warning.append(unusual)
    if errors is not None:
        if max(errors.cusum_high, errors.cusum_low) > DRIFTED_CUSUM:
            often = "more" if errors.cusum_high > errors.cusum_low else "less"
            drifted.append(
                f"prices fell outside {errors.level:.0%} intervals {often} often than {1 - errors.level:.0%}"
            )
        if errors.ks_p_value is not None and errors.ks_p_value < DRIFTED_P:
            drifted.append("outcomes do not follow the forecast distributions (Kolmogorov–Smirnov test)")
    if drifted:
        return "drifted", (*drifted, *warning)
    return ("warning", tuple(warning)) if warning else ("ok", ())


def _one_step(store: ArtifactStore, ticker: str, model_id: str, since: date) -> list[ForecastOutcome]:
    scores = sorted(scores_since(store, since, ticker), key=lambda one: one.session)
    return [pair for one in scores for pair in one.pairs if (pair.model_id, pair.step) == (model_id, 1)]


def _cusum(drifts: Values) -> float:
    """The last value of S = max(0, S + drift)."""
    total = 0.0
    for one in drifts.tolist():
        total = max(0.0, total + one)
    return total


def _pit_uniformity_pvalue(pits: Values) -> float | None:
    if pits.size < MIN_PITS or find_spec("scipy") is None:
        return None
    from scipy import stats

    return float(stats.kstest(pits, "uniform").pvalue)
