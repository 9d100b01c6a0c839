"""What an error becomes in a terminal: one line, a hint and an exit code."""

import re
from enum import IntEnum

from pydantic import ValidationError

from client import RefusedByService
from errors import AppError, ArtifactInvalid
from schemas.alias import ALIAS_PATTERN
from schemas.common import MODEL_ID_PATTERN
from schemas.job import JOB_ID_PATTERN


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
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    413: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.TOO_MANY,
    501: Exit.NOT_INSTALLED,
    503: Exit.UNAVAILABLE,
}

_HINTS = {
    "ticker_not_found": "check the symbol on Yahoo Finance; PRICE_SOURCE=sample has ^GSPC and ^IXIC",
    "unknown_exchange": "use a ticker of a known exchange, such as PETR4.SA or ^GSPC",
    "model_not_found": "see `models list` and `models aliases`",
    "job_not_found": "see `jobs list`",
    "not_found": "this version of the service has no such route",
    "insufficient_history": "widen the dates (`fetch` shows the newest); `train` takes a shorter --sequence-length too",
    "address_not_free": "choose another with --port, or end what listens there",
    "model_in_use": "move the alias to another model first, see `models alias`",
    "job_already_finished": "see `jobs show`",
    "job_not_retryable": "see `jobs show`; only what failed, was cancelled or lost can be done again",
    "job_cancelled": "do it again with `jobs retry`",
    "job_lost": "do it again with `jobs retry`",
    "artifact_corrupt": "restore the file, or delete the model and train again",
    "artifact_too_new": "upgrade this program",
    "prices_rate_limited": "wait, or try PRICE_SOURCE=sample",
    "prices_unreachable": "check the network, or try PRICE_SOURCE=sample",
    "store_unavailable": "check DATA_DIR or the bucket: permission and space",
    "service_unreachable": "check --url, and that `serve` runs there",
    "service_timed_out": "it may be busy; try again later",
    "internal": "run again with --verbose, or look into the service's log",
}
_OPTIONS = {
    "start_date": "--start",
    "end_date": "--end",
    "base_model_id": "--base",
    "levels": "--level",
    "as_of": "--as-of",
    "sequence_length": "--sequence-length",
    "refit_every": "--refit-every",
}
"""What fields of the API are called on the command line, where the names differ."""

_WORDED = {
    MODEL_ID_PATTERN: "an id has lower-case letters and digits, with hyphens between",
    ALIAS_PATTERN: "an alias has lower-case letters, with hyphens between",
    JOB_ID_PATTERN: "the id of a job is such as 20261121t093000-1a2b3c4d",
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


def exit_code(error: AppError) -> Exit:
    """The exit code of an error's family.

    >>> from errors import ModelInUse
    >>> exit_code(ModelInUse("it has an alias")).value
    4
    """
    if isinstance(error, ArtifactInvalid):
        return Exit.ARTIFACT_INVALID
    status = error.context.get("status") if isinstance(error, RefusedByService) else error.status_code
    return _BY_STATUS.get(int(status or 0), Exit.FAILED)


def exit_code_of(code: str) -> Exit:
    """The exit code of an error that an answer tells by its code alone.

    >>> exit_code_of("ticker_not_found").value, exit_code_of("of_a_later_version").value
    (3, 1)
    """
    error = AppError.restored(code, "")
    return Exit.FAILED if error is None else exit_code(error)


def hint(error: AppError) -> str:
    """What to do about it."""
    wait = "" if error.retry_after_s is None else f"wait {error.retry_after_s} s; "
    return wait + (_HINTS.get(error.code) or _FAMILY_HINTS[exit_code(error)])


def format_error(error: AppError, *, elsewhere: bool) -> str:
    """One line: the code, what happened, and, where a service has logged it elsewhere, under which id."""
    request_id = error.context.get("request_id")
    where = "" if request_id is None or not elsewhere else f" [request {request_id}]"
    message = to_cli_terms(error.message) if error.code == "malformed_request" else error.message
    return sanitize(f"{error.code}: {message}{where}")


def fields_at_fault(error: ValidationError) -> str:
    """Which arguments or settings are wrong, without their values: one may be a key.

    Of a list that is too short for the fault of its item, only the item is told.

    >>> from schemas.predict import ForecastRequest
    >>> try: ForecastRequest(horizon=99)
    ... except ValidationError as error: print(fields_at_fault(error))
    horizon: Input should be less than or equal to 30
    """
    faults = []
    found = error.errors(include_url=False, include_input=False)
    inside = {fault["loc"][:1] for fault in found if len(fault["loc"]) > 1}
    for fault in found:
        if fault["type"] == "too_short" and fault["loc"] in inside:
            continue
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(": ".join([*([".".join(map(str, fault["loc"]))] if fault["loc"] else []), message]))
    return sanitize("; ".join(faults))


def to_cli_terms(message: str) -> str:
    """What the API says of its fields, in the words of the command line.

    >>> to_cli_terms("body.start_date: 2199-01-01 is in the future")
    '--start: 2199-01-01 is in the future'
    >>> to_cli_terms(f"path.job_id: String should match pattern '{JOB_ID_PATTERN}'")
    'job_id: the id of a job is such as 20261121t093000-1a2b3c4d'
    """
    for pattern, meaning in _WORDED.items():
        message = message.replace(f"String should match pattern '{pattern}'", meaning)
    message = re.sub(r"\b(?:body|path|query)\.(?=\w+)", "", message)
    names = "|".join(_OPTIONS)
    return re.sub(rf"\b({names})\b(?:\.\d+)?", lambda found: _OPTIONS[found[1]], message)


def sanitize(text: str) -> str:
    """The text on one line, without what could steer a terminal.

    >>> sanitize("two" + chr(10) + "lines" + chr(27) + "[31m")
    'two lines [31m'
    """
    return "".join(sign if sign.isprintable() else " " for sign in text)
