"""Webhooks given on the command line: announced from this process and by a server, to a real receiver on loopback."""

import json
from collections.abc import Iterator

import pytest

from schemas.webhook import WebhookStatus
from services.webhooks.post import signature
from tests.cli.conftest import Run
from tests.webhook_receiver import Receiver, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ALLOWED = {"WEBHOOK_ALLOW_HTTP": "yes", "WEBHOOK_ALLOW_PRIVATE": "yes"}
TRAINING = ("train", "^GSPC", "--model", "ewma", "--start", "2017-01-01")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def messages(receiver: Receiver) -> list[str]:
    return [json.loads(one.body)["type"] for one in receiver.received]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_training_here_is_announced_with_a_signature(run: Run, receiver: Receiver, by: str) -> None:
    secret, variable = (["--webhook-secret", SECRET], {}) if by == "option" else ([], {"WEBHOOK_SECRET": SECRET})
    settings = ALLOWED | {f"STOCK_FORECAST_{name}": value for name, value in variable.items()}

    done = run(*TRAINING, "--webhook", receiver.url, *secret, **settings)

    assert done.exit_code == 0, done.output
    assert "delivered to 127.0.0.1" in done.stdout
    assert messages(receiver) == ["job.succeeded"]
    sent = receiver.received[0]
    timestamp = int(sent.headers["webhook-timestamp"])
    assert sent.headers["webhook-signature"] == signature(SECRET, sent.headers["webhook-id"], timestamp, sent.body)
    assert SECRET not in done.output
    assert "path-secret" not in done.output


@pytest.mark.slow
def test_a_failure_is_announced_too_and_keeps_its_exit_code(run: Run, receiver: Receiver) -> None:
    done = run("train", "^GSPC", "--model", "ewma", "--start", "2018-12-01", "--webhook", receiver.url, **ALLOWED)

    assert done.exit_code == 4, done.output
    assert messages(receiver) == ["job.failed"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_short_backtest_and_a_run_here_are_announced(run: Run, receiver: Receiver, model_id: str) -> None:
    tested = run(
        "backtest", "^GSPC", "--model", model_id, "--start", "2018-11-01", "--webhook", receiver.url, **ALLOWED
    )
    receiver.delay_s = 4.0  # until then the coordinator of the run has ended its workers
    ran = run("run", "start", "score", "^GSPC", "--webhook", receiver.url, **ALLOWED)

    assert (tested.exit_code, ran.exit_code) == (0, 0), tested.output + ran.output
    assert messages(receiver) == ["job.succeeded", "run.succeeded"]
    assert "delivered to 127.0.0.1" in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (503, "webhook not delivered: 127.0.0.1 answered 503; next attempt "),
        (410, "webhook given up: 127.0.0.1 answered 410"),
    ],
)
def test_a_webhook_that_is_not_delivered_does_not_change_the_exit_code(
    run: Run, receiver: Receiver, status: int, says: str
) -> None:
    receiver.statuses = [status]

    done = run(*TRAINING, "--webhook", receiver.url, **ALLOWED)

    assert done.exit_code == 0, done.output
    assert says in " ".join(done.output.split())
    assert ("only a server with the same store tries again" in " ".join(done.stderr.split())) == (status == 503)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--webhook", "http://example.com/"], 2, "webhook_refused: the webhook must use https"),
        (["--webhook", "https://127.0.0.1/"], 2, "hint: see docs/webhooks.md"),
        (["--webhook", ""], 2, "malformed_request: --webhook: "),
        (["--webhook", "https://example.com/", "--webhook-secret", "my-word"], 2, "--webhook-secret: expected whsec_"),
        (["--webhook-secret", SECRET], 2, "--webhook-secret needs --webhook"),
    ],
    ids=["http", "private", "empty", "secret", "no address"],
)
@pytest.mark.parametrize("command", [TRAINING, ("backtest", "^GSPC"), ("run", "start", "score", "^GSPC")])
def test_a_mistake_is_named_and_starts_nothing(
    run: Run, command: tuple[str, ...], options: list[str], code: int, says: str
) -> None:
    done = run(*command, *options)

    assert done.exit_code == code, done.output
    assert says in " ".join(done.output.replace("│", " ").split())
    assert "my-word" not in done.output


@pytest.mark.slow
def test_a_secret_of_the_environment_alone_changes_nothing(run: Run) -> None:
    done = run(*TRAINING, STOCK_FORECAST_WEBHOOK_SECRET=SECRET)

    assert done.exit_code == 0, done.output
    assert "webhook" not in done.output


@pytest.mark.slow
def test_a_server_receives_the_webhook(run: Run, server: str) -> None:
    refused = run("--url", server, *TRAINING, "--webhook", "https://127.0.0.1/", "--no-wait")
    taken = run("--url", server, *TRAINING, "--webhook", "https://forecast.invalid/", "--no-wait", "--json")

    assert (refused.exit_code, taken.exit_code) == (2, 0), refused.output + taken.output
    webhook = WebhookStatus.model_validate(json.loads(taken.stdout)["webhook"])
    assert (webhook.host, webhook.state) == ("forecast.invalid", "waiting")
