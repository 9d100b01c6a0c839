"""From a request to a model that can be published: fetch, split, fit, calibrate, measure."""

import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from errors import AppError, CalibrationTooSmall, InvalidRequest, UniverseNotFound, ZeroVariance
from models.base import CLOSE, Bars, closes_only
from models.conformal import Calibration, ServedForecaster
from models.fitting import NETWORK, WEIGHTS, FitBlocks, FitSettings, OnEpoch, OnProgress
from models.serving import calibrated, served
from models.specs import MODEL_SPECS
from models.windows import target_stop
from schemas.accuracy import StepReport
from schemas.card import (
    FORMAT_VERSION,
    Block,
    DataReport,
    ModelCard,
    SeriesReport,
    SplitReport,
    TrainingReport,
)
from schemas.common import MAX_HORIZON
from schemas.job import Phase
from schemas.train import Paths, TrainRequest, TrainResponse, TrainResult, TrainTestAccuracy
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.scorer import card_report, card_reports, score, stacked
from services.evaluation.splits import Split, split_together, split_universe
from services.prices.cleaning import validate_completeness
from services.prices.quality import price_warnings
from services.prices.series import PriceHistory, PriceSource, Sessions, to_date
from services.storage.registry import (
    CALIBRATION,
    CARD,
    ModelRegistry,
    calibration_from_json,
    calibration_to_json,
    file_report,
    model_key,
)
from services.training.checkpoints import Checkpoints, StoredCheckpoint
from services.training.universe import Universe

DEFAULT_SESSIONS = 2000  # about eight years: older volatility says little about tomorrow's
MIN_SCORES = 20  # of each step: what the 95 % interval takes
REPORTED_LEVELS = (0.5, 0.8, 0.9, 0.95)
TRAIN_STRIDE = 20  # of a universe: a million forecasts say no more than fifty thousand
LIBRARIES = ("torch", "pytorch-lightning", "onnxruntime", "numpy")

log = logging.getLogger(__name__)

OnPhase = Callable[[Phase, float], None]
"""Called with a phase when it begins, and then with the share of it that is done."""


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready to be published.

    Attributes:
        card: its card.
        files: the files that the card names.
        checkpoint: the state of its fit, of no use once the model is stored.
    """

    card: ModelCard
    files: dict[str, bytes]
    checkpoint: StoredCheckpoint | None = None


@dataclass(frozen=True, eq=False)
class TrainingSeries:
    """One ticker's part in a training: its history, the bars of the target column, and their blocks."""

    history: PriceHistory
    bars: Bars
    split: Split

    @property
    def ticker(self) -> str:
        return self.history.series.ticker

    def sessions_of(self, block: range) -> Sessions:
        return self.history.series.sessions[block.start : block.stop : block.step]


def train_model(
    request: TrainRequest,
    prices: PriceSource,
    registry: ModelRegistry,
    model_id: str,
    now: datetime,
    on_epoch: OnEpoch,
    fit_until: float = math.inf,
    universe: Universe | None = None,
    on_progress: OnProgress = lambda _: None,
    checkpoints: Checkpoints | None = None,
    on_phase: OnPhase = lambda *_: None,
) -> TrainedModel:
    """Fit, calibrate and measure a model on the prices the request names; nothing is stored yet.

    A ``universe`` replaces the tickers and the prices of the request. Its fit keeps its state in ``checkpoints`` and
    continues from there what an earlier process began with the same request, prices and program. What ``on_phase``
    raises ends the training; it is called at least once for each ticker.

    The fit ends at ``request.max_seconds`` or when ``time.monotonic()`` reaches ``fit_until``, with the best so far.

    Raises:
        InsufficientHistory, ZeroVariance, NotFittable, CalibrationTooSmall: the prices cannot carry a model.
        PricesInvalid: more than half of the rows in the range had no usable price.
        TickerNotFound, UpstreamUnavailable: from the price source.
        ModelNotFound, InvalidRequest: the base model does not exist, or is not of the same kind.
    """
    started = time.monotonic()
    spec = MODEL_SPECS[request.model]
    lookback = spec.lookback or request.sequence_length
    checkpoint = None
    if universe is None:
        materials = _materials(request, lookback, prices, now, on_phase)
    else:
        log.info("reading universe %s: %d tickers", universe.name, len(universe.tickers))
        materials = _universe_materials(request, lookback, universe, now, on_phase)
    base = _base(request, lookback, materials, registry)
    start = None if base is None else registry.file(base, WEIGHTS)
    of_base = None if base is None else calibration_from_json(registry.file(base, CALIBRATION))
    settings = fit_settings(request, lookback, start, fit_until - time.monotonic())
    settings = replace(settings, on_progress=on_progress)
    if universe is not None and checkpoints is not None:
        checkpoints.remove_old(now)
        checkpoint = checkpoints.of(request, start, _libraries(), [(m.ticker, m.bars, m.split) for m in materials])
        settings = replace(settings, checkpoint=checkpoint)

    on_phase("fit", 0.0)
    log.info("fitting %s to %d tickers", request.model, len(materials))
    fitted = spec.fit([FitBlocks(m.bars, m.split.fit, m.split.early_stopping) for m in materials], settings, on_epoch)
    log.info("calibrating")
    blocks = ((m.bars, m.split.calibration) for m in _announced(materials, "calibrate", on_phase))
    exact = calibrated(spec, fitted, blocks, request.calibration)
    _validate_outcomes(exact.calibration)
    files = {**fitted.files, CALIBRATION: calibration_to_json(exact.calibration.informed_by(of_base))}
    # measured as it will be served, from the very files that are stored
    forecaster = served(exact.static.inner, calibration_from_json(files[CALIBRATION]), request.calibration)
    log.info("testing")
    found = _accuracy(forecaster, materials, on_phase, of_universe=universe is not None)
    card = ModelCard(
        format_version=FORMAT_VERSION,
        model_id=model_id,
        model=request.model,
        created_at=now,
        target_column=request.target_column,
        lookback=forecaster.lookback,
        horizon=forecaster.horizon,
        quantile_levels=fitted.quantile_levels,
        hyperparameters=dict(fitted.hyperparameters),
        request=request,
        series=tuple(_series_report(m, found.by_ticker.get(m.ticker, ())) for m in materials),
        universe=None if universe is None else universe.name,
        reads_market=spec.reads_market,
        kept_parent=base is not None and fitted.best_epoch == 0,
        training=TrainingReport(
            seed=request.seed,
            epochs_run=len(fitted.validation_losses),
            best_epoch=fitted.best_epoch,
            stopped_by=fitted.stopped_by,
            seconds=round(time.monotonic() - started, 3),
            validation_losses=fitted.validation_losses,
        ),
        train=found.train,
        test=found.test,
        test_closes_only=found.test_closes_only,
        calibration=request.calibration,
        base_model_id=None if base is None else base.model_id,
        warnings=_warnings(base, materials, of_universe=universe is not None),
        n_calibration=tuple(step.size for step in forecaster.calibration.scores),
        files={name: file_report(content) for name, content in files.items()},
        libraries=_libraries(),
    )
    return TrainedModel(card, files, checkpoint)


@dataclass(frozen=True)
class _Accuracy:
    """What a card reports of both parts; tickers without a test session are missing from ``by_ticker``."""

    train: StepReport
    test: tuple[StepReport, ...]
    by_ticker: dict[str, tuple[StepReport, ...]]
    test_closes_only: StepReport


def _announced(
    materials: Sequence[TrainingSeries], phase: Phase, on_phase: OnPhase, part: int = 1, parts: int = 1
) -> Iterator[TrainingSeries]:
    """Each of them, after a call of ``on_phase``; all of them are one of several equal parts of the phase."""
    for number, material in enumerate(materials):
        on_phase(phase, (part - 1 + number / len(materials)) / parts)
        yield material


def _accuracy(
    forecaster: ServedForecaster, materials: Sequence[TrainingSeries], on_phase: OnPhase, *, of_universe: bool
) -> _Accuracy:
    """Of a universe all tickers together, and of the train part one session in TRAIN_STRIDE."""
    tested = [m for m in materials if m.split.test]
    trained = [m.split.train[:: TRAIN_STRIDE if of_universe else 1] for m in materials]
    test = {
        m.ticker: _forecasts(forecaster, m.bars, m.split.test, forecaster.horizon)
        for m in _announced(tested, "test", on_phase, 1, 3)
    }
    sessions = np.concatenate([m.sessions_of(m.split.test) for m in tested])
    reports = card_reports(stacked([*test.values()]), REPORTED_LEVELS, sessions)
    if not reports:
        raise ZeroVariance("no session of the test part traded: there are no outcomes to measure accuracy on")
    static = forecaster.static
    train = stacked(
        [
            _forecasts(static, m.bars[: target_stop(m.split.train)], origins, 1)
            for m, origins in zip(_announced(materials, "test", on_phase, 2, 3), trained, strict=True)
        ]
    )
    from_closes = stacked(
        [
            # the bars say which sessions traded
            replace(
                _forecasts(static, closes_only(m.bars[:, CLOSE]), m.split.test, 1), actual=test[m.ticker].actual[:, :1]
            )
            for m in _announced(tested, "test", on_phase, 3, 3)
        ]
    )
    train_sessions = np.concatenate([m.sessions_of(one) for m, one in zip(materials, trained, strict=True)])
    return _Accuracy(
        train=card_report(score(train, (), 1, sessions=train_sessions)),
        test=reports,
        by_ticker={} if of_universe else {ticker: card_reports(one, REPORTED_LEVELS) for ticker, one in test.items()},
        test_closes_only=card_report(score(from_closes, REPORTED_LEVELS, 1, sessions=sessions)),
    )


def _forecasts(forecaster: ServedForecaster, bars: Bars, block: range, horizon: int) -> BacktestForecasts:
    config = BacktestConfig(np.array(block, dtype=np.intp), horizon, REPORTED_LEVELS)
    return walk_forward(lambda _: forecaster, bars, config)


def _libraries() -> dict[str, str]:
    """Versions of what can change a model; a baseline is fitted without torch."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def trained(result: TrainResult) -> TrainResponse:
    return TrainResponse(message="Model trained successfully", result=result)


def train_result(card: ModelCard) -> TrainResult:
    """The answer to a training request: what legacy contract v1's clients read, and the figures that belong to it."""
    data, test = [series.data for series in card.series], card.test[0]
    return TrainResult(
        id=card.model_id,
        metrics=TrainTestAccuracy(train=card.train.model, test=test.model),
        paths=Paths(
            model_s3_path=model_key(card.model_id, NETWORK if NETWORK in card.files else min(card.files)),
            metadata_s3_path=model_key(card.model_id, CARD),
        ),
        train=card.train,
        test=test,
        tickers=card.named_tickers,
        universe=card.universe,
        kept_parent=card.kept_parent,
        source=", ".join(sorted({one.source for one in data})),
        as_of=max(one.last_session for one in data),
        stale=any(one.stale for one in data),
        dropped={series.ticker: series.data.dropped for series in card.series if series.data.dropped},
        repaired={series.ticker: series.data.repaired for series in card.series if series.data.repaired},
        base_model_id=card.base_model_id,
        warnings=card.warnings,
        seconds=card.training.seconds,
    )


def _materials(
    request: TrainRequest, lookback: int, prices: PriceSource, now: datetime, on_phase: OnPhase
) -> tuple[TrainingSeries, ...]:
    histories = []
    for number, ticker in enumerate(request.all_tickers):
        on_phase("fetch", number / len(request.all_tickers))
        histories.append(_requested(prices.history(ticker, now), request))
    on_phase("prepare", 0.0)
    for history in histories:
        validate_completeness(history)
    sessions = {history.series.ticker: history.series.sessions for history in histories}
    splits = split_together(sessions, lookback, request.train_size)
    materials = tuple(
        TrainingSeries(history, history.inputs, split) for history, split in zip(histories, splits, strict=True)
    )
    for material in materials:
        _validate_movement(material)
    return materials


def _universe_materials(
    request: TrainRequest, lookback: int, universe: Universe, now: datetime, on_phase: OnPhase
) -> tuple[TrainingSeries, ...]:
    """Every ticker with enough usable sessions; the rest is left out, and the log says why."""
    found: dict[str, PriceHistory] = {}
    for number, ticker in enumerate(universe.tickers):
        on_phase("fetch", number / len(universe.tickers))
        try:
            history = universe.prices.history(ticker, now).between(request.start_date, request.end_date)
            found[ticker] = history.with_target(request.target_column)
            validate_completeness(found[ticker])
        except AppError as error:
            found.pop(ticker, None)
            log.warning("%s is left out of universe %s: %s", ticker, universe.name, error.message)
    on_phase("prepare", 0.0)
    sessions = {ticker: history.series.sessions for ticker, history in found.items()}
    splits = split_universe(sessions, lookback, request.train_size) if found else {}
    left_out = sorted(found.keys() - splits.keys())
    if left_out:
        log.warning("too few sessions in universe %s: %s", universe.name, ", ".join(left_out))
    if not splits:
        raise UniverseNotFound(f"universe {universe.name!r} has no ticker with usable prices")
    return tuple(TrainingSeries(found[ticker], found[ticker].inputs, split) for ticker, split in splits.items())


def _requested(history: PriceHistory, request: TrainRequest) -> PriceHistory:
    targeted = history.between(request.start_date, request.end_date).with_target(request.target_column)
    return targeted if request.start_date is not None else targeted.tail(DEFAULT_SESSIONS)


def _validate_movement(material: TrainingSeries) -> None:
    for block in (material.split.fit, material.split.calibration):
        closes = material.bars[block.start : target_stop(block), CLOSE]
        if block and closes.min() == closes.max():
            raise ZeroVariance(
                f"the closes of {material.ticker} never move from {closes[0]:g}: there is nothing to forecast"
            )


def _validate_outcomes(calibration: Calibration) -> None:
    """Refuse a calibration block in which too few sessions traded."""
    fewest = calibration.fewest
    if fewest < MIN_SCORES:
        raise CalibrationTooSmall(
            f"need {MIN_SCORES} outcomes of each step to calibrate intervals, found {fewest}: too few sessions traded",
            found=fewest,
        )


def _base(
    request: TrainRequest, lookback: int, materials: Sequence[TrainingSeries], registry: ModelRegistry
) -> ModelCard | None:
    """The model whose weights the fit begins with."""
    if request.base_model_id is not None:
        base = registry.card(request.base_model_id)
        if not _continues(base, request, lookback):
            raise InvalidRequest(
                f"cannot continue a {request.model} of {request.target_column} over {lookback} sessions "
                f"from {base.model_id!r}, a {base.model} of {base.target_column} over {base.lookback}"
            )
        return base
    bundled = registry.bundled
    if not request.warm_start or bundled is None or not _continues(bundled, request, lookback):
        return None
    return bundled if bundled.last_session < _first_unseen(materials) else None


def _continues(base: ModelCard, request: TrainRequest, lookback: int) -> bool:
    reads_market = MODEL_SPECS[request.model].reads_market
    shape = (base.model, base.lookback, base.horizon, base.target_column, base.reads_market)
    expected = (request.model, lookback, MAX_HORIZON, request.target_column, reads_market)
    return shape == expected and {WEIGHTS, CALIBRATION} <= set(base.files)


def _first_unseen(materials: Sequence[TrainingSeries]) -> date:
    """The first origin that calibrates: a base model that has seen it would be measured on seen sessions."""
    starts = [m.history.series.sessions[m.split.calibration.start] for m in materials if m.split.calibration]
    return to_date(min(starts))


def fit_settings(
    request: TrainRequest, lookback: int, start: bytes | None = None, seconds_left: float = math.inf
) -> FitSettings:
    """The limits of a fit that the request states; ``start`` are the weights to continue from."""
    return FitSettings(
        lookback=lookback,
        horizon=MAX_HORIZON,
        max_epochs=request.epochs,
        patience=request.patience,
        max_seconds=max(0.0, min(request.max_seconds, seconds_left)),
        seed=request.seed,
        start=start,
    )


def _warnings(base: ModelCard | None, materials: Sequence[TrainingSeries], *, of_universe: bool) -> tuple[str, ...]:
    """About the prices of each ticker, and the base model; of a universe the series alone say what was left out."""
    warnings = [
        f"{material.ticker}: {warning}"
        for material in (() if of_universe else materials)
        for warning in price_warnings(material.history, len(material.history.series))
    ]
    if base is not None and base.last_session >= _first_unseen(materials):
        seen = f"the base model {base.model_id!r} was made with prices up to {base.last_session}"
        warnings.append(f"{seen}: calibration and accuracy are measured on sessions it has seen")
    return tuple(warnings)


def _series_report(material: TrainingSeries, test: tuple[StepReport, ...]) -> SeriesReport:
    history, series = material.history, material.history.series
    fingerprint = sha256(series.sessions.astype("<i8").tobytes() + series.bars.astype("<f8").tobytes())
    return SeriesReport(
        ticker=material.ticker,
        currency=series.currency,
        data=DataReport(
            source=history.source,
            first_session=series.first_session,
            last_session=series.last_session,
            n_sessions=len(series),
            stale=history.stale,
            dropped=history.dropped,
            repaired=history.repaired,
            sha256=fingerprint.hexdigest(),
        ),
        split=_split_report(material),
        test=test,
    )


def _split_report(material: TrainingSeries) -> SplitReport:
    sessions = material.history.series.sessions

    def block(origins: range) -> Block | None:
        if not origins:
            return None
        first, last = sessions[origins.start], sessions[origins.stop - 1]
        return Block(first_origin=to_date(first), last_origin=to_date(last), n_origins=len(origins))

    split = material.split
    return SplitReport(
        fit=block(split.fit),
        early_stopping=block(split.early_stopping),
        calibration=block(split.calibration),
        test=block(split.test),
    )
