"""Train the model that comes with the program, from prices every installation has.

python -m tools.default_model                        fit on ^GSPC and ^IXIC of the sample, 1999 to 2018
python -m tools.default_model --held-out DIR         and measure it on the TICKER.csv files in DIR

The card tells what it is worth on tickers it was not fitted on: their figures
are part of it, their prices are not needed by anybody else.
"""

import argparse
from collections.abc import Iterator
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
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.reports import REPORTED_LEVELS, Outcomes, accuracy_report, coverage_report, significant
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSeries, to_date
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, calibration_from_json
from services.storage.sealing import seal
from services.storage.store import LocalArtifactStore
from services.training.train import TrainedModel, train_model

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
        print(f"{one.ticker:9} CRPS skill {one.crps_skill:.2%}, on closes alone {one.crps_skill_closes_only:.2%}")


def _write(model: TrainedModel, held_out: tuple[HeldOut, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    training = model.card.training.model_copy(update={"seconds": 0.0})  # the only figure that differs between runs
    card: ModelCard = model.card.model_copy(update={"held_out": held_out, "training": training})
    for name, content in {**model.files, CARD: seal(card)}.items():
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
    plan = BacktestConfig(np.arange(first, len(series) - 1), 1, REPORTED_LEVELS, (0.5,), stride=1)
    track = walk_forward(lambda _: forecaster, series.bars, plan)
    closes = walk_forward(lambda _: forecaster, closes_only(series.bars[:, CLOSE]), plan)
    empirical = RollingEmpirical(horizon=1)
    reference = walk_forward(lambda _: empirical, series.bars, plan)
    found = Outcomes(track.last, track.actual, track.median, track.lower, track.upper)
    return HeldOut(
        ticker=series.ticker,
        first_origin=to_date(series.sessions[first]),
        last_origin=to_date(series.sessions[-2]),
        accuracy=accuracy_report(found),
        coverage=coverage_report(found),
        crps_skill=_crps_skill(track, reference),
        crps_skill_closes_only=_crps_skill(closes, reference),
    )


def _crps_skill(track: BacktestForecasts, reference: BacktestForecasts) -> float:
    return significant(1 - float(np.nanmean(track.crps_log) / np.nanmean(reference.crps_log)))


if __name__ == "__main__":
    main()
