"""neuralforecast's LSTM and NHITS, each one model of all tickers.

Two ways to a distribution: the Student-t that the network states, and conformal intervals around its median.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from benchmarks.peers.task import HORIZON, LEVELS, Known, Past, Values

INPUT_SIZE = 60
MAX_STEPS = 500
VALIDATION = 250  # sessions of each ticker on which a fit stops
CONFORMAL_WINDOWS, CONFORMAL_STRIDE = 50, 5  # of each tested ticker: its last year
STATED: Values = np.union1d(LEVELS, [0.001, 0.999])  # the tails matter once returns are added up
COVERAGES = [float(round(100 * (1 - 2 * level), 6)) for level in STATED if level < 0.5]
N_SAMPLES = 4000


@dataclass
class Neural:
    """One network of the library.

    Attributes:
        network: LSTM or NHITS.
        conformal: whether the distribution is that of conformal intervals, else a Student-t.
        returns: whether it learns log returns in percent, whose quantiles are then added up over the steps, else log
            prices, which are scaled by the window. NHITS was better on prices in 2015 and 2016, the LSTM on returns.
    """

    network: str
    conformal: bool
    returns: bool

    def fit(self, known: Known, folder: Path) -> None:
        from neuralforecast import NeuralForecast
        from neuralforecast.utils import PredictionIntervals

        _quiet()
        forecast = NeuralForecast(models=[self._model()], freq=1)
        intervals = PredictionIntervals(CONFORMAL_WINDOWS, "conformal_distribution", CONFORMAL_STRIDE)
        forecast.fit(
            self._frame([*known.tested, *([] if self.conformal else known.others)]),
            val_size=VALIDATION,
            prediction_intervals=intervals if self.conformal else None,
        )
        forecast.save(str(folder / "model"), overwrite=True, save_dataset=False)

    def load(self, folder: Path) -> None:
        from neuralforecast import NeuralForecast

        _quiet()
        self._ready = NeuralForecast.load(str(folder / "model"), verbose=False)
        self._scores: Any = getattr(self._ready, "_cs_df", None)

    def forecast(self, pasts: Sequence[Past]) -> Values:
        frame = self._frame(pasts, tail=2 * INPUT_SIZE)
        options = {}
        if self.conformal:  # the library takes the scores of all fitted tickers for those of the tickers forecast
            tickers = [past.ticker for past in pasts]
            self._ready._cs_df = self._scores[self._scores["unique_id"].isin(tickers)]  # noqa: SLF001
            options = {"level": COVERAGES}
        found = self._ready.predict(frame, **options)
        name = self._ready.models[0].alias or self.network
        columns = [_column(name, level, self.conformal) for level in STATED]
        by_ticker = {ticker: rows[columns].to_numpy(np.float64) for ticker, rows in found.groupby("unique_id")}
        stated = np.sort([by_ticker[past.ticker] for past in pasts], axis=-1)  # (n, HORIZON, len(STATED))
        last = np.array([past.closes[-1] for past in pasts])[:, None, None]
        if self.returns:
            return last * np.exp(_of_sums(stated / 100))
        return np.exp(_at(stated))

    def _frame(self, pasts: Sequence[Past], tail: int = 0) -> "pd.DataFrame":
        """The target in the library's long format, with numbered sessions."""
        import pandas as pd

        rows = []
        for past in pasts:
            logs = np.log(past.closes)
            target = 100 * np.diff(logs, prepend=logs[0]) if self.returns else logs
            rows.append(pd.DataFrame({"unique_id": past.ticker, "ds": np.arange(len(target)), "y": target})[-tail:])
        return pd.concat(rows, ignore_index=True)

    def _model(self) -> Any:
        from neuralforecast import models
        from neuralforecast.losses.pytorch import MAE, DistributionLoss

        sizes = {"encoder_hidden_size": 64, "decoder_hidden_size": 64} if self.network == "LSTM" else {}
        return getattr(models, self.network)(
            h=HORIZON,
            input_size=INPUT_SIZE,
            loss=MAE() if self.conformal else DistributionLoss("StudentT", level=COVERAGES, num_samples=2000),
            valid_loss=None,
            scaler_type="identity" if self.returns else "standard",
            max_steps=MAX_STEPS,
            early_stop_patience_steps=3,
            val_check_steps=100,
            batch_size=8,
            windows_batch_size=256,
            random_seed=0,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            **sizes,
        )


def _column(name: str, level: float, conformal: bool) -> str:
    if level == 0.5:
        return name if conformal else f"{name}-median"
    return f"{name}-{'lo' if level < 0.5 else 'hi'}-{float(round(abs(200 * level - 100), 6))}"


def _of_sums(stated: Values) -> Values:
    """Quantiles of the sums over the steps, from those of each step; returns of different sessions are independent."""
    rng = np.random.default_rng(0)
    sums = np.empty((*stated.shape[:2], N_SAMPLES))
    for k, steps in enumerate(stated):
        drawn = [np.interp(rng.random(N_SAMPLES), STATED, quantiles) for quantiles in steps]
        sums[k] = np.cumsum(drawn, axis=0)
    return np.moveaxis(np.quantile(sums, LEVELS, axis=-1), 0, -1)


def _at(stated: Values) -> Values:
    """The quantiles at LEVELS, which are among those stated."""
    return stated[..., np.isin(STATED, LEVELS)]


def _quiet() -> None:
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
