"""Function-URL events (payload version 2.0) as AWS sends them, and answers as its front end reads them."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The HTTP response a client of the function URL gets; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    was_base64: bool

    def json(self) -> Any:
        return json.loads(self.content)


def function_url_event(
    method: str, path: str, body: Any = None, *, query: str = "", headers: Mapping[str, str] | None = None
) -> Event:
    """A request: ``body`` is sent as it is when bytes (base64, as AWS does) or text, else as JSON."""
    sent = {"host": "abc123.lambda-url.us-east-1.on.aws", "x-forwarded-proto": "https", "x-forwarded-port": "443"}
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": sent,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc123",
            "domainName": sent["host"],
            "domainPrefix": "abc123",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "5b2c9a8e-3f5d-4d0c-9d3b-0a1b2c3d4e5f",
            "routeKey": "$default",
            "stage": "$default",
            "time": "02/Jan/2019:14:30:00 +0000",
            "timeEpoch": 1546439400000,
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if body is not None:
        event["body"] = _text(body)
        n_bytes = len(body) if isinstance(body, bytes) else len(event["body"].encode())
        sent |= {"content-type": "application/json", "content-length": str(n_bytes)}
    sent.update(headers or {})
    return event


def read_answer(result: Mapping[str, Any]) -> Answer:
    """The response in what a handler returned."""
    body = result.get("body", "")
    is_base64 = result.get("isBase64Encoded", False)
    content = base64.b64decode(body, validate=True) if is_base64 else body.encode()
    return Answer(result["statusCode"], result["headers"], content, is_base64)


def _text(body: Any) -> str:
    if isinstance(body, bytes):
        return base64.b64encode(body).decode()
    return body if isinstance(body, str) else json.dumps(body)
