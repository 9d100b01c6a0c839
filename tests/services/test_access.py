import re

import pytest

from services.access import RIGHTS, ApiKey, Keyring, digest_of, keyring_of, new_key, parse_keys

SECRET = "correct-horse-battery-staple"


def test_a_new_key_is_found_by_its_secret_through_its_entry() -> None:
    secret, made = new_key("ci", ["train", "read"])

    found = keyring_of(None, made.entry).find(secret)

    assert found == made
    assert re.fullmatch(r"ci:read\+train:[0-9a-f]{64}", made.entry)
    assert secret not in repr(made) + made.entry


def test_secrets_are_long_and_never_alike() -> None:
    made = {new_key("ci", ["read"])[0] for _ in range(50)}

    assert len(made) == 50
    assert min(map(len, made)) >= 43  # 256 bits in base64


def test_two_keys_of_one_name_are_valid_at_once() -> None:
    (old, first), (new, second) = new_key("ci", ["read"]), new_key("ci", ["read"])

    ring = keyring_of(None, f"{first.entry},{second.entry}")

    assert ring.find(old) == first
    assert ring.find(new) == second


def test_the_key_of_api_key_has_every_right() -> None:
    found = keyring_of(SECRET, None).find(SECRET)

    assert found is not None
    assert (found.name, found.rights) == ("api_key", frozenset(RIGHTS))


def test_no_key_is_found_by_another_secret_or_by_its_own_hash() -> None:
    _, made = new_key("ci", ["read"])
    ring = keyring_of(SECRET, made.entry)

    assert [ring.find(text) for text in ("", SECRET.upper(), f"{SECRET} ", made.digest.hex(), "ü" * 30)] == [None] * 5


def test_a_short_secret_is_refused_although_its_hash_is_configured() -> None:
    short, long = "x" * 19, "x" * 20
    entries = ",".join(f"k{len(one)}:read:{digest_of(one).hex()}" for one in (short, long))

    ring = keyring_of(None, entries)

    assert ring.find(short) is None
    assert ring.find(long) is not None


@pytest.mark.parametrize("given", ["first", "last", "none"])
def test_every_hash_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    keys = {name: ApiKey(name, frozenset({"read"}), digest_of(name * 20)) for name in ("first", "middle", "last")}
    compared: list[bytes] = []

    def compare(ours: bytes, theirs: bytes) -> bool:
        compared.append(ours)
        return ours == theirs

    monkeypatch.setattr("services.access.secrets.compare_digest", compare)

    found = Keyring(keys.values()).find(given * 20)

    assert compared == [key.digest for key in keys.values()]
    assert found == keys.get(given)


def test_entries_may_be_separated_by_commas_spaces_and_lines() -> None:
    entries = [new_key(f"k{number}", ["read"])[1].entry for number in range(3)]

    keys = parse_keys(f" {entries[0]} ,\n{entries[1]}\n{entries[2].upper().replace('READ', 'read')}, ")

    assert [key.name for key in keys] == ["k0", "k1", "K2"]


HASH = "a" * 64


@pytest.mark.parametrize(
    "entries",
    [
        SECRET,
        f"ci:{HASH}",
        f"ci:read:{SECRET}",
        f"ci:read:{HASH[1:]}",
        f"ci:read:{HASH}:more",
        f"ci::{HASH}",
        f"ci:read,train:{HASH}",
        f"ci:admin:{HASH}",
        f"ci:read+:{HASH}",
        f":read:{HASH}",
        f"{SECRET}{SECRET}:read:{HASH}",
        f"a/b:read:{HASH}",
        f"api_key:read:{HASH}",
        f"anonymous:read:{HASH}",
        f"a:read:{HASH},b:train:{HASH}",
        ",".join(f"k{number}:read:{number:064x}" for number in range(101)),
    ],
)
def test_a_wrong_entry_is_refused_without_its_text(entries: str) -> None:
    with pytest.raises(ValueError, match=r"entry \d|two entries|at most") as refused:
        parse_keys(entries)

    assert SECRET not in str(refused.value)
    assert HASH[1:] not in str(refused.value)


def test_no_entry_is_no_key() -> None:
    assert not keyring_of(None, None)
    assert parse_keys(" ,\n") == []
