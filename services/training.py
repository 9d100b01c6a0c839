"""From a request to a stored model: fetch, split, fit, calibrate, measure, publish."""

import platform
import time
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from errors import ConstantSeries, StoreUnavailable
from models.base import CLOSE, Bars, Forecaster, Origins, QuantileForecast
from models.conformal import CalibratedForecaster, Calibration
from models.fitting import NETWORK, FitBlocks, FitSettings, OnEpoch
from models.presets import PRESETS
from models.windows import future_closes, target_stop
from schemas.accuracy import AccuracyReport, Coverage, PointAccuracy, Skill
from schemas.card import FORMAT_VERSION, Block, DataReport, ModelCard, SplitReport, TrainingReport
from schemas.common import MAX_HORIZON
from schemas.train import Paths, TrainRequest, TrainResponse, TrainResult, TrainTestAccuracy
from services.evaluation import accuracy
from services.evaluation.splits import Split, split_origins
from services.prices.series import PriceHistory, PriceSeries, PriceSource, to_date
from services.storage.registry import (
    CALIBRATION,
    CARD,
    ModelRegistry,
    calibration_to_json,
    file_report,
    model_key,
)

DEFAULT_SESSIONS = 2000  # about eight years: older volatility says little about tomorrow's
REPORTED_LEVELS = (0.5, 0.8, 0.9, 0.95)
LIBRARIES = ("torch", "pytorch-lightning", "onnxruntime", "numpy")


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready to be published."""

    card: ModelCard
    files: dict[str, bytes]


def train_model(
    request: TrainRequest, prices: PriceSource, model_id: str, now: datetime, on_epoch: OnEpoch
) -> TrainedModel:
    """Fit, calibrate and measure a model on the prices the request names.

    Raises:
        InsufficientHistory, ConstantSeries: the prices cannot carry a model.
        TickerNotFound, UpstreamUnavailable: from the price source.
    """
    started = time.monotonic()
    history = _requested(prices.history(request.ticker, now), request)
    series = history.series
    bars = series.bars_of(request.target_column)
    preset = PRESETS[request.model]
    lookback = preset.lookback or request.sequence_length
    split = split_origins(request.ticker, len(series), lookback, request.train_size)
    _refuse_constant(request.ticker, bars, split)

    fitted = preset.fit([FitBlocks(bars, split.fit, split.early_stopping)], _settings(request, lookback), on_epoch)
    forecaster = _calibrate(preset.load(fitted.files, fitted.quantile_levels), bars, split)
    files = {**fitted.files, CALIBRATION: calibration_to_json(forecaster.calibration)}
    test_forecast = forecaster.predict_quantiles(bars, np.array(split.test))
    train_forecast = forecaster.predict_quantiles(bars, np.array(split.train))
    card = ModelCard(
        format_version=FORMAT_VERSION,
        model_id=model_id,
        model=request.model,
        created_at=now,
        ticker=request.ticker,
        currency=series.currency,
        target_column=request.target_column,
        lookback=forecaster.lookback,
        horizon=forecaster.horizon,
        quantile_levels=fitted.quantile_levels,
        hyperparameters=dict(fitted.hyperparameters),
        request=request.model_dump(mode="json"),
        data=_data_report(history),
        split=_split_report(series, split),
        training=TrainingReport(
            seed=request.seed,
            epochs_run=len(fitted.validation_losses),
            best_epoch=fitted.best_epoch,
            stopped_by=fitted.stopped_by,
            seconds=round(time.monotonic() - started, 3),
            validation_losses=fitted.validation_losses,
        ),
        train=_accuracy(train_forecast, bars, split.train),
        test=_accuracy(test_forecast, bars, split.test),
        coverage=_coverage(forecaster, bars, split.test),
        n_calibration=tuple(step.size for step in forecaster.calibration.scores),
        files={name: file_report(content) for name, content in files.items()},
        libraries={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    )
    return TrainedModel(card, files)


def publish(model: TrainedModel, registry: ModelRegistry, rescue: ModelRegistry) -> None:
    """Store the model; when the store fails, keep it in the rescue registry and say so.

    Raises:
        StoreUnavailable: the store failed; the message names where the model is kept.
    """
    try:
        registry.publish(model.card, model.files)
    except StoreUnavailable as error:
        _keep_locally(model, rescue, error)
        raise StoreUnavailable(
            f"{error.message}; the trained model {model.card.model_id!r} is kept in the local folder rescued/",
            retry_after_s=error.retry_after_s,
            model_id=model.card.model_id,
            kept_at=f"rescued/models/{model.card.model_id}",
        ) from error


def _keep_locally(model: TrainedModel, rescue: ModelRegistry, failure: StoreUnavailable) -> None:
    try:
        rescue.publish(model.card, model.files)
    except StoreUnavailable as second:
        raise StoreUnavailable(
            f"{failure.message}; the trained model could not be kept locally either and is lost: {second.message}"
        ) from failure


def train_response(card: ModelCard) -> TrainResponse:
    """What the first ancestor's clients read, and what they were never told."""
    return TrainResponse(
        message="Model trained successfully",
        result=TrainResult(
            id=card.model_id,
            metrics=TrainTestAccuracy(train=card.train.model, test=card.test.model),
            paths=Paths(
                model_s3_path=model_key(card.model_id, NETWORK), metadata_s3_path=model_key(card.model_id, CARD)
            ),
            persistence=TrainTestAccuracy(train=card.train.persistence, test=card.test.persistence),
            skill=card.test.skill,
            coverage=tuple(reached for reached in card.coverage if reached.step == 1),
            ticker=card.ticker,
            source=card.data.source,
            as_of=card.data.last_session,
            stale=card.data.stale,
            dropped=card.data.dropped,
            seconds=card.training.seconds,
        ),
    )


def _requested(history: PriceHistory, request: TrainRequest) -> PriceHistory:
    if request.start_date is None:
        return history.between(None, request.end_date).tail(DEFAULT_SESSIONS)
    return history.between(request.start_date, request.end_date)


def _settings(request: TrainRequest, lookback: int) -> FitSettings:
    return FitSettings(
        lookback=lookback,
        horizon=MAX_HORIZON,
        max_epochs=request.epochs,
        patience=request.patience,
        max_seconds=request.max_seconds,
        seed=request.seed,
    )


def _refuse_constant(ticker: str, bars: Bars, split: Split) -> None:
    for block in (split.fit, split.calibration):
        closes = bars[block.start : target_stop(block), CLOSE]
        if closes.min() == closes.max():
            raise ConstantSeries(f"the closes of {ticker} never move from {closes[0]:g}: there is nothing to forecast")


def _calibrate(served: Forecaster, bars: Bars, split: Split) -> CalibratedForecaster:
    origins = np.array(split.calibration)
    actuals = future_closes(bars, origins, served.horizon, target_stop(split.calibration))
    calibration = Calibration.measure(served.predict_quantiles(bars, origins), actuals)
    return CalibratedForecaster(served, calibration)


def _accuracy(forecast: QuantileForecast, bars: Bars, block: range) -> AccuracyReport:
    origins = np.array(block)
    actual = bars[origins + 1, CLOSE]
    model = _point_accuracy(actual, forecast.median[:, 0])
    persistence = _point_accuracy(actual, bars[origins, CLOSE])
    return AccuracyReport(n_origins=len(block), model=model, persistence=persistence, skill=_skill(model, persistence))


def _point_accuracy(actual: NDArray[np.float64], forecast: NDArray[np.float64]) -> PointAccuracy:
    r2 = accuracy.r2(actual, forecast)
    return PointAccuracy(
        mae=_significant(accuracy.mae(actual, forecast)),
        mape=_significant(accuracy.mape(actual, forecast)),
        rmse=_significant(accuracy.rmse(actual, forecast)),
        r2=None if np.isnan(r2) else _significant(r2),
    )


def _significant(figure: float) -> float:
    return float(f"{figure:.6g}")


def _skill(model: PointAccuracy, persistence: PointAccuracy) -> Skill | None:
    if persistence.mae == 0:
        return None
    return Skill(
        mae=_significant(accuracy.skill(model.mae, persistence.mae)),
        mape=_significant(accuracy.skill(model.mape, persistence.mape)),
        rmse=_significant(accuracy.skill(model.rmse, persistence.rmse)),
    )


def _coverage(forecaster: CalibratedForecaster, bars: Bars, block: range) -> tuple[Coverage, ...]:
    origins: Origins = np.array(block)
    actuals = future_closes(bars, origins, forecaster.horizon)  # the test part is the last one
    forecast = forecaster.predict_intervals(bars, origins, REPORTED_LEVELS)
    reports = []
    for h in range(forecaster.horizon):
        n_known = int((~np.isnan(actuals[:, h])).sum())
        for k, level in enumerate(REPORTED_LEVELS):
            if n_known:
                reached = accuracy.coverage(actuals[:, h], forecast.lower[:, h, k], forecast.upper[:, h, k])
                reports.append(Coverage(step=h + 1, level=level, reached=round(reached, 4), n_origins=n_known))
    return tuple(reports)


def _data_report(history: PriceHistory) -> DataReport:
    series = history.series
    fingerprint = sha256(series.sessions.astype("<i8").tobytes() + series.bars.astype("<f8").tobytes())
    return DataReport(
        source=history.source,
        first_session=series.first_session,
        last_session=series.last_session,
        n_sessions=len(series),
        stale=history.stale,
        dropped=dict(history.dropped),
        sha256=fingerprint.hexdigest(),
    )


def _split_report(series: PriceSeries, split: Split) -> SplitReport:
    def block(origins: range) -> Block:
        first, last = series.sessions[origins.start], series.sessions[origins.stop - 1]
        return Block(first_origin=to_date(first), last_origin=to_date(last), n_origins=len(origins))

    return SplitReport(
        fit=block(split.fit),
        early_stopping=block(split.early_stopping),
        calibration=block(split.calibration),
        test=block(split.test),
    )
