"""Which addresses a webhook may have. No name is resolved by the network here."""

import socket
from typing import Any

import pytest

from errors import WebhookRefused
from services.webhooks.addresses import Target, WebhookPolicy, addresses_of, parse_url, validate_url

STRICT = WebhookPolicy()


def resolving(*addresses: str) -> Any:
    """A resolver that finds these addresses for every name."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


def unresolvable(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_public_https_address_is_accepted() -> None:
    validate_url("https://example.com/hook?id=1", STRICT, resolving("93.184.215.14", "2606:2800:21f:cb07::1"))

    assert parse_url("https://example.com/hook?id=1", STRICT) == Target(True, "example.com", 443, "/hook?id=1")
    assert parse_url("https://example.com:8443", STRICT) == Target(True, "example.com", 8443, "/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 - an address that must be refused
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "fec0::1",
    ],
)
def test_an_address_inside_a_network_is_refused_also_beside_a_public_one(address: str) -> None:
    with pytest.raises(WebhookRefused, match="not on the public internet"):
        validate_url("https://example.com/", STRICT, resolving("93.184.215.14", address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "LOCALHOST.", "db.internal", "printer.local"]
)
def test_a_name_of_this_machine_or_its_network_is_refused(host: str) -> None:
    with pytest.raises(WebhookRefused, match="not on the public internet"):
        validate_url(f"https://{host}/", STRICT)  # the real resolver, which needs no network for these


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "must use https"),
        ("ftp://example.com/", "expected a webhook address"),
        ("example.com/hook", "expected a webhook address"),
        ("https:///hook", "expected a webhook address"),
        ("https://example.com:99999/", "expected a webhook address"),
        ("https://[::1/", "expected a webhook address"),
        ("https://user:word@example.com/", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/a b", "must be ASCII without spaces"),
        ("https://example.com/\r\nX-Evil: 1", "must be ASCII without spaces"),
        ("https://example.com\\@127.0.0.1/", "must be ASCII without spaces"),
        ("https://ex\u00e4mple.com/", "must be ASCII"),
    ],
)
def test_a_malformed_address_is_refused_with_what_to_change(url: str, why: str) -> None:
    with pytest.raises(WebhookRefused, match=why):
        validate_url(url, STRICT, resolving("93.184.215.14"))


def test_settings_for_development_allow_http_and_this_machine() -> None:
    validate_url("http://localhost:9000/hook", WebhookPolicy(allow_http=True, allow_private=True))


def test_a_name_that_cannot_be_resolved_now_is_accepted() -> None:
    validate_url("https://not-yet.example.com/", STRICT, unresolvable)


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.com"])
def test_a_label_that_no_host_has_is_an_unknown_host(host: str) -> None:
    with pytest.raises(OSError, match="is not a host name"):
        addresses_of(Target(True, host, 443, "/"), STRICT)
