"""What is specific to S3: faults, retries, pages; the contract suite tests what every store does."""

import os
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from socket import AF_INET, SO_LINGER, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.s3 import RETRY_AFTER_S, S3ArtifactStore
from services.storage.store import ArtifactStore
from tests.processes import QuietHandler, free_port, serving
from tests.s3_servers import SECRET_KEY, S3Server, ignore_if_match, moto_server

CALLS: dict[str, Callable[[ArtifactStore], object]] = {
    "read": lambda store: store.get("card.json"),
    "write": lambda store: store.put("card.json", b"{}"),
    "create": lambda store: store.create("card.json", b"{}"),
    "replace": lambda store: store.replace("card.json", b"{}", '"etag"'),
    "look up": lambda store: store.exists("card.json"),
    "list": lambda store: store.list_keys("models/"),
    "delete": lambda store: store.delete("card.json"),
}
every_call = pytest.mark.parametrize("operation", CALLS)


@dataclass(frozen=True)
class Answer:
    """What a scripted server sends; ``length`` may be larger than the body, and the connection may break after it."""

    status: int
    code: str = ""
    length: int | None = None
    resets: bool = False
    etag: str = '"etag"'

    @property
    def body(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>scripted</Message></Error>".encode() if self.code else b""


@dataclass
class Script:
    """Answers to give, in order, and the requests that came."""

    endpoint_url: str
    answers: deque[Answer] = field(default_factory=deque)
    requests: list[str] = field(default_factory=list)
    writer: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    """A server of scripted faults, which no real one produces on demand; it keeps the last writer's id."""

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"  # answers "Expect: 100-continue", for which botocore waits a second

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            play.requests.append(self.command)
            play.writer = self.headers.get("x-amz-meta-writer", play.writer)
            answer = play.answers.popleft()
            self.send_response(answer.status)
            self.send_header("x-amz-meta-writer", play.writer)
            self.send_header("ETag", answer.etag)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.close_connection = answer.length is not None
            if answer.resets:
                self.wfile.flush()
                self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # RST rather than FIN
                self.connection.close()

        do_GET = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815 - named by http.server

    with serving(Handler) as url:
        play = Script(url)
        yield play


@pytest.fixture
def open_store() -> Iterator[Callable[..., S3ArtifactStore]]:
    """Builds stores and closes them after the test."""
    opened: list[S3ArtifactStore] = []

    def build(endpoint_url: str, **options: Any) -> S3ArtifactStore:
        patient = {"connect_timeout_s": 0.5, "read_timeout_s": 20.0, "max_attempts": 1}  # a busy machine is no outage
        opened.append(S3ArtifactStore(endpoint_url=endpoint_url, **{"bucket": "artifacts", **patient, **options}))
        return opened[-1]

    yield build
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def moto_with_access_control() -> Iterator[S3Server]:
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "0"}
    with moto_server(environment, with_bucket=False) as server:
        yield server


def test_more_keys_than_one_page_holds_are_all_listed(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore]
) -> None:
    store = open_store(moto_endpoint.endpoint_url, prefix=uuid.uuid4().hex)
    names = [f"log/{number:04}" for number in range(25)]
    for name in names:
        store.put(name, b"")
    pages: list[object] = []
    events: Any = store._s3().meta.events  # the server's pages have 1,000 keys
    events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 10})
    events.register("after-call.s3.ListObjectsV2", lambda parsed, **_: pages.append(len(parsed["Contents"])))

    assert store.list_keys("log/") == names
    assert pages == [10, 10, 5]


def test_stores_with_different_prefixes_do_not_see_each_other(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore]
) -> None:
    folder = uuid.uuid4().hex
    production = open_store(moto_endpoint.endpoint_url, prefix=f"{folder}/prod")
    other = open_store(moto_endpoint.endpoint_url, prefix=f"{folder}/prod2/")

    production.put("card.json", b"{}")

    assert production.list_keys("") == ["card.json"]
    assert other.list_keys("") == []
    assert open_store(moto_endpoint.endpoint_url).exists(f"{folder}/prod/card.json")


def test_other_objects_are_not_listed(moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore]) -> None:
    folder = uuid.uuid4().hex
    store = open_store(moto_endpoint.endpoint_url, prefix=folder)
    store.put("card.json", b"{}")
    for name in (f"{folder}/", f"{folder}/models/", f"{folder}/with space"):
        store._s3().put_object(Bucket=moto_endpoint.bucket, Key=name, Body=b"")

    assert store.list_keys("") == ["card.json"]


def test_a_prefix_that_leaves_the_bucket_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not the beginning"):
        S3ArtifactStore("artifacts", prefix="../other")


@dataclass(frozen=True)
class Outage:
    """A server fixture, or None for one that is down, the environment and bucket, and the error to expect."""

    server: str | None
    match: str
    bucket: str = "artifacts"
    environment: dict[str, str | None] = field(default_factory=dict)


OUTAGES = {
    "wrong secret": Outage(
        "radosgw", "SignatureDoesNotMatch|403", environment={"AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    ),
    "unknown access key": Outage("moto_with_access_control", "InvalidAccessKeyId|403"),
    "missing bucket, moto": Outage("moto_endpoint", "NoSuchBucket|404", bucket="no-such-bucket"),
    "missing bucket, Ceph": Outage("radosgw", "NoSuchBucket|404", bucket="no-such-bucket"),
    "no credentials": Outage(
        "moto_endpoint", "NoCredentialsError", environment={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    ),
    "unknown profile": Outage("moto_endpoint", "ProfileNotFound", environment={"AWS_PROFILE": "no-such-profile"}),
    "server down": Outage(None, "EndpointConnectionError"),
}


@every_call
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_every_call_names_the_outage_and_never_the_secret(
    request: pytest.FixtureRequest,
    open_store: Callable[..., S3ArtifactStore],
    monkeypatch: pytest.MonkeyPatch,
    outage: Outage,
    operation: str,
) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    url = down if outage.server is None else request.getfixturevalue(outage.server).endpoint_url
    for name, value in outage.environment.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    store = open_store(url, bucket=outage.bucket)

    with pytest.raises(
        StoreUnavailable, match=f"'{outage.bucket}' could not {operation} .*({outage.match})"
    ) as failure:
        CALLS[operation](store)

    assert failure.value.retry_after_s == (RETRY_AFTER_S if outage.server is None else None)
    shown = f"{failure.value!r}{failure.value.context}{failure.value.__cause__!r}{store!r}"
    assert SECRET_KEY not in shown
    assert "not-the-secret" not in shown


def test_a_server_that_is_down_is_given_up_on_within_seconds() -> None:
    store = S3ArtifactStore("artifacts", f"http://127.0.0.1:{free_port()}")
    store._s3()  # loading boto3 is not part of giving up
    start = time.monotonic()

    with pytest.raises(StoreUnavailable):
        store.get("card.json")

    assert time.monotonic() - start < 5


def test_a_server_that_never_answers_is_given_up_on(open_store: Callable[..., S3ArtifactStore]) -> None:
    with socket(AF_INET, SOCK_STREAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = open_store(f"http://127.0.0.1:{silent.getsockname()[1]}", max_attempts=2, read_timeout_s=0.5)
        start = time.monotonic()

        with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
            store.get("card.json")

    assert time.monotonic() - start < 4


@pytest.mark.parametrize(
    ("answer", "retry_after_s"),
    [
        (Answer(503, "SlowDown"), RETRY_AFTER_S),
        (Answer(500, "InternalError"), RETRY_AFTER_S),
        (Answer(429, "TooManyRequests"), RETRY_AFTER_S),
        (Answer(409, "OperationAborted"), RETRY_AFTER_S),
        (Answer(400, "RequestTimeout"), RETRY_AFTER_S),
        (Answer(401, "Unauthorized"), None),
        (Answer(404, "NoSuchBucket"), None),
        (Answer(403, "AccessDenied"), None),
        (Answer(403, "RequestTimeTooSkewed"), None),
        (Answer(400, "ExpiredToken"), None),
        (Answer(400, "AuthorizationHeaderMalformed"), None),
        (Answer(301, "PermanentRedirect"), None),
    ],
)
def test_retrying_is_advised_for_a_busy_server_and_not_for_a_denial(
    script: Script, open_store: Callable[..., S3ArtifactStore], answer: Answer, retry_after_s: int | None
) -> None:
    script.answers.extend([answer, Answer(404)])  # after a redirect botocore asks where the bucket is

    with pytest.raises(StoreUnavailable, match=f"could not write 'card.json': {answer.code}") as failure:
        open_store(script.endpoint_url).put("card.json", b"{}")

    assert failure.value.retry_after_s == retry_after_s


def test_a_passing_fault_is_retried(script: Script, open_store: Callable[..., S3ArtifactStore]) -> None:
    script.answers.extend([Answer(503, "SlowDown"), Answer(200)])

    open_store(script.endpoint_url, max_attempts=2).put("card.json", b"{}")

    assert script.requests == ["PUT", "PUT"]


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_a_truncated_answer_is_an_outage(
    script: Script, open_store: Callable[..., S3ArtifactStore], *, resets: bool
) -> None:
    script.answers.append(Answer(200, "half", length=1000, resets=resets))

    with pytest.raises(StoreUnavailable, match="could not read"):
        open_store(script.endpoint_url).get("card.json")


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_a_truncated_answer_is_read_again(
    script: Script, open_store: Callable[..., S3ArtifactStore], *, resets: bool
) -> None:
    script.answers.extend([Answer(200, "half", length=1000, resets=resets), Answer(200, "whole")])

    assert b"whole" in open_store(script.endpoint_url, max_attempts=2).get("card.json")


def test_a_missing_key_is_not_an_outage(script: Script, open_store: Callable[..., S3ArtifactStore]) -> None:
    script.answers.append(Answer(404, "NoSuchKey"))

    with pytest.raises(ArtifactNotFound):
        open_store(script.endpoint_url).get("card.json")


def test_a_create_whose_answer_was_lost_is_still_successful(
    script: Script, open_store: Callable[..., S3ArtifactStore]
) -> None:
    script.answers.extend([Answer(500, "InternalError"), Answer(412, "PreconditionFailed"), Answer(200)])

    created = open_store(script.endpoint_url, max_attempts=2).create("claim", b"mine")

    assert created
    assert script.requests == ["PUT", "PUT", "HEAD"]


def test_colliding_creates_are_tried_again(script: Script, open_store: Callable[..., S3ArtifactStore]) -> None:
    conflict = Answer(409, "ConditionalRequestConflict")
    script.answers.extend([conflict, Answer(404), Answer(200), Answer(200)])

    created = open_store(script.endpoint_url).create("claim", b"mine")

    assert created
    assert script.requests == ["PUT", "HEAD", "HEAD", "PUT"]


def test_creates_that_keep_colliding_give_up(script: Script, open_store: Callable[..., S3ArtifactStore]) -> None:
    conflict = Answer(409, "ConditionalRequestConflict")
    script.answers.extend([conflict, Answer(404), Answer(200)] * 3)

    with pytest.raises(StoreUnavailable, match="conflicting writers") as failure:
        open_store(script.endpoint_url).create("claim", b"mine")

    assert failure.value.retry_after_s == RETRY_AFTER_S


HONOURS = [Answer(200), Answer(412, "PreconditionFailed"), Answer(200)]  # answers to the probe


def test_a_replace_whose_answer_was_lost_is_still_successful(
    script: Script, open_store: Callable[..., S3ArtifactStore]
) -> None:
    script.answers.extend(HONOURS)
    script.answers.extend([Answer(500, "InternalError"), Answer(412, "PreconditionFailed"), Answer(200)])

    replaced = open_store(script.endpoint_url, max_attempts=2).replace("alias", b"mine", '"etag" earlier')

    assert replaced
    assert script.requests == ["PUT"] * 3 + ["PUT", "PUT", "HEAD"]


def test_a_replace_whose_answer_was_lost_is_successful_though_another_has_replaced_it_since(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(moto_endpoint.endpoint_url, prefix=uuid.uuid4().hex)
    other = open_store(moto_endpoint.endpoint_url, prefix=store._prefix)
    store.put("alias", b"first")
    first = store.read_versioned("alias").version
    send: Any = store._put_if_match

    def with_a_lost_answer(name: str, *given: Any) -> int:
        status: int = send(name, *given)
        if name.endswith("alias") and status == 200:
            assert other.replace("alias", b"on top", other.read_versioned("alias").version)
            status = send(name, *given)  # as botocore tries again
        return status

    monkeypatch.setattr(store, "_put_if_match", with_a_lost_answer)

    assert store.replace("alias", b"mine", first)
    assert other.get("alias") == b"on top"


def test_whether_a_server_honours_if_match_is_found_out_once_and_before_the_first_replace_alone(
    script: Script, open_store: Callable[..., S3ArtifactStore]
) -> None:
    store = open_store(script.endpoint_url)
    script.answers.extend([Answer(200), *HONOURS, Answer(200), Answer(200)])

    store.put("alias", b"first")
    before = len(script.requests)
    store.replace("alias", b"second", '"etag"')
    store.replace("alias", b"third", '"etag"')

    assert (before, script.requests) == (1, ["PUT"] * 6)


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(200), Answer(200), Answer(200)],
        [Answer(200), Answer(412, "PreconditionFailed"), Answer(412, "PreconditionFailed"), Answer(200)],
        [Answer(200), Answer(501, "NotImplemented"), Answer(501, "NotImplemented"), Answer(200)],
    ],
    ids=["ignores it", "refuses it always", "does not implement it"],
)
def test_a_server_without_if_match_is_recognised(
    script: Script, open_store: Callable[..., S3ArtifactStore], answers: list[Answer]
) -> None:
    script.answers.extend([*answers, Answer(404, "NoSuchKey")])

    assert not open_store(script.endpoint_url).replace("alias", b"second", '"etag"')
    assert script.requests[-1] == "GET"  # it goes by successors from here on


def test_a_server_that_is_busy_with_another_probe_is_not_taken_for_one_without_if_match(
    script: Script, open_store: Callable[..., S3ArtifactStore]
) -> None:
    refused, conflict = Answer(412, "PreconditionFailed"), Answer(409, "ConditionalRequestConflict")
    script.answers.extend([Answer(200), refused, conflict, Answer(200), refused, Answer(200), Answer(200)])

    assert open_store(script.endpoint_url).replace("alias", b"second", '"etag"')


def test_a_successor_that_a_crash_did_not_copy_is_neither_lost_nor_overwritten(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = uuid.uuid4().hex
    dying, store = (open_store(moto_endpoint.endpoint_url, prefix=prefix) for _ in range(2))
    for one in (dying, store):
        ignore_if_match(one)
    store.put("alias", b"first")
    first = store.read_versioned("alias").version
    monkeypatch.setattr(dying, "_follow", lambda *_: (_ for _ in ()).throw(StoreUnavailable("killed")))
    with pytest.raises(StoreUnavailable, match="killed"):
        dying.replace("alias", b"second", first)

    assert not store.replace("alias", b"third", first)
    assert store.get("alias") == b"second"
    assert store.replace("alias", b"third", store.read_versioned("alias").version)


def test_a_copy_that_arrives_late_undoes_nothing_that_is_read_or_replaced(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore]
) -> None:
    store = open_store(moto_endpoint.endpoint_url, prefix=uuid.uuid4().hex)
    ignore_if_match(store)
    store.put("alias", b"first")
    store.replace("alias", b"second", store.read_versioned("alias").version)
    name, client = f"{store._prefix}alias", store._s3()
    late = client.get_object(Bucket=moto_endpoint.bucket, Key=name)
    store.replace("alias", b"third", store.read_versioned("alias").version)

    client.put_object(Bucket=moto_endpoint.bucket, Key=name, Body=b"second", Metadata=late["Metadata"])

    assert store.read_versioned("alias").data == b"third"
    assert store.replace("alias", b"fourth", store.read_versioned("alias").version)
    assert store.get("alias") == b"fourth"


def test_old_successors_are_deleted(
    moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(moto_endpoint.endpoint_url, prefix=uuid.uuid4().hex)
    ignore_if_match(store)
    store.put("alias", b"0")
    monkeypatch.setattr("services.storage.s3.SUCCESSORS_KEPT_FOR", timedelta(seconds=1))
    store.replace("alias", b"1", store.read_versioned("alias").version)
    time.sleep(2.1)

    store.replace("alias", b"2", store.read_versioned("alias").version)

    found = store._s3().list_objects_v2(Bucket=moto_endpoint.bucket, Prefix=store._prefix)["Contents"]
    assert len([one for one in found if ".successors" in one["Key"]]) == 1


def test_an_impossible_bucket_name_is_a_bug(open_store: Callable[..., S3ArtifactStore]) -> None:
    with pytest.raises(ParamValidationError):
        open_store("http://127.0.0.1:1", bucket="no spaces allowed").get("card.json")


def test_a_request_that_the_server_does_not_understand_is_a_bug(
    script: Script, open_store: Callable[..., S3ArtifactStore]
) -> None:
    script.answers.append(Answer(400, "InvalidArgument"))

    with pytest.raises(ClientError, match="InvalidArgument"):
        open_store(script.endpoint_url).put("card.json", b"{}")


def test_threads_that_come_first_together_share_one_client(open_store: Callable[..., S3ArtifactStore]) -> None:
    store = open_store("http://127.0.0.1:1")
    start = threading.Barrier(8)

    def client(_: int) -> int:
        start.wait()
        return id(store._s3())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(client, range(8)))) == 1


def test_a_closed_store_opens_again(moto_endpoint: S3Server, open_store: Callable[..., S3ArtifactStore]) -> None:
    store = open_store(moto_endpoint.endpoint_url, prefix=uuid.uuid4().hex)
    store.put("card.json", b"{}")

    store.close()
    store.close()

    assert store.get("card.json") == b"{}"
