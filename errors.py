"""Every failure a caller can act on, with its HTTP status and its code.

AppError                        500 internal
├── InvalidRequest              400 invalid_request        a combination the schema cannot express
│   ├── BadRequest              400 bad_request            not HTTP, or a body that is not text
│   ├── RequestTimeout          408 request_timeout        the request came too slowly
│   ├── HostNotAllowed          421 host_not_allowed       the header Host names another site
│   ├── HeadersTooLarge         431 headers_too_large      a head of more than 64 kB
│   ├── WebhookRefused          400 webhook_refused        an address that the server does not send to
│   ├── UnknownExchange         400 unknown_exchange       no trading calendar is known for the ticker
│   └── AnswerTooLarge          400 answer_too_large       more than Lambda can carry; ask for less
├── NotAuthenticated            401 not_authenticated      the API key is missing or wrong
├── Forbidden                   403 forbidden              the API key does not have the right
├── NotFound                    404 not_found
│   ├── TickerNotFound          404 ticker_not_found
│   ├── ModelNotFound           404 model_not_found
│   ├── UniverseNotFound        404 universe_not_found     no folder of prices has the name
│   ├── JobNotFound             404 job_not_found
│   ├── ForecastNotPublished    404 forecast_not_published no nightly run has published a forecast of it
│   ├── RunNotFound             404 run_not_found
│   └── ArtifactNotFound        404 artifact_not_found     a key that the store does not have
├── Conflict                    409 conflict
│   ├── InsufficientHistory     409 insufficient_history   fewer sessions than needed
│   ├── ZeroVariance            409 constant_series        prices that never move have no volatility
│   ├── NotFittable             409 not_fittable           prices that a kind of model cannot be fitted to
│   ├── PricesInvalid           409 prices_invalid         too few usable rows in a history
│   ├── ModelInUse              409 model_in_use           an alias names the model, or it is the bundled one
│   ├── AliasMoved              409 alias_moved            the alias no longer points to the expected model
│   ├── JobFinished             409 job_already_finished   a finished job cannot be cancelled
│   ├── JobNotRetryable         409 job_not_retryable      it waits, runs or has succeeded
│   ├── RunFinished             409 run_already_finished   a finished run cannot be cancelled
│   ├── RunNotResumable         409 run_not_resumable      it goes on, or all its tickers have succeeded
│   ├── JobCancelled            409 job_cancelled          the job that the caller waited for was cancelled
│   ├── HorizonTooLong          409 horizon_too_long       the model was trained for fewer steps
│   └── CalibrationTooSmall     409 calibration_too_small  no finite margin exists for the level
├── IdempotencyKeyReused        422 idempotency_key_reused the key was used with another request
├── TooManyRequests             429 too_many
│   ├── RateLimited             429 rate_limited           the caller's limit per minute is used up
│   ├── TrainingCapacityExceeded 429 too_many_trainings    no room for another training on this machine
│   ├── BacktestCapacityExceeded 429 too_many_backtests    no room for another backtest on this machine
│   ├── RunCapacityExceeded     429 too_many_runs          no room for another run on this machine
│   └── AnalysisCapacityExceeded 429 too_many_analyses     too many analyses are being computed
├── JobFailed                   500 job_failed             a job that ended without a reason
├── MetricsNotExposed           501 measured_elsewhere     this process keeps no metrics to scrape
├── TrainingUnavailable         501 training_unavailable   this installation has no torch, or no scipy
├── ParquetUnavailable          501 parquet_unavailable    this installation has no pyarrow
├── AnalysisUnavailable         501 analysis_unavailable   this installation has no library for it
├── ArtifactInvalid             500 artifact_invalid
│   ├── ArtifactCorrupt         500 artifact_corrupt       checksum or parse failure
│   └── ArtifactTooNew          500 artifact_too_new       written by a later version of this program
└── UpstreamUnavailable         503 upstream_unavailable   a service we depend on, or this one; Retry-After when known
    ├── ServerBusy              503 server_busy            too many requests or connections at once
    ├── PricesRateLimited       503 prices_rate_limited
    ├── PricesUnreachable       503 prices_unreachable
    ├── PricesEmpty             503 prices_empty           the source answered, without a single row
    ├── JobLost                 503 job_lost               the worker died; retry the job
    ├── TrainerUnavailable      503 trainer_unavailable    the function that trains could not be invoked
    └── StoreUnavailable        503 store_unavailable      denied, down or out of space

Only a body, path or query that does not match its schema and a reused Idempotency-Key answer 422.
``ValueError`` is a bug and is never translated.
"""

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """Base of all errors; ``context`` contains facts that go into the JSON answer.

    ``title`` is the code in words, unless a class sets it.
    """

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    _by_code: ClassVar[dict[str, type["AppError"]]] = {}

    def __init_subclass__(cls) -> None:
        cls._by_code.setdefault(cls.code, cls)
        if "title" not in vars(cls):
            cls.title = cls.code.replace("_", " ").capitalize()

    def __init__(self, message: str, *, retry_after_s: int | None = None, **context: str | int | float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.context: Mapping[str, str | int | float] = context

    def add_context(self, **facts: str | int | float) -> None:
        """Add facts that are known where the error passes through, such as the job that it is about."""
        self.context = {**self.context, **facts}

    @property
    def did_you_mean(self) -> str | None:
        """The ticker that the caller probably meant, if the ticker is unknown."""
        meant = self.context.get("did_you_mean")
        return None if meant is None else str(meant)

    @staticmethod
    def restored(
        code: str, message: str, *, retry_after_s: int | None = None, **context: str | int | float
    ) -> "AppError | None":
        """Build the error that another process raised, from its code; None if no class has this code."""
        kind = AppError if code == AppError.code else AppError._by_code.get(code)
        if kind is None:
            return None
        error = kind.__new__(kind)  # without its own constructor, which would build the message again
        AppError.__init__(error, message, retry_after_s=retry_after_s, **context)
        return error


class InvalidRequest(AppError):
    status_code = 400
    code = "invalid_request"


class BadRequest(InvalidRequest):
    code = "bad_request"


class UnknownExchange(InvalidRequest):
    code = "unknown_exchange"


class WebhookRefused(InvalidRequest):
    code = "webhook_refused"


class AnswerTooLarge(InvalidRequest):
    code = "answer_too_large"


class NotAuthenticated(AppError):
    status_code = 401
    code = "not_authenticated"


class Forbidden(AppError):
    status_code = 403
    code = "forbidden"


class AccessNotConfigured(AppError):
    status_code = 503
    code = "access_not_configured"


class NotFound(AppError):
    status_code = 404
    code = "not_found"


class TickerNotFound(NotFound):
    code = "ticker_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class UniverseNotFound(NotFound):
    code = "universe_not_found"


class JobNotFound(NotFound):
    code = "job_not_found"


class ForecastNotPublished(NotFound):
    code = "forecast_not_published"


class RunNotFound(NotFound):
    code = "run_not_found"


class ArtifactNotFound(NotFound):
    code = "artifact_not_found"

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing is stored under {key!r}", key=key)


class Conflict(AppError):
    status_code = 409
    code = "conflict"


class InsufficientHistory(Conflict):
    code = "insufficient_history"

    def __init__(self, ticker: str, *, needed: int, found: int) -> None:
        super().__init__(f"need {needed} sessions of {ticker}, found {found}", needed=needed, found=found)


class ZeroVariance(Conflict):
    code = "constant_series"


class NotFittable(Conflict):
    code = "not_fittable"


class PricesInvalid(Conflict):
    code = "prices_invalid"


class ModelInUse(Conflict):
    code = "model_in_use"


class AliasMoved(Conflict):
    code = "alias_moved"


class JobFinished(Conflict):
    code = "job_already_finished"


class JobNotRetryable(Conflict):
    code = "job_not_retryable"


class RunFinished(Conflict):
    code = "run_already_finished"


class RunNotResumable(Conflict):
    code = "run_not_resumable"


class JobCancelled(Conflict):
    code = "job_cancelled"


class HorizonTooLong(Conflict):
    code = "horizon_too_long"


class CalibrationTooSmall(Conflict):
    code = "calibration_too_small"


class RequestTimeout(InvalidRequest):
    status_code = 408
    code = "request_timeout"


class HostNotAllowed(InvalidRequest):
    status_code = 421
    code = "host_not_allowed"


class IdempotencyKeyReused(AppError):
    status_code = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key reused"


class TooManyRequests(AppError):
    status_code = 429
    code = "too_many"


class RateLimited(TooManyRequests):
    code = "rate_limited"


class TrainingCapacityExceeded(TooManyRequests):
    code = "too_many_trainings"


class HeadersTooLarge(InvalidRequest):
    status_code = 431
    code = "headers_too_large"


class BacktestCapacityExceeded(TooManyRequests):
    code = "too_many_backtests"


class RunCapacityExceeded(TooManyRequests):
    code = "too_many_runs"


class AnalysisCapacityExceeded(TooManyRequests):
    code = "too_many_analyses"


class JobFailed(AppError):
    code = "job_failed"


class TrainingUnavailable(AppError):
    status_code = 501
    code = "training_unavailable"


class MetricsNotExposed(AppError):
    status_code = 501
    code = "measured_elsewhere"


class ParquetUnavailable(AppError):
    status_code = 501
    code = "parquet_unavailable"


class AnalysisUnavailable(AppError):
    status_code = 501
    code = "analysis_unavailable"


class ArtifactInvalid(AppError):
    code = "artifact_invalid"


class ArtifactCorrupt(ArtifactInvalid):
    code = "artifact_corrupt"


class ArtifactTooNew(ArtifactInvalid):
    code = "artifact_too_new"


class UpstreamUnavailable(AppError):
    status_code = 503
    code = "upstream_unavailable"


class ServerBusy(UpstreamUnavailable):
    code = "server_busy"


class PricesRateLimited(UpstreamUnavailable):
    code = "prices_rate_limited"
    title = "Prices rate-limited"


class PricesUnreachable(UpstreamUnavailable):
    code = "prices_unreachable"


class PricesEmpty(UpstreamUnavailable):
    code = "prices_empty"


class StoreUnavailable(UpstreamUnavailable):
    code = "store_unavailable"


class JobLost(UpstreamUnavailable):
    code = "job_lost"


class TrainerUnavailable(UpstreamUnavailable):
    code = "trainer_unavailable"
