"""The HTTP API as typed Python: ``from client import Client``."""

from client.client import Client
from client.errors import (
    AnswerNotUnderstood,
    MalformedRequest,
    RefusedByService,
    ServiceTimedOut,
    ServiceUnreachable,
)

__all__ = [
    "AnswerNotUnderstood",
    "Client",
    "MalformedRequest",
    "RefusedByService",
    "ServiceTimedOut",
    "ServiceUnreachable",
]
