"""Logging: one JSON object per line on Lambda, plain text elsewhere; each line carries its request's id."""

import logging
from contextvars import ContextVar
from typing import Literal

LogFormat = Literal["json", "text"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request; the threads that serve the request inherit it."""

TEXT = "%(asctime)s %(levelname)s: %(message)s"
QUIET = ("uvicorn.access",)  # the application's own access log has route, status and duration


class _WithRequestId(logging.Filter):
    """Adds the request's id to every record, including those of libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        return True


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"


def configure_logging(log_format: LogFormat, *, replace: bool = False) -> None:
    """Send every log record of level INFO and above to standard error.

    Args:
        log_format: ``json`` or ``text``.
        replace: replace the root logger's handlers; without it, existing handlers stay and none is added.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_json_formatter() if log_format == "json" else _TextFormatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=replace)
    for name in QUIET:
        logging.getLogger(name).disabled = True


def _json_formatter() -> logging.Formatter:
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

    return LambdaPowertoolsFormatter(
        use_rfc3339=True,
        utc=True,
        serialize_stacktrace=False,  # the traceback is there as text
        log_record_order=["timestamp", "level", "location", "message"],
        location="%(name)s:%(lineno)d",
    )
