"""Every failure a caller can act on, with its HTTP status and its code.

AppError                        500 internal
├── InvalidRequest              400 invalid_request        a combination the schema cannot express
│   ├── UnknownExchange         400 unknown_exchange       no trading calendar is known for the ticker
│   └── AnswerTooLarge          400 answer_too_large       more than Lambda can carry; ask for less
├── NotAuthenticated            401 not_authenticated      the API key is missing or wrong
├── NotFound                    404 not_found
│   ├── TickerNotFound          404 ticker_not_found
│   ├── ModelNotFound           404 model_not_found
│   ├── JobNotFound             404 job_not_found
│   └── ArtifactNotFound        404 artifact_not_found     a key the store does not hold
├── Conflict                    409 conflict
│   ├── InsufficientHistory     409 insufficient_history   fewer sessions than needed
│   ├── ZeroVariance            409 constant_series        prices that never move cannot be modelled
│   ├── NotFittable             409 not_fittable           prices that a kind of model cannot be fitted to
│   ├── PricesInvalid           409 prices_invalid         too few usable rows in a history
│   ├── ModelInUse              409 model_in_use           an alias stands for the model
│   ├── JobFinished             409 job_already_finished   what is over cannot be cancelled
│   ├── JobNotRetryable         409 job_not_retryable      it runs, or has succeeded
│   ├── JobCancelled            409 job_cancelled          somebody cancelled what the caller waited for
│   ├── HorizonTooLong          409 horizon_too_long       the model was trained for fewer steps
│   └── CalibrationTooSmall     409 calibration_too_small  no finite margin exists for the level
├── IdempotencyKeyReused        422 idempotency_key_reused the key was used with another request
├── TooManyRequests             429 too_many
│   └── TrainingCapacityExceeded 429 too_many_trainings    no room for another training on this machine
├── JobFailed                   500 job_failed             a job that ended without telling why
├── MetricsNotExposed           501 measured_elsewhere     nothing is kept here that could be scraped
├── TrainingUnavailable         501 training_unavailable   this installation has no torch, or no scipy
├── AnalysisUnavailable         501 analysis_unavailable   this installation has no library for it
├── ArtifactInvalid             500 artifact_invalid
│   ├── ArtifactCorrupt         500 artifact_corrupt       checksum or parse failure
│   └── ArtifactTooNew          500 artifact_too_new       written by a later version of this program
└── UpstreamUnavailable         503 upstream_unavailable   a service we depend on; Retry-After when known
    ├── PricesRateLimited       503 prices_rate_limited
    ├── PricesUnreachable       503 prices_unreachable
    ├── PricesEmpty             503 prices_empty           the source answered, without a single row
    ├── JobLost                 503 job_lost               the worker died; retry the job
    ├── TrainerUnavailable      503 trainer_unavailable    the function that trains could not be invoked
    └── StoreUnavailable        503 store_unavailable      denied, down or out of space

Only a body, path or query that does not match its schema answers 422, and a key that was used with another body.
``ValueError`` means a mistake of ours and is never translated.
"""

from collections.abc import Iterator, Mapping
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

    @staticmethod
    def restored(
        code: str, message: str, *, retry_after_s: int | None = None, **context: str | int | float
    ) -> "AppError | None":
        """The error of this code as it was raised elsewhere; None for a code that is none of ours."""
        kind = next((kind for kind in _below(AppError) if kind.code == code), None)
        if kind is None:
            return None
        error = kind.__new__(kind)  # past its own constructor, which makes the message that we have
        AppError.__init__(error, message, retry_after_s=retry_after_s, **context)
        return error


def _below(kind: type[AppError]) -> Iterator[type[AppError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _below(child)


class InvalidRequest(AppError):
    """The body is well-formed but asks for something that cannot be."""

    status_code = 400
    code = "invalid_request"
    title = "Invalid request"


class UnknownExchange(InvalidRequest):
    """No trading calendar is known for the ticker's suffix."""

    code = "unknown_exchange"
    title = "Unknown exchange"


class AnswerTooLarge(InvalidRequest):
    """The answer is larger than AWS Lambda can carry: ask for a shorter range, fewer symbols or fewer levels."""

    code = "answer_too_large"
    title = "Answer too large"


class NotAuthenticated(AppError):
    """The API key is missing or wrong."""

    status_code = 401
    code = "not_authenticated"
    title = "Not authenticated"


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


class JobNotFound(NotFound):
    """No job has the id."""

    code = "job_not_found"
    title = "Job not found"


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


class ZeroVariance(Conflict):
    """The closes never move, so there is no volatility to scale by."""

    code = "constant_series"
    title = "Constant series"


class NotFittable(Conflict):
    """The prices cannot carry this kind of model, such as a distribution of returns that are nearly all zero."""

    code = "not_fittable"
    title = "Not fittable"


class PricesInvalid(Conflict):
    """A history in which too few rows are usable."""

    code = "prices_invalid"
    title = "Prices invalid"


class ModelInUse(Conflict):
    """The model cannot be deleted while an alias stands for it, and never where it comes with the program."""

    code = "model_in_use"
    title = "Model in use"


class JobFinished(Conflict):
    """The job is over, so there is nothing to cancel."""

    code = "job_already_finished"
    title = "Job already finished"


class JobNotRetryable(Conflict):
    """The job runs or waits, or has succeeded."""

    code = "job_not_retryable"
    title = "Job not retryable"


class JobCancelled(Conflict):
    """Somebody cancelled the job that the caller waited for."""

    code = "job_cancelled"
    title = "Job cancelled"


class HorizonTooLong(Conflict):
    """More steps were asked for than the model was trained to forecast."""

    code = "horizon_too_long"
    title = "Horizon too long"


class CalibrationTooSmall(Conflict):
    """Too few conformity scores for a finite margin at the level asked for."""

    code = "calibration_too_small"
    title = "Calibration too small"


class IdempotencyKeyReused(AppError):
    """The Idempotency-Key was used with another request."""

    status_code = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key reused"


class TooManyRequests(AppError):
    """More of something at once than this machine bears; try again after ``retry_after_s``."""

    status_code = 429
    code = "too_many"
    title = "Too many"


class TrainingCapacityExceeded(TooManyRequests):
    """As many models are being trained as this machine bears."""

    code = "too_many_trainings"
    title = "Too many trainings"


class JobFailed(AppError):
    """A job that ended without telling why."""

    code = "job_failed"
    title = "Job failed"


class TrainingUnavailable(AppError):
    """This installation can serve models, not train them: it has no torch, or no scipy."""

    status_code = 501
    code = "training_unavailable"
    title = "Training unavailable"


class MetricsNotExposed(AppError):
    """Nothing is kept here that a scraper could read; the message says where measurements go."""

    status_code = 501
    code = "measured_elsewhere"
    title = "Measured elsewhere"


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


class JobLost(UpstreamUnavailable):
    """The worker of the job died; the job can be retried."""

    code = "job_lost"
    title = "Job lost"


class TrainerUnavailable(UpstreamUnavailable):
    """The function that trains could not be invoked."""

    code = "trainer_unavailable"
    title = "Trainer unavailable"
