"""Routes that check who calls before they read the body: the API key, its right, and the caller's limits."""

import ipaddress
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from at_once import TakesLong, at_once
from bootstrap import Runtime
from errors import AccessNotConfigured, AppError, Forbidden, NotAuthenticated, RateLimited
from routers.problems import add_problems
from services.access import ANONYMOUS, RIGHTS, Right
from telemetry.measures import CPU_BY_KEY

HEADER = "X-API-Key"
CHALLENGE = f'APIKey header="{HEADER}"'  # of WWW-Authenticate; no scheme for keys is registered
SCHEME = "APIKeyHeader"
SCHEMES = {
    SCHEME: {"type": "apiKey", "in": "header", "name": HEADER, "description": "Only where the server has API keys."}
}


def _needs(right: Right) -> dict[str, Any]:
    """How the OpenAPI document states a right: a security requirement with a role."""
    return {"security": [{SCHEME: [right]}]}


READS = _needs("read")
"""``openapi_extra`` of a route that needs only ``read`` although its method is not GET."""

GUARD_PROBLEMS: tuple[type[AppError], ...] = (NotAuthenticated, Forbidden, RateLimited, AccessNotConfigured)


@dataclass(frozen=True)
class Caller:
    """Who sent the request.

    Attributes:
        key: the name of the API key; None on a server without keys.
        account: whose limits apply: those of the key, or of the client's address.
    """

    key: str | None
    rights: frozenset[Right]
    account: str
    runtime: Runtime

    def validate(self, right: Right) -> None:
        if right not in self.rights:
            may = " and ".join(one for one in RIGHTS if one in self.rights)
            raise Forbidden(f"this needs the right {right}; the key {self.key} may {may}", missing_right=right)

    @property
    def pays(self) -> bool:
        """Whether the CPU time counts: to read the clock takes as long as a tenth of a short request."""
        return self.key is not None or self.runtime.quotas.limits_cpu

    def charge(self, cpu_s: float) -> None:
        self.runtime.quotas.charge(self.account, cpu_s)
        if self.key is not None:
            self.runtime.meter.record(CPU_BY_KEY, cpu_s, key=self.key)


_CALLER: ContextVar[Caller] = ContextVar("caller")


def validate_right(right: Right) -> None:
    """Check the right of the current request, where it depends on the body.

    Raises:
        Forbidden: the caller's key does not have the right.
    """
    _CALLER.get().validate(right)


class GuardedRoute(APIRoute):
    """A route that admits a request before its body is read, and charges its caller for the CPU time it used.

    It needs the right ``train`` unless it is a GET or has ``openapi_extra=READS``.

    The time is that of the thread that runs the endpoint. What the event loop does for a request is not counted, nor is
    a training, which runs in a process of its own.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        reads = {*(options.get("methods") or ["GET"])} == {"GET"} or extra.get("security") == READS["security"]
        self._right: Right = "read" if reads else "train"
        super().__init__(
            path,
            endpoint if iscoroutinefunction(endpoint) else charged(endpoint),
            **options | {"openapi_extra": extra | _needs(self._right)},
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            _admit(request, self._right)
            return await handle(request)

        return guarded


def _admit(request: Request, right: Right) -> None:
    caller = _caller_of(request, request.app.state.runtime)
    _CALLER.set(caller)
    refusal, fields = caller.runtime.quotas.admit(caller.account)
    request.scope["access"].update(key=caller.key, fields=fields)
    if refusal is not None:
        raise refusal
    caller.validate(right)


def _caller_of(request: Request, runtime: Runtime) -> Caller:
    """The caller by its key; on Lambda, where the address may be public, a server without keys refuses.

    Raises:
        NotAuthenticated: the key is missing or wrong.
        RateLimited: it is wrong, as many were that came from this address.
        AccessNotConfigured: a Lambda function has neither a key nor the setting that does without.
    """
    if not runtime.keyring:
        if runtime.settings.on_lambda and not runtime.settings.open:
            raise AccessNotConfigured(
                "this function has no API_KEY and no API_KEYS; set one, or OPEN=yes if AWS_IAM guards its address"
            )
        return Caller(None, frozenset(RIGHTS), _address_of(request), runtime)
    given = request.headers.get(HEADER, "")
    key = runtime.keyring.find(given)
    if key is None:
        # not those without a key: a page sends them before it asks for one
        if given and (refusal := runtime.quotas.refuse_key(_address_of(request))) is not None:
            raise refusal
        raise NotAuthenticated(f"the header {HEADER} is missing or wrong")
    return Caller(key.name, key.rights, key.name, runtime)


def _address_of(request: Request) -> str:
    """The client's address; of IPv6 the first half, because a client has all addresses of its network."""
    if request.client is None:  # a Unix socket
        return ANONYMOUS
    host = request.client.host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


def charged(work: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose CPU time the request's caller is charged for.

    Every endpoint that runs in a thread is one. An ``async`` endpoint wraps what it computes in a thread that has the
    request's context, as those of ``run_in_threadpool`` have.
    """

    @wraps(work)
    def run(*args: Any, **kwargs: Any) -> Any:
        caller = _CALLER.get()
        if not caller.pays:
            return work(*args, **kwargs)
        started = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            caller.charge(time.thread_time() - started)

    return run


def in_memory_first(work: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, answered by the event loop where all it needs is in memory, else by a thread; see ``at_once``."""
    charged_work = charged(work)

    @wraps(work)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return at_once(partial(charged_work, *args, **kwargs))
        except TakesLong:
            return await run_in_threadpool(charged_work, *args, **kwargs)

    return run


def include_guarded(app: FastAPI, router: APIRouter) -> None:
    """Include a router of guarded routes."""
    for route in router.routes:
        assert isinstance(route, GuardedRoute), f"{route} lacks route_class=GuardedRoute"  # noqa: S101 - our mistake
    include(app, router)


def include(app: FastAPI, router: APIRouter) -> None:
    """Answer the routes of a router without prefix and dependencies.

    ``include_router`` would build each of them a second time at the application's first request, for which that would
    wait some 35 ms longer.
    """
    app.router.routes.extend(router.routes)


def document_access(app: FastAPI) -> None:
    """Declare the key in the OpenAPI document, and the errors that the guard adds to its operations.

    On a server without keys the key is optional.
    """
    undocumented = app.openapi

    def openapi() -> dict[str, Any]:
        document = undocumented()
        document["components"]["securitySchemes"] = SCHEMES
        without: list[dict[str, Any]] = [] if app.state.runtime.keyring else [{}]
        for operation in (one for methods in document["paths"].values() for one in methods.values()):
            if "security" in operation:
                operation["security"] = [*filter(None, operation["security"]), *without]
                add_problems(operation["responses"], *GUARD_PROBLEMS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation extends it
