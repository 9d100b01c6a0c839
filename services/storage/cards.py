"""Model cards as JSON, those of format 1 included."""

from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from errors import ArtifactCorrupt, ArtifactTooNew
from models.checked import MAX_LOOKBACK, MAX_STEPS
from schemas.card import FORMAT_VERSION, ModelCard
from schemas.train import TrainRequest
from services.storage.store import is_key

MAX_CARD_BYTES = 32_000_000  # that of a universe of thousands has a tenth
MAX_LEVELS = 1001
_OBJECT = TypeAdapter(dict[str, Any])
_UNKNOWN = {"mae": None, "mape": None, "rmse": None, "crps": None}


def write_card(card: ModelCard) -> bytes:
    return card.model_dump_json().encode()


def read_card(content: bytes, model_id: str) -> ModelCard:
    """The card in ``content``; ``model_id`` names it in errors.

    Raises:
        ArtifactCorrupt: the content is not a model card.
        ArtifactTooNew: ``format_version`` is above ours.
    """
    if len(content) > MAX_CARD_BYTES:
        raise ArtifactCorrupt(f"the card of {model_id!r} has {len(content)} bytes; the limit is {MAX_CARD_BYTES}")
    try:
        document = _OBJECT.validate_json(content)
        version = document.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArtifactTooNew(
                f"model {model_id!r} has format version {version}, this program reads {FORMAT_VERSION}"
            )
        current = _from_format_1(document) if version == 1 else document
        card = ModelCard.model_validate({**current, "request": _request(current["request"])})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(f"the card of {model_id!r} is not a model card") from error
    reason = _contradiction(card)
    if reason is not None:
        raise ArtifactCorrupt(f"the card of {model_id!r} is not a model card: {reason}")
    return card


def _contradiction(card: ModelCard) -> str | None:
    """What no card of ours has, though its types are right."""
    if card.format_version != FORMAT_VERSION:
        return f"its format version is {card.format_version}"
    if not (1 <= card.lookback <= MAX_LOOKBACK and 1 <= card.horizon <= MAX_STEPS):
        return f"it forecasts {card.horizon} steps from {card.lookback} sessions"
    if not _are_quantile_levels(card.quantile_levels):
        return "its quantile levels do not ascend from 0 to 1 around 0.5"
    if not any(series.split.test for series in card.series):
        return "it has no test part"
    if not any(report.coverage for report in card.test):
        return "its test has no coverage"
    if not all(is_key(name) and "/" not in name for name in card.files):
        return "a name of its files is not one"
    return None


def _are_quantile_levels(levels: tuple[float, ...]) -> bool:
    n = len(levels)
    if n % 2 == 0 or not 3 <= n <= MAX_LEVELS or levels[n // 2] != 0.5:
        return False
    return levels[0] > 0 and levels[-1] < 1 and all(low < high for low, high in pairwise(levels))


def _request(request: dict[str, Any]) -> dict[str, Any]:
    """The fields that a request has today; ``promote_to`` was ``challenges`` once."""
    named = {"promote_to": request.get("challenges"), **request}
    return {name: value for name, value in named.items() if name in TrainRequest.model_fields}


def _from_format_1(card: dict[str, Any]) -> dict[str, Any]:
    """Format 1 began with its own checksum, and measured accuracy at step 1 only and coverage of all tickers together.

    A ticker of several thus gets a report without coverage, which is no evidence; see ``ModelCard.evidence``.
    """
    coverage, static = _first_step(card["coverage"]), _first_step(card["static_coverage"])
    alone = coverage if len(card["series"]) == 1 else []
    dropped = ("sha256", "coverage", "static_coverage")
    return {
        **{key: value for key, value in card.items() if key not in dropped},
        "format_version": FORMAT_VERSION,
        "series": [
            {**one, "test": [_report(one["test"], alone)] if one["test"] is not None else []} for one in card["series"]
        ],
        "train": _report(card["train"], []),
        "test": [_report(card["test"], coverage)],
        "test_closes_only": _report(card["test"], static),
        "held_out": [_held_out(one) for one in card.get("held_out", [])],
    }


def _first_step(coverage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "level": one["level"],
            "empirical_coverage": one.get("empirical_coverage", one.get("reached")),
            "n_origins": one["n_origins"],
        }
        for one in coverage
        if one["step"] == 1
    ]


def _report(accuracy: dict[str, Any], coverage: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "step": 1,
        "n_origins": accuracy["n_origins"],
        "model": {**accuracy["model"], "crps": None},
        "persistence": {**accuracy["persistence"], "crps": None},
        "skill": {**_UNKNOWN, **(accuracy["skill"] or {})},
        "p_value": _UNKNOWN,
        "coverage": coverage,
    }


def _held_out(one: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in one.items() if key not in ("accuracy", "coverage")}
    return {
        **kept,
        "test": [_report(one["accuracy"], _first_step(one["coverage"]))],
        "crps_skill_p_value": None,
        "crps_skill_closes_only_p_value": None,
    }
