"""Logging: one JSON object per line on Lambda, plain text elsewhere; each line carries its request's id."""

import logging
import re
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["json", "text"]
LogLevel = Literal["info", "warning", "error"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request; the threads that serve the request inherit it."""

TEXT = "%(asctime)s %(levelname)s: %(message)s"
QUIET = ("uvicorn.access",)  # the application's own access log has route, status and duration


class _WithRequestId(logging.Filter):
    """Adds the request's id to every record, including those of libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        return True


# A terminal or a reader of the log would take what these characters begin for a line, a colour or a text of its own:
# control characters, line and paragraph separators, and marks that turn the direction of writing.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TRACEBACK_MARGIN = "  | "


def _escape(text: str) -> str:
    r"""The text on one line, with unsafe characters as in a Python literal.

    >>> _escape("a" + chr(10) + "b" + chr(27) + "[31m")
    'a\\nb\\x1b[31m'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _TextFormatter(logging.Formatter):
    """One line for each record. A traceback follows with a margin: no part of it can pass for a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = _escape(super().formatMessage(record))
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return _with_margin(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's own name
        return _with_margin(super().formatStack(stack_info))


def _with_margin(text: str) -> str:
    return "\n".join(_TRACEBACK_MARGIN + _escape(line) for line in text.split("\n"))


def configure_logging(log_format: LogFormat, level: LogLevel, *, replace: bool = False) -> None:
    """Send every log record of this level and above to standard error.

    Args:
        log_format: ``json`` or ``text``.
        level: the least one.
        replace: replace the root logger's handlers; without it, existing handlers stay and none is added.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_json_formatter() if log_format == "json" else _TextFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=replace)
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
