import json
from pathlib import Path
from typing import Any

import pytest

from errors import ArtifactCorrupt, ArtifactTooNew
from models.checked import MAX_LOOKBACK, MAX_STEPS
from schemas.card import FORMAT_VERSION
from services.storage.cards import read_card, write_card
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from services.training.train import TrainedModel

FORMAT_1 = Path(__file__).parents[2] / "data" / "format_1"
MODEL_ID = "walk-20240719-00000001"


def format_1() -> dict[str, Any]:
    card: dict[str, Any] = json.loads((FORMAT_1 / "models" / MODEL_ID / "metadata.json").read_bytes())
    return card


def test_a_written_card_comes_back_equal(trained: TrainedModel) -> None:
    assert read_card(write_card(trained.card), "x") == trained.card


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"format_version":1}', b"[]", b"\xff\xfe"])
def test_what_is_not_a_card_is_corrupt(content: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match="'x' is not a model card"):
        read_card(content, "x")


def test_a_card_that_lacks_a_field_is_corrupt(trained: TrainedModel) -> None:
    for card in (trained.card.model_dump(mode="json"), format_1()):
        for field in ("lookback", "test", "series"):
            partial = {key: value for key, value in card.items() if key != field}
            with pytest.raises(ArtifactCorrupt):
                read_card(json.dumps(partial).encode(), "x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lookback": 1, "horizon": 1}, None),
        ({"lookback": MAX_LOOKBACK, "horizon": MAX_STEPS}, None),
        ({"lookback": 0}, "forecasts"),
        ({"lookback": MAX_LOOKBACK + 1}, "forecasts"),
        ({"horizon": 0}, "forecasts"),
        ({"horizon": MAX_STEPS + 1}, "forecasts"),
        ({"quantile_levels": (0.1, 0.5, 0.9)}, None),
        ({"quantile_levels": (0.5,)}, "quantile levels"),
        ({"quantile_levels": (0.1, 0.5)}, "quantile levels"),
        ({"quantile_levels": (0.1, 0.4, 0.5, 0.9)}, "quantile levels"),
        ({"quantile_levels": (0.1, 0.4, 0.9)}, "quantile levels"),
        ({"quantile_levels": (0.1, 0.1, 0.5, 0.8, 0.9)}, "quantile levels"),
        ({"quantile_levels": (0.0, 0.5, 0.9)}, "quantile levels"),
        ({"quantile_levels": (0.1, 0.5, 1.0)}, "quantile levels"),
    ],
)
def test_a_card_must_be_possible(trained: TrainedModel, change: dict[str, Any], reason: str | None) -> None:
    content = write_card(trained.card.model_copy(update=change))

    if reason is None:
        assert read_card(content, "x") == trained.card.model_copy(update=change)
        return
    with pytest.raises(ArtifactCorrupt, match=f"'x' is not a model card: .*{reason}"):
        read_card(content, "x")


def test_a_card_of_a_later_format_is_refused_by_name(trained: TrainedModel) -> None:
    later = trained.card.model_copy(update={"format_version": FORMAT_VERSION + 1})

    with pytest.raises(ArtifactTooNew, match=str(FORMAT_VERSION + 1)):
        read_card(write_card(later), "x")


def test_a_model_of_format_1_still_loads_and_its_evidence_is_that_of_one_step() -> None:
    registry = ModelRegistry(LocalArtifactStore(FORMAT_1))
    card = registry.card(MODEL_ID)

    tickers, report = card.evidence("WALK", 10)

    assert registry.load(card).horizon == 30
    assert (card.format_version, tickers, report.step, report.n_origins) == (FORMAT_VERSION, ("WALK",), 1, 56)
    assert (report.model.mape, report.model.crps, report.p_value.mape) == (0.00861386, None, None)
    assert [one.empirical_coverage for one in report.coverage][:2] == [0.5, 0.8393]
    assert [one.empirical_coverage for one in card.test_closes_only.coverage][:2] == [0.4107, 0.8214]
    assert card.train.coverage == ()
    assert card.series[0].test[0].coverage == report.coverage


def test_a_request_of_an_earlier_version_keeps_the_fields_that_are_still_known(trained: TrainedModel) -> None:
    card = trained.card.model_dump(mode="json")
    del card["request"]["promote_to"]
    card["request"] |= {"challenges": "default", "dropped_long_ago": 3}

    read = read_card(json.dumps(card).encode(), "x")

    assert read.request == trained.card.request.model_copy(update={"promote_to": "default"})


def test_a_card_of_format_1_without_its_seal_is_read_the_same() -> None:
    content = (FORMAT_1 / "models" / MODEL_ID / "metadata.json").read_bytes()
    unsealed = {key: value for key, value in format_1().items() if key != "sha256"}

    assert read_card(json.dumps(unsealed).encode(), "x") == read_card(content, "x")


def test_format_1_has_no_coverage_of_one_ticker_of_several_so_all_together_are_the_evidence() -> None:
    card = format_1()
    (series,) = card["series"]
    card["series"] = [series, {**series, "ticker": "OTHER", "test": None}]
    held_out = {"first_origin": "2011-01-03", "last_origin": "2011-02-01", "accuracy": card["test"]}
    skills = {"crps_skill": 0.02, "crps_skill_closes_only": 0.01}
    card["held_out"] = [{"ticker": "OUT", **held_out, **skills, "coverage": card["coverage"]}]

    read = read_card(json.dumps(card).encode(), "x")

    assert read.series[0].test[0].model == read.test[0].model
    assert read.series[1].test == ()
    assert read.evidence("WALK", 1) == (("WALK", "OTHER"), read.test[0])
    assert read.evidence("OUT", 5) == (("OUT",), read.held_out[0].test[0])
    assert read.held_out[0].crps_skill == 0.02
