"""The model card: what a stored model is, what it was fitted on and how accurate it is."""

from datetime import date, datetime
from functools import cached_property

from pydantic import Field, JsonValue

from schemas.accuracy import StepReport
from schemas.common import Document, ModelId, Ticker, UniverseName
from schemas.train import CalibrationKind, ModelName, StoppedBy, TargetColumn, TrainRequest

FORMAT_VERSION = 2


class Block(Document):
    """A block of origins: the last sessions known to its windows."""

    first_origin: date
    last_origin: date
    n_origins: int = Field(description="Number of origins.")


class SplitReport(Document):
    """The consecutive blocks a history was cut into; null where a ticker has no session in a block."""

    fit: Block | None
    early_stopping: Block | None
    calibration: Block | None
    test: Block | None


class DataReport(Document):
    """The prices that a model was trained on."""

    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    first_session: date
    last_session: date
    n_sessions: int = Field(description="Sessions used.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    dropped: dict[str, int] = Field(description="Rows of the whole history that were left out, by reason.")
    repaired: dict[str, int] = Field(default_factory=dict)
    sha256: str = Field(description="Checksum of sessions and bars as little-endian 64-bit values.")


class SeriesReport(Document):
    """One ticker's part in the model."""

    ticker: Ticker
    currency: str | None
    data: DataReport
    split: SplitReport
    test: tuple[StepReport, ...] = Field(description="On this ticker alone; empty if it has no test session.")


class TrainingReport(Document):
    """How the fit went."""

    seed: int
    epochs_run: int = Field(description="Finished passes over the fit part.")
    best_epoch: int = Field(description="The epoch whose weights were kept; 0 if none improved on the start.")
    stopped_by: StoppedBy = Field(description="Why the fit ended.")
    seconds: float = Field(description="From the request for prices until the train and test parts are forecast.")
    validation_losses: tuple[float, ...] = Field(
        description="Loss on the early-stopping block after each epoch; lower is better."
    )


class FileReport(Document):
    """A stored file of the model."""

    sha256: str
    n_bytes: int


class HeldOut(Document):
    """Accuracy on a ticker the model was not fitted on."""

    ticker: Ticker
    first_origin: date
    last_origin: date
    test: tuple[StepReport, ...]
    crps_skill: float = Field(
        description="One step ahead, of the log return, against the last 250 sessions' own distribution."
    )
    crps_skill_p_value: float | None = Field(description="Of crps_skill; null with too few origins or without scipy.")
    crps_skill_closes_only: float = Field(description="The same, forecast from closes alone.")
    crps_skill_closes_only_p_value: float | None = Field(description="Of crps_skill_closes_only.")


class ModelCard(Document):
    """Everything about a stored model but its weights; written last, so a model without a card does not exist."""

    format_version: int = Field(description="Layout of the card and the files.")
    model_id: ModelId
    model: ModelName
    created_at: datetime = Field(description="Time of the training request, in UTC.")
    target_column: TargetColumn = Field(description="The price that is forecast.")
    lookback: int = Field(description="Sessions that the model reads, the origin included.")
    horizon: int = Field(description="Sessions that the model forecasts at most.")
    quantile_levels: tuple[float, ...] = Field(description="Quantile levels of the model's distribution.")
    hyperparameters: dict[str, JsonValue] = Field(
        description="What rebuilds the network around its weights, and how it was trained."
    )
    request: TrainRequest = Field(description="With its defaults.")
    series: tuple[SeriesReport, ...] = Field(min_length=1)
    universe: UniverseName | None = Field(
        default=None, description="The folder of prices that the model was fitted on, which then serves every ticker."
    )
    reads_market: bool = Field(default=False, description="Whether the model reads the market of the exchange.")
    kept_parent: bool = Field(
        default=False, description="Whether continuing from the base model brought no gain, so that its weights stayed."
    )
    training: TrainingReport
    train: StepReport = Field(description="One step ahead, all tickers together.")
    test: tuple[StepReport, ...] = Field(
        min_length=1,
        description="For each step, all tickers together: MAE, RMSE and CRPS then mix prices. Intervals as served.",
    )
    test_closes_only: StepReport = Field(
        description="One step ahead from closes alone, with static intervals, as POST /predict does."
    )
    calibration: CalibrationKind = Field(description="Whether intervals adapt to recent misses.")
    base_model_id: ModelId | None = Field(description="The model whose weights the fit began with.")
    warnings: tuple[str, ...] = Field(description="Of the training.")
    n_calibration: tuple[int, ...] = Field(description="Conformity scores per step.")
    held_out: tuple[HeldOut, ...] = ()
    files: dict[str, FileReport] = Field(description="Checksum and size by file name.")
    libraries: dict[str, str] = Field(description="Versions by library.")

    @cached_property
    def tickers(self) -> tuple[str, ...]:
        """The tickers the model was fitted on."""
        return tuple(series.ticker for series in self.series)

    @cached_property
    def named_tickers(self) -> tuple[str, ...]:
        """The tickers as answers list them: those of a universe would fill a page."""
        return self.tickers if self.universe is None else ()

    @property
    def fitted_on(self) -> str:
        """The tickers as a sentence names them."""
        if self.universe is None:
            return ", ".join(self.tickers)
        return f"{len(self.tickers)} tickers of universe {self.universe}"

    @cached_property
    def test_start(self) -> date:
        """The first origin of the test part: from it on, the model has seen nothing."""
        return min(series.split.test.first_origin for series in self.series if series.split.test)

    @cached_property
    def last_session(self) -> date:
        """The newest session the model was made with."""
        return max(series.data.last_session for series in self.series)

    def evidence(self, ticker: str | None, step: int) -> tuple[tuple[str, ...], StepReport]:
        """The report at ``step`` with the tickers whose sessions it is of: the ticker's own, else all together.

        Of a universe's tickers together none is named.

        Where none has that step, as in a short test part or in a card of format 1, the farthest step before it.
        """
        tested = {one.ticker: one.test for one in self.held_out}
        tested |= {one.ticker: one.test for one in self.series if one.test}
        own = () if ticker is None else tested.get(ticker, ())
        reports = [*((one, (str(ticker),)) for one in own), *((one, self.named_tickers) for one in self.test)]
        complete = [(one.step or 0, tickers, one) for one, tickers in reports if one.coverage]
        reached = [found for found in complete if found[0] <= step] or complete[:1]
        _, tickers, report = max(reached, key=lambda found: found[0])
        return tickers, report
