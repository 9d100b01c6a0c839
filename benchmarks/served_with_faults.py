"""A server, and its workers, whose Yahoo is on a port of the loopback interface; the rest is as in production.

    python -m benchmarks.served_with_faults YAHOO_PORT [JOB_ID]

With a job's id this is the worker of that job. Used by ``benchmarks.wire_faults`` and ``benchmarks.kills``.
"""

import os
import sys

import requests

from app import create_app
from bootstrap import Runtime, cached_prices
from config import Settings, prepare_environment, settings_of_environment
from server.run import serve
from services.prices.yahoo import YahooSource
from telemetry.logs import configure_logging
from tests.yahoo_server import ToLoopback
from worker import work


def runtime_over(port: int, settings: Settings) -> Runtime:
    """What the settings select, but for Yahoo's address and the workers' command."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("https://", "http://"):
        session.mount(scheme, ToLoopback(port))
    folder = settings.writable_dir / "cache" / "yfinance"
    yahoo = YahooSource(folder, settings.yahoo_timeout_s, settings.yahoo_attempts, session=session)
    worker = [sys.executable, "-m", "benchmarks.served_with_faults", str(port)]
    return Runtime.from_settings(settings, prices=cached_prices(settings, yahoo), worker=worker)


def main() -> None:
    port, *job = sys.argv[1:]
    prepare_environment()
    if job:
        os.nice(10)
        settings = Settings.model_validate_json(sys.stdin.buffer.read())
        configure_logging(settings.logs_as, settings.log_level)
        work(runtime_over(int(port), settings), job[0])
        return
    settings = settings_of_environment()
    configure_logging(settings.logs_as, settings.log_level)
    serve(create_app(runtime_over(int(port), settings)), settings)


if __name__ == "__main__":
    main()
