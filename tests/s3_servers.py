"""Real S3 servers on loopback, started and stopped with a ``with`` statement."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from tests.processes import dies_with_us, free_port, listens, wait_until

if TYPE_CHECKING:  # deploy/build_images.sh starts a server where the application is not
    from services.storage.s3 import S3ArtifactStore

ACCESS_KEY = "testaccesskey"
SECRET_KEY = "testsecretkey"
BUCKET = "artifacts"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0

RADOSGW_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
RADOSGW_PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr"

# One monitor, one object store in memory, one gateway. The short paxos intervals are what makes it start in 2 s.
# Without the -1 a monitor ends where less than one percent of the disk is free, which may be gigabytes.
CEPH_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}/0]
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd data = {folder}/osd
osd class update on start = false
mon data = {folder}/mon
mon allow pool size one = true
mon data avail crit = -1
paxos propose interval = 0.05
paxos min wait = 0.02
rgw frontends = beast endpoint={host}:{gateway_port}
rgw data = {folder}/rgw
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
"""


@dataclass(frozen=True)
class S3Server:
    """A running server; it accepts ``ACCESS_KEY`` with ``SECRET_KEY``, which the tests' environment holds."""

    endpoint_url: str
    bucket: str


@contextmanager
def moto_server(environment: Mapping[str, str] | None = None, *, with_bucket: bool = True) -> Iterator[S3Server]:
    """moto's HTTP server, with an empty bucket; it accepts any secret unless ``environment`` says otherwise."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Path(__file__).with_name("moto_serially.py")
    command = [sys.executable, str(program), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, environment=environment):
        wait_until(lambda: listens(port), START_TIMEOUT_S, "moto_server")
        if with_bucket:
            _create_bucket(url)
        yield S3Server(url, BUCKET)


def missing_radosgw_programs() -> list[str]:
    """The programs a Ceph gateway needs and this machine lacks."""
    return [program for program in RADOSGW_PROGRAMS if shutil.which(program) is None]


@contextmanager
def radosgw_server(folder: Path, host: str = "127.0.0.1", port: int | None = None) -> Iterator[S3Server]:
    """A Ceph cluster of one, with its S3 gateway and an empty bucket; ``folder`` must be empty."""
    fsid, monitor_port, gateway_port = str(uuid.uuid4()), free_port(), port or free_port()
    conf = folder / "ceph.conf"
    conf.write_text(
        CEPH_CONF.format(fsid=fsid, folder=folder, monitor_port=monitor_port, host=host, gateway_port=gateway_port)
    )
    url = f"http://127.0.0.1:{gateway_port}"
    with ExitStack() as daemons:
        try:
            _start_monitor(daemons, conf, fsid, monitor_port)
            _start_object_store(daemons, conf)
            daemons.enter_context(running(["radosgw", "-c", str(conf), "-n", "client.rgw.a", "-f"]))
            _create_gateway_user(conf)
            wait_until(lambda: listens(gateway_port), START_TIMEOUT_S, "radosgw")
            _create_bucket(url)
        except AssertionError as error:  # the clients say only that no server answered
            raise AssertionError(f"{error}\n{_ends_of_logs(folder)}") from error
        yield S3Server(url, BUCKET)


def ignore_if_match(store: "S3ArtifactStore") -> None:
    """Let the server behave as one that ignores If-Match: the header is dropped before the request is signed."""
    store._s3().meta.events.register("before-sign.s3.PutObject", _drop_if_match)


def _drop_if_match(request: AWSRequest, **_: object) -> None:
    del request.headers["If-Match"]  # a missing header is no error


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process that runs during the block, and ends with this process even where that is killed."""
    process = subprocess.Popen(
        [*dies_with_us(), *command],
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start_monitor(daemons: ExitStack, conf: Path, fsid: str, port: int) -> None:
    folder = conf.parent
    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
    _call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "client.rgw.a", "osd.0"):
        capabilities = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        _call("ceph-authtool", keyring, "--gen-key", "-n", name, *capabilities)
    _call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}/0]", monmap)
    (folder / "mon").mkdir()
    _call("ceph-mon", "-c", str(conf), "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    daemons.enter_context(running(["ceph-mon", "-c", str(conf), "-i", "a", "-f"]))


def _start_object_store(daemons: ExitStack, conf: Path) -> None:
    osd_id = str(uuid.uuid4())
    (conf.parent / "osd").mkdir()
    _call("ceph", "-c", str(conf), "--connect-timeout", "20", "osd", "new", osd_id)
    _call("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    daemons.enter_context(running(["ceph-osd", "-c", str(conf), "-i", "0", "-f"]))


def _create_gateway_user(conf: Path) -> None:
    keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
    _call("radosgw-admin", "-c", str(conf), "user", "create", "--uid", "test", "--display-name", "test", *keys)


def _call(*command: str) -> None:
    done = subprocess.run(
        [*dies_with_us(), *command], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _ends_of_logs(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-5:])


def _create_bucket(url: str) -> None:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
