"""deploy.sh in a repository of its own, with programs on its PATH that write down how they were called."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.template import ROOT, SAM, SAM_MISSING, read_template, run_offline
from tests.s3_servers import moto_server

SCRIPT = "deploy/deploy.sh"
REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
URL = "https://abc.lambda-url.eu-west-1.on.aws/"
FAKED = ("aws", "docker", "sam")

# Writes down its arguments, a line for each call, and answers as told for calls that begin so.
RECORDER = """#!{python}
import json, os, sys
from pathlib import Path
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
here = Path(sys.argv[0]).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if "--password-stdin" in words:
    (here / "password").write_text(sys.stdin.read())
if words[:2] == ["docker", "build"]:
    (here / "attestations").write_text(os.environ.get("BUILDX_NO_DEFAULT_ATTESTATIONS", ""))
for beginning, status, output in json.loads((here / "answers").read_text()):
    if " ".join(words).startswith(beginning):
        print(output)
        sys.exit(status)
"""

FIRST_TIME = [
    ["aws sts get-caller-identity", 0, "123456789012"],
    ["aws ecr get-login-password", 0, "secret"],
    ["aws ecr describe-", 254, ""],
    ["aws cloudformation describe-stacks", 0, URL],
]


@dataclass(frozen=True)
class Machine:
    """A clean checkout and a PATH with nothing but the fakes and what the script uses of the system."""

    checkout: Path
    programs: Path

    def deploy(self, *parameters: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"PATH": str(self.programs), "HOME": str(self.checkout.parent), "AWS_REGION": "eu-west-1"}
        return subprocess.run(
            [str(self.checkout / SCRIPT), *parameters],
            env=known | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def answers(self, *answers: list[Any]) -> None:
        """What the fakes answer; the first that fits counts."""
        (self.programs / "answers").write_text(json.dumps([*answers, *FIRST_TIME]))

    def calls(self) -> list[list[str]]:
        recorded = self.programs / "calls"
        return [json.loads(line) for line in recorded.read_text().splitlines()] if recorded.exists() else []

    def called(self) -> list[str]:
        """The first words of each call, up to the first option."""
        return [re.split(r" -", " ".join(words))[0] for words in self.calls()]

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=self.checkout, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    (checkout / "deploy").mkdir(parents=True)
    programs.mkdir()
    for path in (SCRIPT, "deploy/template.yaml", "Dockerfile"):
        shutil.copy(ROOT / path, checkout / path)
    for name in FAKED:
        program = programs / name
        program.write_text(RECORDER.format(python=sys.executable))
        program.chmod(0o755)
    for name in ("bash", "dirname", "git", "sed", "sha256sum", "xargs"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    (programs / "env").symlink_to("/usr/bin/env")
    machine = Machine(checkout, programs)
    machine.answers()
    machine.git("init", "--quiet")
    machine.git("add", ".")
    machine.git("commit", "--quiet", "--message", "first")
    return machine


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def the_call(machine: Machine, beginning: str) -> list[str]:
    [found] = [words for words in machine.calls() if " ".join(words).startswith(beginning)]
    return found


def test_first_deployment_makes_repository_images_and_stack_in_order(machine: Machine) -> None:
    done = machine.deploy()

    assert done.returncode == 0, done.stderr
    commit = machine.git("rev-parse", "--short=12", "HEAD")
    called = machine.called()
    assert sorted(called[3:5]) == ["aws ecr get-login-password", "docker login"]  # two ends of a pipe
    assert called[:3] + called[5:] == [
        "aws sts get-caller-identity",
        "aws ecr describe-repositories",
        "aws ecr create-repository",
        "aws ecr describe-images",
        "docker build",
        f"docker push {REGISTRY}/lstm-api:{commit}-serve",
        "aws ecr describe-images",
        "docker build",
        f"docker push {REGISTRY}/lstm-api:{commit}-train",
        "sam deploy",
        "aws cloudformation describe-stacks",
        "aws cloudformation describe-stacks",
    ]
    assert done.stdout.rstrip().endswith(URL)


def test_images_are_single_ones_for_the_architecture_of_the_functions(machine: Machine) -> None:
    machine.deploy()

    builds = [words for words in machine.calls() if words[:2] == ["docker", "build"]]
    assert [option(words, "--target") for words in builds] == ["serve", "train"]
    assert [option(words, "--platform") for words in builds] == ["linux/amd64", "linux/amd64"]
    assert (machine.programs / "attestations").read_text() == "1"


def test_what_is_built_is_pushed_and_deployed_by_a_tag_of_the_commit(machine: Machine) -> None:
    machine.deploy()

    commit = machine.git("rev-parse", "--short=12", "HEAD")
    images = [f"{REGISTRY}/lstm-api:{commit}-serve", f"{REGISTRY}/lstm-api:{commit}-train"]
    calls = machine.calls()
    assert [option(words, "--tag") for words in calls if words[:2] == ["docker", "build"]] == images
    assert [words[2] for words in calls if words[:2] == ["docker", "push"]] == images
    assert the_call(machine, "sam deploy")[-2:] == [f"ServeImageUri={images[0]}", f"TrainImageUri={images[1]}"]
    assert option(the_call(machine, "aws ecr create-repository"), "--image-tag-mutability") == "IMMUTABLE"


def test_sam_is_never_let_to_ask(machine: Machine) -> None:
    machine.deploy()

    words = the_call(machine, "sam deploy")
    assert {"--no-confirm-changeset", "--no-fail-on-empty-changeset"} <= set(words)
    assert "--guided" not in words
    assert option(words, "--capabilities") == "CAPABILITY_IAM"
    assert option(words, "--stack-name") == "lstm-api"
    assert option(words, "--region") == "eu-west-1"


def test_docker_is_logged_in_without_showing_the_password(machine: Machine) -> None:
    done = machine.deploy()

    assert (machine.programs / "password").read_text().strip() == "secret"
    assert the_call(machine, "docker login")[-1] == REGISTRY
    assert "secret" not in str(machine.calls()) + done.stdout + done.stderr


def test_parameters_go_to_the_template_and_exist_there(machine: Machine) -> None:
    given = ["AlarmEmail=me@example.org", "TrainMemory=3008"]

    machine.deploy(*given)

    words = the_call(machine, "sam deploy")
    parameters = words[words.index("--parameter-overrides") + 1 :]
    assert parameters[2:] == given
    assert {word.split("=")[0] for word in parameters} <= set(read_template()["Parameters"])


def test_a_repository_that_exists_is_left_alone(machine: Machine) -> None:
    machine.answers(["aws ecr describe-repositories", 0, "{}"])

    done = machine.deploy()

    assert done.returncode == 0
    assert "aws ecr create-repository" not in machine.called()


def test_images_that_are_pushed_already_are_not_built_again(machine: Machine) -> None:
    machine.answers(["aws ecr describe-", 0, "{}"])

    done = machine.deploy()

    assert done.returncode == 0
    assert "docker build" not in machine.called()
    assert "sam deploy" in machine.called()


def test_a_changed_tree_has_a_version_of_its_own_for_each_content(machine: Machine) -> None:
    def version() -> str:
        (machine.programs / "calls").unlink(missing_ok=True)
        assert machine.deploy().returncode == 0
        return the_call(machine, "sam deploy")[-1].rpartition(":")[2].removesuffix("-train")

    clean = version()
    (machine.checkout / "new.py").write_text("a = 1\n")
    added = version()
    (machine.checkout / "new.py").write_text("a = 2\n")
    edited = version()
    (machine.checkout / "new.py").write_text("a = 1\n")

    assert len({clean, added, edited}) == 3
    assert version() == added
    assert re.fullmatch(rf"{clean}-[0-9a-f]{{8}}", added)


def test_rolling_back_deploys_older_images_and_builds_nothing(machine: Machine) -> None:
    machine.answers(["aws ecr describe-images", 0, "{}"])

    done = machine.deploy(IMAGE_VERSION="1a2b3c4d5e6f")

    assert done.returncode == 0, done.stderr
    assert not any(words[0] == "docker" for words in machine.calls())
    assert the_call(machine, "sam deploy")[-1] == f"TrainImageUri={REGISTRY}/lstm-api:1a2b3c4d5e6f-train"


def test_rolling_back_to_what_was_never_pushed_deploys_nothing(machine: Machine) -> None:
    done = machine.deploy(IMAGE_VERSION="1a2b3c4d5e6f")

    assert done.returncode == 1
    assert "no image 1a2b3c4d5e6f-serve" in done.stderr
    assert "sam deploy" not in machine.called()


@pytest.mark.parametrize("tool", ["aws", "docker", "git", "sam"])
def test_a_missing_tool_is_named_before_anything_is_done(machine: Machine, tool: str) -> None:
    (machine.programs / tool).unlink()

    done = machine.deploy()

    assert done.returncode == 1
    assert f"missing: {tool}." in done.stderr
    assert machine.calls() == []


@pytest.mark.parametrize(
    "failing",
    [
        "aws sts",
        "aws ecr create-repository",
        "aws ecr get-login-password",
        "docker login",
        "docker build",
        "docker push",
    ],
)
def test_what_fails_stops_the_rest(machine: Machine, failing: str) -> None:
    machine.answers([failing, 1, ""])

    done = machine.deploy()

    assert done.returncode != 0
    assert "sam deploy" not in machine.called()


def test_a_failed_deployment_fails_the_script(machine: Machine) -> None:
    machine.answers(["sam deploy", 1, ""])

    done = machine.deploy()

    assert done.returncode != 0
    assert URL not in done.stdout


@pytest.mark.parametrize("parameter", ["--guided", "TrainMemory", "ApiKey=", "=1", "Train Memory=1"])
def test_what_is_no_parameter_is_refused(machine: Machine, parameter: str) -> None:
    done = machine.deploy(parameter)

    assert done.returncode == 1
    assert "expected PARAMETER=VALUE" in done.stderr
    assert machine.calls() == []


def test_the_profile_says_the_region_where_the_environment_does_not(machine: Machine) -> None:
    machine.answers(["aws configure get region", 0, "sa-east-1"])

    machine.deploy(AWS_REGION="")

    assert option(the_call(machine, "sam deploy"), "--region") == "sa-east-1"


def test_no_region_is_said_before_anything_is_done(machine: Machine) -> None:
    machine.answers(["aws configure get region", 1, ""])

    done = machine.deploy(AWS_REGION="")

    assert done.returncode == 1
    assert "no region" in done.stderr
    assert machine.called() == ["aws configure get region"]


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck not found: apt-get install shellcheck")

    done = subprocess.run(["shellcheck", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout + done.stderr == ""


@pytest.fixture
def cloudformation() -> Iterator[str]:
    """A server that speaks CloudFormation, without the SAM transform."""
    with moto_server(with_bucket=False) as server:
        yield server.endpoint_url


def test_the_real_sam_accepts_the_command_and_makes_a_change_set(
    machine: Machine, cloudformation: str, tmp_path: Path
) -> None:
    if not SAM.exists():
        pytest.skip(SAM_MISSING)
    machine.deploy("TrainConcurrency=-1", "AlarmEmail=me@example.org")
    _, *words = the_call(machine, "sam deploy")
    words[words.index("--template-file") + 1] = str(ROOT / "deploy/template.yaml")

    done = run_offline(
        [str(SAM), *words[:1], "--no-execute-changeset", *words[1:]],
        tmp_path,
        AWS_ENDPOINT_URL=cloudformation,
        AWS_ACCESS_KEY_ID="id",
        AWS_SECRET_ACCESS_KEY="secret",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"TrainConcurrency": "-1", "AlarmEmail": "me@example.org"' in done.stdout
    assert "Changeset created successfully" in done.stdout
