"""Logs: one JSON object a line where machines read them, plain text where people do; each with its request's id."""

import logging
from contextvars import ContextVar
from typing import Literal

LogFormat = Literal["json", "text"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; threads that answer it inherit it."""

TEXT = "%(asctime)s %(levelname)s: %(message)s"
QUIET = ("uvicorn.access",)  # the application's own access log has route, status and duration


class _WithRequestId(logging.Filter):
    """Adds the request's id to every record, those of libraries included."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        return True


class _TextFormatter(logging.Formatter):
    """A line with its time, and at its end the request's id where there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"


def configure_logging(log_format: LogFormat, *, replace: bool = False) -> None:
    """Send every log record of level INFO and above to standard error.

    Args:
        log_format: ``json`` or ``text``.
        replace: take the place of handlers that a runtime has put there; else nothing is done where there are some.
    """
    handler = logging.StreamHandler()
    as_json = log_format == "json"
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_json_formatter() if as_json else _TextFormatter(TEXT))
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
