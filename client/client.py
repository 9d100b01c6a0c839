"""Every route of the API as a method: schemas in, schemas out, problems as the exceptions of ``errors.py``."""

import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self, TypeVar, overload
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from client.errors import (
    AnswerNotUnderstood,
    ServiceTimedOut,
    ServiceUnreachable,
    error_of,
    failure_of,
    retry_after_of,
)
from errors import InvalidRequest, JobNotFound, TooManyRequests, UpstreamUnavailable
from schemas.alias import Alias, AliasList, AliasRequest
from schemas.analysis import Analysis, AnalysisRequest
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.batch import BatchForecast, BatchRequest
from schemas.by_symbol import LiveRequest, PricesRequest, SymbolForecast, SymbolForecastRequest, SymbolPrediction
from schemas.card import ModelCard
from schemas.challenge import EvaluationPage
from schemas.fetch_data import FetchDataRequest, FetchDataResponse
from schemas.job import Job, JobPage
from schemas.models import ModelPage, ModelSummary
from schemas.monitoring import ModelInfo, Stats
from schemas.predict import ForecastRequest, ForecastResponse, PredictRequest, PredictResponse
from schemas.realised import AccuracyOverTime, DriftOverview, ScoreReport
from schemas.retrain import RetrainAnswer, RetrainRequest
from schemas.root import Health, ServiceInfo
from schemas.train import TrainRequest, TrainResponse, TrainResult
from schemas.up import Up

CONNECT_TIMEOUT_S = 10.0
BACKTEST_TIMEOUT_S = 900.0  # refits may take minutes
LONGEST_PAUSE_S = 10.0  # who is asked to wait longer is told so instead
POLL_S = 2.0  # where the service does not say when to look at a job again
PAGE_SIZE = 100

OnProgress = Callable[[Job], None]
AnswerT = TypeVar("AnswerT", bound=BaseModel)

_BACKOFF = wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_S)


class Client:
    """A service at an address; close it, or use it as a context.

    Calls that change nothing, moves of an alias and trainings (by their Idempotency-Key) are tried again where the
    service cannot be reached or asks to wait; deletions, cancellations and retries of jobs never. Fields that
    this program does not know are ignored, so it reads the answers of later services.

    Args:
        url: where the service is, such as ``http://localhost:8000``.
        api_key: sent as ``X-API-Key`` where given.
        timeout_s: to wait for an answer; a backtest may take fifteen minutes in any case.
        attempts: tries per call, the first included.
        poll_s: seconds between looks at a job; by default what the service asks for.
        transport: how requests get there, where not over the network.

    Raises:
        InvalidRequest: the address is none of http or https.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 3,
        poll_s: float | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(
            base_url=_address(url),
            headers={"Accept": "application/json", **({} if api_key is None else {"X-API-Key": api_key})},
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            transport=transport,
        )
        self._attempts = attempts
        self._poll_s = poll_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    # the service

    def info(self) -> ServiceInfo:
        """Name, version and links."""
        return self._get("/", ServiceInfo)

    def up(self) -> Up:
        """Whether the process answers."""
        return self._get("/up", Up)

    def health(self) -> Health:
        """Whether forecasts can be made, and why not."""
        response = self._send("GET", "/health", fine=(HTTPStatus.SERVICE_UNAVAILABLE,))
        try:
            return Health.model_validate_json(response.content, extra="ignore")
        except ValidationError:
            raise error_of(response) from None  # of a gateway, or of somebody else

    def stats(self) -> Stats:
        """The server at a glance."""
        return self._get("/monitoring/stats", Stats)

    def model_info(self, model_id: str = "default") -> ModelInfo:
        """A model in short."""
        return self._get("/monitoring/model/info", ModelInfo, {"model_id": model_id})

    def score(self) -> ScoreReport:
        """Score what has closed; done again, it changes nothing."""
        return _read_answer(self._send("POST", "/monitoring/score"), ScoreReport)

    def realised_accuracy(
        self, ticker: str | None = None, model_id: str | None = None, days: int = 90
    ) -> AccuracyOverTime:
        """What served forecasts were worth."""
        query: dict[str, str | int | None] = {"ticker": ticker, "model_id": model_id, "days": days}
        return self._get("/monitoring/accuracy", AccuracyOverTime, query)

    def drift(self, ticker: str | None = None, model_id: str = "default") -> DriftOverview:
        """Whether a model still fits a ticker, or every one of which a forecast has come true."""
        return self._get("/monitoring/drift", DriftOverview, {"ticker": ticker, "model_id": model_id})

    def retrain(self, request: RetrainRequest) -> RetrainAnswer:
        """Train a challenger where the model of an alias has drifted; until a newer session it is the same job."""
        return self._read("/monitoring/retrain", request, RetrainAnswer)

    def metrics(self) -> str:
        """Every measurement since the server's start, as Prometheus reads it."""
        return self._send("GET", "/metrics", headers={"Accept": "text/plain"}).text

    # prices

    def fetch_data(self, request: FetchDataRequest) -> FetchDataResponse:
        """Daily prices, oldest first."""
        return self._read("/models/fetch-data", request, FetchDataResponse)

    def analysis(self, ticker: str, request: AnalysisRequest | None = None) -> Analysis:
        """What a ticker's past looks like."""
        return _read_answer(self._send("GET", f"/analysis/{_part(ticker)}", query=_analysis_query(request)), Analysis)

    def analysis_page(self, ticker: str, request: AnalysisRequest | None = None) -> str:
        """The same as one HTML page that needs no network."""
        query = {**_analysis_query(request), "format": "html"}
        return self._send("GET", f"/analysis/{_part(ticker)}", query=query, headers={"Accept": "text/html"}).text

    # training and jobs

    @overload
    def train(
        self,
        request: TrainRequest,
        *,
        wait: Literal[True] = True,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
    ) -> TrainResult: ...

    @overload
    def train(self, request: TrainRequest, *, wait: Literal[False], idempotency_key: str | None = None) -> Job: ...

    def train(
        self,
        request: TrainRequest,
        *,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
    ) -> TrainResult | Job:
        """Train a model and wait for it; or, with ``wait=False``, get the job that does.

        Args:
            request: what to train.
            wait: follow the job to its end.
            on_progress: told of the job whenever it is looked at.
            idempotency_key: a request repeated with it is one job; by default one of its own for every call.

        Raises:
            AppError: what the training met, with ``job_id`` in its context.
        """
        response = self._send(
            "POST",
            "/models/train",
            request,
            headers={"Prefer": "respond-async", "Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            again=True,
        )
        if response.status_code == HTTPStatus.OK:  # over already, as with a key that was used before
            result = _read_answer(response, TrainResponse).result
            return result if wait else self._job_of(result)
        job = _read_answer(response, Job)
        if not wait:
            return job
        ended = self.follow(job.id, on_progress)
        if ended.result is None:
            raise failure_of(ended)
        return ended.result

    def follow(self, job_id: str, on_progress: OnProgress | None = None) -> Job:
        """The job once it is over, however it ended; ``on_progress`` is told of it whenever it is looked at."""
        while True:
            response = self._send("GET", f"/jobs/{_part(job_id)}")
            job = _read_answer(response, Job)
            if on_progress is not None:
                on_progress(job)
            if job.ended_at is not None:
                return job
            asked_s = retry_after_of(response)
            time.sleep(self._poll_s if self._poll_s is not None else POLL_S if asked_s is None else asked_s)

    def job(self, job_id: str) -> Job:
        """How a job stands."""
        return self._get(f"/jobs/{_part(job_id)}", Job)

    def jobs(self, *, limit: int = 20, after: str | None = None) -> JobPage:
        """A page of jobs, newest first."""
        return self._get("/jobs", JobPage, {"limit": limit, "after": after})

    def every_job(self) -> Iterator[Job]:
        """All jobs, newest first, fetched a page at a time."""
        after = None
        while True:
            page = self.jobs(limit=PAGE_SIZE, after=after)
            yield from page.jobs
            if (after := page.next_after) is None:
                return

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job; where a worker has it, it stops within seconds."""
        return _read_answer(self._send("DELETE", f"/jobs/{_part(job_id)}", again=False), Job)

    def retry_job(self, job_id: str) -> Job:
        """A new job with the same request."""
        return _read_answer(self._send("POST", f"/jobs/{_part(job_id)}/retry", again=False), Job)

    # forecasts

    def predict(self, model_id: str, request: PredictRequest | None = None) -> PredictResponse:
        """The next session's close."""
        return self._read(f"/models/{_part(model_id)}/predict", request or PredictRequest(), PredictResponse)

    def forecast(self, model_id: str, request: ForecastRequest | None = None) -> ForecastResponse:
        """The closes of the next sessions."""
        return self._read(f"/models/{_part(model_id)}/forecast", request or ForecastRequest(), ForecastResponse)

    def backtest(self, model_id: str, request: BacktestRequest | None = None) -> BacktestResponse:
        """What the model would have been worth, beside every baseline from the same origins."""
        path = f"/models/{_part(model_id)}/backtest"
        return _read_answer(
            self._send("POST", path, request or BacktestRequest(), timeout_s=BACKTEST_TIMEOUT_S), BacktestResponse
        )

    def predict_prices(self, request: PricesRequest) -> SymbolPrediction:
        """The next close, from closes sent along."""
        return self._read("/predict", request, SymbolPrediction)

    def predict_live(self, request: LiveRequest) -> SymbolPrediction:
        """The next close after the newest prices of a symbol."""
        return self._read("/predict/live", request, SymbolPrediction)

    def forecast_symbol(self, request: SymbolForecastRequest) -> SymbolForecast:
        """The next closes of a symbol."""
        return self._read("/predict/forecast", request, SymbolForecast)

    def forecast_batch(self, request: BatchRequest) -> BatchForecast:
        """The next closes of many symbols; one that fails has its own error in the answer."""
        return self._read("/predict/batch", request, BatchForecast)

    # models

    def models(self, *, ticker: str | None = None, limit: int = 20, after: str | None = None) -> ModelPage:
        """A page of models, ordered by id, the bundled one among them."""
        return self._get("/models", ModelPage, {"ticker": ticker, "limit": limit, "after": after})

    def every_model(self, *, ticker: str | None = None) -> Iterator[ModelSummary]:
        """All models whose card can be read, fetched a page at a time."""
        after = None
        while True:
            page = self.models(ticker=ticker, limit=PAGE_SIZE, after=after)
            yield from page.models
            if (after := page.next_after) is None:
                return

    def model(self, model_id: str) -> ModelCard:
        """A model's card."""
        return self._get(f"/models/{_part(model_id)}", ModelCard)

    def delete_model(self, model_id: str) -> None:
        """Remove a model and its files, for good."""
        self._send("DELETE", f"/models/{_part(model_id)}", again=False)

    def aliases(self) -> AliasList:
        """Every alias that was ever moved."""
        return self._get("/models/aliases", AliasList)

    def move_alias(self, alias: str, model_id: str) -> Alias:
        """Let a name stand for a model."""
        request = AliasRequest(model_id=model_id)
        return _read_answer(self._send("PUT", f"/models/aliases/{_part(alias)}", request), Alias)

    def evaluations(self, alias: str, *, limit: int = 20, after: str | None = None) -> EvaluationPage:
        """A page of the evaluations for an alias, newest first."""
        path, query = f"/models/aliases/{_part(alias)}/evaluations", {"limit": limit, "after": after}
        return self._get(path, EvaluationPage, query)

    def _job_of(self, result: TrainResult) -> Job:
        job = next((job for job in self.every_job() if job.model_id == result.id), None)
        if job is None:
            raise JobNotFound(f"no job has made {result.id!r}", model_id=result.id)
        return job

    def _get(self, path: str, kind: type[AnswerT], query: dict[str, str | int | None] | None = None) -> AnswerT:
        return _read_answer(self._send("GET", path, query=query), kind)

    def _read(self, path: str, request: BaseModel, kind: type[AnswerT]) -> AnswerT:
        """A POST that changes nothing."""
        return _read_answer(self._send("POST", path, request), kind)

    def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        *,
        query: dict[str, str | int | None] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
        again: bool = True,
        fine: Collection[int] = (),
    ) -> httpx2.Response:
        request = self._http.build_request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            # what is left out takes the service's own default
            content=None if body is None else body.model_dump_json(exclude_unset=True),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
        )
        if timeout_s is not None:
            request.extensions["timeout"] = httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S).as_dict()
        attempts = Retrying(
            retry=retry_if_exception(_worth_another_try),
            wait=_pause,
            stop=stop_after_attempt(self._attempts if again else 1),
            reraise=True,
        )
        return attempts(self._once, request, fine)

    def _once(self, request: httpx2.Request, fine: Collection[int]) -> httpx2.Response:
        try:
            response = self._http.send(request)
        except httpx2.TimeoutException as error:
            raise ServiceTimedOut(f"{request.url.host} did not answer in time") from error
        except httpx2.RequestError as error:
            raise ServiceUnreachable(f"cannot reach {_host(request.url)}: {_reason(error)}") from error
        if not response.is_success and response.status_code not in fine:
            raise error_of(response)
        return response


def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidRequest(f"{url!r} is no address: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidRequest(f"expected an address such as http://localhost:8000, found {url!r}")
    return address


def _host(url: httpx2.URL) -> str:
    return url.host if url.port is None else f"{url.host}:{url.port}"


def _reason(error: httpx2.RequestError) -> str:
    """What went wrong, without the number that the operating system has for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error))


def _part(text: str) -> str:
    return quote(text, safe="")


def _read_answer(response: httpx2.Response, kind: type[AnswerT]) -> AnswerT:
    try:
        return kind.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise _not_understood(response, kind.__name__) from error


def _analysis_query(request: AnalysisRequest | None) -> dict[str, str | int | None]:
    if request is None:
        return {}
    return {
        "start": None if request.start is None else request.start.isoformat(),
        "end": None if request.end is None else request.end.isoformat(),
    }


def _not_understood(response: httpx2.Response, expected: str) -> AnswerNotUnderstood:
    return AnswerNotUnderstood(f"{response.request.url} answered with something that is no {expected}")


def _worth_another_try(error: BaseException) -> bool:
    if isinstance(error, ServiceTimedOut):
        return False  # it may be working on it still
    asked_s = error.retry_after_s if isinstance(error, UpstreamUnavailable | TooManyRequests) else None
    return isinstance(error, UpstreamUnavailable | TooManyRequests) and (asked_s or 0) <= LONGEST_PAUSE_S


def _pause(state: RetryCallState) -> float:
    """What the service asks for, or a little more each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = error.retry_after_s if isinstance(error, UpstreamUnavailable | TooManyRequests) else None
    return _BACKOFF(state) if asked_s is None else float(asked_s)
