"""Train the bundled model, which serves every ticker, on a universe of prices.

python -m tools.default_model FOLDER                    fit, calibrate and test on the TICKER.csv files in FOLDER
python -m tools.default_model FOLDER --held-out DIR     and measure it on later sessions of the TICKER.csv files in DIR

The card names the tickers, dates and fingerprints of the prices, and holds the accuracy on sessions that the model was
not made with; no one else needs those prices.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time
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
from services.prices.market import MarketAwareSource
from services.prices.series import PriceHistory, PriceSource, to_date
from services.storage.cards import write_card
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, calibration_from_json
from services.storage.store import LocalArtifactStore
from services.training.train import REPORTED_LEVELS, TrainedModel, train_model
from services.training.universe import Universe

NAME = "bundled"
TRAIN_SIZE = 0.97  # of a universe, the last 3 % of the windows are half a year of every ticker


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("universe", type=Path, help="folder of TICKER.csv files, with the exchanges' indices")
    parser.add_argument("--held-out", type=Path, help="folder of TICKER.csv files that reach beyond the universe's")
    parser.add_argument("--into", type=Path, default=BUNDLED, help="folder to write to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    model = train_bundled(Universe.in_folder(arguments.universe), arguments.into)
    held_out = tuple(_held_out(model, arguments.held_out)) if arguments.held_out else ()
    write(model, held_out, arguments.into)
    for one in held_out:
        p, p_closes = one.crps_skill_p_value, one.crps_skill_closes_only_p_value
        print(f"{one.ticker:9} CRPS skill {one.crps_skill:.2%} (p = {p}), ", end="")
        print(f"on closes alone {one.crps_skill_closes_only:.2%} (p = {p_closes})")


def train_bundled(universe: Universe, folder: Path) -> TrainedModel:
    """The model of a universe, dated by its newest price, so that the same prices give the same bytes."""
    now = datetime.now(UTC)
    newest = max(universe.prices.history(ticker, now).as_of for ticker in universe.tickers)
    created_at = datetime.combine(newest, time.min, UTC)
    request = TrainRequest(universe=NAME, train_size=TRAIN_SIZE)
    registry = ModelRegistry(LocalArtifactStore(folder / "unused"))
    model_id = f"{NAME}-{newest:%Y%m%d}-00000001"
    named = replace(universe, name=NAME)
    model = train_model(request, named.prices, registry, model_id, now, on_epoch=print, universe=named)
    return replace(model, card=model.card.model_copy(update={"created_at": created_at}))


def write(model: TrainedModel, held_out: tuple[HeldOut, ...], folder: Path) -> None:
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
    source: PriceSource = MarketAwareSource(CsvSource(folder))
    for path in sorted(folder.glob("*.csv")):
        if not path.stem.startswith("^"):
            yield _measured(forecaster, source.history(path.stem, datetime.now(UTC)), model.card)


def _measured(forecaster: ServedForecaster, history: PriceHistory, card: ModelCard) -> HeldOut:
    """Accuracy on the sessions after the newest that the model was made with."""
    series = history.series
    first = int(np.searchsorted(series.sessions, np.datetime64(card.last_session), side="right"))
    config = BacktestConfig(np.arange(first, len(series) - 1), forecaster.horizon, REPORTED_LEVELS)
    found = walk_forward(lambda _: forecaster, history.inputs, config)
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
