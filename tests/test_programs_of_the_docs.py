"""The programs that pages show in Python and JavaScript run, and do what the page says."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.webhooks.post import signature
from tests.forked_servers import ForkedServers

DOCS = Path(__file__).parents[1] / "docs"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "job.succeeded", "data": {"id": "caf\u00e9"}}).encode()
FORECAST = [
    "2019-01-02: 80% range 2442.19 to 2575.04; no change: 2506.85",
    "2019-01-08: 80% range 2378.42 to 2647.25; no change: 2506.85",
]


def program(page: str, language: str, containing: str) -> str:
    """The one program of a page in a language that contains the text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def node(source: str, *options: str) -> "subprocess.CompletedProcess[str]":
    executable = shutil.which("node")
    if executable is None:
        pytest.skip("node not found")
    return subprocess.run([executable, *options, "-e", source], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_quickstart_forecasts_from_python_and_javascript(servers: ForkedServers) -> None:
    with servers.running({"PRICE_SOURCE": "sample"}) as url:
        python = program("quickstart.md", "python", "urlopen").replace("http://localhost:8000", url)
        by_python = subprocess.run(
            [sys.executable, "-c", python], capture_output=True, text=True, timeout=60, check=True
        ).stdout.splitlines()
        script = program("quickstart.md", "js", "fetch(").replace("http://localhost:8000", url)
        by_javascript = node(script, "--input-type=module")

    assert [by_python[0], by_python[-1]] == FORECAST
    assert by_javascript.stdout.splitlines() == by_python, by_javascript.stderr


def headers(timestamp: int, signed: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {
        "webhook-id": "job_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,AAAA {signature(secret, 'job_1', timestamp, signed)}",
    }


def cases() -> list[tuple[dict[str, str], str]]:
    """Headers of messages with ``BODY``, and what the check raises; nothing for one that is genuine."""
    now = int(time.time())
    other = "whsec_" + "A" * 32
    return [
        (headers(now), ""),
        (headers(now, signed=BODY + b" "), "does not match"),
        (headers(now, secret=other), "does not match"),
        (headers(now - 600), "too old"),
        (headers(now + 600), "from the future"),
        ({**headers(now), "webhook-id": "job_2"}, "does not match"),
        ({**headers(now), "webhook-signature": "v1,"}, "does not match"),
    ]


def test_the_python_of_the_page_verifies_webhooks() -> None:
    names: dict[str, object] = {}
    exec(program("webhooks.md", "python", "def verify"), names)  # noqa: S102 - our own page
    verify = names["verify"]
    assert callable(verify)

    for given, wrong in cases():
        if wrong:
            with pytest.raises(ValueError, match=wrong):
                verify(SECRET, given, BODY)
        else:
            verify(SECRET, given, BODY)


def test_the_javascript_of_the_page_verifies_webhooks() -> None:
    given = cases()
    script = (
        program("webhooks.md", "js", "function verify")
        + f"""
const body = Buffer.from({BODY.hex()!r}, "hex");
for (const headers of {json.dumps([one for one, _ in given])}) {{
  try {{ verify({SECRET!r}, headers, body); console.log("genuine"); }} catch (error) {{ console.log(error.message); }}
}}
"""
    )

    done = node(script)

    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(given)
    for (_, wrong), one in zip(given, said, strict=True):
        assert wrong in one
        assert (one == "genuine") == (not wrong)


def test_the_secret_that_the_page_makes_is_valid() -> None:
    made = subprocess.run(
        [sys.executable, "-c", program("webhooks.md", "python", "token_bytes")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()

    assert signature(made, "job_1", 0, b"").startswith("v1,")
