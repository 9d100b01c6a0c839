"""The client against a real server, on the sample prices."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from stock_forecast_client import Client
from stock_forecast_client.errors import (
    IdempotencyKeyReused,
    InsufficientHistory,
    JobNotFound,
    MalformedRequest,
    ModelNotFound,
    NotAuthenticated,
)
from stock_forecast_client.models import Job, TrainResult
from stock_forecast_client.requests import TrainSubmission
from tests.forked_servers import ForkedServers

pytestmark = pytest.mark.slow

QUICK = TrainSubmission(ticker="^GSPC", model="ewma", start_date=date(2012, 1, 1))
NETWORK = TrainSubmission(ticker="^GSPC", start_date=date(2016, 1, 1), sequence_length=20, epochs=2)
# cancelled before the worker can have read its prices; spares it the import of torch
SLOW = TrainSubmission(ticker="^GSPC", model="gradient_boosting", start_date=date(2000, 1, 1))
KEY = "a-key-of-more-than-twenty-characters"


@pytest.fixture(scope="module")
def client(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    with servers.running(settings) as url, Client(url, poll_s=0.2) as client:
        yield client


@pytest.fixture(scope="module")
def result(client: Client) -> TrainResult:
    return client.train(**QUICK)


def test_a_training_is_followed_to_its_model(client: Client) -> None:
    seen: list[Job] = []

    result = client.train(**NETWORK, on_progress=seen.append)

    assert client.model(result.id).model == "return_lstm"
    assert [job.state for job in seen if job.ended_at is not None] == ["succeeded"]
    assert seen[-1].progress is not None
    assert len(seen[-1].progress.validation_losses) == 2


def test_a_failed_training_raises_its_error(client: Client) -> None:
    with pytest.raises(InsufficientHistory) as failure:
        client.train(ticker="^GSPC", model="ewma", start_date="2018-12-01")

    assert client.job(str(failure.value.context["job_id"])).state == "failed"


def test_a_training_is_started_without_waiting_cancelled_and_retried(client: Client) -> None:
    job = client.start_training(**SLOW)

    client.cancel_job(job.id)
    ended = client.follow(job.id)
    again = client.retry_job(job.id)
    client.cancel_job(again.id)

    assert ended.state == "cancelled"
    assert ended.error is not None
    assert ended.error.code == "job_cancelled"
    assert client.follow(again.id).retry_of == job.id


def test_one_key_is_one_job(client: Client) -> None:
    first = client.start_training(**QUICK, idempotency_key="one")
    client.follow(first.id)

    second = client.start_training(**QUICK, idempotency_key="one")

    assert second.id == first.id
    assert client.train(**QUICK, idempotency_key="one").id == first.model_id
    with pytest.raises(IdempotencyKeyReused):
        client.train(**NETWORK, idempotency_key="one")


def test_forecasts_of_a_model_have_the_requested_horizon_and_levels(client: Client, result: TrainResult) -> None:
    forecast = client.forecast(result.id, horizon=3, levels=[0.5])
    prediction = client.predict(result.id, levels=[0.5])

    assert [step.step for step in forecast.forecast] == [1, 2, 3]
    assert prediction.prediction[0] == forecast.forecast[0].price
    assert prediction.persistence == forecast.last_close


def test_forecasts_and_prices_become_data_frames(client: Client, result: TrainResult) -> None:
    prices = client.fetch_data(ticker="^GSPC", days=3).to_dataframe()
    forecast = client.forecast(result.id, horizon=3, levels=[0.5, 0.975])
    symbol = client.forecast_symbol(symbol="^GSPC", days=2)
    frame, one, days = forecast.to_dataframe(), client.predict(result.id).to_dataframe(), symbol.to_dataframe()

    assert list(prices.columns) == ["Open", "High", "Low", "Close", "Volume"]
    assert prices.index.name == "Date"
    assert list(frame.columns) == ["step", "price", "persistence", "estimated", "lower_50", "upper_50", "lower_97.5",
                                   "upper_97.5"]  # fmt: skip
    assert frame["lower_50"].iloc[1] == forecast.forecast[1].intervals[0].lower
    assert frame.index[0] == one.index[0]
    assert frame["price"].iloc[0] == one["price"].iloc[0]
    assert list(days["predicted_price"]) == [day.predicted_price for day in symbol.forecast]


def test_a_batch_becomes_a_data_frame_that_keeps_its_errors(client: Client) -> None:
    frame = client.forecast_batch(symbols=["^GSPC", "NOPE"], days=2).to_dataframe()

    assert frame.index.names == ["symbol", "date"]
    assert list(frame.index.get_level_values("symbol")) == ["^GSPC", "^GSPC", "NOPE"]
    assert frame["error"].isna().tolist() == [True, True, False]
    assert frame["error"].iloc[2] == "ticker_not_found"


def test_a_backtest_becomes_a_data_frame_of_every_forecaster_and_step(client: Client, result: TrainResult) -> None:
    answer = client.backtest(result.id, horizon=2, stride=10, levels=[0.8])
    frame = answer.to_dataframe()

    overall = frame[frame["step"].isna()].set_index("forecaster")
    assert "persistence" in overall.index
    assert len(frame) == 3 * len(overall)
    assert overall["coverage_80"].iloc[0] == answer.model_report.overall.coverage[0].empirical_coverage
    assert overall["skill_mae"].iloc[0] == answer.model_report.overall.skill.mae
    assert overall["p_value_crps"].iloc[0] == answer.model_report.overall.p_value.crps
    assert overall["n_origins"].iloc[0] == answer.model_report.overall.n_origins


def test_forecasts_by_symbol_answer(client: Client) -> None:
    closes = [bar.Close for bar in client.fetch_data(ticker="^GSPC", days=60).data]

    live = client.predict_live(symbol="^GSPC")
    sent = client.predict_prices(prices=closes)

    assert sent.last_known_price == live.last_known_price


def test_pages_follow_each_other_to_the_end(
    client: Client, result: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.train(**QUICK)
    monkeypatch.setattr("stock_forecast_client._core.PAGE_SIZE", 1)

    models = [one.id for one in client.iter_models(ticker="^GSPC")]
    jobs = [one.id for one in client.iter_jobs()]

    assert models == [one.id for one in client.models(limit=100).models]
    assert result.id in models
    assert jobs == [one.id for one in client.jobs(limit=100).jobs]
    assert len(jobs) >= 2


def test_an_alias_is_moved_and_a_model_deleted(client: Client) -> None:
    model_id = client.train(**QUICK).id

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


def test_an_analysis_comes_as_figures_and_as_a_page(client: Client) -> None:
    assert client.analysis("^GSPC", start="2015-01-02").first_session == date(2015, 1, 2)
    assert client.analysis_page("^GSPC", start=date(2015, 1, 2)).startswith("<!DOCTYPE html>")


def test_errors_of_the_service_have_their_own_classes(client: Client) -> None:
    with pytest.raises(JobNotFound):
        client.job("20261121t093000-1a2b3c4d")
    with pytest.raises(MalformedRequest, match="model_id"):
        client.model("NOT A MODEL/../x")


def test_an_api_key_lets_in(servers: ForkedServers, tmp_path: Path) -> None:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path), "API_KEY": KEY}
    with servers.running(settings) as url:
        with Client(url, api_key=KEY) as known:
            assert [one.bundled for one in known.models().models] == [True]
        with Client(url) as stranger, pytest.raises(NotAuthenticated):
            stranger.models()
