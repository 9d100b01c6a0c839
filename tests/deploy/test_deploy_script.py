"""deploy.sh in its own repository, with programs on its PATH that record how they were called."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.template import ROOT, SAM, SAM_MISSING, run_offline
from tests.s3_servers import moto_server

SCRIPT = "deploy/deploy.sh"
REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
URL = "https://abc.lambda-url.eu-west-1.on.aws/"
RECORDED = ("aws", "docker", "sam")

# Records its arguments, one line per call, and replies with the first answer whose beginning matches.
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
    """A clean checkout, and a PATH with only the recorders and the system programs that the script uses."""

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
        """Set what the recorders reply; the first match counts."""
        (self.programs / "answers").write_text(json.dumps([*answers, *FIRST_TIME]))

    def calls(self, beginning: str = "") -> list[list[str]]:
        recorded = self.programs / "calls"
        calls = [json.loads(line) for line in recorded.read_text().splitlines()] if recorded.exists() else []
        return [words for words in calls if " ".join(words).startswith(beginning)]

    def called(self) -> list[str]:
        """The words of each call before its first option."""
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
    for name in RECORDED:
        program = programs / name
        program.write_text(RECORDER.format(python=sys.executable))
        program.chmod(0o755)
    for name in ("bash", "dirname", "env", "git", "sed", "sha256sum", "xargs"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    machine = Machine(checkout, programs)
    machine.answers()
    machine.git("init", "--quiet")
    machine.git("add", ".")
    machine.git("commit", "--quiet", "--message", "first")
    return machine


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_first_deployment_makes_repository_images_and_stack(machine: Machine) -> None:
    given = ["AlarmEmail=me@example.org", "TrainMemory=3008"]

    done = machine.deploy(*given)

    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(URL)
    image = f"{REGISTRY}/lstm-api:{machine.git('rev-parse', '--short=12', 'HEAD')}"
    called = machine.called()
    assert sorted(called[3:5]) == ["aws ecr get-login-password", "docker login"]  # two ends of a pipe
    assert called[:3] + called[5:] == [
        "aws sts get-caller-identity",
        "aws ecr describe-repositories",
        "aws ecr create-repository",
        "aws ecr describe-images",
        "docker build",
        f"docker push {image}-serve",
        "aws ecr describe-images",
        "docker build",
        f"docker push {image}-train",
        "sam deploy",
        "aws cloudformation describe-stacks",
        "aws cloudformation describe-stacks",
    ]
    (repository,), (login,), (sam,) = (machine.calls(of) for of in ("aws ecr create", "docker login", "sam deploy"))
    assert option(repository, "--image-tag-mutability") == "IMMUTABLE"
    assert login[-1] == REGISTRY
    assert (machine.programs / "password").read_text().strip() == "secret"
    assert "secret" not in str(machine.calls()) + done.stdout + done.stderr
    assert [
        [option(words, name) for name in ("--target", "--tag", "--platform")] for words in machine.calls("docker build")
    ] == [["serve", f"{image}-serve", "linux/amd64"], ["train", f"{image}-train", "linux/amd64"]]
    assert (machine.programs / "attestations").read_text() == "1"
    assert {"--no-confirm-changeset", "--no-fail-on-empty-changeset"} <= set(sam)  # never prompts
    assert [option(sam, name) for name in ("--stack-name", "--region", "--capabilities")] == [
        "lstm-api",
        "eu-west-1",
        "CAPABILITY_IAM",
    ]
    images = [f"ServeImageUri={image}-serve", f"TrainImageUri={image}-train"]
    assert sam[sam.index("--parameter-overrides") + 1 :] == [*images, *given]


def test_an_existing_repository_and_pushed_images_are_reused(machine: Machine) -> None:
    machine.answers(["aws ecr describe-", 0, "{}"])

    done = machine.deploy()

    assert done.returncode == 0
    assert {"aws ecr create-repository", "docker build"}.isdisjoint(machine.called())
    assert "sam deploy" in machine.called()


def test_each_content_of_a_changed_tree_has_its_own_version(machine: Machine) -> None:
    def version() -> str:
        (machine.programs / "calls").unlink(missing_ok=True)
        assert machine.deploy().returncode == 0
        return machine.calls("sam deploy")[0][-1].rpartition(":")[2].removesuffix("-train")

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
    assert machine.calls("docker") == []
    assert machine.calls("sam deploy")[0][-1] == f"TrainImageUri={REGISTRY}/lstm-api:1a2b3c4d5e6f-train"


def test_rolling_back_to_an_unknown_version_deploys_nothing(machine: Machine) -> None:
    done = machine.deploy(IMAGE_VERSION="1a2b3c4d5e6f")

    assert done.returncode == 1
    assert "no image 1a2b3c4d5e6f-serve" in done.stderr
    assert machine.calls("sam deploy") == []


@pytest.mark.parametrize("tool", ["aws", "docker", "git", "sam"])
def test_a_missing_tool_is_named_before_anything_is_done(machine: Machine, tool: str) -> None:
    (machine.programs / tool).unlink()

    done = machine.deploy()

    assert done.returncode == 1
    assert f"missing: {tool}." in done.stderr
    assert machine.calls() == []


@pytest.mark.parametrize(
    "failing",
    ["aws sts", "aws ecr create-repository", "aws ecr get-login", "docker login", "docker build", "docker push", "sam"],
)
def test_a_failing_command_fails_the_deployment(machine: Machine, failing: str) -> None:
    machine.answers([failing, 1, ""])

    done = machine.deploy()

    assert done.returncode != 0
    assert URL not in done.stdout
    assert failing == "sam" or machine.calls("sam deploy") == []


@pytest.mark.parametrize("parameter", ["--guided", "TrainMemory", "ApiKey=", "=1", "Train Memory=1"])
def test_a_malformed_parameter_is_refused_before_anything_is_done(machine: Machine, parameter: str) -> None:
    done = machine.deploy(parameter)

    assert done.returncode == 1
    assert "expected PARAMETER=VALUE" in done.stderr
    assert machine.calls() == []


def test_the_region_comes_from_the_profile_if_the_environment_has_none(machine: Machine) -> None:
    machine.answers(["aws configure get region", 0, "sa-east-1"])

    machine.deploy(AWS_REGION="")

    assert option(machine.calls("sam deploy")[0], "--region") == "sa-east-1"


def test_a_missing_region_is_reported_before_anything_is_done(machine: Machine) -> None:
    machine.answers(["aws configure get region", 1, ""])

    done = machine.deploy(AWS_REGION="")

    assert done.returncode == 1
    assert "no region" in done.stderr
    assert machine.called() == ["aws configure get region"]


def test_the_real_sam_accepts_the_command_and_makes_a_change_set(machine: Machine, tmp_path: Path) -> None:
    if not SAM.exists():
        pytest.skip(SAM_MISSING)
    machine.deploy("TrainConcurrency=-1", "AlarmEmail=me@example.org")
    [[_, command, *words]] = machine.calls("sam deploy")
    words[words.index("--template-file") + 1] = str(ROOT / "deploy/template.yaml")

    with moto_server(with_bucket=False) as server:  # speaks CloudFormation, without the SAM transform
        done = run_offline(
            [str(SAM), command, "--no-execute-changeset", *words],
            tmp_path,
            AWS_ENDPOINT_URL=server.endpoint_url,
            AWS_ACCESS_KEY_ID="id",
            AWS_SECRET_ACCESS_KEY="secret",
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"TrainConcurrency": "-1", "AlarmEmail": "me@example.org"' in done.stdout
    assert "Changeset created successfully" in done.stdout
