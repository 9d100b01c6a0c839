"""The client against the program as ``python app.py`` starts it, on the sample prices."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from benchmarks.server import running_server
from client import Client, MalformedRequest
from errors import IdempotencyKeyReused, InsufficientHistory, JobCancelled, JobNotFound, ModelNotFound, NotAuthenticated
from schemas.analysis import AnalysisRequest
from schemas.backtest import BacktestRequest
from schemas.batch import BatchRequest
from schemas.by_symbol import LiveRequest, PricesRequest, SymbolForecastRequest
from schemas.fetch_data import FetchDataRequest
from schemas.job import Job
from schemas.predict import ForecastRequest, PredictRequest
from schemas.train import TrainRequest, TrainResult

pytestmark = pytest.mark.slow

QUICK = TrainRequest(ticker="^GSPC", model="ewma", start_date=date(2012, 1, 1))
NETWORK = TrainRequest(ticker="^GSPC", start_date=date(2016, 1, 1), sequence_length=20, epochs=2)
ENDLESS = TrainRequest(
    ticker="^GSPC", start_date=date(2000, 1, 1), epochs=1000, patience=100, max_seconds=300, warm_start=False
)
KEY = "a-key-of-more-than-twenty-characters"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    with running_server(settings) as url, Client(url, poll_s=0.2) as client:
        yield client


@pytest.fixture(scope="module")
def result(client: Client) -> TrainResult:
    return client.train(QUICK)


def test_a_training_is_followed_to_its_model(client: Client) -> None:
    seen: list[Job] = []

    result = client.train(NETWORK, on_progress=seen.append)

    assert client.model(result.id).model == "return_lstm"
    assert [job.state for job in seen if job.ended_at is not None] == ["succeeded"]
    assert seen[-1].progress is not None
    assert len(seen[-1].progress.validation_losses) == 2


def test_a_failed_training_raises_what_it_met(client: Client) -> None:
    short = TrainRequest(ticker="^GSPC", model="ewma", start_date=date(2018, 12, 1))

    with pytest.raises(InsufficientHistory) as failure:
        client.train(short)

    assert client.job(str(failure.value.context["job_id"])).state == "failed"


def test_a_training_is_asked_for_without_waiting_cancelled_and_done_again(client: Client) -> None:
    job = client.train(ENDLESS, wait=False)

    client.cancel_job(job.id)
    ended = client.follow(job.id)
    again = client.retry_job(job.id)
    client.cancel_job(again.id)

    assert ended.state == "cancelled"
    assert ended.error is not None
    assert ended.error.code == JobCancelled.code
    assert client.follow(again.id).retry_of == job.id


def test_one_key_is_one_job(client: Client) -> None:
    first = client.train(QUICK, wait=False, idempotency_key="one")
    client.follow(first.id)

    second = client.train(QUICK, wait=False, idempotency_key="one")

    assert second.id == first.id
    assert client.train(QUICK, idempotency_key="one").id == first.model_id
    with pytest.raises(IdempotencyKeyReused):
        client.train(NETWORK, idempotency_key="one")


def test_forecasts_of_a_model_have_what_was_asked_for(client: Client, result: TrainResult) -> None:
    forecast = client.forecast(result.id, ForecastRequest(horizon=3, levels=(0.5,)))
    prediction = client.predict(result.id, PredictRequest(levels=(0.5,)))

    assert [step.step for step in forecast.forecast] == [1, 2, 3]
    assert prediction.prediction[0] == forecast.forecast[0].price
    assert prediction.persistence == forecast.last_close


def test_a_backtest_stands_beside_its_opponents(client: Client, result: TrainResult) -> None:
    answer = client.backtest(result.id, BacktestRequest(horizon=1, stride=10))

    assert "persistence" in [baseline.name for baseline in answer.baselines]


def test_forecasts_by_symbol_answer(client: Client) -> None:
    closes = tuple(bar.Close for bar in client.fetch_data(FetchDataRequest(ticker="^GSPC", days=60)).data)

    live = client.predict_live(LiveRequest(symbol="^GSPC"))
    sent = client.predict_prices(PricesRequest(prices=closes))
    days = client.forecast_symbol(SymbolForecastRequest(symbol="^GSPC", days=2))
    batch = client.forecast_batch(BatchRequest(symbols=("^GSPC", "NOPE")))

    assert sent.last_known_price == live.last_known_price
    assert len(days.forecast) == 2
    assert [one.error is None for one in batch.results] == [True, False]


def test_pages_follow_each_other_to_the_end(
    client: Client, result: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.train(QUICK)
    monkeypatch.setattr("client.client.PAGE_SIZE", 1)

    models = [one.id for one in client.every_model(ticker="^GSPC")]
    jobs = [one.id for one in client.every_job()]

    assert models == [one.id for one in client.models(limit=100).models]
    assert result.id in models
    assert jobs == [one.id for one in client.jobs(limit=100).jobs]
    assert len(jobs) >= 2


def test_a_name_is_moved_and_a_model_deleted(client: Client) -> None:
    model_id = client.train(QUICK).id

    client.move_alias("mine", "default")
    client.delete_model(model_id)

    assert "mine" in [one.alias for one in client.aliases().aliases]
    with pytest.raises(ModelNotFound):
        client.model(model_id)


def test_the_service_says_what_it_is(client: Client) -> None:
    assert client.info().service == "Stock forecast API"
    assert client.up().status == "ok"
    assert client.health().model_loaded
    assert client.stats().traffic
    assert client.model_info().model_id
    assert "# TYPE" in client.metrics()


def test_a_past_is_described_in_figures_and_as_a_page(client: Client) -> None:
    request = AnalysisRequest(start=date(2015, 1, 2))

    assert client.analysis("^GSPC", request).first_session == date(2015, 1, 2)
    assert client.analysis_page("^GSPC", request).startswith("<!DOCTYPE html>")


def test_what_the_service_refuses_has_its_own_class(client: Client) -> None:
    with pytest.raises(JobNotFound):
        client.job("20261121t093000-1a2b3c4d")
    with pytest.raises(MalformedRequest, match="model_id"):
        client.model("NOT A MODEL/../x")


def test_an_api_key_lets_in(tmp_path: Path) -> None:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path), "API_KEY": KEY}
    with running_server(settings) as url:
        with Client(url, api_key=KEY) as known:
            assert [one.bundled for one in known.models().models] == [True]
        with Client(url) as stranger, pytest.raises(NotAuthenticated):
            stranger.models()
