"""How an error is reported in a terminal: one line, a hint and an exit code."""

import re
from enum import IntEnum

from stock_forecast_client import StockForecastError
from stock_forecast_client.errors import ArtifactInvalid


class Exit(IntEnum):
    """The exit codes, each for a family of errors; 130 is Ctrl-C, as in any shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    TOO_MANY = 5
    UNAVAILABLE = 6
    ARTIFACT_INVALID = 7
    NOT_AUTHENTICATED = 8
    NOT_INSTALLED = 9


_BY_STATUS = {
    400: Exit.USAGE,
    401: Exit.NOT_AUTHENTICATED,
    403: Exit.NOT_AUTHENTICATED,
    404: Exit.NOT_FOUND,
    408: Exit.USAGE,
    409: Exit.CONFLICT,
    413: Exit.USAGE,
    421: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.TOO_MANY,
    431: Exit.USAGE,
    501: Exit.NOT_INSTALLED,
    503: Exit.UNAVAILABLE,
}

_HINTS = {
    "ticker_not_found": "check the symbol on Yahoo Finance; PRICE_SOURCE=sample has ^GSPC and ^IXIC",
    "webhook_refused": "see docs/webhooks.md",
    "unknown_exchange": "use a ticker of a known exchange, such as PETR4.SA or ^GSPC",
    "model_not_found": "see `models list` and `models aliases`",
    "job_not_found": "see `jobs list`",
    "forecast_not_published": "see `latest`; `nightly` forecasts NIGHTLY_TICKERS, and `predict` any ticker now",
    "run_not_found": "see `run list`",
    "run_already_finished": "see `run show`",
    "run_not_resumable": "see `run show`; only what failed, was cancelled or lost can be resumed",
    "parquet_unavailable": "ask for CSV, or install pyarrow",
    "universe_not_found": "see `universe list`, or make one with `universe download`",
    "not_found": "this version of the service has no such route",
    "insufficient_history": "widen the dates (`fetch` shows the newest), or train with a shorter --sequence-length",
    "address_not_free": "choose another port with --port, or stop the program that uses this one",
    "invalid_settings": "see docs/configuration.md",
    "model_in_use": "move the alias to another model first, see `models alias`",
    "job_already_finished": "see `jobs show`",
    "job_not_retryable": "see `jobs show`; only failed, cancelled and lost jobs can be retried",
    "job_cancelled": "start it again with `jobs retry`",
    "job_lost": "start it again with `jobs retry`",
    "artifact_corrupt": "restore the file, or delete the model and train again",
    "artifact_too_new": "upgrade this program",
    "prices_rate_limited": "wait, or try PRICE_SOURCE=sample",
    "prices_unreachable": "check the network, or try PRICE_SOURCE=sample",
    "mcp_unavailable": "run `make mcp`, or install requirements/mcp.txt",
    "forbidden": "use a key that has this right; `key` makes one",
    "access_not_configured": "set API_KEY or API_KEYS of the function, or OPEN=yes where AWS_IAM checks who calls",
    "host_not_allowed": "use the server's address, or name this host in its ALLOWED_HOSTS",
    "server_busy": "try again later",
    "store_unavailable": "check DATA_DIR or the bucket: permission and space",
    "service_unreachable": "check --url, and that `serve` runs there",
    "service_timed_out": "it may be busy; try again later",
}

_FAMILY_HINTS = {
    Exit.FAILED: "run again with --verbose, or look into the service's log",
    Exit.USAGE: "see --help",
    Exit.NOT_FOUND: "check the name",
    Exit.CONFLICT: "choose other dates, another ticker or another model",
    Exit.TOO_MANY: "try again later",
    Exit.UNAVAILABLE: "try again later",
    Exit.ARTIFACT_INVALID: "restore the model's files, or train again",
    Exit.NOT_AUTHENTICATED: "give --api-key, or set STOCK_FORECAST_API_KEY",
    Exit.NOT_INSTALLED: "install all of requirements.txt",
}

_OPTIONS = {
    "start_date": "--start",
    "end_date": "--end",
    "base_model_id": "--base",
    "levels": "--level",
    "as_of": "--as-of",
    "sequence_length": "--sequence-length",
    "refit_every": "--refit-every",
    "webhook.url": "--webhook",
    "webhook.secret": "--webhook-secret",
}
"""Options whose names differ from the fields of the API."""

_FORMATS = {
    "model_id": "an id has lower-case letters and digits, with hyphens between",
    "alias": "an alias has lower-case letters, with hyphens between, or is ticker/TICKER",
    "job_id": "expected an id such as 20261121t093000-1a2b3c4d",
    "run_id": "expected an id such as 20261121t093000-1a2b3c4d",
}
"""In place of the regular expression that a field must match."""

_EMPTY = "should have at least 1 item after validation, not 0"  # reported in addition to the fault of the only item


def exit_code(error: StockForecastError) -> Exit:
    if isinstance(error, ArtifactInvalid):
        return Exit.ARTIFACT_INVALID
    return _BY_STATUS.get(error.status_code, Exit.FAILED)


def exit_code_of(code: str) -> Exit:
    """The exit code of an error code that is part of an answer.

    >>> exit_code_of("ticker_not_found").value, exit_code_of("of_a_later_version").value
    (3, 1)
    """
    return exit_code(StockForecastError.by_code.get(code, StockForecastError)(""))


def hint(error: StockForecastError) -> str:
    """What to do about the error."""
    wait = "" if error.retry_after_s is None else f"wait {error.retry_after_s} s; "
    return wait + (_HINTS.get(error.code) or _FAMILY_HINTS[exit_code(error)])


def format_error(error: StockForecastError, *, remote: bool) -> str:
    """The error in one line, with the request id if a remote service has logged it."""
    request_id = error.context.get("request_id")
    logged_as = f" [request {request_id}]" if remote and request_id is not None else ""
    message = to_cli_terms(error.message) if error.code == "malformed_request" else error.message
    return sanitize(f"{error.code}: {message}{logged_as}")


def to_cli_terms(message: str) -> str:
    """The message with API field names replaced by command-line options.

    >>> to_cli_terms("start_date: 2199-01-01 is in the future")
    '--start: 2199-01-01 is in the future'
    >>> to_cli_terms("job_id: String should match pattern '^x$'")
    'job_id: expected an id such as 20261121t093000-1a2b3c4d'
    """
    for field, meaning in _FORMATS.items():
        message = re.sub(rf"\b({field}): String should match pattern '.*?'(?=;|$)", rf"\1: {meaning}", message)
    faults = message.removeprefix("body: ").split("; ")
    message = "; ".join([one for one in faults if _EMPTY not in one] or faults)
    names = "|".join(map(re.escape, _OPTIONS))
    return re.sub(rf"\b({names})\b(?:\.\d+)?", lambda found: _OPTIONS[found[1]], message)


def option_of(field: str) -> str:
    """The option of a field of the API.

    >>> option_of("start_date"), option_of("max_seconds")
    ('--start', '--max-seconds')
    """
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def sanitize(text: str) -> str:
    """The text on one line, without control characters that a terminal would obey.

    >>> sanitize("two" + chr(10) + "lines" + chr(27) + "[31m")
    'two lines [31m'
    """
    return "".join(sign if sign.isprintable() else " " for sign in text)
