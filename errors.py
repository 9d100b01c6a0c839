"""Every failure a caller can act on, with its HTTP status and its code.

AppError                        500 internal
├── InvalidRequest              400 invalid_request        a combination the schema cannot express
│   └── UnknownExchange         400 unknown_exchange       no trading calendar is known for the ticker
├── NotFound                    404 not_found
│   ├── TickerNotFound          404 ticker_not_found
│   ├── ModelNotFound           404 model_not_found
│   └── ArtifactNotFound        404 artifact_not_found     a key the store does not hold
├── Conflict                    409 conflict
│   ├── InsufficientHistory     409 insufficient_history   fewer sessions than needed
│   ├── CalendarTooShort        409 calendar_too_short     the exchange's calendar does not reach the date
│   ├── ConstantSeries          409 constant_series        prices that never move cannot be modelled
│   ├── PricesInvalid           409 prices_invalid         too few usable rows in a history
│   ├── ModelInUse              409 model_in_use           an alias stands for the model
│   ├── HorizonTooLong          409 horizon_too_long       the model was trained for fewer steps
│   └── CalibrationTooSmall     409 calibration_too_small  no finite margin exists for the level
├── TooMany                     429 too_many
│   └── TooManyTrainings        429 too_many_trainings     as many models are being trained as this machine bears
├── TrainingUnavailable         501 training_unavailable   this installation has no torch
├── AnalysisUnavailable         501 analysis_unavailable   this installation has no library for it
├── ArtifactInvalid             500 artifact_invalid
│   ├── ArtifactCorrupt         500 artifact_corrupt       checksum or parse failure
│   └── ArtifactTooNew          500 artifact_too_new       written by a later version of this program
└── UpstreamUnavailable         503 upstream_unavailable   a service we depend on; Retry-After when known
    ├── PricesRateLimited       503 prices_rate_limited
    ├── PricesUnreachable       503 prices_unreachable
    ├── PricesEmpty             503 prices_empty           the source answered, without a single row
    └── StoreUnavailable        503 store_unavailable      denied, down or out of space

Only a body, path or query that does not match its schema answers 422.
``ValueError`` means a mistake of ours and is never translated.
"""

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """A failure with a name; ``context`` holds JSON-able facts that go into the answer."""

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, retry_after_s: int | None = None, **context: str | int | float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.context: Mapping[str, str | int | float] = context


class InvalidRequest(AppError):
    """The body is well-formed but asks for something that cannot be."""

    status_code = 400
    code = "invalid_request"
    title = "Invalid request"


class UnknownExchange(InvalidRequest):
    """No trading calendar is known for the ticker's suffix."""

    code = "unknown_exchange"
    title = "Unknown exchange"


class NotFound(AppError):
    """The thing named does not exist."""

    status_code = 404
    code = "not_found"
    title = "Not found"


class TickerNotFound(NotFound):
    """The price source does not know the ticker."""

    code = "ticker_not_found"
    title = "Ticker not found"


class ModelNotFound(NotFound):
    """No model card exists under the id."""

    code = "model_not_found"
    title = "Model not found"


class ArtifactNotFound(NotFound):
    """The store holds nothing under the key."""

    code = "artifact_not_found"
    title = "Artifact not found"

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing is stored under {key!r}", key=key)


class Conflict(AppError):
    """The request is valid, the data it meets is not enough."""

    status_code = 409
    code = "conflict"
    title = "Conflict"


class InsufficientHistory(Conflict):
    """Fewer sessions than the request needs; ``needed`` and ``found`` are in the answer."""

    code = "insufficient_history"
    title = "Insufficient history"

    def __init__(self, ticker: str, *, needed: int, found: int) -> None:
        super().__init__(f"need {needed} sessions of {ticker}, found {found}", needed=needed, found=found)


class CalendarTooShort(Conflict):
    """The trading calendar of the ticker's exchange does not reach the date."""

    code = "calendar_too_short"
    title = "Calendar too short"


class ConstantSeries(Conflict):
    """The closes never move, so there is no volatility to scale by."""

    code = "constant_series"
    title = "Constant series"


class PricesInvalid(Conflict):
    """A history in which too few rows are usable."""

    code = "prices_invalid"
    title = "Prices invalid"


class ModelInUse(Conflict):
    """The model cannot be deleted while an alias stands for it."""

    code = "model_in_use"
    title = "Model in use"


class HorizonTooLong(Conflict):
    """More steps were asked for than the model was trained to forecast."""

    code = "horizon_too_long"
    title = "Horizon too long"


class CalibrationTooSmall(Conflict):
    """Too few conformity scores for a finite margin at the level asked for."""

    code = "calibration_too_small"
    title = "Calibration too small"


class TooMany(AppError):
    """More of something at once than this machine bears; try again after ``retry_after_s``."""

    status_code = 429
    code = "too_many"
    title = "Too many"


class TooManyTrainings(TooMany):
    """As many models are being trained as this machine bears."""

    code = "too_many_trainings"
    title = "Too many trainings"


class TrainingUnavailable(AppError):
    """This installation can serve models, not train them: it has no torch."""

    status_code = 501
    code = "training_unavailable"
    title = "Training unavailable"


class AnalysisUnavailable(AppError):
    """This installation lacks a library that the analysis needs."""

    status_code = 501
    code = "analysis_unavailable"
    title = "Analysis unavailable"


class ArtifactInvalid(AppError):
    """A stored artifact cannot be used; nothing is forecast from it."""

    code = "artifact_invalid"
    title = "Artifact invalid"


class ArtifactCorrupt(ArtifactInvalid):
    """A checksum or a parse failed."""

    code = "artifact_corrupt"
    title = "Artifact corrupt"


class ArtifactTooNew(ArtifactInvalid):
    """The card's ``format_version`` is above the one this program writes."""

    code = "artifact_too_new"
    title = "Artifact too new"


class UpstreamUnavailable(AppError):
    """A service we depend on failed; the same request may work later."""

    status_code = 503
    code = "upstream_unavailable"
    title = "Upstream unavailable"


class PricesRateLimited(UpstreamUnavailable):
    """The price source asks us to slow down."""

    code = "prices_rate_limited"
    title = "Prices rate-limited"


class PricesUnreachable(UpstreamUnavailable):
    """The price source refused, timed out or answered with something that is no answer."""

    code = "prices_unreachable"
    title = "Prices unreachable"


class PricesEmpty(UpstreamUnavailable):
    """The price source answered without a single row."""

    code = "prices_empty"
    title = "Prices empty"


class StoreUnavailable(UpstreamUnavailable):
    """The artifact store denied, failed or ran out of space."""

    code = "store_unavailable"
    title = "Store unavailable"
