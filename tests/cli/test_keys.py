from typer.testing import Result

from services.access import keyring_of
from tests.cli.conftest import Run


def printed(result: Result) -> tuple[str, str]:
    """The secret and the entry."""
    assert result.exit_code == 0, result.output
    _, secret, _, entry = result.stdout.splitlines()
    assert max(len(secret), len(entry)) <= 80
    return secret, entry


def test_a_new_key_has_the_name_and_the_rights_and_its_secret_fits(run: Run) -> None:
    secret, entry = printed(run("key", "ci", "--rights", "read, train"))

    found = keyring_of(None, entry).find(secret)

    assert found is not None
    assert (found.name, sorted(found.rights)) == ("ci", ["read", "train"])
    assert secret not in entry


def test_a_key_may_only_read_by_default_and_each_is_another(run: Run) -> None:
    first, second = (printed(run("key", "page")) for _ in range(2))

    assert first[1].startswith("page:read:")
    assert first[0] != second[0]


def test_a_wrong_name_or_right_is_wrong_use(run: Run) -> None:
    ended = [run("key", "a/b"), run("key", "ci", "--rights", "read,write"), run("key", "ci", "--rights", "")]

    assert [result.exit_code for result in ended] == [2, 2, 2]
    assert "a name has 1 to 32 letters" in ended[0].output
    assert "rights are read and train" in ended[1].output


def test_no_key_and_no_limit_of_the_settings_holds_in_this_process(run: Run) -> None:
    _, entry = printed(run("key", "ci"))

    for _ in range(2):
        done = run("models", "list", API_KEYS=entry, RATE_LIMIT_REQUESTS="1", RATE_LIMIT_CPU_S="0.001")
        assert done.exit_code == 0, done.output
