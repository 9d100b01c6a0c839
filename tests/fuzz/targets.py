"""What is fuzzed: each target turns one mutated input into a named error or checks the answer."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
from pydantic import BaseModel, ValidationError
from requests.adapters import BaseAdapter

from error_handlers import _field_problems
from errors import AppError
from models.base import QUANTILE_GRID
from models.fitting import NETWORK, PARAMETERS, FitBlocks, FitSettings
from models.specs import BASELINES, MODEL_SPECS
from schemas.alias import Alias, AliasRequest
from schemas.analysis import AnalysisRequest
from schemas.backtest import BacktestRequest
from schemas.batch import BatchRequest
from schemas.by_symbol import LiveRequest, PricesRequest, SymbolForecastRequest
from schemas.card import ModelCard
from schemas.challenge import ChallengerEvaluation
from schemas.fetch_data import FetchDataRequest
from schemas.job import CancelRequest, Claim, JobEnd, JobSpec, KeyUse, Progress
from schemas.predict import ForecastRequest, PredictRequest
from schemas.realised import ForecastRecord, SessionScores
from schemas.retrain import RetrainRequest
from schemas.train import TrainRequest
from services.forecasting.replays import Replay
from services.monitoring.realised import realised_accuracy
from services.prices.cleaning import clean_raw
from services.prices.csv import CsvSource
from services.prices.series import PriceSeries
from services.prices.yahoo import YahooSource
from services.storage.cards import read_card, write_card
from services.storage.documents import read_document
from services.storage.evaluations import evaluation_key, evaluation_page
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, file_report, model_key
from tests.fakes import InMemoryArtifactStore, random_walk
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_network, mutated_text
from tests.yahoo_server import Quotes, chart_payload

MODEL = Path(__file__).parents[1] / "data" / "format_1" / "models" / "walk-20240719-00000001"
COOKIES = TemporaryDirectory()  # until the process ends: yfinance keeps the first folder that it was given
NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
BARS, ENDS = random_walk(320), np.array([300, 319])
NAMED = (AppError, ValidationError)

Run = Callable[[random.Random], None]
"""Mutates one input and feeds it to the program; raises one of NAMED, or anything else where there is a fault."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        weight: its share of all inputs; slow ones get fewer.
        open: gives the function that runs one input, within a context that holds its resources.
    """

    name: str
    weight: float
    open: Callable[[], AbstractContextManager[Run]]


def check_prices(prices: Any) -> None:
    assert np.isfinite(prices).all(), "prices are not finite"
    assert (prices > 0).all(), "prices are not positive"
    assert (np.diff(prices, axis=-1) >= -1e-9 * prices[..., 1:]).all(), "quantiles cross"


def check_series(series: PriceSeries) -> None:
    assert (np.diff(series.sessions.astype("int64")) > 0).all(), "sessions do not ascend"
    close = series.close
    assert np.isfinite(close).all(), "a close is not finite"
    assert (close > 0).all(), "a close is not positive"


def check_json(document: BaseModel) -> None:
    json.dumps(document.model_dump(mode="json"), allow_nan=False)


@cache
def files() -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in MODEL.iterdir()}


@cache
def card() -> ModelCard:
    return read_card(files()[CARD], MODEL.name)


def serve(content: bytes, stored: Mapping[str, bytes]) -> None:
    """Store a model, list it, load it and forecast with it."""
    store = InMemoryArtifactStore()
    for name, data in {**stored, CARD: content}.items():
        store.put(model_key(MODEL.name, name), data)
    registry = ModelRegistry(store)
    served = registry.serve(MODEL.name)
    check_json(served.card)
    served.card.evidence("WALK", 5)
    check_prices(served.forecaster.predict_quantiles(BARS, ENDS).prices)


def sealed(stored: Mapping[str, bytes], **changes: object) -> bytes:
    reports = {name: file_report(content) for name, content in stored.items() if name != CARD}
    return write_card(card().model_copy(update={"files": reports, **changes}))


@contextmanager
def cards() -> Iterator[Run]:
    documents = [json.loads(files()[CARD]), json.loads(write_card(card()))]

    def run(rng: random.Random) -> None:
        content = mutated_json(rng.choice(documents), rng)
        if rng.random() < 0.9:  # without the model, which takes most of the time
            check_json(read_card(content, MODEL.name))
        else:
            serve(content, files())

    yield run


@contextmanager
def networks() -> Iterator[Run]:
    def run(rng: random.Random) -> None:
        stored = {**files(), NETWORK: mutated_network(files()[NETWORK], rng)}
        serve(sealed(stored), stored)

    yield run


@contextmanager
def calibrations() -> Iterator[Run]:
    scores = [step[:: max(len(step) // 20, 1)] for step in json.loads(files()[CALIBRATION])]

    def run(rng: random.Random) -> None:
        stored = {**files(), CALIBRATION: mutated_json(scores, rng)}
        serve(sealed(stored), stored)

    yield run


@contextmanager
def parameters() -> Iterator[Run]:
    block = FitBlocks(random_walk(400), range(250, 360), range(360, 400))
    bounds = FitSettings(lookback=60, horizon=30, max_epochs=1, patience=1, max_seconds=60, seed=0)
    sound = {
        kind: json.loads(spec.fit([block], bounds, lambda _: None).files[PARAMETERS])
        for kind, spec in BASELINES.items()
    }

    def run(rng: random.Random) -> None:
        kind = rng.choice(list(sound))
        forecaster = MODEL_SPECS[kind].load({PARAMETERS: mutated_json(sound[kind], rng)}, QUANTILE_GRID)
        check_prices(forecaster.predict_quantiles(BARS, ENDS).prices)

    yield run


CSV = (
    "Date,Open,High,Low,Close,Adj Close,Volume\n{}",
    "Data;Abertura;Máxima;Mínima;Fechamento;Volume\n{}",
)


@contextmanager
def csv_files() -> Iterator[Run]:
    rows = [(f"2024-06-{day:02d}", 10 + day / 7) for day in range(3, 29)]
    english = "\n".join(f"{day},{p:.2f},{p + 1:.2f},{p - 1:.2f},{p:.2f},{p:.2f},1000" for day, p in rows)
    brazilian = "\n".join(
        ";".join(
            (f"{day[8:]}/{day[5:7]}/{day[:4]}", *(f"{q:.2f}".replace(".", ",") for q in (p, p + 1, p - 1, p)), "1.000")
        )
        for day, p in rows
    )
    texts = (CSV[0].format(english), CSV[1].format(brazilian))
    with TemporaryDirectory() as folder:
        path = Path(folder, "PETR4.SA.csv")

        def run(rng: random.Random) -> None:
            path.write_bytes(mutated_text(rng.choice(texts), rng))
            check_series(CsvSource(Path(folder)).history("PETR4.SA", NOW).series)

        yield run


class _Canned(BaseAdapter):
    """Answers every request with the same content."""

    content = b""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, str(request.url)
        response._content = self.content
        return response

    def close(self) -> None:
        pass


@contextmanager
def yahoo_answers() -> Iterator[Run]:
    days = [date(2024, 6, day) for day in (3, 4, 5, 6, 7, 10, 11, 12, 13, 14)]
    quotes = Quotes(days, [100.0 + k for k in range(10)], dividends={days[3]: 0.5}, splits={days[5]: (2, 1)})
    sound = chart_payload("AAPL", quotes, 0, 2**33)
    adapter, session = _Canned(), requests.Session()
    session.trust_env = False
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    source = YahooSource(Path(COOKIES.name), 1.0, attempts=1, session=session, backoff_s=0.0)

    def run(rng: random.Random) -> None:
        adapter.content = mutated_json(sound, rng)
        series, _ = clean_raw("AAPL", source.fetch("AAPL", None, NOW))
        check_series(series)

    yield run


REQUESTS: tuple[tuple[type[BaseModel], dict[str, Any]], ...] = (
    (AliasRequest, {"model_id": "gspc-20261121-1a2b3c4d"}),
    (AnalysisRequest, {}),
    (BacktestRequest, {"ticker": "^GSPC", "horizon": 5, "levels": [0.8, 0.95], "stride": 1, "start": "2020-01-01"}),
    (BatchRequest, {"symbols": ["^GSPC", "AAPL"], "days": 5, "levels": [0.8]}),
    (LiveRequest, {"symbol": "^GSPC", "levels": [0.8], "model_id": "default"}),
    (SymbolForecastRequest, {"symbol": "^GSPC", "days": 5, "levels": [0.8, 0.95]}),
    (PricesRequest, {"prices": [100.0 + k % 7 for k in range(60)], "levels": [0.8]}),
    (PredictRequest, {"ticker": "^GSPC", "levels": [0.8, 0.95], "as_of": "2020-01-02"}),
    (ForecastRequest, {"ticker": "^GSPC", "levels": [0.8, 0.95], "horizon": 10}),
    (FetchDataRequest, {"ticker": "^GSPC", "start_date": "2020-01-01", "end_date": "2020-02-01"}),
    (RetrainRequest, {"ticker": "^GSPC", "alias": "default"}),
    (
        TrainRequest,
        {"tickers": ["A", "B"], "model": "ewma", "start_date": "2020-01-01", "epochs": 5, "seed": 1, "train_size": 0.8},
    ),
)


@contextmanager
def request_bodies() -> Iterator[Run]:
    def run(rng: random.Random) -> None:
        kind, sound = rng.choice(REQUESTS)
        try:
            check_json(kind.model_validate_json(mutated_json(sound, rng)))
        except ValidationError as error:
            json.dumps([one.model_dump() for one in _field_problems(error.errors())], allow_nan=False)
            raise

    yield run


AT, DAY, MODEL_ID, JOB_ID = "2024-07-18T21:00:00Z", "2024-07-18", MODEL.name, "20240718t210000-1a2b3c4d"
STEP = {"step": 1, "session": "2024-07-19", "median": 10.0, "lower": [9.0], "upper": [11.0], "quantiles": [10.0] * 99}
RECORD = {
    "ticker": "WALK", "exchange": "XNYS", "model_id": MODEL_ID, "model": "return_lstm", "target_column": "Close",
    "origin": DAY, "made_at": AT, "last": 10.0, "levels": [0.8], "steps": [STEP],
}  # fmt: skip
PAIR = {
    "model_id": MODEL_ID, "model": "return_lstm", "origin": "2024-07-17", "step": 1, "made_at": AT, "last": 10.0,
    "actual": 10.5, "median": 10.0, "levels": [0.8, 0.95], "lower": [9.0, 8.0], "upper": [11.0, 12.0], "crps": 0.1,
    "persistence_crps": 0.2, "pit": 0.7,
}  # fmt: skip
EVALUATION = {
    "alias": "default", "job_id": JOB_ID, "champion_id": MODEL_ID, "challenger_id": MODEL_ID, "tickers": ["WALK"],
    "horizon": 5, "n_origins": 100, "gain": 0.01, "p_value": 0.001, "won": True, "reason": "better", "at": AT,
}  # fmt: skip
ALIAS = {
    "alias": "default", "model_id": MODEL_ID, "previous_model_id": None, "moved_at": AT,
    "earlier": [{"model_id": MODEL_ID, "moved_at": AT, "evidence": None}],
}  # fmt: skip
TRAINING = {"ticker": "WALK", "epochs": 2}
ERROR = {"code": "not_found", "status": 404, "detail": "no", "retry_after_s": 3, "context": {"needed": 3}}
JOB = f"jobs/{JOB_ID}"
SCORES = {"ticker": "WALK", "session": DAY, "scored_at": AT, "pairs": [PAIR] * 3}
SPEC = {"id": JOB_ID, "created_at": AT, "claim_deadline": AT, "model_id": MODEL_ID, "request": TRAINING}
PROGRESS = {"at": AT, "epoch": 1, "max_epochs": 2, "validation_losses": [0.1], "share": 0.5, "estimated_end": AT}
KEY_USE = {"job_id": JOB_ID, "created_at": AT, "model_id": MODEL_ID, "request_sha256": "0"}
REPLAY = {
    "ticker": "WALK", "model_id": MODEL_ID, "session": DAY, "sha256": "0", "log_factors": [[0.1] * 12] * 3,
    "width": {"usual_move": 0.01, "market": None, "calibration": 0.1},
}  # fmt: skip
DOCUMENTS: tuple[tuple[type[BaseModel], str, dict[str, Any]], ...] = (
    (Alias, "aliases/default.json", ALIAS),
    (ChallengerEvaluation, evaluation_key("default", JOB_ID), EVALUATION),
    (ForecastRecord, f"forecasts/WALK/{MODEL_ID}/{DAY}_01_2024-07-19.json", RECORD),
    (SessionScores, f"scores/WALK/{DAY}.json", SCORES),
    (JobSpec, f"{JOB}/spec.json", SPEC),
    (Claim, f"{JOB}/claim.json", {"worker": "w", "claimed_at": AT}),
    (CancelRequest, f"{JOB}/cancel.json", {"requested_at": AT}),
    (Progress, f"{JOB}/progress.json", PROGRESS),
    (JobEnd, f"{JOB}/end.json", {"state": "failed", "at": AT, "error": ERROR}),
    (KeyUse, "idempotency/00.json", KEY_USE),
    (Replay, f"replays/{MODEL_ID}/WALK.json", REPLAY),
)


@contextmanager
def documents() -> Iterator[Run]:
    def run(rng: random.Random) -> None:
        kind, key, sound = rng.choice(DOCUMENTS)
        store = InMemoryArtifactStore()
        store.put(key, mutated_json(sound, rng))
        if kind is Alias:
            ModelRegistry(store).aliases()
        if kind is ChallengerEvaluation:
            check_json(evaluation_page(store, "default", 10, None))
        if kind is SessionScores:
            check_json(realised_accuracy(store, NOW, 30, None, None))
        check_json(read_document(store, key, kind))

    yield run


@contextmanager
def damaged_bytes() -> Iterator[Run]:
    """Every file of a model, damaged without regard to what is in it."""

    def run(rng: random.Random) -> None:
        name = rng.choice((CARD, CALIBRATION))
        content = mutated_bytes(files()[name], rng)
        if name == CARD:
            read_card(content, MODEL.name)
        else:
            stored = {**files(), name: content}
            serve(sealed(stored), stored)

    yield run


TARGETS = (
    Target("card", 0.06, cards),
    Target("network", 0.005, networks),
    Target("calibration", 0.005, calibrations),
    Target("parameters", 0.01, parameters),
    Target("CSV file", 0.05, csv_files),
    Target("Yahoo's answer", 0.005, yahoo_answers),
    Target("request body", 0.5, request_bodies),
    Target("stored document", 0.36, documents),
    Target("damaged bytes", 0.005, damaged_bytes),
)


@dataclass
class Report:
    """What became of the inputs of one target."""

    answered: int = 0
    refused: int = 0
    faults: list[tuple[int, Exception]] = field(default_factory=list)


def fuzz(target: Target, inputs: int, seed: int) -> Report:
    """Run ``inputs`` mutations, each from its own seed, so that a fault can be repeated alone."""
    report = Report()
    with target.open() as run:
        for number in range(inputs):
            try:
                with np.errstate(all="ignore"):
                    run(random.Random(f"{seed} {target.name} {number}"))  # noqa: S311 - no secret
                report.answered += 1
            except NAMED:
                report.refused += 1
            except Exception as error:  # noqa: BLE001 - what fuzzing looks for
                report.faults.append((number, error))
    return report
