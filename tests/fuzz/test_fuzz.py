"""A small part of ``python -m benchmarks.fuzz``, always the same."""

import pytest

from tests.fuzz.targets import TARGETS, Target, fuzz

QUICK = [target for target in TARGETS if target.name != "parameters"]  # to fit every kind of model takes seconds
INPUTS = {"request body": 1500, "stored document": 1000, "CSV file": 60, "card": 40}


@pytest.mark.filterwarnings("ignore")  # what a hostile input makes a library warn of is no fault
@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_every_mutated_input_is_refused_by_name_or_answered_rightly(target: Target) -> None:
    report = fuzz(target, INPUTS.get(target.name, 6), seed=1)

    assert report.faults == []
    assert report.refused
