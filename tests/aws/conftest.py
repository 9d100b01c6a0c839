"""The application as a Lambda function, with its models in a real S3 server."""

from collections.abc import Iterator

import pytest

from tests.aws.lambda_service import lambda_service
from tests.lambda_runtime import EMULATOR, EMULATOR_MISSING, LambdaRuntime, lambda_runtime
from tests.processes import free_port
from tests.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, missing_radosgw_programs

SAMPLE_PRICES = {"PRICE_SOURCE": "sample"}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def emulator() -> None:
    """Skips where the runtime interface emulator is not installed."""
    if not EMULATOR.exists():
        pytest.skip(EMULATOR_MISSING)


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Ceph's gateway where it is installed, else moto."""
    server: S3Server = request.getfixturevalue("moto_endpoint" if missing_radosgw_programs() else "radosgw")
    return server


@pytest.fixture(scope="session")
def working_bucket(s3_server: S3Server) -> dict[str, str]:
    """What a function is told whose bucket works."""
    bucket = {"S3_BUCKET_NAME": s3_server.bucket, "S3_ENDPOINT_URL": s3_server.endpoint_url}
    return SAMPLE_PRICES | CREDENTIALS | bucket


@pytest.fixture(scope="module")
def lambda_port() -> int:
    """Where Lambda's API takes asynchronous invocations."""
    return free_port()


# A function that has trained holds half a gigabyte: each lives as long as the module that uses it.
@pytest.fixture(scope="module")
def trainer(
    emulator: None, working_bucket: dict[str, str], lambda_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LambdaRuntime]:
    """The function that trains, and invokes itself for the chunks of a run."""
    environment = {"AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{lambda_port}"}
    with lambda_runtime(tmp_path_factory.mktemp("trainer"), working_bucket | environment) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def function(
    trainer: LambdaRuntime,
    working_bucket: dict[str, str],
    lambda_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LambdaRuntime]:
    """The function that answers, and has another train."""
    with lambda_service(("127.0.0.1", trainer.port), lambda_port) as service:
        environment = {"TRAINER_FUNCTION_NAME": "trainer", "AWS_ENDPOINT_URL_LAMBDA": service}
        with lambda_runtime(tmp_path_factory.mktemp("function"), working_bucket | environment) as runtime:
            yield runtime


@pytest.fixture(scope="module")
def function_without_bucket(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambdaRuntime]:
    """The function with a bucket behind a port where nobody listens."""
    nowhere = {"S3_BUCKET_NAME": BUCKET, "S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    with lambda_runtime(tmp_path_factory.mktemp("without-bucket"), SAMPLE_PRICES | CREDENTIALS | nowhere) as runtime:
        yield runtime
