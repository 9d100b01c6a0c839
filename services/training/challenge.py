"""A new model against the champion of an alias, from the same origins; it takes the alias only by a clear win."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from errors import ArtifactInvalid, ModelNotFound
from models.base import Origins
from models.windows import future_closes
from schemas.card import ModelCard
from schemas.challenge import ChallengerEvaluation
from services.evaluation.accuracy import CRPS_LEVELS, log_return_crps_losses
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.significance import p_value
from services.prices.series import PriceHistory, PriceSource, to_date
from services.storage.evaluations import evaluation_key, store_evaluation
from services.storage.registry import ModelRegistry

HORIZON, STRIDE = 5, 1
MIN_UNSEEN = 30  # origins that neither has seen, below which the challenger's whole test part is taken
MIN_ORIGINS = 2 * HORIZON + 2  # for a p-value where the outcomes of successive origins overlap
MAX_P = 0.1


@dataclass(frozen=True)
class Challenger:
    """A new model that may take an alias.

    Attributes:
        alias: what it may take.
        job_id: the training that made it.
        card: its card; the model is stored.
        now: the time.
    """

    alias: str
    job_id: str
    card: ModelCard
    now: datetime

    @property
    def ticker(self) -> str:
        """Whose history decides: of several tickers the first."""
        return self.card.tickers[0]


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """The history up to the newest session the challenger has seen, and the origins that both forecast from."""

    history: PriceHistory
    origins: Origins
    warnings: tuple[str, ...]


def evaluate_challenger(challenger: Challenger, registry: ModelRegistry, prices: PriceSource) -> ChallengerEvaluation:
    """The evaluation, which is stored before the alias is moved to a challenger that has won.

    Repeated for the same job, the first evaluation stays and nothing is moved.

    Raises:
        StoreUnavailable: the store failed; the alias is where it was.
        TickerNotFound, UpstreamUnavailable: from the price source.
    """
    evaluation = _evaluation(challenger, registry, prices)
    stored = store_evaluation(registry.store, evaluation)
    if stored is evaluation and evaluation.won:
        evidence = evaluation_key(challenger.alias, challenger.job_id)
        registry.move_alias(challenger.alias, evaluation.challenger_id, challenger.now, evidence)
    return stored


def _evaluation(challenger: Challenger, registry: ModelRegistry, prices: PriceSource) -> ChallengerEvaluation:
    undecided = ChallengerEvaluation(
        alias=challenger.alias,
        job_id=challenger.job_id,
        champion_id=None,
        challenger_id=challenger.card.model_id,
        ticker=challenger.ticker,
        horizon=HORIZON,
        won=False,
        reason="",
        at=challenger.now,
    )
    try:
        champion = registry.card(challenger.alias)
        undecided = undecided.model_copy(update={"champion_id": champion.model_id})
        reason = _incomparable(champion, challenger.card)
        if reason is None:
            window = _window(challenger, champion, prices)
            if window.origins.size >= MIN_ORIGINS:
                return undecided.model_copy(update=_comparison(challenger, champion, window, registry))
            reason = f"{window.origins.size} common origins are too few"
    except (ModelNotFound, ArtifactInvalid) as error:
        reason = error.message
    return undecided.model_copy(update={"reason": f"not compared: {reason}"})


def _incomparable(champion: ModelCard, challenger: ModelCard) -> str | None:
    if champion.target_column != challenger.target_column:
        return f"{champion.model_id!r} forecasts {champion.target_column}, not {challenger.target_column}"
    if champion.horizon < HORIZON:
        return f"{champion.model_id!r} forecasts {champion.horizon} sessions, not {HORIZON}"
    return None


def _window(challenger: Challenger, champion: ModelCard, prices: PriceSource) -> EvaluationWindow:
    report = challenger.card.series[0]
    history = prices.history(challenger.ticker, challenger.now).between(None, report.data.last_session)
    history = history.with_target(challenger.card.target_column)
    series = history.series
    test = report.split.test
    if test is None:
        return EvaluationWindow(history, np.array([], dtype=np.intp), ())
    first, last = np.searchsorted(series.sessions, [np.datetime64(test.first_origin), np.datetime64(test.last_origin)])
    lookback = max(champion.lookback, challenger.card.lookback)
    # only origins whose outcomes are all known: a step whose session did not trade has none
    whole = np.arange(max(first, lookback - 1), min(last + 1, len(series) - HORIZON))
    whole = whole[~np.isnan(future_closes(series.bars, whole, HORIZON)).any(axis=1)]
    unseen = whole[series.sessions[whole] > np.datetime64(champion.last_session)]
    others = set(champion.tickers) - {challenger.ticker}
    warnings = (f"the champion was made of {champion.fitted_on}; only {challenger.ticker} decided",) if others else ()
    if unseen.size >= MIN_UNSEEN:
        return EvaluationWindow(history, unseen, warnings)
    seen = f"the champion was made with prices up to {champion.last_session}: it has seen some of these sessions"
    return EvaluationWindow(history, whole, (seen, *warnings))


def _comparison(
    challenger: Challenger, champion: ModelCard, window: EvaluationWindow, registry: ModelRegistry
) -> dict[str, object]:
    """The fields of an evaluation that depend on the scores."""
    own, theirs = (_forecasts(card, window, registry) for card in (challenger.card, champion))
    last = np.broadcast_to(own.last[:, None, None], (*own.actual.shape, CRPS_LEVELS.size))
    score, champion_score = float(own.crps_log.mean()), float(theirs.crps_log.mean())
    p = p_value(own.crps_log, theirs.crps_log, overlap=-(-HORIZON // STRIDE))
    won, reason = _decision(score, champion_score, p)
    registry.look_again(challenger.alias)  # the comparison took its time
    if won and registry.card(challenger.alias).model_id != champion.model_id:
        won, reason = False, "better, but the alias was moved to another model meanwhile"
    sessions = window.history.series.sessions
    return {
        "first_origin": to_date(sessions[window.origins[0]]),
        "last_origin": to_date(sessions[window.origins[-1]]),
        "n_origins": window.origins.size,
        "champion_score": champion_score,
        "challenger_score": score,
        "persistence_score": float(log_return_crps_losses(own.actual, last, CRPS_LEVELS).mean()),
        "p_value": p,
        "won": won,
        "reason": reason,
        "warnings": window.warnings,
    }


def _decision(score: float, champion_score: float, p: float | None) -> tuple[bool, str]:
    """Whether the challenger has won, and why or why not."""
    if score >= champion_score:
        return False, "the champion is as good or better"
    if p is None:
        return False, "better, but a p-value cannot be computed"
    if p >= MAX_P:
        return False, f"better, but perhaps by chance: the p-value is not below {MAX_P:g}"
    return True, f"better by more than chance: the p-value is below {MAX_P:g}"


def _forecasts(card: ModelCard, window: EvaluationWindow, registry: ModelRegistry) -> BacktestForecasts:
    forecaster = registry.load(card)
    config = BacktestConfig(window.origins, HORIZON, levels=(0.8,), stride=STRIDE)
    return walk_forward(lambda _: forecaster, window.history.inputs, config)
