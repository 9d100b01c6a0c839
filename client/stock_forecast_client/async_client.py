"""The client for asyncio. ``client.py`` is generated from this file by tools/client_code.py."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self, Unpack

import httpx2
from pydantic import ValidationError
from pydantic_core import to_json

from stock_forecast_client import _core, requests
from stock_forecast_client._core import AnswerT, Day, Query, segment
from stock_forecast_client.errors import JobNotFound, StockForecastError, error_of_job
from stock_forecast_client.models import (
    AccuracyOverTime,
    Alias,
    AliasList,
    Analysis,
    BacktestResponse,
    BatchForecast,
    DriftOverview,
    EvaluationPage,
    FetchDataResponse,
    FetchReport,
    ForecastResponse,
    ForgetReport,
    Health,
    Job,
    JobPage,
    LatestForecast,
    LatestForecasts,
    LatestTicker,
    ModelCard,
    ModelInfo,
    ModelPage,
    ModelSummary,
    Outcomes,
    PredictResponse,
    PublishReport,
    RetrainAnswer,
    Run,
    RunPage,
    RunTicker,
    RunTickerPage,
    ScoreReport,
    ServiceInfo,
    Stats,
    SymbolForecast,
    SymbolPrediction,
    SymbolsFound,
    TrainResponse,
    TrainResult,
    Up,
)


class AsyncClient:
    """The routes of a service as methods. Use it as a context manager, or close it.

    Keyword arguments that are left out take the service's defaults, and an answer may have fields that this version
    does not know. A call is tried again after a pause if the service cannot be reached or answers 429 or 503, except
    deletions, cancellations, and retries of jobs and runs.

    Args:
        url: address of the service, such as ``http://localhost:8000``.
        api_key: sent as ``X-API-Key``.
        timeout_s: seconds to wait for an answer.
        attempts: tries per call, the first included.
        poll_s: seconds between two requests for the state of a job; by default the pause that the service asks for.
        transport: an ``httpx2`` transport in place of the network.

    Raises:
        InvalidRequest: the address is not an http or https address.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 3,
        poll_s: float | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(**_core.http_options(url, api_key, timeout_s), transport=transport)
        self._attempts = attempts
        self._poll_s = poll_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    # forecasts

    async def predict(self, model_id: str = "default", **request: Unpack[requests.PredictRequest]) -> PredictResponse:
        """Forecast the next session's close."""
        return await self._post(f"/models/{segment(model_id)}/predict", request, PredictResponse)

    async def forecast(
        self, model_id: str = "default", **request: Unpack[requests.ForecastRequest]
    ) -> ForecastResponse:
        """Forecast the closes of the next sessions."""
        return await self._post(f"/models/{segment(model_id)}/forecast", request, ForecastResponse)

    async def backtest(
        self,
        model_id: str = "default",
        *,
        on_progress: Callable[[Job], None] | None = None,
        **request: Unpack[requests.BacktestSubmission],
    ) -> BacktestResponse:
        """Compare the model with every baseline from the same past origins.

        Args:
            model_id: a model or an alias.
            on_progress: called with the job of a backtest of more than a second, each time its state has been read.
            request: what to test.

        Raises:
            StockForecastError: why the backtest failed, with the ``job_id`` of a long one in its context.
        """
        prefer = f"wait={_core.BACKTEST_WAIT_S}" if on_progress is None else "respond-async"
        started = await self._start_backtest(model_id, request, prefer)
        if isinstance(started, BacktestResponse):
            return started
        ended = await self.follow(started.id, on_progress)
        if not isinstance(ended.result, BacktestResponse):
            raise error_of_job(ended)
        return ended.result

    async def start_backtest(
        self, model_id: str = "default", **request: Unpack[requests.BacktestSubmission]
    ) -> Job | BacktestResponse:
        """Start a backtest and return its job, or the answer if it takes no more than about a second."""
        return await self._start_backtest(model_id, request, "respond-async")

    async def predict_prices(self, **request: Unpack[requests.PricesRequest]) -> SymbolPrediction:
        """Forecast the next close from the closes in ``prices``."""
        return await self._post("/predict", request, SymbolPrediction)

    async def predict_live(self, **request: Unpack[requests.LiveRequest]) -> SymbolPrediction:
        """Forecast the next close from the newest prices of a symbol."""
        return await self._post("/predict/live", request, SymbolPrediction)

    async def forecast_symbol(self, **request: Unpack[requests.SymbolForecastRequest]) -> SymbolForecast:
        """Forecast the next closes of a symbol."""
        return await self._post("/predict/forecast", request, SymbolForecast)

    async def forecast_batch(self, **request: Unpack[requests.BatchRequest]) -> BatchForecast:
        """Forecast the next closes of many symbols; a symbol that fails has its error in the answer."""
        return await self._post("/predict/batch", request, BatchForecast)

    # nightly forecasts

    async def latest_forecasts(
        self,
        tickers: Iterable[str] | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> LatestForecasts:
        """The forecasts of the last nightly run, one page of them."""
        wanted = None if tickers is None else ",".join(tickers)
        query = {"tickers": wanted, "sort": sort, "limit": limit, "after": after}
        return await self._get("/forecasts/latest", LatestForecasts, query)

    async def iter_latest_forecasts(self, *, sort: str | None = None) -> AsyncIterator[LatestForecast]:
        """Every forecast of the last nightly run, page by page."""
        after: str | None = None
        while True:
            page = await self.latest_forecasts(sort=sort, after=after)
            for forecast in page.forecasts:
                yield forecast
            if (after := page.next_after) is None:
                return

    async def latest_forecast(self, ticker: str) -> LatestTicker:
        """All steps of a ticker of the last nightly run."""
        return await self._get(f"/forecasts/latest/{segment(ticker)}", LatestTicker)

    async def fetch_nightly_prices(self, after: str | None = None) -> FetchReport:
        """Fetch prices of the nightly run for about 45 seconds; repeat it until ``next_after`` is None."""
        response = await self._send("POST", "/forecasts/prices", query={"after": after}, timeout_s=_core.LONG_TIMEOUT_S)
        return _core.read(response, FetchReport)

    async def publish_forecasts(self) -> PublishReport:
        """Forecast the tickers of the nightly run for about 45 seconds; repeat it until ``n_left`` is 0."""
        response = await self._send("POST", "/forecasts/latest", timeout_s=_core.LONG_TIMEOUT_S)
        return _core.read(response, PublishReport)

    # prices

    async def fetch_data(self, **request: Unpack[requests.FetchDataRequest]) -> FetchDataResponse:
        """Fetch daily prices, oldest first."""
        return await self._post("/models/fetch-data", request, FetchDataResponse)

    async def symbols(self, query: str = "", *, limit: int | None = None) -> SymbolsFound:
        """Find symbols by name; without a query, the first ones that the price source has."""
        return await self._get("/symbols", SymbolsFound, {"q": query or None, "limit": limit})

    async def analysis(self, ticker: str, *, start: Day | None = None, end: Day | None = None) -> Analysis:
        """Describe a ticker's past: volatility, drawdowns, seasonality, autocorrelation."""
        return await self._get(f"/analysis/{segment(ticker)}", Analysis, {"start": start, "end": end})

    async def analysis_page(
        self, ticker: str, *, start: Day | None = None, end: Day | None = None, lang: str | None = None
    ) -> str:
        """The analysis as one HTML page that needs no network, in English or, with ``lang="pt-BR"``, in Portuguese."""
        query = {"start": start, "end": end, "format": "html", "lang": lang}
        path = f"/analysis/{segment(ticker)}"
        return (await self._send("GET", path, query=query, headers={"Accept": "text/html"})).text

    # training and jobs

    async def train(
        self,
        *,
        on_progress: Callable[[Job], None] | None = None,
        idempotency_key: str | None = None,
        **request: Unpack[requests.TrainSubmission],
    ) -> TrainResult:
        """Train a model and wait for it.

        Args:
            on_progress: called with the job each time its state has been read.
            idempotency_key: requests with the same key are one job; by default every call has its own key.
            request: what to train.

        Raises:
            StockForecastError: why the training failed, with ``job_id`` in its context.
        """
        started = await self._start(idempotency_key, request)
        if isinstance(started, TrainResult):
            return started
        ended = await self.follow(started.id, on_progress)
        if not isinstance(ended.result, TrainResult):
            raise error_of_job(ended)
        return ended.result

    async def start_training(
        self, *, idempotency_key: str | None = None, **request: Unpack[requests.TrainSubmission]
    ) -> Job:
        """Start a training and return its job without waiting; ``follow`` waits for it."""
        started = await self._start(idempotency_key, request)
        if isinstance(started, Job):
            return started
        async for job in self.iter_jobs():  # the answer of a job that is over does not name it
            if job.model_id == started.id and job.kind == "training":
                return job
        raise JobNotFound(f"no job has trained {started.id}", context={"model_id": started.id})

    async def follow(self, job_id: str, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Wait for a job and return it, whether it succeeded or not; ``on_progress`` receives every state.

        Goes on while the service's store fails, for up to five minutes. Every error has ``job_id`` in its context.
        """
        patience = _core.Patience(job_id)
        while True:
            try:
                response = await self._send("GET", f"/jobs/{segment(job_id)}")
            except StockForecastError as error:
                patience.bear(error)
                await asyncio.sleep(_core.POLL_S if self._poll_s is None else self._poll_s)
                continue
            patience.renew()
            job = _core.read(response, Job)
            if on_progress is not None:
                on_progress(job)
            if job.ended_at is not None:
                return job
            requested_s = _core.retry_after_s(response)
            default_s = _core.POLL_S if requested_s is None else requested_s
            await asyncio.sleep(default_s if self._poll_s is None else self._poll_s)

    async def job(self, job_id: str) -> Job:
        return await self._get(f"/jobs/{segment(job_id)}", Job)

    async def jobs(self, *, limit: int | None = None, after: str | None = None) -> JobPage:
        """One page of jobs, newest first."""
        return await self._get("/jobs", JobPage, {"limit": limit, "after": after})

    async def iter_jobs(self) -> AsyncIterator[Job]:
        """All jobs, newest first, fetched page by page."""
        page = await self.jobs(limit=_core.PAGE_SIZE)
        while True:
            for job in page.jobs:
                yield job
            if page.next_after is None:
                return
            page = await self.jobs(limit=_core.PAGE_SIZE, after=page.next_after)

    async def cancel_job(self, job_id: str) -> Job:
        """Cancel a job; one that runs stops within seconds."""
        return _core.read(await self._send("DELETE", f"/jobs/{segment(job_id)}", repeatable=False), Job)

    async def retry_job(self, job_id: str) -> Job:
        """Start a new job with the same request."""
        return _core.read(await self._send("POST", f"/jobs/{segment(job_id)}/retry", repeatable=False), Job)

    # runs

    async def start_run(self, *, idempotency_key: str | None = None, **request: Unpack[requests.RunRequest]) -> Run:
        """Start a run over many tickers; ``follow_run`` waits for it.

        Args:
            idempotency_key: requests with the same key are one run; by default every call has its own key.
            request: what to do, and with which tickers.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return _core.read(await self._send("POST", "/runs", body=request, headers=headers), Run)

    async def follow_run(self, run_id: str, on_progress: Callable[[Run], None] | None = None) -> Run:
        """Wait for a run and return it, whatever its end; ``on_progress`` receives every state.

        Goes on while the service's store fails, for up to five minutes. Every error has ``run_id`` in its context.
        """
        patience = _core.Patience(run_id, "run_id")
        while True:
            try:
                response = await self._send("GET", f"/runs/{segment(run_id)}")
            except StockForecastError as error:
                patience.bear(error)
                await asyncio.sleep(_core.POLL_S if self._poll_s is None else self._poll_s)
                continue
            patience.renew()
            run = _core.read(response, Run)
            if on_progress is not None:
                on_progress(run)
            if run.ended_at is not None:
                return run
            requested_s = _core.retry_after_s(response)
            default_s = _core.POLL_S if requested_s is None else requested_s
            await asyncio.sleep(default_s if self._poll_s is None else self._poll_s)

    async def run(self, run_id: str) -> Run:
        return await self._get(f"/runs/{segment(run_id)}", Run)

    async def runs(self, *, limit: int | None = None, after: str | None = None) -> RunPage:
        """One page of runs, newest first, without the tickers that failed."""
        return await self._get("/runs", RunPage, {"limit": limit, "after": after})

    async def run_tickers(
        self, run_id: str, *, state: str | None = None, limit: int | None = None, after: str | None = None
    ) -> RunTickerPage:
        """One page of the tickers of a run, in the order of the request."""
        query = {"state": state, "limit": limit, "after": after}
        return await self._get(f"/runs/{segment(run_id)}/tickers", RunTickerPage, query)

    async def iter_run_tickers(self, run_id: str, *, state: str | None = None) -> AsyncIterator[RunTicker]:
        """All tickers of a run, fetched page by page."""
        page = await self.run_tickers(run_id, state=state, limit=_core.PAGE_SIZE)
        while True:
            for ticker in page.tickers:
                yield ticker
            if page.next_after is None:
                return
            page = await self.run_tickers(run_id, state=state, limit=_core.PAGE_SIZE, after=page.next_after)

    async def run_results(self, run_id: str, *, format: str = "csv") -> bytes:  # noqa: A002 - the parameter's name
        """The table of results as CSV or Parquet, of the tickers that are done."""
        path, query = f"/runs/{segment(run_id)}/results", {"format": format}
        return (await self._send("GET", path, query=query, headers={"Accept": "*/*"})).content

    async def cancel_run(self, run_id: str) -> Run:
        """Cancel a run; its workers stop within seconds."""
        return _core.read(await self._send("POST", f"/runs/{segment(run_id)}/cancel", repeatable=False), Run)

    async def resume_run(self, run_id: str) -> Run:
        """Try the tickers again that failed, were cancelled or lost."""
        return _core.read(await self._send("POST", f"/runs/{segment(run_id)}/resume", repeatable=False), Run)

    # models and aliases

    async def models(
        self, *, ticker: str | None = None, limit: int | None = None, after: str | None = None
    ) -> ModelPage:
        """One page of models by id, the bundled one included."""
        return await self._get("/models", ModelPage, {"ticker": ticker, "limit": limit, "after": after})

    async def iter_models(self, *, ticker: str | None = None) -> AsyncIterator[ModelSummary]:
        """All models whose card can be read, fetched page by page."""
        page = await self.models(ticker=ticker, limit=_core.PAGE_SIZE)
        while True:
            for model in page.models:
                yield model
            if page.next_after is None:
                return
            page = await self.models(ticker=ticker, limit=_core.PAGE_SIZE, after=page.next_after)

    async def model(self, model_id: str = "default") -> ModelCard:
        return await self._get(f"/models/{segment(model_id)}", ModelCard)

    async def delete_model(self, model_id: str) -> None:
        """Delete a model and its files; this cannot be undone."""
        await self._send("DELETE", f"/models/{segment(model_id)}", repeatable=False)

    async def aliases(self) -> AliasList:
        """Every alias that was ever moved."""
        return await self._get("/models/aliases", AliasList)

    async def move_alias(self, alias: str, model_id: str) -> Alias:
        """Point an alias at a model."""
        body = requests.AliasRequest(model_id=model_id)
        return _core.read(await self._send("PUT", f"/models/aliases/{segment(alias)}", body=body), Alias)

    async def evaluations(
        self, alias: str = "default", *, limit: int | None = None, after: str | None = None
    ) -> EvaluationPage:
        """One page of the evaluations of challengers for an alias, newest first."""
        path = f"/models/aliases/{segment(alias)}/evaluations"
        return await self._get(path, EvaluationPage, {"limit": limit, "after": after})

    # monitoring

    async def score(self) -> ScoreReport:
        """Score all sessions that closed since the last call. Idempotent."""
        response = await self._send("POST", "/monitoring/score", timeout_s=_core.LONG_TIMEOUT_S)
        return _core.read(response, ScoreReport)

    async def forget(self) -> ForgetReport:
        """Delete forecasts, scores, jobs and caches older than the server's retention; never a model."""
        return await self._post("/monitoring/forget", None, ForgetReport)

    async def outcomes(
        self, ticker: str, *, model_id: str | None = None, step: int | None = None, limit: int | None = None
    ) -> Outcomes:
        """Past forecasts of a ticker with the closes that came, oldest first."""
        query = {"ticker": ticker, "model_id": model_id, "step": step, "limit": limit}
        return await self._get("/monitoring/outcomes", Outcomes, query)

    async def realised_accuracy(
        self, ticker: str | None = None, model_id: str | None = None, days: int | None = None
    ) -> AccuracyOverTime:
        """Errors of served forecasts next to those of the no-change forecast."""
        query = {"ticker": ticker, "model_id": model_id, "days": days}
        return await self._get("/monitoring/accuracy", AccuracyOverTime, query)

    async def drift(self, ticker: str | None = None, model_id: str | None = None) -> DriftOverview:
        """Check whether a model still fits a ticker; without one, every ticker with scored forecasts."""
        query = {"ticker": ticker, "model_id": model_id}
        response = await self._send("GET", "/monitoring/drift", query=query, timeout_s=_core.LONG_TIMEOUT_S)
        return _core.read(response, DriftOverview)

    async def retrain(self, **request: Unpack[requests.RetrainRequest]) -> RetrainAnswer:
        """Train a challenger if the model of an alias has drifted; at most one job per session."""
        return await self._post("/monitoring/retrain", request, RetrainAnswer)

    async def stats(self) -> Stats:
        """Traffic, trainings and use of the machine since the server started."""
        return await self._get("/monitoring/stats", Stats)

    async def model_info(self, model_id: str | None = None) -> ModelInfo:
        """A summary of a model's card."""
        return await self._get("/monitoring/model/info", ModelInfo, {"model_id": model_id})

    async def metrics(self) -> str:
        """Prometheus metrics in text format."""
        return (await self._send("GET", "/metrics", headers={"Accept": "text/plain"})).text

    # the service

    async def info(self) -> ServiceInfo:
        """Name, version and links of the service."""
        return await self._get("/", ServiceInfo)

    async def up(self) -> Up:
        """Whether the process answers."""
        return await self._get("/up", Up)

    async def health(self) -> Health:
        """Whether forecasts can be made, and why not; ``unavailable`` is an answer, not an error."""
        response = await self._send("GET", "/health", accepted_status=HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            return Health.model_validate_json(response.content)
        except ValidationError:
            raise _core.error_of(response) from None  # a gateway's answer

    async def _start(self, key: str | None, request: requests.TrainSubmission) -> Job | TrainResult:
        """Start a job and return it; for the key of a job that has succeeded, return its result."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": key or uuid.uuid4().hex}
        response = await self._send("POST", "/models/train", body=request, headers=headers)
        if response.status_code == HTTPStatus.OK:
            return _core.read(response, TrainResponse).result
        return _core.read(response, Job)

    async def _start_backtest(
        self, model_id: str, request: requests.BacktestSubmission, prefer: str
    ) -> Job | BacktestResponse:
        path, headers = f"/models/{segment(model_id)}/backtest", {"Prefer": prefer}
        response = await self._send("POST", path, body=request, headers=headers)
        if response.status_code == HTTPStatus.OK:
            return _core.read(response, BacktestResponse)
        return _core.read(response, Job)

    async def _get(self, path: str, kind: type[AnswerT], query: Query | None = None) -> AnswerT:
        return _core.read(await self._send("GET", path, query=query), kind)

    async def _post(self, path: str, body: Mapping[str, object] | None, kind: type[AnswerT]) -> AnswerT:
        return _core.read(await self._send("POST", path, body=body), kind)

    async def _send(
        self,
        method: _core.Method,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        repeatable: bool = True,
        accepted_status: int | None = None,
    ) -> httpx2.Response:
        request = self._http.build_request(
            method,
            path,
            params=_core.query_of(query),
            content=None if body is None else to_json(body),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
        )
        if timeout_s is not None:
            request.extensions["timeout"] = _core.timeout(timeout_s).as_dict()
        for attempt in itertools.count(1):
            try:
                return await self._once(request, accepted_status)
            except StockForecastError as error:
                pause_s = _core.pause_s(error, attempt)
                if pause_s is None or not repeatable or attempt >= self._attempts:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _once(self, request: httpx2.Request, accepted_status: int | None) -> httpx2.Response:
        try:
            response = await self._http.send(request)
        except httpx2.RequestError as error:
            raise _core.connection_error(error) from error
        if not response.is_success and response.status_code != accepted_status:
            raise _core.error_of(response)
        return response
