"""Train the bundled model from the sample prices that every installation has.

python -m tools.default_model                        fit on ^GSPC and ^IXIC of the sample, 1999 to 2018
python -m tools.default_model --held-out DIR         and measure it on the TICKER.csv files in DIR

The card holds the accuracy on tickers the model was not fitted on; no one else needs their prices.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from config import BUNDLED
from models.base import CLOSE, closes_only
from models.baselines.rolling_empirical import RollingEmpirical
from models.conformal import ServedForecaster
from models.serving import served
from models.specs import MODEL_SPECS
from schemas.card import HeldOut, ModelCard
from schemas.train import TrainRequest
from services.evaluation.accuracy import mean
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.scorer import card_reports, significant
from services.evaluation.significance import p_value
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSeries, to_date
from services.storage.cards import write_card
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, calibration_from_json
from services.storage.store import LocalArtifactStore
from services.training.train import REPORTED_LEVELS, TrainedModel, train_model

MODEL_ID = "bundled-20181231-00000001"
CREATED_AT = datetime(2018, 12, 31, tzinfo=UTC)  # of its newest price: the same run gives the same bytes
REQUEST = TrainRequest(tickers=("^GSPC", "^IXIC"), start_date=date(1999, 1, 1), train_size=0.9, max_seconds=600)
TEST_SHARE = 0.15


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=Path, help="folder of TICKER.csv files")
    parser.add_argument("--into", type=Path, default=BUNDLED, help="folder to write to")
    arguments = parser.parse_args()
    registry = ModelRegistry(LocalArtifactStore(arguments.into / "unused"))
    model = train_model(REQUEST, SampleSource(), registry, MODEL_ID, CREATED_AT, on_epoch=print)
    held_out = tuple(_held_out(model, arguments.held_out)) if arguments.held_out else ()
    _write(model, held_out, arguments.into)
    for one in held_out:
        p, p_closes = one.crps_skill_p_value, one.crps_skill_closes_only_p_value
        print(f"{one.ticker:9} CRPS skill {one.crps_skill:.2%} (p = {p}), ", end="")
        print(f"on closes alone {one.crps_skill_closes_only:.2%} (p = {p_closes})")


def _write(model: TrainedModel, held_out: tuple[HeldOut, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    training = model.card.training.model_copy(update={"seconds": 0.0})  # the only figure that differs between runs
    card: ModelCard = model.card.model_copy(update={"held_out": held_out, "training": training})
    for name, content in {**model.files, CARD: write_card(card)}.items():
        (folder / name).write_bytes(content)
        print(f"{len(content):8} bytes {name}")


def _held_out(model: TrainedModel, folder: Path) -> Iterator[HeldOut]:
    spec = MODEL_SPECS[model.card.model]
    forecaster = served(
        spec.load(model.files, model.card.quantile_levels),
        calibration_from_json(model.files[CALIBRATION]),
        model.card.calibration,
    )
    source = CsvSource(folder)
    for path in sorted(folder.glob("*.csv")):
        yield _measured(forecaster, source.history(path.stem, datetime.now(UTC)).series)


def _measured(forecaster: ServedForecaster, series: PriceSeries) -> HeldOut:
    first = round(len(series) * (1 - TEST_SHARE)) - 1
    config = BacktestConfig(np.arange(first, len(series) - 1), forecaster.horizon, REPORTED_LEVELS)
    found = walk_forward(lambda _: forecaster, series.bars, config)
    one_step = replace(config, horizon=1)
    closes = walk_forward(lambda _: forecaster, closes_only(series.bars[:, CLOSE]), one_step)
    empirical = RollingEmpirical(horizon=1)
    reference = walk_forward(lambda _: empirical, series.bars, one_step)
    skill, p = _crps_skill(found, reference)
    skill_closes_only, p_closes_only = _crps_skill(closes, reference)
    return HeldOut(
        ticker=series.ticker,
        first_origin=to_date(series.sessions[first]),
        last_origin=to_date(series.sessions[-2]),
        test=card_reports(found, REPORTED_LEVELS),
        crps_skill=skill,
        crps_skill_p_value=p,
        crps_skill_closes_only=skill_closes_only,
        crps_skill_closes_only_p_value=p_closes_only,
    )


def _crps_skill(found: BacktestForecasts, reference: BacktestForecasts) -> tuple[float, float | None]:
    """One step ahead, with its p-value."""
    own, theirs = found.crps_log[:, :1], reference.crps_log
    p = p_value(own, theirs, overlap=1)
    return significant(1 - mean(own) / mean(theirs)), None if p is None else significant(p)


if __name__ == "__main__":
    main()
