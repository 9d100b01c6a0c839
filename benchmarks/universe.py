"""The evidence for one model of every ticker: its accuracy on tickers and years that it has not seen.

.venv/bin/python -m benchmarks.universe                      prices in ../shared/data, if they are there
.venv/bin/python -m benchmarks.universe --universe FOLDER    TICKER.csv files, with ^GSPC, ^VIX and ^BVSP
.venv/bin/python -m benchmarks.universe --quick              few tickers and epochs: only shows that it works

The American tickers are split in two halves by turns in alphabetical order. Models of several tickers are fitted to
one half on sessions before 2015, stopped and calibrated on those of 2015 and 2016, and tested on the other half and
on Brazilian shares from every session of 2017 on. Models of one ticker are fitted to that ticker's sessions before
2017. Skill is 1 − Σ CRPS / Σ CRPS of the last 250 sessions' own distribution, of the log return, over all tickers and
origins. Standard errors (±) and 95 % intervals are those of a bootstrap over blocks of 20 sessions.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.universe_prices import read_universe
from benchmarks.universe_scores import (
    LEVELS,
    STEPS,
    Bootstrap,
    Estimate,
    Row,
    Scores,
    coverages,
    differences,
    share_better,
    skills,
    years_of,
)
from errors import NotFittable
from models.base import N_COLUMNS, N_INPUTS, Forecaster, Origins
from models.conformal import ServedForecaster
from models.fitting import NETWORK, WEIGHTS, FitBlocks, FitSettings, FittedModel
from models.serving import calibrated, served
from models.specs import MODEL_SPECS
from schemas.train import TrainRequest
from services.evaluation.splits import split_train
from services.prices.series import PriceHistory
from services.training.train import DEFAULT_SESSIONS, fit_settings

MIN_KNOWN = 400  # sessions before the test: what every model of one ticker can be fitted to
MIN_TESTED = 100  # sessions of the test
MB = 1024  # kilobytes, in which Linux counts peak memory

REFERENCE = "rolling_empirical"
OWN_REGRESSION = "volatility regression, per ticker"
POOLED = ("volatility_regression", "gradient_boosting")
SERVED = "universal network, as served"
STATIC = "universal network, static"
SCRATCH = "network from scratch, per ticker"
WITHOUT_LSTM = "universal network, LSTM off"
CRASH = 2020
STEP_COLUMNS = tuple(f"step {step}" for step in STEPS)
STARTS = 5  # a test from one session in five can start on each of the first five

Histories = Mapping[str, PriceHistory]
Predict = Callable[[str], tuple[Forecaster, int]]
"""From a ticker to its forecaster, and the number of columns of its bars that the forecaster may read."""


@dataclass(frozen=True)
class Design:
    """What is fitted on which sessions, and what is tested.

    Attributes:
        stop_from: first session that stops and calibrates models of several tickers.
        test_from: first origin of the test.
        first_session: older ones are left out.
        stride: sessions between origins.
        tickers: at most so many of each exchange.
        tickers_trained: of the test half, on which networks of one ticker are trained.
        epochs, max_seconds: limits of each fit.
    """

    stop_from: date = date(2015, 1, 1)
    test_from: date = date(2017, 1, 1)
    first_session: date = date(1900, 1, 1)
    stride: int = 1
    tickers: int | None = None
    tickers_trained: int = 3
    epochs: int = 50
    max_seconds: float = 3600.0

    @property
    def bootstrap(self) -> Bootstrap:
        """Blocks of 20 sessions, as long as the longest step scored."""
        return Bootstrap(block=max(1, max(STEPS) // self.stride))


QUICK = Design(first_session=date(2012, 1, 1), stride=25, tickers=4, tickers_trained=1, epochs=1, max_seconds=10.0)


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    design = QUICK if chosen.quick else replace(Design(), tickers_trained=chosen.tickers_trained)
    universe = read_universe(chosen.universe)
    us, b3 = (_usable(histories, design) for histories in (universe.us, universe.b3))
    us = _first(us, design.tickers)
    training, unseen = dict(list(us.items())[::2]), dict(list(us.items())[1::2])
    for part in _parts(design, training, unseen, _first(b3, design.tickers), walk_forward_b3=chosen.walk_forward_b3):
        print(part, end="\n\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universe", type=Path, help="folder of TICKER.csv files, with the indices of the exchanges")
    parser.add_argument("--tickers-trained", type=int, default=3, help="tickers on which networks of one are trained")
    parser.add_argument(
        "--walk-forward-b3", action="store_true", help="also train on Brazilian shares before 2018, test from 2019 on"
    )
    parser.add_argument("--quick", action="store_true", help="few tickers and epochs")
    return parser


def _parts(
    design: Design, training: Histories, unseen: Histories, b3: Histories, *, walk_forward_b3: bool
) -> Iterator[str]:
    """The sections of the report, each as soon as it is measured."""
    network = _fit_universal(training, design)
    yield _training_report(network, len(training))
    pooled = {name: _fit_pooled(name, training, design) for name in POOLED}

    american = _rows(_Tested.of(unseen, design), network, pooled)
    yield _skill_report(f"Skill on {len(american[REFERENCE])} American tickers of the other half", american, design)
    yield _lstm_report(american, design)
    yield _starts_report(american, design)
    by_exchange = {"US": american}
    if b3:
        by_exchange["B3"] = _rows(_Tested.of(b3, design), network, pooled)
        title = f"Skill on {len(by_exchange['B3'][REFERENCE])} Brazilian shares, from models of the American half"
        yield _skill_report(title, by_exchange["B3"], design)

    sample = _evenly([*american[REFERENCE]], design.tickers_trained)
    own = _rows_of_one_ticker(_Tested.of(unseen, design).only(sample), network) if sample else {}
    if own:
        same = {
            name: {ticker: american[name][ticker] for ticker in sample} for name in (REFERENCE, OWN_REGRESSION, SERVED)
        }
        yield _skill_report(
            f"Skill on some of these American tickers ({len(sample)}), with networks trained on each",
            {**same, **own},
            design,
        )

    yield _coverage_report(by_exchange, design)
    yield _share_report(american, own)
    if walk_forward_b3 and b3:
        yield _walk_forward_report(training, b3, by_exchange["B3"], design)


# Data


def _usable(histories: Histories, design: Design) -> dict[str, PriceHistory]:
    """Those with enough sessions before and in the test."""
    found = {}
    for ticker, history in histories.items():
        recent = history.between(design.first_session, None)
        n_known = _row(recent, design.test_from)
        if n_known >= MIN_KNOWN and len(recent.series) - n_known >= MIN_TESTED:
            found[ticker] = recent
    return found


def _first(histories: Histories, count: int | None) -> dict[str, PriceHistory]:
    return dict(list(histories.items())[:count])


def _evenly(tickers: Sequence[str], count: int) -> tuple[str, ...]:
    rows = np.unique(np.linspace(0, len(tickers) - 1, min(count, len(tickers))).astype(int))
    return tuple(tickers[row] for row in rows.tolist())


def _row(history: PriceHistory, session: date) -> int:
    """The row of the first session not before this date."""
    return int(np.searchsorted(history.series.sessions, np.datetime64(session)))


@dataclass(frozen=True, eq=False)
class _Tested:
    """Tickers with the rows of their origins, which lie on the same dates: one in ``stride`` of all that any has."""

    design: Design
    histories: Histories
    origins: Mapping[str, Origins]

    @classmethod
    def of(cls, histories: Histories, design: Design) -> "_Tested":
        sessions = np.unique(np.concatenate([one.series.sessions for one in histories.values()]))
        dates = sessions[sessions >= np.datetime64(design.test_from)][:: design.stride]
        rows = {ticker: np.flatnonzero(np.isin(one.series.sessions, dates)) for ticker, one in histories.items()}
        return cls(design, histories, rows)

    def since(self, later: Design) -> "_Tested":
        """The same dates from the test of a later design on, without the tickers that end before."""
        first = {ticker: _row(one, later.test_from) for ticker, one in self.histories.items()}
        rows = {ticker: rows[rows >= first[ticker]] for ticker, rows in self.origins.items()}
        histories = {ticker: one for ticker, one in self.histories.items() if rows[ticker].size}
        return _Tested(later, histories, rows)

    def only(self, tickers: Iterable[str]) -> "_Tested":
        return replace(self, histories={ticker: self.histories[ticker] for ticker in tickers})


# Models


@dataclass(frozen=True, eq=False)
class Universal:
    """The network of the training half.

    Attributes:
        fitted: its files.
        served: calibrated on the sessions that stopped the fit; adaptive, as the application serves it.
        without_lstm: the same, with every correction of the LSTMs bound to zero.
        n_windows: windows that it was trained on.
        seconds, peak_mb: of the fit; the memory is that of the process, prices included.
    """

    fitted: FittedModel
    served: ServedForecaster
    without_lstm: ServedForecaster
    n_windows: int
    seconds: float
    peak_mb: float


def _settings(design: Design, model: str, start: bytes | None = None) -> FitSettings:
    asked = TrainRequest.model_validate({"ticker": "X", "model": model})
    settings = fit_settings(asked, MODEL_SPECS[model].lookback or asked.sequence_length, start)
    return replace(settings, max_epochs=design.epochs, max_seconds=design.max_seconds)


def _fit_universal(histories: Histories, design: Design) -> Universal:
    spec, settings = MODEL_SPECS["return_lstm"], _settings(design, "return_lstm")
    blocks = [_blocks(one, settings.lookback, design) for one in histories.values()]
    started = time.perf_counter()
    fitted = spec.fit(blocks, settings, lambda epoch: _log(f"epoch {epoch.number}: {epoch.validation_loss:.5f}"))
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    calibration = [(one.bars, one.early_stopping) for one in blocks]
    bound_to_zero = replace(fitted, files={**fitted.files, NETWORK: _without_lstm(fitted.files[WEIGHTS])})
    return Universal(
        fitted,
        calibrated(spec, fitted, calibration, "adaptive"),
        calibrated(spec, bound_to_zero, calibration, "adaptive"),
        sum(len(one.fit) for one in blocks) * len(fitted.validation_losses),
        seconds,
        peak_mb,
    )


def _without_lstm(weights: bytes) -> bytes:
    from models.lstm.serialization import from_bytes, to_onnx

    network = from_bytes(weights)
    network.config = replace(network.config, bound=0.0)
    return to_onnx(network)


def _blocks(history: PriceHistory, lookback: int, design: Design) -> FitBlocks:
    """Origins before ``stop_from`` to fit and from there to ``test_from`` to stop, none with an outcome beyond."""
    stop, test = (max(lookback, _row(history, day)) for day in (design.stop_from, design.test_from))
    return FitBlocks(history.inputs[:test], range(lookback - 1, stop - 1), range(stop - 1, test - 1))


def _fit_pooled(model: str, histories: Histories, design: Design) -> ServedForecaster:
    """A baseline of the training half on sessions before ``stop_from``, calibrated like the network."""
    spec, settings = MODEL_SPECS[model], _settings(design, model)
    blocks = [_blocks(one, settings.lookback, design) for one in histories.values()]
    known = [replace(one, early_stopping=range(one.fit.stop, one.fit.stop)) for one in blocks if one.fit]
    started = time.perf_counter()
    fitted = spec.fit(known, settings, lambda _: None)
    _log(f"{model}, pooled: fitted in {time.perf_counter() - started:.1f} s")
    return calibrated(spec, fitted, [(one.bars, one.early_stopping) for one in blocks], "adaptive")


def _fit_own(model: str, history: PriceHistory, design: Design) -> Forecaster:
    """A baseline of one ticker, on all of its sessions before the test."""
    spec, settings = MODEL_SPECS[model], _settings(design, model)
    last = _row(history, design.test_from) - 1
    block = FitBlocks(history.inputs[: last + 1], range(settings.lookback - 1, last), range(last, last))
    fitted = spec.fit([block], settings, lambda _: None)
    return spec.load(fitted.files, fitted.quantile_levels)


def _fit_own_network(history: PriceHistory, design: Design, parent: Universal | None) -> ServedForecaster:
    """As a training request does: the newest sessions before the test, divided into fit and calibration."""
    start = None if parent is None else parent.fitted.files[WEIGHTS]
    spec, settings = MODEL_SPECS["return_lstm"], _settings(design, "return_lstm", start)
    known = history.inputs[: _row(history, design.test_from)][-DEFAULT_SESSIONS:]
    split = split_train(history.series.ticker, len(known), settings.lookback)
    fitted = spec.fit([FitBlocks(known, split.fit, split.early_stopping)], settings, lambda _: None)
    own = calibrated(spec, fitted, [(known, split.calibration)], "adaptive")
    of_base = None if parent is None else parent.served.calibration
    return served(own.static.inner, own.calibration.informed_by(of_base), "adaptive")


# Forecasts


def _rows(tested: _Tested, network: Universal, pooled: Mapping[str, ServedForecaster]) -> dict[str, Row]:
    """The scores of every model on tickers that no model of several tickers was fitted to."""
    own = dict(_own_regressions(tested))
    fittable = tested.only(own)
    reference = _fit_own(REFERENCE, next(iter(fittable.histories.values())), tested.design)  # it learns nothing
    regression, boosting = (pooled[name] for name in POOLED)
    models: dict[str, Predict] = {
        REFERENCE: _same(reference),
        OWN_REGRESSION: lambda ticker: (own[ticker], N_INPUTS),
        "volatility regression, pooled": _same(regression.static.inner),
        "volatility regression, pooled, adaptive": _same(regression),
        "gradient boosting, pooled": _same(boosting.static.inner),
        "gradient boosting, pooled, adaptive": _same(boosting),
        SERVED: _same(network.served),
        STATIC: _same(network.served.static),
        "universal network, raw": _same(network.served.static.inner),
        WITHOUT_LSTM: _same(network.without_lstm),
        "universal network, market masked": lambda _: (network.served, N_COLUMNS),
    }
    return {name: _row_of(name, predict, fittable) for name, predict in models.items()}


def _own_regressions(tested: _Tested) -> Iterator[tuple[str, Forecaster]]:
    for ticker, history in tested.histories.items():
        try:
            yield ticker, _fit_own("volatility_regression", history, tested.design)
        except NotFittable as error:
            _log(f"{ticker} is left out: {error.message}")


def _rows_of_one_ticker(tested: _Tested, network: Universal) -> dict[str, Row]:
    def predict(parent: Universal | None) -> Predict:
        return lambda ticker: (_fit_own_network(tested.histories[ticker], tested.design, parent), N_INPUTS)

    parents = {SCRATCH: None, "universal network fine-tuned, per ticker": network}
    return {name: _row_of(name, predict(parent), tested) for name, parent in parents.items()}


def _same(forecaster: Forecaster) -> Predict:
    return lambda _: (forecaster, N_INPUTS)


def _row_of(name: str, predict: Predict, tested: _Tested) -> Row:
    started, row = time.perf_counter(), {}
    for ticker, history in tested.histories.items():
        forecaster, columns = predict(ticker)
        bars, sessions = history.inputs[:, :columns], history.series.sessions
        row[ticker] = Scores.of(forecaster, bars, sessions, tested.origins[ticker])
    _log(f"{name}: {len(row)} tickers in {time.perf_counter() - started:.1f} s")
    return row


# Report


def _training_report(network: Universal, n_tickers: int) -> str:
    losses = ", ".join(f"{loss:.5f}" for loss in network.fitted.validation_losses)
    return _table(
        "Training of the universal network",
        (
            "tickers",
            "windows, all epochs",
            "seconds",
            "windows per second",
            "peak memory",
            "validation loss by epoch",
            "epoch kept",
        ),
        [
            (
                str(n_tickers),
                f"{network.n_windows:,}",
                f"{network.seconds:.0f}",
                f"{network.n_windows / network.seconds:,.0f}",
                f"{network.peak_mb:,.0f} MB",
                losses or "none finished",
                str(network.fitted.best_epoch),
            )
        ],
    )


def _skill_report(title: str, rows: Mapping[str, Row], design: Design) -> str:
    reference, regression, bootstrap = rows[REFERENCE], rows[OWN_REGRESSION], design.bootstrap
    scored = [name for name in rows if name != REFERENCE]
    head = ("model", *STEP_COLUMNS)
    own = [(name, *map(_with_error, skills(rows[name], reference, bootstrap))) for name in scored]
    against = [
        (name, *map(_with_interval, differences(rows[name], regression, reference, bootstrap)))
        for name in scored
        if name != OWN_REGRESSION
    ]
    n_origins = sum(len(one.sessions) for one in reference.values())
    skill_table = _table(f"{title}, %, {n_origins:,} origins", head, own)
    return f"{skill_table}\n\n{_table(f'Difference to the {OWN_REGRESSION}, points', head, against)}"


def _lstm_report(rows: Mapping[str, Row], design: Design) -> str:
    gain = differences(rows[SERVED], rows[WITHOUT_LSTM], rows[REFERENCE], design.bootstrap)
    head = ("of", *STEP_COLUMNS)
    return _table("What the LSTMs bring, points of skill", head, [(SERVED, *map(_with_interval, gain))])


def _starts_report(rows: Mapping[str, Row], design: Design) -> str:
    """The same test from one session in five: how much depends on which session comes first."""
    dates = np.unique(np.concatenate([one.sessions for one in rows[SERVED].values()]))
    bootstrap = replace(design, stride=STARTS * design.stride).bootstrap
    lines = []
    for start in range(STARTS):
        chosen = dates[start::STARTS]
        served, own, reference = (
            {ticker: one.on(chosen) for ticker, one in rows[name].items()}
            for name in (SERVED, OWN_REGRESSION, REFERENCE)
        )
        lines.append((str(chosen[0]), *map(_with_interval, differences(served, own, reference, bootstrap))))
    head = ("first origin", *STEP_COLUMNS)
    return _table(f"Difference to the {OWN_REGRESSION}, from one session in {STARTS}, points", head, lines)


def _coverage_report(by_exchange: Mapping[str, Mapping[str, Row]], design: Design) -> str:
    lines = []
    for exchange, rows in by_exchange.items():
        years = years_of(rows[SERVED])
        calm = tuple(year for year in years if year != CRASH)
        periods = {"all years": years, f"all but {CRASH}": calm, **{str(year): (year,) for year in years}}
        for name in (SERVED, STATIC):
            for period, chosen in periods.items():
                cells = (
                    " / ".join(map(_with_error, of_step)) for of_step in coverages(rows[name], design.bootstrap, chosen)
                )
                lines.append((exchange, name, period, *cells))
    levels = " and ".join(f"{level:.0%}" for level in LEVELS)
    head = ("exchange", "model", "years", *STEP_COLUMNS)
    return _table(f"Outcomes inside the {levels} intervals, %", head, lines)


def _share_report(american: Mapping[str, Row], own: Mapping[str, Row]) -> str:
    served = american[SERVED]
    lines = [(f"{OWN_REGRESSION}; tickers: {len(served)}", *_percent(share_better(served, american[OWN_REGRESSION])))]
    lines += [
        (f"{name}; tickers: {len(row)}", *_percent(share_better({ticker: served[ticker] for ticker in row}, row)))
        for name, row in own.items()
    ]
    head = ("against", *STEP_COLUMNS)
    return _table(
        "Share of unseen tickers on which the universal network, as served, has the lower CRPS, %", head, lines
    )


def _walk_forward_report(training: Histories, b3: Histories, earlier: Mapping[str, Row], design: Design) -> str:
    """The same on Brazilian shares from a network that their own past was part of."""
    later = replace(design, stop_from=date(2018, 1, 1), test_from=date(2019, 1, 1))
    network = _fit_universal({**training, **b3}, later)
    tested = _Tested.of(b3, design).since(later)
    own = dict(_own_regressions(tested))
    fittable = tested.only(own)
    models: dict[str, Predict] = {
        REFERENCE: _same(_fit_own(REFERENCE, next(iter(fittable.histories.values())), later)),
        OWN_REGRESSION: lambda ticker: (own[ticker], N_INPUTS),
        "universal network with Brazilian shares, as served": _same(network.served),
    }
    rows = {name: _row_of(name, predict, fittable) for name, predict in models.items()}
    rows["universal network of the American half before 2015, as served"] = {
        ticker: earlier[SERVED][ticker].since(later.test_from) for ticker in fittable.histories
    }
    return _skill_report(
        "Skill on Brazilian shares from 2019 on, their sessions before 2018 among the training", rows, later
    )


def _table(title: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in (head, rule, *lines))])


def _with_error(found: Estimate) -> str:
    return f"{found.value:.2f} ± {found.error:.2f}"


def _with_interval(found: Estimate) -> str:
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _percent(shares: Iterable[float]) -> list[str]:
    return [f"{share:.0f}" for share in shares]


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
