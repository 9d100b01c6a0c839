"""Each function can do its work with its role, and nothing else, on an S3 server that enforces policies."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import pytest
import requests

from errors import StoreUnavailable
from schemas.analysis import AnalysisRequest
from schemas.common import DEFAULT_LEVELS
from schemas.train import TrainRequest, TrainResult
from services.analyses import ANALYSES, Analyses
from services.forecasting.forecasting import Forecasting
from services.forecasting.replays import REPLAYS, ReplayStore
from services.jobs.executor import Submit
from services.jobs.job import Jobs
from services.monitoring.forecast_log import ForecastLog
from services.monitoring.realised import realised_accuracy
from services.monitoring.scoring import score_due
from services.prices.cache import CachedSource
from services.prices.cache.kept import KeptPrices, price_key
from services.prices.sample import SampleSource
from services.prices.series import RawBars
from services.publication import draft_and_latest, publish, read_pointer, read_publication, save_draft
from services.retention import forget
from services.storage.evaluations import evaluation_page
from services.storage.registry import ModelRegistry
from services.storage.s3 import S3ArtifactStore
from services.storage.write_behind import WriteBehind
from services.training.submission import retry_training, submit_training
from services.training.train import train_model
from services.training.universe import NO_UNIVERSES
from services.training.work import WorkerContext, run_training
from services.webhooks.deliveries import (
    DONE,
    claim_attempt,
    open_delivery,
    open_ids,
    read_open,
    record_failure,
    record_success,
)
from tests.deploy.template import read_template
from tests.fakes import InMemoryArtifactStore, new_york_sessions, random_walk
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, moto_server
from tests.services.publications import MADE_AT, publication

BUCKET = "bucket-of-the-stack"
ACCOUNT = "123456789012"
NOW = datetime(2018, 12, 31, 23, tzinfo=UTC)
REQUEST = TrainRequest(ticker="^GSPC", model="persistence", start_date=date(2014, 1, 1))
SERVE, TRAIN = "ServeRole", "TrainRole"

StoreOf = Callable[[str], S3ArtifactStore]


class NoExecutor:
    """Leaves the job to the test."""

    name = "none"

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield lambda job_id: None

    def close(self) -> None:
        pass


def resolved(value: Any) -> Any:
    """The policy with CloudFormation's functions replaced by ARNs."""
    match value:
        case {"Fn::GetAtt": [str(name), "Arn"]}:
            return f"arn:aws:s3:::{BUCKET}" if name == "Bucket" else f"arn:aws:other:us-east-1:{ACCOUNT}:{name}"
        case {"Fn::Sub": str(text)}:
            return text.replace("${Bucket.Arn}", f"arn:aws:s3:::{BUCKET}")
        case "s3:ListBucket":
            return ["s3:ListBucket", "s3:HeadBucket"]  # one permission on AWS, two on this server
        case dict():
            return {key: resolved(one) for key, one in value.items()}
        case list():
            return [resolved(one) for one in value]
        case _:
            return value


def environment_of(role: str, url: str) -> dict[str, str]:
    """Create the role and return the environment of a function that runs with it."""
    owner = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
    iam, sts = owner.client("iam", endpoint_url=url), owner.client("sts", endpoint_url=url)
    properties = resolved(read_template()["Resources"][role]["Properties"])
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]))
    for policy in properties["Policies"]:
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=role, PolicyName=policy["PolicyName"], PolicyDocument=document)
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    given = sts.assume_role(RoleArn=arn, RoleSessionName="function")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


@pytest.fixture(scope="module")
def credentials() -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
    """The server's address, and the environment of a function with each role."""
    with moto_server(with_bucket=False) as server:
        owner = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
        owner.client("s3", endpoint_url=server.endpoint_url).create_bucket(Bucket=BUCKET)
        environments = {role: environment_of(role, server.endpoint_url) for role in (SERVE, TRAIN)}
        # from here on the server enforces policies
        requests.post(f"{server.endpoint_url}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
        yield server.endpoint_url, environments


@pytest.fixture
def store_of(credentials: tuple[str, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> StoreOf:
    """Return the store as a function with that role sees it."""
    url, environments = credentials

    def store(role: str) -> S3ArtifactStore:
        for name, value in environments[role].items():
            monkeypatch.setenv(name, value)
        made = S3ArtifactStore(BUCKET, endpoint_url=url)
        made.list_keys("jobs/none/")  # the client keeps the credentials it was built with
        return made

    return store


def test_one_role_submits_a_training_and_the_other_runs_it(store_of: StoreOf) -> None:
    serving, training = store_of(SERVE), store_of(TRAIN)
    registry = ModelRegistry(training)
    job = submit_training(REQUEST, Jobs(serving), NoExecutor(), NOW, "0000000a", key="once")

    end = run_training(job.id, "w1", WorkerContext(Jobs(training), SampleSource(), registry, lambda: NOW, NO_UNIVERSES))

    assert end is not None
    assert end.state == "succeeded", end.error
    assert Jobs(serving).status(job.id, NOW).state == "succeeded"
    answering = ModelRegistry(serving)
    card = answering.card(job.model_id)
    assert answering.load(card) is not None
    answering.move_alias("mine", job.model_id, NOW)
    assert ModelRegistry(training).card("mine").model_id == job.model_id


@pytest.mark.parametrize("alias", ["fought-for", "ticker/^GSPC"])
def test_one_role_submits_a_challenger_and_the_other_promotes_it(store_of: StoreOf, alias: str) -> None:
    serving, training = store_of(SERVE), store_of(TRAIN)
    context = WorkerContext(Jobs(training), SampleSource(), ModelRegistry(training), lambda: NOW, NO_UNIVERSES)
    token = f"000000{len(alias)}"
    champion = submit_training(REQUEST, Jobs(serving), NoExecutor(), NOW, f"{token}d"[-8:])
    run_training(champion.id, "w1", context)
    ModelRegistry(serving).move_alias(alias, champion.model_id, NOW)
    request = REQUEST.model_copy(update={"model": "volatility_regression", "promote_to": alias})
    job = submit_training(request, Jobs(serving), NoExecutor(), NOW, f"{token}e"[-8:])

    end = run_training(job.id, "w1", context)

    assert end is not None
    assert isinstance(end.result, TrainResult)
    assert end.result.evaluation is not None, end.result.warnings
    assert end.result.evaluation.won, end.result.evaluation
    assert evaluation_page(serving, alias, 1, None).evaluations == (end.result.evaluation,)
    assert ModelRegistry(serving).serve(alias).card.model_id == job.model_id


def test_one_role_logs_a_forecast_and_the_other_scores_it(store_of: StoreOf) -> None:
    serving, training = store_of(SERVE), store_of(TRAIN)
    registry, thursday = ModelRegistry(serving), datetime(2018, 12, 20, 23, tzinfo=UTC)
    model = train_model(REQUEST, SampleSource(), registry, "m-9", thursday, lambda _: None)
    ModelRegistry(training).publish(model.card, model.files)
    writer = WriteBehind()
    path = Forecasting(registry, SampleSource(), ReplayStore(serving, writer))
    ForecastLog(serving, writer).record("live", 0.0, path.forecast_ticker("m-9", None, 1, DEFAULT_LEVELS, thursday))

    writer.flush()

    assert len(serving.list_keys(REPLAYS)) == 1

    analyses = Analyses(serving, writer)
    with analyses.computed(analyses.find("^GSPC", AnalysisRequest(), SampleSource(), NOW)) as body:
        assert body.result(60)
    writer.flush()
    assert len(serving.list_keys(ANALYSES)) == 1

    assert score_due(training, SampleSource(), NOW).n_pairs == 1
    assert realised_accuracy(serving, NOW, 30, None, "m-9").accuracy[0].report.n_origins == 1


@pytest.mark.parametrize("role", [SERVE, TRAIN])
def test_both_roles_deliver_webhooks(store_of: StoreOf, role: str) -> None:
    open_delivery(store_of(SERVE), "job_1", NOW)
    store = store_of(role)
    (delivery_id,) = open_ids(store)
    delivery = read_open(store, delivery_id)
    assert delivery is not None

    attempt = claim_attempt(store, delivery, NOW)
    assert attempt is not None
    record_failure(store, attempt, "no answer", NOW)
    record_success(store, attempt)

    assert list(open_ids(store)) == []
    assert len(store.list_keys(DONE)) == 1
    store.delete(f"{DONE}job_1.json")


@pytest.mark.parametrize("role", [SERVE, TRAIN])
def test_both_roles_forget_what_is_old(store_of: StoreOf, role: str) -> None:
    writing = {SERVE: store_of(SERVE), TRAIN: store_of(TRAIN)}
    old = {
        "forecasts/X/m-1/2015-01-02_01_2015-01-05.json": (SERVE, b"{}"),
        "scores/X/2015-01-05.json": (SERVE, b"{}"),
        "replays/m-1/X.json": (SERVE, b'{"session": "2015-01-02"}'),
        "idempotency/ab.json": (SERVE, b'{"created_at": "2015-01-02T00:00:00Z"}'),
        "jobs/20150102t000000-0000000a/spec.json": (SERVE, b"{}"),
        "jobs/20150102t000000-0000000a/end.json": (TRAIN, b"{}"),
    }
    for key, (writer, content) in old.items():
        writing[writer].put(key, content)
    store = store_of(role)

    for _ in range(2):
        forget(store, (), NOW, 400)

    assert [key for key in old if store.exists(key)] == []


def test_the_training_role_retrains_what_drifted(store_of: StoreOf) -> None:
    training = store_of(TRAIN)

    jobs = [
        submit_training(REQUEST, Jobs(training), NoExecutor(), NOW, f"000000{k}b", key="retrain ^GSPC") for k in (7, 8)
    ]

    assert jobs[0].id == jobs[1].id
    policy = read_template()["Resources"]["RetrainPolicy"]
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert (policy["Condition"], policy["Properties"]["Roles"]) == ("MakesRoles", [{"Ref": TRAIN}])
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == {"Fn::GetAtt": ["TrainFunction", "Arn"]}


@pytest.mark.parametrize("role", [SERVE, TRAIN])
def test_both_roles_share_the_price_cache(store_of: StoreOf, role: str) -> None:
    shared, asked = store_of(role), []

    class Fetcher:
        name = "yahoo"

        def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
            asked.append(ticker)
            return RawBars(new_york_sessions(300), random_walk(300), "USD")

    for _ in range(2):  # two instances, each with an empty disk
        source = CachedSource(Fetcher(), InMemoryArtifactStore(), ttl_s=900, shared=shared)
        assert len(source.history(role.upper(), NOW).series) == 300

    assert asked == [role.upper()]
    shared.put(price_key(role.upper()), b"damaged")
    assert KeptPrices(shared).read(role.upper(), NOW) is None
    assert not shared.exists(price_key(role.upper()))


def test_the_serving_role_cancels_and_retries_a_job(store_of: StoreOf) -> None:
    jobs = Jobs(store_of(SERVE))
    job = submit_training(REQUEST, jobs, NoExecutor(), NOW, "0000000b")

    cancelled = jobs.cancel(job.id, NOW)

    again = retry_training(job.id, jobs, NoExecutor(), NOW, "0000000c")
    assert (cancelled.state, again.state, again.retry_of) == ("cancelled", "queued", job.id)


def test_both_roles_delete_a_model(store_of: StoreOf) -> None:
    serving, training = store_of(SERVE), store_of(TRAIN)

    for role in (serving, training):
        training.put("models/m-1/metadata.json", b"{}")
        ModelRegistry(role).delete("m-1")

    assert training.list_keys("models/m-1/") == training.list_keys("deletions/") == []


def test_the_nightly_run_logs_publishes_and_ends_its_draft(store_of: StoreOf) -> None:
    training = store_of(TRAIN)

    save_draft(training, publication())
    training.create("forecasts/^GSPC/m-1/2018-12-31_01_2019-01-02.json", b"{}")
    training.put("replays/m-1/^GSPC.json", b"{}")
    pointer = publish(training, publication())
    publish(training, publication(made_at=MADE_AT + timedelta(days=1)))

    assert draft_and_latest(training)[0] is None
    assert read_publication(store_of(SERVE), pointer.document) == publication()
    assert read_pointer(store_of(SERVE)).made_at > MADE_AT


@pytest.mark.parametrize(
    ("role", "key"),
    [
        (SERVE, "models/m-1/metadata.json"),
        (SERVE, "elsewhere/file"),
        (SERVE, "contests/default/job.json"),
        (TRAIN, "analyses/^GSPC/2018-12-31.json"),
        (TRAIN, "elsewhere/file"),
    ],
)
def test_no_role_writes_where_its_function_never_does(store_of: StoreOf, role: str, key: str) -> None:
    store = store_of(role)

    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        store.put(key, b"{}")


@pytest.mark.parametrize("role", [SERVE, TRAIN])
def test_a_role_names_its_actions_and_its_resources(role: str) -> None:
    properties = read_template()["Resources"][role]["Properties"]

    assert "ManagedPolicyArns" not in properties
    for statement in (one for policy in properties["Policies"] for one in policy["PolicyDocument"]["Statement"]):
        assert "*" not in "".join(statement["Action"])
        targets = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        folders = [target["Fn::Sub"] for target in targets if "Fn::GetAtt" not in target]  # a GetAtt is one resource
        assert all(re.fullmatch(r"\$\{Bucket\.Arn\}/\w+/\*", folder) for folder in folders), folders


def test_the_serving_role_invokes_the_training_function() -> None:
    (policy,) = read_template()["Resources"][SERVE]["Properties"]["Policies"]

    statements = {str(one["Action"]): one["Resource"] for one in policy["PolicyDocument"]["Statement"]}
    assert statements["lambda:InvokeFunction"] == {"Fn::GetAtt": ["TrainFunction", "Arn"]}
