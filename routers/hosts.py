"""Which names a request's Host may have: a page of another site could otherwise read what this machine serves.

That page's name first leads to its own server and then to this one (DNS rebinding), and to the browser both are one
site. Such a name has a dot and is public. So a name that public DNS cannot have, and an address, is no danger.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

ANY = "*"
PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".home.arpa")

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


def host_name(header: str) -> str | None:
    """The name or address without port and brackets, in small letters; None if the header is malformed.

    >>> host_name("API.example.com:8000"), host_name("[::1]:80"), host_name("a@b")
    ('api.example.com', '::1', None)
    """
    found = _HOST.fullmatch(header)
    return None if found is None else found["name"].strip("[]").lower().removesuffix(".")


def allowed_names(text: str) -> tuple[str, ...]:
    """The names of the setting, without ports.

    >>> allowed_names("api.example.com:443, *.Example.org, [::1], *")
    ('api.example.com', '*.example.org', '::1', '*')
    """
    return tuple(host_name(name) or name.lower() for name in re.split(r"\s*,\s*", text.strip()))


def is_allowed(name: str, allowed: Sequence[str] | None, scope: Scope) -> bool:
    """Whether a request may have this host.

    Loopback names are always allowed. With ``allowed``, so are the names in it. Without, a request that came over the
    loopback interface has no other; one that came from elsewhere may have any address or private name.
    """
    if is_loopback(name):
        return True
    if allowed is not None:
        return any(_matches(name, pattern) for pattern in allowed)
    server = scope.get("server")
    if server and is_loopback(str(server[0])):
        return False
    return _is_address(name) or "." not in name or name.endswith(PRIVATE_ENDINGS)


def is_loopback(name: str) -> bool:
    if not _is_address(name):
        return name == "localhost"
    address = ip_address(name)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # on a socket for both versions
    return (mapped or address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _matches(name: str, pattern: str) -> bool:
    """Whether the name is that of the pattern, or below ``*.example.com``."""
    return pattern == ANY or name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
