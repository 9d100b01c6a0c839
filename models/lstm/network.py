"""From raw bars to price quantiles in one module: a volatility regression, corrected by an ensemble of LSTMs.

The log scale of the h-step return is a linear function of range volatility
averaged over 1, 5, 22 and 60 sessions (Corsi, 2009, J. Financial Econometrics,
"HAR"), plus a bounded correction that the LSTMs compute from the sessions of the
window. Quantiles are that scale times a table of standardized Student-t
quantiles, one row per step. All scaling happens here, forwards and back: bars
go in, prices come out, and k × bars gives k × prices.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.base import CLOSE, HIGH, LOW, OPEN, QUANTILE_GRID, VOLUME

MEAN_WIDTHS = (1, 5, 22, 60)  # sessions: a day, a week, a month, a quarter
N_CHANNELS = 6
N_REGRESSORS = 2 * len(MEAN_WIDTHS) + 1
FAMILIAR = 6.0  # standard deviations: the regression is not valid further outside the fitted data
LOG_SCALE_RANGE = (-10.0, 1.0)  # of a return: from half a basis point to a factor of fifteen
VARIANCE_FLOOR = 1e-8  # one basis point a session: keeps the logarithm of an empty range finite


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of the network.

    Attributes:
        lookback: sessions per window.
        horizon: steps forecast at once.
        hidden: units of each LSTM.
        members: LSTMs whose corrections are averaged.
        bound: largest correction of the log scale.
        fade: steps over which a correction changes from its short to its long value.
    """

    lookback: int
    horizon: int
    hidden: int = 16
    members: int = 4
    bound: float = 0.1
    fade: float = 4.0


class Inputs(NamedTuple):
    """Scale-free inputs of the trainable part, float32.

    ``regressors`` (batch, N_REGRESSORS); ``sessions`` (batch, lookback − 1, N_CHANNELS).
    """

    regressors: Tensor
    sessions: Tensor


class LogBars(NamedTuple):
    """Log prices of every session but the first, each (batch, lookback − 1), float64.

    ``known`` is 1 where open, high and low were given; elsewhere they are derived
    from the closes.
    """

    open: Tensor
    high: Tensor
    low: Tensor
    close: Tensor
    previous_close: Tensor
    known: Tensor


class ReturnLSTM(nn.Module):
    """Location-scale forecast of cumulative log returns at steps 1…horizon."""

    centre: Tensor
    spread: Tensor
    basis: Tensor
    table: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        short = torch.exp(-torch.arange(config.horizon) / config.fade)
        self.register_buffer("centre", torch.zeros(N_REGRESSORS))
        self.register_buffer("spread", torch.ones(N_REGRESSORS))
        self.register_buffer("basis", torch.stack([short, 1.0 - short]))  # (2, horizon)
        self.register_buffer("table", torch.zeros(config.horizon, len(QUANTILE_GRID), dtype=torch.float64))
        self.regression = nn.Linear(N_REGRESSORS, config.horizon)
        self.location = nn.Parameter(torch.zeros(config.horizon))  # in units of scale
        self.log_dof = nn.Parameter(torch.full((config.horizon,), math.log(4.0)))  # degrees of freedom beyond two
        self.lstms = nn.ModuleList(nn.LSTM(N_CHANNELS, config.hidden, batch_first=True) for _ in range(config.members))
        self.heads = nn.ModuleList(_quiet_head(config.hidden) for _ in range(config.members))
        nn.init.zeros_(self.regression.weight)

    def degrees_of_freedom(self) -> Tensor:
        """Of the Student-t at every step, (horizon,): above 2, and at most 150, which is nearly normal."""
        return 2.0 + torch.exp(self.log_dof.clamp(max=5.0))

    def regressed_log_scale(self, regressors: Tensor) -> Tensor:
        """Log scale of the volatility regression alone, (batch, horizon)."""
        standardized = (regressors - self.centre) / self.spread
        log_scale: Tensor = self.regression(standardized.clamp(-FAMILIAR, FAMILIAR))
        return log_scale

    def member_log_scales(self, given: Inputs) -> Tensor:
        """Log scale of every member, (members, batch, horizon)."""
        corrections = torch.stack(
            [
                torch.tanh(head(lstm(given.sessions)[0][:, -1]))  # (batch, 2): short and long
                for lstm, head in zip(self.lstms, self.heads, strict=True)
            ]
        )
        log_scales = self.regressed_log_scale(given.regressors) + self.config.bound * (corrections @ self.basis)
        return log_scales.clamp(*LOG_SCALE_RANGE)

    def forward(self, bars: Tensor) -> Tensor:
        """Price quantiles (batch, horizon, n_levels) from bars (batch, lookback, 5), both float64."""
        scale = torch.exp(self.member_log_scales(inputs(bars)).mean(0).double())  # (batch, horizon)
        returns = scale[..., None] * self.table  # (batch, horizon, n_levels)
        prices: Tensor = bars[:, -1, CLOSE, None, None] * torch.exp(returns)
        return prices


def _quiet_head(hidden: int) -> nn.Linear:
    """The short and the long correction of one member; both start near zero."""
    head = nn.Linear(hidden, 2)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def inputs(bars: Tensor) -> Inputs:
    """Scale-free inputs from raw bars (batch, lookback, 5), float64, NaN where unknown.

    Channels per session: return and opening gap in units of the window's
    volatility, log range volatility and log volume about their window means,
    and whether the bar and the volume were known.
    """
    logs = _log_bars(bars)
    volatility = _log_volatility(logs)  # (batch, lookback - 1)
    volume, volume_known = _log_volume(bars[:, 1:, VOLUME])
    anchor = volatility.mean(1, keepdim=True)
    unit = 2.0 * torch.exp(anchor)
    sessions = torch.stack(
        [
            (logs.close - logs.previous_close) / unit,
            (logs.open - logs.previous_close) / unit,
            volatility - anchor,
            volume,
            logs.known,
            volume_known,
        ],
        dim=-1,
    )
    means = torch.stack([volatility[:, -width:].mean(1) for width in MEAN_WIDTHS], dim=-1) + 4.0
    share = logs.known.mean(1, keepdim=True)  # ranges and squared returns each get their own coefficients
    regressors = torch.cat([means * share, means * (1.0 - share), share], dim=-1)
    return Inputs(regressors.float(), sessions.clamp(-5.0, 5.0).float())


def _log_bars(bars: Tensor) -> LogBars:
    logs = torch.log(bars[..., :VOLUME])
    previous, close = logs[:, :-1, CLOSE], logs[:, 1:, CLOSE]
    open_, high, low = logs[:, 1:, OPEN], logs[:, 1:, HIGH], logs[:, 1:, LOW]
    unknown = torch.isnan(open_) | torch.isnan(high) | torch.isnan(low)
    open_ = torch.where(unknown, previous, open_)
    top, bottom = torch.maximum(open_, close), torch.minimum(open_, close)
    high = torch.where(unknown, top, torch.maximum(high, top))
    low = torch.where(unknown, bottom, torch.minimum(low, bottom))
    return LogBars(open_, high, low, close, previous, 1.0 - unknown.to(bars.dtype))


def _log_volatility(logs: LogBars) -> Tensor:
    """Half the log variance of each session: Garman-Klass, or the squared return half shrunk to its window mean."""
    # the formula of models.trading.garman_klass, in torch
    garman_klass = 0.5 * (logs.high - logs.low) ** 2 - (2 * math.log(2) - 1) * (logs.close - logs.open) ** 2
    squared = (logs.close - logs.previous_close) ** 2
    shrunk = 0.5 * (squared + squared.mean(1, keepdim=True))
    return 0.5 * torch.log(torch.where(logs.known > 0, garman_klass, shrunk) + VARIANCE_FLOOR)


def _log_volume(volume: Tensor) -> tuple[Tensor, Tensor]:
    """Log volume about its window mean, zero where absent, and 1 where present; both as ``volume``."""
    present = volume > 0  # false for NaN
    known = present.to(volume.dtype)
    logs = torch.log(torch.where(present, volume, torch.ones_like(volume)))
    mean = logs.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1.0)
    return (logs - mean) * known, known
