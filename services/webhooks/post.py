"""Sends one signed message to a checked address, by Standard Webhooks (https://www.standardwebhooks.com)."""

import hmac
import http.client
import socket
import ssl
import threading
from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from hashlib import sha256

from errors import WebhookRefused
from schemas.webhook import Webhook, secret_key
from services.webhooks.addresses import Resolve, Target, WebhookPolicy, addresses_of, parse_url

TIMEOUT_S = 15.0  # from the connection to the head of the answer, however slowly the bytes come
GONE = 410


class NotDelivered(Exception):
    """The attempt failed; the text says why, without the path of the address."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final
        """Whether the receiver wants no further attempt."""


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``.

    >>> signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
    ...           b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(secret_key(secret), signed, sha256)).decode()}"


def post(
    webhook: Webhook,
    message_id: str,
    body: bytes,
    now: datetime,
    policy: WebhookPolicy,
    resolve: Resolve = socket.getaddrinfo,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Send the message. Redirects are not followed, and proxies of the environment not used.

    Raises:
        NotDelivered: the address is refused, the receiver cannot be reached, or its answer is not 2xx.
    """
    timestamp = int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "stock-forecast",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
    }
    if webhook.secret is not None:
        headers["webhook-signature"] = signature(webhook.secret, message_id, timestamp, body)
    try:
        target = parse_url(webhook.url, policy)
        addresses = addresses_of(target, policy, resolve)
    except WebhookRefused as error:
        raise NotDelivered(error.message) from error
    except OSError as error:
        raise NotDelivered(f"{target.host} could not be resolved") from error
    status = _answer(target, addresses, body, headers, timeout_s)
    if not 200 <= status < 300:
        why = "; redirects are not followed" if 300 <= status < 400 else ""
        raise NotDelivered(f"{target.host} answered {status}{why}", final=status == GONE)


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was checked, whatever the host name resolves to by now."""

    def __init__(self, target: Target, addresses: list[str], timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self._target = target
        self._addresses = addresses
        self.default_port = 443 if target.secure else 80  # else the header Host names the port
        self._stopped = threading.Event()

    def connect(self) -> None:
        self.sock = self._open()
        if self._target.secure:
            context = ssl.create_default_context()
            # the handshake follows, so that it can be stopped too
            secured = context.wrap_socket(self.sock, server_hostname=self._target.host, do_handshake_on_connect=False)
            self.sock = secured
            self._check()
            secured.do_handshake()
        self._check()

    def _open(self) -> socket.socket:
        failure = OSError("it has no address")
        for address in self._addresses[:3]:
            self._check()
            try:
                return socket.create_connection((address, self._target.port), self.timeout)
            except OSError as error:
                failure = error
        raise failure

    def stop(self) -> None:
        """End the exchange from another thread."""
        self._stopped.set()
        if self.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # TLS's own would change what the reader uses

    def _check(self) -> None:
        if self._stopped.is_set():
            raise TimeoutError


def _answer(target: Target, addresses: list[str], body: bytes, headers: dict[str, str], timeout_s: float) -> int:
    connection = _Connection(target, addresses, timeout_s)
    limit = threading.Timer(timeout_s, connection.stop)  # a socket's own timeout begins again with every byte
    limit.daemon = True
    limit.start()
    try:
        connection.request("POST", target.path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotDelivered(f"{target.host} {_why(error)}") from error
    finally:
        limit.cancel()
        connection.close()


def _why(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has no valid certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, http.client.HTTPException | ConnectionError):
        return "ended the connection without an answer in HTTP"
    return "could not be reached"
