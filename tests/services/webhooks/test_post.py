"""One message to a real receiver on loopback, with and without TLS."""

import hmac
import json
import socket
import ssl
import threading
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from schemas.webhook import Webhook
from services.webhooks.addresses import WebhookPolicy
from services.webhooks.post import NotDelivered, post
from tests.services.webhooks.test_addresses import resolving, unresolvable
from tests.webhook_receiver import receiving

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
OPEN = WebhookPolicy(allow_http=True, allow_private=True)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "job.succeeded"}).encode()


def send(url: str, secret: str | None = SECRET, **options: Any) -> None:
    post(Webhook(url=url, secret=secret), "job_1", BODY, NOW, **{"policy": OPEN, **options})


def test_a_message_has_its_id_its_time_and_its_signature() -> None:
    with receiving() as receiver:
        send(receiver.url)

    (request,) = receiver.received
    timestamp = str(int(NOW.timestamp()))
    key = b64decode(SECRET.removeprefix("whsec_"))
    signed = hmac.new(key, b"job_1." + timestamp.encode() + b"." + BODY, sha256).digest()
    assert request.body == BODY
    assert request.path == "/hook?token=path-secret"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "job_1"
    assert request.headers["webhook-timestamp"] == timestamp
    assert request.headers["webhook-signature"] == f"v1,{b64encode(signed).decode()}"


def test_without_a_secret_a_message_has_no_signature() -> None:
    with receiving() as receiver:
        send(receiver.url, secret=None)

    assert "webhook-signature" not in receiver.received[0].headers


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    calls = []

    def rebinding(host: str, port: int, **_: Any) -> Any:
        calls.append(host)
        return resolving("127.0.0.1")(host, port) if len(calls) == 1 else resolving("127.0.0.9")(host, port)

    with receiving() as receiver:
        send(f"http://hooks.example:{receiver.port}/", resolve=rebinding)

    assert calls == ["hooks.example"]
    assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_an_address_that_turned_private_since_the_request_is_not_connected_to() -> None:
    with receiving() as receiver, pytest.raises(NotDelivered, match="not on the public internet"):
        send(f"https://hooks.example:{receiver.port}/", policy=WebhookPolicy(), resolve=resolving("127.0.0.1"))

    assert receiver.received == []


def test_a_redirect_is_not_followed() -> None:
    with receiving() as receiver, receiving() as elsewhere:
        receiver.statuses, receiver.location = [302], elsewhere.url
        with pytest.raises(NotDelivered, match="answered 302; redirects are not followed"):
            send(receiver.url)

    assert len(receiver.received) == 1
    assert elsewhere.received == []


@pytest.mark.parametrize(("status", "final"), [(400, False), (500, False), (410, True)])
def test_an_answer_other_than_2xx_is_a_failure(status: int, final: bool) -> None:
    with receiving() as receiver:
        receiver.statuses = [status]
        with pytest.raises(NotDelivered, match=f"127.0.0.1 answered {status}$") as failure:
            send(receiver.url)

    assert failure.value.final is final


def test_why_nothing_was_delivered_does_not_contain_the_path() -> None:
    with receiving() as receiver:
        url = receiver.url

    with pytest.raises(NotDelivered) as failure:
        send(url)

    assert str(failure.value) == "127.0.0.1 refused the connection"


def test_a_name_that_is_unknown_is_a_failure() -> None:
    with pytest.raises(NotDelivered, match=r"hooks\.example could not be resolved"):
        send("https://hooks.example/", resolve=unresolvable)


@pytest.mark.parametrize(("scheme", "begins"), [("http", b"HTTP/1.1 2"), ("https", b"\x16\x03\x03\x40\x00\x02")])
def test_a_receiver_that_answers_byte_by_byte_does_not_hold_the_sender(scheme: str, begins: bytes) -> None:
    stop = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(begins)
            while not stop.wait(0.05):
                connection.send(b"0")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        limit = threading.Timer(5.0, stop.set)  # a sender that is held fails the test, and does not hang it
        limit.start()
        with pytest.raises(NotDelivered):
            send(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/", timeout_s=0.3)
        limit.cancel()
        assert not stop.is_set()
        stop.set()
        thread.join()


def test_a_receiver_that_does_not_answer_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotDelivered):
        send(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2)


def certificate(folder: Path, name: str) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.mark.parametrize(
    ("host", "trusted", "delivered"),
    [("hooks.example", True, True), ("other.example", True, False), ("hooks.example", False, False)],
)
def test_tls_checks_the_certificate_for_the_name_although_the_connection_is_to_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, delivered: bool
) -> None:
    file = certificate(tmp_path, "hooks.example")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)

    with receiving(tls) as receiver:
        url = f"https://{host}:{receiver.port}/"
        if delivered:
            send(url, resolve=resolving("127.0.0.1"))
        else:
            with pytest.raises(NotDelivered, match=f"{host} has no valid certificate"):
                send(url, resolve=resolving("127.0.0.1"))

    assert len(receiver.received) == int(delivered)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!", "x"])
def test_a_secret_that_signs_nothing_well_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError) as failure:
        Webhook(url="https://example.com/", secret=secret)

    (error,) = failure.value.errors()
    assert error["msg"] == "Value error, expected whsec_ and 24 to 64 bytes in base64"


def test_a_webhook_is_shown_without_its_secret() -> None:
    assert SECRET not in repr(Webhook(url="https://example.com/", secret=SECRET))
