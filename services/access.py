"""API keys: each has a name and rights, and is known by the SHA-256 of its secret."""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, get_args

Right = Literal["read", "train"]
"""``train`` for what changes state or costs a training, ``read`` for everything else."""

RIGHTS: tuple[Right, ...] = get_args(Right)
ONLY_KEY = "api_key"  # the name of the key in API_KEY, which has every right
ANONYMOUS = "anonymous"  # callers of a server without keys
MIN_SECRET_LENGTH = 20
MAX_KEYS = 100  # each is compared at each request, and has its own series in the metrics

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_EXPECTED = "expected NAME:RIGHTS:SHA256, such as ci:read+train:9f86…, as `stock-forecast key` prints it"


@dataclass(frozen=True)
class ApiKey:
    """One key, without its secret."""

    name: str
    rights: frozenset[Right]
    digest: bytes = field(repr=False)

    @property
    def entry(self) -> str:
        """The key as ``API_KEYS`` has it."""
        return f"{self.name}:{'+'.join(right for right in RIGHTS if right in self.rights)}:{self.digest.hex()}"


class Keyring:
    """The keys that a server accepts."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> ApiKey | None:
        """The key of this secret, or None. Every key is compared, so the time shows neither a match nor its place.

        A short secret is refused even if its hash is configured: it could be guessed from the hash.
        """
        digest, found = digest_of(secret), None
        for key in self._keys:
            if secrets.compare_digest(key.digest, digest):
                found = key
        return found if len(secret) >= MIN_SECRET_LENGTH else None


def keyring_of(api_key: str | None, api_keys: str | None) -> Keyring:
    """The keys of the settings ``API_KEY`` and ``API_KEYS``."""
    only = [] if api_key is None else [ApiKey(ONLY_KEY, frozenset(RIGHTS), digest_of(api_key))]
    return Keyring([*only, *parse_keys(api_keys or "")])


def parse_keys(text: str) -> list[ApiKey]:
    """Read ``NAME:RIGHTS:SHA256`` entries, separated by commas or spaces; two may have one name, to rotate a key.

    Errors name an entry by its position: what stands in its place may be a secret.

    Raises:
        ValueError: an entry is malformed or repeated, or there are too many.
    """
    keys = [_parse(number, entry) for number, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\n")), 1) if entry]
    if len({key.digest for key in keys}) < len(keys):
        raise ValueError("two entries have the same SHA-256: each key needs a secret of its own")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"expected at most {MAX_KEYS} keys, found {len(keys)}")
    return keys


def new_key(name: str, rights: Sequence[str]) -> tuple[str, ApiKey]:
    """A new secret of 256 random bits, and its key.

    Raises:
        ValueError: the name or a right is not one that ``API_KEYS`` may have.
    """
    secret = f"sf_{secrets.token_urlsafe(32)}"
    return secret, ApiKey(_name(name), _rights(rights), digest_of(secret))


def digest_of(secret: str) -> bytes:
    # fast on purpose: a secret of 256 random bits cannot be guessed, and every request pays for the hash
    return sha256(secret.encode()).digest()


def _parse(number: int, entry: str) -> ApiKey:
    parts = entry.split(":")
    if len(parts) != 3 or not _SHA256.fullmatch(parts[2]):
        raise ValueError(f"entry {number}: {_EXPECTED}")
    try:
        return ApiKey(_name(parts[0]), _rights(parts[1].split("+")), bytes.fromhex(parts[2]))
    except ValueError as error:
        raise ValueError(f"entry {number}: {error}") from None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name has 1 to 32 letters, digits and the signs . _ -, and begins with a letter or digit")
    if text in (ONLY_KEY, ANONYMOUS):
        raise ValueError(f"the names {ONLY_KEY} and {ANONYMOUS} are reserved")
    return text


def _rights(names: Sequence[str]) -> frozenset[Right]:
    if not names or not set(names) <= set(RIGHTS):
        raise ValueError(f"rights are {' and '.join(RIGHTS)}, or one of them")
    return frozenset(right for right in RIGHTS if right in names)
