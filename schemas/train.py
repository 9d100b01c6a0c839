"""The training request and its answer, with the fields of legacy contract v1."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.accuracy import PointAccuracy, StepReport
from schemas.alias import AliasName
from schemas.challenge import ChallengerEvaluation
from schemas.common import DISTINCT, Document, ModelId, Request, Ticker, UniverseName
from schemas.webhook import OnEnd

ModelName = Literal[
    "return_lstm",
    "price_lstm",
    "ratio_lstm",
    "persistence",
    "drift",
    "rolling_empirical",
    "ewma",
    "gjr_garch",
    "volatility_regression",
    "gradient_boosting",
]
CalibrationKind = Literal["adaptive", "static"]
TargetColumn = Literal["Open", "High", "Low", "Close", "Adj Close"]
StoppedBy = Literal["early_stopping", "max_epochs", "max_seconds", "closed_form"]


class TrainOptions(Request):
    """The kind of model, the range of prices, and the limits of the fit."""

    model: ModelName = "return_lstm"
    start_date: Annotated[
        date | None, Field(description="First session; by default the last 2000 sessions are used, of a universe all.")
    ] = None
    end_date: Annotated[date | None, Field(description="Last session, included; by default the newest.")] = None
    train_size: Annotated[float, Field(gt=0, lt=1, description="Share of the windows before the test part.")] = 0.8
    sequence_length: Annotated[int, Field(ge=10, le=250, description="Lookback, in sessions.")] = 60
    target_column: Annotated[TargetColumn, Field(description="The price to forecast; Close is adjusted.")] = "Close"
    epochs: Annotated[int, Field(ge=1, le=1000, description="At most this many passes over the fit part.")] = 50
    patience: Annotated[int, Field(ge=1, le=100, description="Epochs without improvement before stopping.")] = 5
    max_seconds: Annotated[
        float, Field(gt=0, le=3600, description="Wall-clock budget of the fit, in seconds; of a universe 3600.")
    ] = 60
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="The same seed and data give the same weights.")] = 0

    calibration: Annotated[
        CalibrationKind,
        Field(description="Prediction intervals that adapt to recent coverage, or stay as calibrated."),
    ] = "adaptive"
    base_model_id: Annotated[
        ModelId | None,
        Field(description="Start from the weights of this stored model, which must be of the same kind."),
    ] = None

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.start_date and self.end_date and self.start_date >= self.end_date:
            raise ValueError(f"start_date {self.start_date} must be before end_date {self.end_date}")
        return self


class TrainRequest(TrainOptions):
    """The kind of model, the prices to fit it to, and the limits of the fit."""

    ticker: Annotated[Ticker | None, Field(description="The ticker to train on; for several use ``tickers``.")] = None
    tickers: Annotated[
        tuple[Ticker, ...],
        Field(max_length=20, description="Two tickers or more, for one pooled model.", json_schema_extra=DISTINCT),
    ] = ()
    universe: Annotated[
        UniverseName | None,
        Field(description="A folder of prices on the server, for one model of every ticker in it, and of all others."),
    ] = None
    warm_start: Annotated[
        bool,
        Field(
            description="Start a return_lstm from the weights of the bundled model, if the lookback is the same "
            "and the bundled model has not seen the sessions that calibrate and test the new model."
        ),
    ] = True
    promote_to: Annotated[
        AliasName | None,
        Field(
            description="After the training, backtest against the model of this alias from the same origins, and "
            "move the alias to the new model if that wins."
        ),
    ] = None
    alias: Annotated[
        AliasName | None,
        Field(description="A name for the model: an alias that is made, or moved to it, when the training succeeds."),
    ] = None

    @property
    def all_tickers(self) -> tuple[str, ...]:
        """``ticker`` as a tuple, or ``tickers``; empty for a universe."""
        return self.tickers if self.ticker is None else (self.ticker,)

    @model_validator(mode="before")
    @classmethod
    def _longer_for_a_universe(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("universe") is not None:
            return {"max_seconds": 3600, **given}
        return given

    @model_validator(mode="after")
    def _one_way_to_name_tickers(self) -> Self:
        if [self.ticker is not None, bool(self.tickers), self.universe is not None].count(True) != 1:
            raise ValueError("provide exactly one of ticker, tickers and universe")
        if len(self.tickers) == 1:
            raise ValueError("tickers needs at least two tickers; use ticker for one")
        if len(set(self.tickers)) != len(self.tickers):
            raise ValueError("tickers must be distinct")
        if self.alias is not None and self.alias == self.promote_to:
            raise ValueError("alias and promote_to must be two different aliases")
        return self


class TrainSubmission(TrainRequest):
    """A training, and where its end is announced."""

    webhook: OnEnd = None

    @property
    def training(self) -> TrainRequest:
        """Without the webhook, whose secret no answer contains."""
        return TrainRequest.model_validate(self.model_dump(exclude={"webhook"}))


class TrainTestAccuracy(Document):
    """One-step errors on the train and the test part."""

    train: PointAccuracy = Field(description="On everything before the test part.")
    test: PointAccuracy = Field(description="On the test part.")


class Paths(Document):
    """Keys in the artifact store."""

    model_s3_path: str = Field(description="Key of the network.")
    scaler_s3_path: None = Field(default=None, description="Always null: scaling lives inside the model.")
    metadata_s3_path: str = Field(description="Key of the model card.")


class TrainResult(Document):
    """A stored model and its accuracy."""

    id: ModelId
    metrics: TrainTestAccuracy = Field(description="Errors one step ahead.")
    paths: Paths
    train: StepReport = Field(description="One step ahead, as in the card.")
    test: StepReport = Field(description="One step ahead on sessions the fit has not seen.")
    tickers: tuple[Ticker, ...] = Field(description="Empty for a universe.")
    universe: UniverseName | None = Field(default=None, description="The universe that the model was trained on.")
    alias: AliasName | None = Field(default=None, description="The alias of the request; it points to the model.")
    kept_parent: bool = Field(
        default=False, description="Whether continuing from the base model brought no gain, so that its weights stayed."
    )
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    as_of: date = Field(description="The newest session of the prices used.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    dropped: dict[str, dict[str, int]] = Field(description="Rows that were left out, by ticker and reason.")
    repaired: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="Prices or volumes that were set to unknown, by ticker and column."
    )
    base_model_id: ModelId | None = Field(description="The model whose weights the fit began with.")
    warnings: tuple[str, ...] = Field(description="Of the training.")
    seconds: float = Field(description="From the request for prices until the train and test parts are forecast.")
    evaluation: ChallengerEvaluation | None = Field(
        default=None,
        description="Comparison with the model of the alias ``promote_to``; null if the request names none.",
    )


class TrainResponse(Document):
    message: str
    result: TrainResult
