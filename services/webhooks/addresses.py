"""Which addresses a webhook may have: none inside a network, because callers choose them and the server connects.

A host name is resolved, every address is checked, and the connection goes to a checked address. A name that resolves
to another address a moment later does not matter.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from errors import WebhookRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[..., Sequence[tuple[Any, ...]]]
"""``socket.getaddrinfo``, or what a test has in its place."""

PORTS = {"https": 443, "http": 80}
LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")

# What ``is_global`` lets through: metadata and control addresses of clouds, and networks that carry an IPv4 address.
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2001::/32",
            "2002::/16",
            "fec0::/10",
        ),
    )
)


@dataclass(frozen=True)
class WebhookPolicy:
    """What an operator allows for development: plain http, and addresses inside the network."""

    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True)
class Target:
    """The parts of a valid address."""

    secure: bool
    host: str
    port: int
    path: str


def is_public(address: Address) -> bool:
    """Whether the address belongs to a host on the internet.

    >>> [is_public(ipaddress.ip_address(one)) for one in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1")]
    [True, False, False]
    """
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return is_public(mapped)
    inside = any(address.version == network.version and address in network for network in _REFUSED)
    return address.is_global and not address.is_multicast and not address.is_reserved and not inside


def parse_url(url: str, policy: WebhookPolicy) -> Target:
    """The parts of the address of a webhook.

    Raises:
        WebhookRefused: it is malformed, without https, or names a host of the server's own network.
    """
    parts, port = _split(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise WebhookRefused("expected a webhook address such as https://example.com/path")
    if parts.scheme == "http" and not policy.allow_http:
        raise WebhookRefused("the webhook must use https; WEBHOOK_ALLOW_HTTP=yes allows http")
    if "@" in parts.netloc:
        raise WebhookRefused("the webhook address must not contain a user name or a password; use a secret")
    if parts.fragment:
        raise WebhookRefused("the webhook address must not contain a fragment (#)")
    host = parts.hostname.rstrip(".")
    if not policy.allow_private and f".{host}".endswith(tuple(f".{name.lstrip('.')}" for name in LOCAL_NAMES)):
        raise _private(host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or PORTS[parts.scheme], path)


def validate_url(url: str, policy: WebhookPolicy, resolve: Resolve = socket.getaddrinfo) -> None:
    """Check an address when a caller gives it. A name that cannot be resolved now may be resolved at delivery.

    Raises:
        WebhookRefused: it is malformed, or the host is not on the public internet.
    """
    target = parse_url(url, policy)
    try:
        addresses_of(target, policy, resolve)
    except OSError:
        return


def addresses_of(target: Target, policy: WebhookPolicy, resolve: Resolve = socket.getaddrinfo) -> list[str]:
    """The checked addresses of the host, in the order in which to try them.

    Raises:
        WebhookRefused: one of them is not on the public internet.
        OSError: the name cannot be resolved.
    """
    try:
        found = resolve(target.host, target.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError(f"{target.host} is not a host name") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for text in addresses:
        if not policy.allow_private and not is_public(ipaddress.ip_address(text.partition("%")[0])):
            raise _private(target.host)
    return addresses


def _split(url: str) -> tuple[SplitResult, int | None]:
    # http.client would refuse these in the middle of a delivery
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url) or "\\" in url:
        raise WebhookRefused("the webhook address must be ASCII without spaces; encode other characters as %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookRefused("expected a webhook address such as https://example.com/path") from None
    return parts, port


def _private(host: str) -> WebhookRefused:
    # without the address that was found: the answer must not explore the network for the caller
    return WebhookRefused(f"the webhook host {host} is not on the public internet; WEBHOOK_ALLOW_PRIVATE=yes allows it")
