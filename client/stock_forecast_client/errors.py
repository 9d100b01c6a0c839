"""What a call can raise. Every class has a ``code`` and a ``status_code``; docs/errors.md explains each code."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from stock_forecast_client.models import Job


class StockForecastError(Exception):
    """Base of all errors; raised itself for a code and a status that this version does not know.

    Attributes:
        message: what was expected and what was found.
        code: stable name of the error, as the service sent it.
        status_code: HTTP status of the answer; 503 if there was none.
        retry_after_s: seconds to wait before another try, if the service named them.
        context: further facts, such as ``request_id``, ``job_id``, ``needed`` and ``found``.
    """

    code: str = "internal"
    status_code: int = 500
    by_code: ClassVar[dict[str, type["StockForecastError"]]] = {}

    def __init_subclass__(cls, code: str, status: int | None = None) -> None:
        cls.code = code
        cls.status_code = status or cls.status_code
        cls.by_code[code] = cls

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status_code: int | None = None,
        retry_after_s: int | None = None,
        context: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status_code = status_code or self.status_code
        self.retry_after_s = retry_after_s
        self.context = dict(context or {})


# fmt: off
class InvalidRequest(StockForecastError, code="invalid_request", status=400): ...
class UnknownExchange(InvalidRequest, code="unknown_exchange"): ...
class AnswerTooLarge(InvalidRequest, code="answer_too_large"): ...

class NotAuthenticated(StockForecastError, code="not_authenticated", status=401): ...


class AccessNotConfigured(StockForecastError, code="access_not_configured", status=503): ...

class NotFound(StockForecastError, code="not_found", status=404): ...
class TickerNotFound(NotFound, code="ticker_not_found"): ...
class ModelNotFound(NotFound, code="model_not_found"): ...
class UniverseNotFound(NotFound, code="universe_not_found"): ...
class JobNotFound(NotFound, code="job_not_found"): ...
class ArtifactNotFound(NotFound, code="artifact_not_found"): ...

class Conflict(StockForecastError, code="conflict", status=409): ...
class InsufficientHistory(Conflict, code="insufficient_history"): ...
class ZeroVariance(Conflict, code="constant_series"): ...
class NotFittable(Conflict, code="not_fittable"): ...
class PricesInvalid(Conflict, code="prices_invalid"): ...
class ModelInUse(Conflict, code="model_in_use"): ...
class AliasMoved(Conflict, code="alias_moved"): ...
class JobFinished(Conflict, code="job_already_finished"): ...
class JobNotRetryable(Conflict, code="job_not_retryable"): ...
class JobCancelled(Conflict, code="job_cancelled"): ...
class HorizonTooLong(Conflict, code="horizon_too_long"): ...
class CalibrationTooSmall(Conflict, code="calibration_too_small"): ...

class RequestTooLarge(StockForecastError, code="request_too_large", status=413): ...
class MalformedRequest(StockForecastError, code="malformed_request", status=422): ...
class IdempotencyKeyReused(StockForecastError, code="idempotency_key_reused", status=422): ...

class TooManyRequests(StockForecastError, code="too_many", status=429): ...
class TrainingCapacityExceeded(TooManyRequests, code="too_many_trainings"): ...

class JobFailed(StockForecastError, code="job_failed"): ...
class ArtifactInvalid(StockForecastError, code="artifact_invalid"): ...
class ArtifactCorrupt(ArtifactInvalid, code="artifact_corrupt"): ...
class ArtifactTooNew(ArtifactInvalid, code="artifact_too_new"): ...

class TrainingUnavailable(StockForecastError, code="training_unavailable", status=501): ...
class MetricsNotExposed(StockForecastError, code="measured_elsewhere", status=501): ...
class AnalysisUnavailable(StockForecastError, code="analysis_unavailable", status=501): ...

class UpstreamUnavailable(StockForecastError, code="upstream_unavailable", status=503): ...
class PricesRateLimited(UpstreamUnavailable, code="prices_rate_limited"): ...
class PricesUnreachable(UpstreamUnavailable, code="prices_unreachable"): ...
class PricesEmpty(UpstreamUnavailable, code="prices_empty"): ...
class StoreUnavailable(UpstreamUnavailable, code="store_unavailable"): ...
class JobLost(UpstreamUnavailable, code="job_lost"): ...
class TrainerUnavailable(UpstreamUnavailable, code="trainer_unavailable"): ...
# fmt: on


class ServiceUnreachable(UpstreamUnavailable, code="service_unreachable"):
    """No connection, a broken connection, or a gateway that cannot reach the service."""


class ServiceTimedOut(ServiceUnreachable, code="service_timed_out"):
    """No answer in time; the service may still be working on it."""


class UnexpectedResponse(StockForecastError, code="unexpected_response", status=502):
    """An answer that does not come from this API, but probably from another service."""


_FAMILIES = (InvalidRequest, NotAuthenticated, NotFound, Conflict, RequestTooLarge, MalformedRequest, TooManyRequests,
             UpstreamUnavailable)  # fmt: skip
_BY_STATUS: dict[int, type[StockForecastError]] = {kind.status_code: kind for kind in _FAMILIES}


def error_from(
    code: str,
    message: str,
    status: int,
    *,
    retry_after_s: int | None = None,
    context: Mapping[str, object] | None = None,
) -> StockForecastError:
    """The error of a code; for a code that this version does not know, the family of its status."""
    kind = StockForecastError.by_code.get(code, _BY_STATUS.get(status, StockForecastError))
    facts = {name: value for name, value in (context or {}).items() if isinstance(value, str | int | float)}
    return kind(message, code=code, status_code=status, retry_after_s=retry_after_s, context=facts)


def error_of_job(job: "Job") -> StockForecastError:
    """The error of a job that ended without a result, with ``job_id`` in its context."""
    if job.error is None:
        return JobFailed(f"job {job.id} ended as {job.state}", context={"job_id": job.id})
    cause = job.error
    facts = {**cause.context, "job_id": job.id}
    return error_from(cause.code, cause.detail, cause.status, retry_after_s=cause.retry_after_s, context=facts)
