"""Each family of errors has its exit code, one line and a hint, and never a traceback."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

import pytest

import errors
from cli.exits import Exit, exit_code, format_error, hint
from errors import AppError
from stock_forecast_client.errors import ModelNotFound, error_from
from tests.cli.conftest import Run
from tests.forked_servers import ForkedServers
from tests.processes import QuietHandler, free_port, serving

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)]
FAMILIES = {
    "internal": Exit.FAILED,
    "invalid_request": Exit.USAGE,
    "not_authenticated": Exit.NOT_AUTHENTICATED,
    "not_found": Exit.NOT_FOUND,
    "conflict": Exit.CONFLICT,
    "idempotency_key_reused": Exit.USAGE,
    "too_many": Exit.TOO_MANY,
    "job_failed": Exit.FAILED,
    "training_unavailable": Exit.NOT_INSTALLED,
    "analysis_unavailable": Exit.NOT_INSTALLED,
    "parquet_unavailable": Exit.NOT_INSTALLED,
    "measured_elsewhere": Exit.NOT_INSTALLED,
    "artifact_invalid": Exit.ARTIFACT_INVALID,
    "upstream_unavailable": Exit.UNAVAILABLE,
    "access_not_configured": Exit.UNAVAILABLE,
    "forbidden": Exit.NOT_AUTHENTICATED,
}
KEY = "a-key-of-more-than-twenty-characters"


@contextmanager
def service_that_answers(code: str, status: int, detail: str = "what happened") -> Iterator[str]:
    """The address of a server that answers every request with this problem."""
    problem = {"type": "x", "title": "x", "status": status, "detail": detail, "code": code, "request_id": "r1"}

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - named by http.server
            body = json.dumps(problem).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url


@pytest.fixture(scope="module")
def busy_server(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with an API key that accepts one training."""
    data = tmp_path_factory.mktemp("busy")
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(data), "API_KEY": KEY, "MAX_WAITING_TRAININGS": "0"}
    with servers.running(settings) as url:
        yield url


def family(kind: type[AppError]) -> Exit:
    codes = [str(vars(base).get("code")) for base in kind.__mro__]
    return next(FAMILIES[code] for code in codes if code in FAMILIES)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_ends_as_its_family_does_and_has_a_hint(kind: type[AppError]) -> None:
    error = error_from(kind.code, "what happened", kind.status_code)

    assert exit_code(error) is family(kind)
    assert hint(error)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("training_unavailable", 501, 9),
        ("internal", 500, 1),
        ("teapot", 418, 1),
        ("not_built_here", 501, 9),
        ("artifact_too_new", 500, 7),
        ("too_many_trainings", 429, 5),
    ],
)
def test_an_error_of_a_server_ends_the_command_with_the_code_of_its_family(
    run: Run, code: str, status: int, expected: int
) -> None:
    with service_that_answers(code, status) as url:
        done = run("--url", url, "models", "list")

    assert done.exit_code == expected
    assert "what happened [request r1]" in done.stderr
    assert "Traceback" not in done.output


def test_control_characters_of_a_server_do_not_reach_the_terminal(run: Run) -> None:
    with service_that_answers("not_found", 404, "two\nlines \x1b[2J") as url:
        done = run("--url", url, "models", "list")

    assert "\x1b" not in done.output
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "expected", "code"),
    [
        (["fetch", "NOPE"], 3, "ticker_not_found"),
        (["models", "show", "nope-1"], 3, "model_not_found"),
        (["jobs", "show", "20261121t093000-1a2b3c4d"], 3, "job_not_found"),
        (["jobs", "watch", "20261121t093000-1a2b3c4d"], 3, "job_not_found"),
        (["predict"], 2, "invalid_request"),
        (["fetch", "^GSPC", "--start", "2199-01-01", "--end", "2199-01-02"], 2, "malformed_request"),
        (["fetch", "^GSPC", "--start", "1990-01-01", "--end", "1990-02-01"], 4, "insufficient_history"),
    ],
)
def test_an_error_is_one_line_and_a_hint_on_standard_error(
    run: Run, command: list[str], expected: int, code: str
) -> None:
    done = run(*command)

    error, what_to_do = done.stderr.splitlines()
    assert done.exit_code == expected
    assert done.stdout == ""
    assert error.startswith(f"error: {code}: ")
    assert what_to_do.startswith("hint: ")


@pytest.mark.parametrize(
    "command",
    [
        ["nonsense"],
        ["fetch"],
        ["fetch", "not a ticker"],
        ["fetch", "^GSPC", "--days", "0"],
        ["train", "^GSPC", "--model", "nonsense"],
        ["predict", "^GSPC", "--as-of", "yesterday"],
        ["forecast", "^GSPC", "--horizon", "99"],
        ["forecast", "^GSPC", "--plot", "picture.exe"],
        ["forecast", "^GSPC", "--plot", "no/such/folder/picture.png"],
        ["train", "^GSPC", "--no-wait"],
        ["--url", "nowhere", "models", "list"],
        ["--url", "http://127.0.0.1:1", "demo"],
        ["--url", "http://127.0.0.1:1", "serve"],
    ],
)
def test_a_wrong_command_is_a_usage_error(run: Run, command: list[str]) -> None:
    done = run(*command)

    assert done.exit_code == Exit.USAGE, done.output
    assert done.stdout == ""
    assert "rror: " in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["fetch", "^GSPC", "--start", "2018-12-01"], "provide either --start and --end, or days"),
        (
            ["fetch", "^GSPC", "--start", "2018-12-31", "--end", "2018-01-01"],
            "--start 2018-12-31 must not be after --end",
        ),
        (["forecast", "^GSPC", "--as-of", "2199-01-01"], "--as-of: 2199-01-01 is in the future"),
        (["forecast", "^GSPC", "--level", "90"], ": --level: Input should be less than or equal to 0.99\n"),
        (["predict", "^GSPC", "--model", "No_Such"], "an id has lower-case letters and digits, with hyphens between"),
        (["models", "alias", "Best_1", "default"], "an alias has lower-case letters, with hyphens between"),
        (["jobs", "show", "nope"], "expected an id such as 2026"),
    ],
)
def test_errors_name_options_as_the_command_line_does(run: Run, command: list[str], said: str) -> None:
    done = run(*command)

    assert done.exit_code == Exit.USAGE
    assert said in done.stderr
    assert not re.search(r"body\.|path\.|query\.|_date|match pattern", done.stderr)


def test_a_port_that_is_taken_is_one_line_and_no_log(run: Run) -> None:
    with socket(AF_INET, SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        done = run("serve", "--port", port)

    assert done.exit_code == Exit.CONFLICT
    error, what_to_do = done.stderr.splitlines()
    assert error == f"error: address_not_free: cannot listen on 127.0.0.1:{port}: address already in use"
    assert "--port" in what_to_do


def test_a_wrong_setting_is_named_without_its_value(run: Run) -> None:
    done = run("models", "list", API_KEY="short-secret")

    assert done.exit_code == Exit.USAGE
    assert "api_key" in done.stderr
    assert "short-secret" not in done.output


def test_a_port_without_a_server_is_unavailable(run: Run) -> None:
    done = run("--url", f"http://127.0.0.1:{free_port()}", "models", "list")

    assert done.exit_code == Exit.UNAVAILABLE
    assert "service_unreachable" in done.stderr
    assert "Errno" not in done.stderr


def test_a_model_whose_card_is_damaged_is_unusable(run: Run, tmp_path: Path) -> None:
    card = tmp_path / "var" / "models" / "a-1" / "metadata.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")

    done = run("models", "show", "a-1", DATA_DIR=str(tmp_path / "var"))

    assert done.exit_code == Exit.ARTIFACT_INVALID
    assert "artifact_corrupt" in done.stderr


def test_a_route_that_the_server_lacks_is_an_error_with_a_hint(run: Run) -> None:
    with service_that_answers("not_found", 404, "Not Found") as url:
        done = run("--url", url, "analyze", "^GSPC")

    assert done.exit_code == Exit.NOT_FOUND
    assert "this version of the service has no such route" in done.stderr


@pytest.mark.slow
def test_a_missing_key_and_a_busy_server_have_their_own_codes(run: Run, busy_server: str) -> None:
    training = ["train", "^GSPC", "--epochs", "1000", "--start", "2000-01-01", "--no-wait"]

    stranger = run("--url", busy_server, "models", "list")
    known = run("--url", busy_server, "--api-key", KEY, *training)
    by_environment = run(*training, STOCK_FORECAST_URL=busy_server, STOCK_FORECAST_API_KEY=KEY)

    assert stranger.exit_code == Exit.NOT_AUTHENTICATED
    assert known.exit_code == 0, known.output
    assert by_environment.exit_code == Exit.TOO_MANY
    assert "wait 30 s" in by_environment.stderr


def test_only_an_error_of_a_server_shows_its_request_id() -> None:
    error = ModelNotFound("no model", context={"request_id": "r1"})

    assert format_error(error, remote=True) == "model_not_found: no model [request r1]"
    assert format_error(error, remote=False) == "model_not_found: no model"
