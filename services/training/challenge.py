"""A new model against the champion of an alias: from the same origins, and only a clear winner takes its place."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from errors import ArtifactInvalid, ModelNotFound
from models.windows import future_closes
from schemas.card import ModelCard
from schemas.challenge import ChallengerEvaluation
from services.evaluation.accuracy import CRPS_LEVELS, log_return_crps_losses
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.significance import diebold_mariano
from services.prices.series import PriceSeries, PriceSource, to_date
from services.storage.contests import contest_key, keep_contest, read_contest
from services.storage.registry import ModelRegistry

HORIZON, STRIDE = 5, 1
MIN_UNSEEN = 30  # origins that neither knew, below which the challenger's whole test part is taken
MIN_ORIGINS = 2 * HORIZON + 2  # for a p-value where the outcomes of successive origins overlap
MAX_P = 0.1

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Challenger:
    """Who challenges for which alias.

    Attributes:
        alias: what is fought for.
        job_id: the training that made the challenger.
        challenger: the card of the new model, which is stored.
        now: the time.
    """

    alias: str
    job_id: str
    challenger: ModelCard
    now: datetime

    @property
    def ticker(self) -> str:
        """Whose history decides: of several tickers the first."""
        return self.challenger.tickers[0]


@dataclass(frozen=True, eq=False)
class EvaluationWindow:
    """Where both meet: the history up to the newest session the challenger knows, and the origins."""

    series: PriceSeries
    origins: NDArray[np.intp]
    warnings: tuple[str, ...]


def evaluate_challenger(challenge: Challenger, registry: ModelRegistry, prices: PriceSource) -> ChallengerEvaluation:
    """The evidence, which is stored before the alias is moved to a challenger that has won.

    Held again for the same job it is the first that stands, and nothing is moved.

    Raises:
        StoreUnavailable: the store failed; the alias is where it was.
        TickerNotFound, UpstreamUnavailable: from the price source.
    """
    evidence = contest_key(challenge.alias, challenge.job_id)
    contest = _contest(challenge, registry, prices)
    if not keep_contest(registry.store, contest):
        return read_contest(registry.store, evidence)
    if contest.won:
        registry.move_alias(contest.alias, contest.challenger_id, challenge.now, evidence)
    return contest


def _contest(challenge: Challenger, registry: ModelRegistry, prices: PriceSource) -> ChallengerEvaluation:
    champion = None
    try:
        champion = registry.card(challenge.alias)
        unfit = _unfit(champion, challenge.challenger)
        if unfit is not None:
            return _undecided(challenge, champion, unfit)
        arena = _arena(challenge, champion, prices)
        if arena.origins.size < MIN_ORIGINS:
            return _undecided(challenge, champion, f"no contest: {arena.origins.size} common origins are too few")
        return _decided(challenge, champion, arena, registry)
    except (ModelNotFound, ArtifactInvalid) as error:
        return _undecided(challenge, champion, f"no contest: {error.message}")


def _unfit(champion: ModelCard, challenger: ModelCard) -> str | None:
    if champion.target_column != challenger.target_column:
        return f"no contest: {champion.model_id!r} forecasts {champion.target_column}, not {challenger.target_column}"
    if champion.horizon < HORIZON:
        return f"no contest: {champion.model_id!r} forecasts {champion.horizon} sessions, not {HORIZON}"
    return None


def _arena(challenge: Challenger, champion: ModelCard, prices: PriceSource) -> EvaluationWindow:
    report = challenge.challenger.series[0]
    history = prices.history(challenge.ticker, challenge.now).between(None, report.data.last_session)
    series = history.with_target(challenge.challenger.target_column).series
    test = report.split.test
    if test is None:
        return EvaluationWindow(series, np.array([], dtype=np.intp), ())
    first, last = np.searchsorted(series.sessions, [np.datetime64(test.first_origin), np.datetime64(test.last_origin)])
    lookback = max(champion.lookback, challenge.challenger.lookback)
    # only origins whose outcomes are all known: where a session did not trade, a step has none
    whole = np.arange(max(first, lookback - 1), min(last + 1, len(series) - HORIZON))
    whole = whole[~np.isnan(future_closes(series.bars, whole, HORIZON)).any(axis=1)]
    unseen = whole[series.sessions[whole] > np.datetime64(champion.last_session)]
    warnings = _warnings(champion, challenge.challenger)
    if unseen.size >= MIN_UNSEEN:
        return EvaluationWindow(series, unseen, warnings)
    known = f"the champion knows prices up to {champion.last_session}: it has seen some of these sessions"
    return EvaluationWindow(series, whole, (known, *warnings))


def _warnings(champion: ModelCard, challenger: ModelCard) -> tuple[str, ...]:
    others = set(champion.tickers) - set(challenger.tickers[:1])
    if not others:
        return ()
    return (f"the champion was made of {', '.join(champion.tickers)}; only {challenger.tickers[0]} decided",)


def _decided(
    challenge: Challenger, champion: ModelCard, arena: EvaluationWindow, registry: ModelRegistry
) -> ChallengerEvaluation:
    theirs = _track(champion, arena, registry)
    own = _track(challenge.challenger, arena, registry)
    loss, loss_champion, loss_persistence = _losses(own), _losses(theirs), _persistence_losses(own)
    score, champion_score = float(np.nanmean(loss)), float(np.nanmean(loss_champion))
    tested = diebold_mariano(loss, loss_champion, -(-HORIZON // STRIDE))
    p_value = None if np.isnan(tested) else tested
    won, reason = _judge(score, champion_score, p_value)
    registry.look_again(challenge.alias)  # the contest took its time
    if won and registry.card(challenge.alias).model_id != champion.model_id:
        won, reason = False, "better, but the alias was moved to another model meanwhile"
    sessions = arena.series.sessions
    return ChallengerEvaluation(
        alias=challenge.alias,
        job_id=challenge.job_id,
        champion_id=champion.model_id,
        challenger_id=challenge.challenger.model_id,
        ticker=challenge.ticker,
        horizon=HORIZON,
        first_origin=to_date(sessions[arena.origins[0]]),
        last_origin=to_date(sessions[arena.origins[-1]]),
        n_origins=arena.origins.size,
        champion_score=champion_score,
        challenger_score=score,
        persistence_score=float(np.nanmean(loss_persistence)),
        p_value=p_value,
        won=won,
        reason=reason,
        warnings=arena.warnings,
        at=challenge.now,
    )


def _judge(score: float, champion_score: float, p_value: float | None) -> tuple[bool, str]:
    """Whether the challenger has won, and why or why not."""
    if score >= champion_score:
        return False, "the champion is as good or better"
    if p_value is None:
        return False, "better, but whether by more than chance cannot be told"
    if p_value >= MAX_P:
        return False, f"better, but perhaps by chance: the p-value is not below {MAX_P:g}"
    return True, f"better by more than chance: the p-value is below {MAX_P:g}"


def _track(card: ModelCard, arena: EvaluationWindow, registry: ModelRegistry) -> BacktestForecasts:
    forecaster = registry.load(card)
    plan = BacktestConfig(arena.origins, HORIZON, levels=(0.8,), quantile_levels=(0.5,), stride=STRIDE)
    return walk_forward(lambda _: forecaster, arena.series.bars, plan)


def _losses(track: BacktestForecasts) -> Losses:
    """Mean over the steps of each origin."""
    losses: Losses = track.crps_log.mean(axis=1)
    return losses


def _persistence_losses(track: BacktestForecasts) -> Losses:
    point = np.broadcast_to(track.last[:, None, None], (*track.actual.shape, CRPS_LEVELS.size))
    losses: Losses = log_return_crps_losses(track.actual, point, CRPS_LEVELS).mean(axis=1)
    return losses


def _undecided(challenge: Challenger, champion: ModelCard | None, reason: str) -> ChallengerEvaluation:
    return ChallengerEvaluation(
        alias=challenge.alias,
        job_id=challenge.job_id,
        champion_id=None if champion is None else champion.model_id,
        challenger_id=challenge.challenger.model_id,
        ticker=challenge.ticker,
        horizon=HORIZON,
        won=False,
        reason=reason,
        at=challenge.now,
    )
