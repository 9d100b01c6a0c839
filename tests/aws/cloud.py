"""What AWS is to a container under trial: a real S3 server, and Lambda's front door before the trainer's emulator.

python -m tests.aws.cloud TRAINER_HOST
"""

import sys
import tempfile
import threading
from pathlib import Path

from tests.aws.lambda_service import lambda_service
from tests.s3_servers import radosgw_server

S3_PORT = 7480
LAMBDA_PORT = 9001
EMULATOR_PORT = 8080
EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a network of containers


def main() -> None:
    """Serve until the container is stopped."""
    with (
        tempfile.TemporaryDirectory() as folder,
        radosgw_server(Path(folder), EVERYWHERE, S3_PORT),
        lambda_service((sys.argv[1], EMULATOR_PORT), LAMBDA_PORT, EVERYWHERE),
    ):
        print("ready", flush=True)  # noqa: T201 - whoever started us waits for it
        threading.Event().wait()


if __name__ == "__main__":
    main()
