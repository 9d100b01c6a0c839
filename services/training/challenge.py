"""A new model against the champion of an alias, on the tickers that the alias answers for, from the same origins.

It takes the alias only by a clear win, see ``_decision``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from errors import AppError, ArtifactInvalid, ModelNotFound, StoreUnavailable, UniverseNotFound
from models.base import Origins
from models.windows import future_closes
from schemas.card import ModelCard
from schemas.challenge import ChallengerEvaluation
from services.evaluation.accuracy import CRPS_LEVELS, ROUNDING, log_return_crps_losses
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.significance import BLOCK, block_p_value
from services.prices.series import PriceHistory, PriceSource, Sessions, to_date
from services.storage.evaluations import evaluation_key, store_evaluation
from services.storage.registry import ModelRegistry, ticker_of_alias
from services.training.universe import Universes

HORIZON, STRIDE = 5, 1
MIN_UNSEEN = 5 * BLOCK  # origins that neither has seen, below which the challenger's whole test part is taken
MAX_ORIGINS = 500  # of a ticker, the newest: two years
MAX_TICKERS = 20  # compared for an alias that answers for every ticker
MAX_TRIED = 60  # until so many can be forecast by both
MAX_P = 0.01
SPENDING = 1.25  # the sum of 1 / k^1.25 over all k is 4.6: in expectation 0.046 wins by chance, however many are tested
MIN_GAIN = 0.002  # of the CRPS: what is smaller no one notices, though with enough sessions it is significant

SEEN = "the champion was fitted or calibrated on some of these sessions, which is to its advantage"

Differences = NDArray[np.float64]


@dataclass(frozen=True)
class Challenger:
    """A new model that may take an alias.

    Attributes:
        alias: what it may take.
        job_id: the training that made it.
        card: its card; the model is stored.
        now: the time.
        family_position: its position among the challengers of the night, see ``Jobs.family_position``.
    """

    alias: str
    job_id: str
    card: ModelCard
    now: datetime
    family_position: int = 1

    @property
    def max_p_value(self) -> float:
        """What its p-value must be below; the sum over any number of challengers of a night is below 0.046."""
        spent: float = self.family_position**SPENDING
        return MAX_P / spent


@dataclass(frozen=True)
class _Tickers:
    """The tickers that may decide, in the order in which they are tried, and their prices."""

    names: Sequence[str]
    prices: PriceSource
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """The history up to the newest session the challenger has seen, and the origins that both forecast from."""

    history: PriceHistory
    origins: Origins
    seen: bool

    @property
    def sessions(self) -> Sessions:
        return self.history.series.sessions[self.origins]


@dataclass(frozen=True, eq=False)
class _Scores:
    """Both models on one ticker: means of the CRPS, and per origin the difference as a share of the champion's mean."""

    window: EvaluationWindow
    challenger: float
    champion: float
    persistence: float
    difference: Differences


def evaluate_challenger(
    challenger: Challenger,
    registry: ModelRegistry,
    prices: PriceSource,
    universes: Universes,
    on_decision: Callable[[], None] = lambda: None,
) -> ChallengerEvaluation:
    """The evaluation, which is stored before the alias is moved to a challenger that has won.

    Repeated for the same job, the first evaluation stays and nothing is moved. What ``on_decision`` raises before
    anything is stored leaves everything as it was.

    Raises:
        StoreUnavailable: the store failed; the alias is where it was.
        TickerNotFound, UpstreamUnavailable, InsufficientHistory: no ticker of the alias has prices.
    """
    evaluation = _evaluation(challenger, registry, prices, universes)
    on_decision()
    stored = store_evaluation(registry.store, evaluation)
    if stored is evaluation and evaluation.won:
        evidence = evaluation_key(challenger.alias, challenger.job_id)
        registry.move_alias(challenger.alias, evaluation.challenger_id, challenger.now, evidence)
    return stored


def _evaluation(
    challenger: Challenger, registry: ModelRegistry, prices: PriceSource, universes: Universes
) -> ChallengerEvaluation:
    undecided = ChallengerEvaluation(
        alias=challenger.alias,
        job_id=challenger.job_id,
        champion_id=None,
        challenger_id=challenger.card.model_id,
        tickers=(),
        horizon=HORIZON,
        max_p_value=challenger.max_p_value,
        family_position=challenger.family_position,
        won=False,
        reason="",
        at=challenger.now,
    )
    try:
        champion = registry.card(challenger.alias)
        undecided = undecided.model_copy(update={"champion_id": champion.model_id})
        reason = _incomparable(champion, challenger.card)
        if reason is None:
            tickers = _tickers(challenger, champion, prices, universes)
            scores = list(_scores(challenger, champion, tickers, registry))
            if scores:
                found = _comparison(challenger, champion, scores, registry)
                seen = (SEEN,) if any(one.window.seen for one in scores) else ()
                return undecided.model_copy(update={**found, "warnings": (*seen, *tickers.warnings)})
            reason = "there are too few common origins"
    except (ModelNotFound, ArtifactInvalid) as error:
        reason = error.message
    return undecided.model_copy(update={"reason": f"not compared: {reason}"})


def _incomparable(champion: ModelCard, challenger: ModelCard) -> str | None:
    if champion.target_column != challenger.target_column:
        return f"{champion.model_id!r} forecasts {champion.target_column}, not {challenger.target_column}"
    for card in (champion, challenger):
        if card.horizon < HORIZON:
            return f"{card.model_id!r} forecasts {card.horizon} sessions, not {HORIZON}"
    return None


def _tickers(challenger: Challenger, champion: ModelCard, prices: PriceSource, universes: Universes) -> _Tickers:
    """The ticker of a ticker's alias; for any other alias a sample of the universe of one of the two models."""
    own = ticker_of_alias(challenger.alias)
    if own is not None:
        return _Tickers([own], prices)
    for name in (champion.universe, challenger.card.universe):
        if name is not None:
            try:
                universe = universes.get(name)
            except UniverseNotFound:
                continue
            return _Tickers(_shuffled(universe.tickers, challenger.job_id), universe.prices)
    tickers = challenger.card.tickers[:MAX_TICKERS]
    only = f"only {', '.join(tickers)} decided" if len(tickers) < 4 else f"only {len(tickers)} tickers decided"
    return _Tickers(tickers, prices, (f"no universe of prices of either model is installed: {only}",))


def _shuffled(tickers: Sequence[str], job_id: str) -> list[str]:
    """The same order for the same job, and another for each: challengers must not win by fitting one sample."""
    return sorted(tickers, key=lambda ticker: sha256(f"{job_id} {ticker}".encode()).digest())[:MAX_TRIED]


def _scores(
    challenger: Challenger, champion: ModelCard, tickers: _Tickers, registry: ModelRegistry
) -> Iterator[_Scores]:
    """Of at most ``MAX_TICKERS`` tickers; of several, those that cannot be forecast are left out."""
    n_found = 0
    for ticker in tickers.names:
        try:
            history = tickers.prices.history(ticker, challenger.now)
            window = _window(challenger.card, champion, history)
            found = _scores_of(challenger.card, champion, window, registry) if window.origins.size else None
        except StoreUnavailable:
            raise
        except AppError as error:
            if len(tickers.names) == 1 or isinstance(error, ModelNotFound | ArtifactInvalid):
                raise
            continue
        if found is not None:
            yield found
            n_found += 1
        if n_found == MAX_TICKERS:
            return


def _window(challenger: ModelCard, champion: ModelCard, history: PriceHistory) -> EvaluationWindow:
    ticker = history.series.ticker
    history = history.between(None, challenger.last_session).with_target(challenger.target_column)
    series = history.series
    lookback = max(champion.lookback, challenger.lookback)
    # only origins whose outcomes are all known: a step whose session did not trade has none
    whole = np.arange(max(_first_test_row(challenger, ticker, series.sessions), lookback - 1), len(series) - HORIZON)
    whole = whole[~np.isnan(future_closes(series.bars, whole, HORIZON)).any(axis=1)][-MAX_ORIGINS:]
    unseen = whole[whole >= _first_test_row(champion, ticker, series.sessions)]
    enough = unseen.size >= MIN_UNSEEN or unseen.size == whole.size
    return EvaluationWindow(history, unseen if enough else whole, seen=not enough)


def _first_test_row(card: ModelCard, ticker: str, sessions: Sessions) -> int:
    """The first origin that the model was neither fitted nor calibrated on."""
    starts = [one.split.test.first_origin for one in card.series if one.ticker == ticker and one.split.test]
    first: date = starts[0] if starts else card.test_start
    return int(np.searchsorted(sessions, np.datetime64(first)))


def _scores_of(
    challenger: ModelCard, champion: ModelCard, window: EvaluationWindow, registry: ModelRegistry
) -> _Scores | None:
    """None where the ticker never moves: every forecast of no change is then exact."""
    own, theirs = (_forecasts(card, window, registry) for card in (challenger, champion))
    last = np.broadcast_to(own.last[:, None, None], (*own.actual.shape, CRPS_LEVELS.size))
    scale = float(theirs.crps_log.mean())
    if scale <= 0:
        return None
    difference = (own.crps_log - theirs.crps_log).mean(axis=1) / scale
    difference[np.abs(difference) <= ROUNDING] = 0
    return _Scores(
        window=window,
        challenger=float(own.crps_log.mean()),
        champion=scale,
        persistence=float(log_return_crps_losses(own.actual, last, CRPS_LEVELS).mean()),
        difference=difference,
    )


def _comparison(
    challenger: Challenger, champion: ModelCard, scores: Sequence[_Scores], registry: ModelRegistry
) -> dict[str, object]:
    """The fields of an evaluation that depend on the scores."""
    difference = _by_session(scores)
    gain, p = -float(difference.mean()), block_p_value(difference)
    won, reason = _decision(gain, p, challenger)
    registry.look_again(challenger.alias)  # the comparison took its time
    if won and registry.card(challenger.alias).model_id != champion.model_id:
        won, reason = False, "better, but the alias was moved to another model meanwhile"
    return {
        "tickers": tuple(one.window.history.series.ticker for one in scores),
        "first_origin": to_date(min(one.window.sessions[0] for one in scores)),
        "last_origin": to_date(max(one.window.sessions[-1] for one in scores)),
        "n_origins": sum(one.window.origins.size for one in scores),
        "champion_score": float(np.mean([one.champion for one in scores])),
        "challenger_score": float(np.mean([one.challenger for one in scores])),
        "persistence_score": float(np.mean([one.persistence for one in scores])),
        "gain": gain,
        "p_value": p,
        "won": won,
        "reason": reason,
    }


def _by_session(scores: Sequence[_Scores]) -> Differences:
    """The mean difference of each session: tickers move together, so that a session is one piece of evidence."""
    sessions = np.concatenate([one.window.sessions for one in scores])
    _, row = np.unique(sessions, return_inverse=True)
    means: Differences = np.bincount(row, np.concatenate([one.difference for one in scores])) / np.bincount(row)
    return means


def _decision(gain: float, p: float | None, challenger: Challenger) -> tuple[bool, str]:
    """Whether the challenger has won, and why or why not."""
    if gain <= 0:
        return False, "the champion is as good or better"
    if gain < MIN_GAIN:
        return False, f"better by {gain:.3%} of the CRPS, less than the minimum of {MIN_GAIN:.1%}"
    if p is None:
        return False, "better, but a p-value cannot be computed"
    limit = f"{challenger.max_p_value:.2g}, the limit for challenger {challenger.family_position} of the night"
    if p >= challenger.max_p_value:
        return False, f"better by {gain:.2%}, but perhaps by chance: the p-value {p:.2g} is not below {limit}"
    return True, f"better by {gain:.2%}, which is more than chance: the p-value {p:.2g} is below {limit}"


def _forecasts(card: ModelCard, window: EvaluationWindow, registry: ModelRegistry) -> BacktestForecasts:
    forecaster = registry.load(card)
    config = BacktestConfig(window.origins, HORIZON, levels=(0.8,), stride=STRIDE)
    return walk_forward(lambda _: forecaster, window.history.inputs, config)
