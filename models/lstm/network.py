"""From raw bars to price quantiles in one module: a volatility regression, corrected by an ensemble of LSTMs.

The log scale of the h-step return is a linear function of range volatility
averaged over 1, 5, 22 and 60 sessions (Corsi, 2009, J. Financial Econometrics,
"HAR"), of the size and sign of the newest returns (after Glosten, Jagannathan
and Runkle, 1993, J. Finance), both the ticker's own and its market's, and of the
implied volatility, plus a bounded correction that the LSTMs compute from the
sessions of the window. It fades where a regressor is far from what was fitted.
Quantiles are that scale times a table of standardized quantiles, one row per
step. All scaling happens here, forwards and back: bars go in, prices come out,
and k × bars gives k × prices.

One network serves every ticker of every exchange: nothing in it knows a name.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.base import CLOSE, HIGH, IMPLIED_VOLATILITY, LOW, MARKET_CLOSE, MARKET_OPEN, OPEN, QUANTILE_GRID, VOLUME

MEAN_WIDTHS = (1, 5, 22, 60)  # sessions: a day, a week, a month, a quarter
N_OWN, N_MARKET, N_IMPLIED = 6, 4, 2  # channels
N_CHANNELS = N_OWN + N_MARKET + N_IMPLIED
N_NEWEST = 3  # regressors of the newest returns
N_REGRESSORS = (2 * len(MEAN_WIDTHS) + 1 + N_NEWEST + 2) + (len(MEAN_WIDTHS) + 1 + N_NEWEST) + N_IMPLIED
FADES = (2.0, 8.0)  # steps: corrections of the next days, of the next weeks, and of what comes later
FAMILIAR = 6.0  # standard deviations: the regression is not valid further outside the fitted data
RARE = 3.0  # of them: from here to FAMILIAR the corrections fade, because too few fitted windows taught them
LOG_SCALE_RANGE = (-10.0, 1.0)  # of a return: from half a basis point to a factor of fifteen
VARIANCE_FLOOR = 1e-8  # one basis point a session: keeps the logarithm of an empty range finite
USUAL_LOG_VOLATILITY = -4.0  # of a share's session, 1.8 %: centres the regressors
USUAL_IMPLIED = 20.0  # percent a year


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of the network.

    Attributes:
        lookback: sessions per window.
        horizon: steps forecast at once.
        hidden: units of each LSTM.
        members: LSTMs whose corrections are averaged.
        bound: largest correction of the log scale.
    """

    lookback: int
    horizon: int
    hidden: int = 32
    members: int = 2
    bound: float = 0.3


class Inputs(NamedTuple):
    """Scale-free inputs of the trainable part, float32.

    ``regressors`` (batch, N_REGRESSORS); ``sessions`` (batch, lookback − 1, N_CHANNELS). Those of the market are zero
    where it is unknown.
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
    """Distribution of the cumulative log return at steps 1…horizon."""

    centre: Tensor
    spread: Tensor
    basis: Tensor
    table: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(N_REGRESSORS))
        self.register_buffer("spread", torch.ones(N_REGRESSORS))
        self.register_buffer("basis", _basis(config.horizon))  # (3, horizon)
        self.register_buffer("table", torch.zeros(config.horizon, len(QUANTILE_GRID), dtype=torch.float64))
        self.regression = nn.Linear(N_REGRESSORS, config.horizon)
        self.lstms = nn.ModuleList(nn.LSTM(N_CHANNELS, config.hidden, batch_first=True) for _ in range(config.members))
        self.heads = nn.ModuleList(_quiet_head(config.hidden + N_REGRESSORS) for _ in range(config.members))
        nn.init.zeros_(self.regression.weight)

    def standardized(self, regressors: Tensor) -> Tensor:
        """Regressors in standard deviations from their mean over the fitted data, same shape."""
        standardized: Tensor = ((regressors - self.centre) / self.spread).clamp(-FAMILIAR, FAMILIAR)
        return standardized

    def regressed_log_scale(self, regressors: Tensor) -> Tensor:
        """Log scale of the volatility regression alone, (batch, horizon)."""
        log_scale: Tensor = self.regression(self.standardized(regressors))
        return log_scale

    def member_log_scales(self, given: Inputs) -> Tensor:
        """Log scale of every member, (members, batch, horizon)."""
        regressors = self.standardized(given.regressors)
        furthest = regressors.abs().amax(-1, keepdim=True)  # (batch, 1)
        trust = ((FAMILIAR - furthest) / (FAMILIAR - RARE)).clamp(0.0, 1.0)
        corrections = torch.stack(
            [
                torch.tanh(head(torch.cat([lstm(given.sessions)[0][:, -1], regressors], dim=-1)))  # (batch, 3)
                for lstm, head in zip(self.lstms, self.heads, strict=True)
            ]
        )
        log_scales: Tensor = self.regression(regressors) + self.config.bound * (trust * corrections @ self.basis)
        return log_scales.clamp(*LOG_SCALE_RANGE)

    def log_scale(self, given: Inputs) -> Tensor:
        """Log scale of the ensemble, (batch, horizon)."""
        return self.member_log_scales(given).mean(0)

    def forward(self, bars: Tensor) -> Tensor:
        """Price quantiles (batch, horizon, n_levels) from bars (batch, lookback, 10), both float64."""
        scale = torch.exp(self.log_scale(inputs(bars)).double())  # (batch, horizon)
        returns = scale[..., None] * self.table  # (batch, horizon, n_levels)
        prices: Tensor = bars[:, -1, CLOSE, None, None] * torch.exp(returns)
        return prices


def _basis(horizon: int) -> Tensor:
    """How much each of three corrections counts at each step, summing to one, (3, horizon)."""
    steps = torch.arange(horizon)
    short, middle = (torch.exp(-steps / fade) for fade in FADES)
    return torch.stack([short, middle - short, 1.0 - middle])


def _quiet_head(width: int) -> nn.Linear:
    """The corrections of one member; they start near zero."""
    head = nn.Linear(width, len(FADES) + 1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def inputs(bars: Tensor) -> Inputs:
    """Scale-free inputs from raw bars (batch, lookback, 10), float64, NaN where unknown.

    Own channels per session: return and opening gap in units of the window's
    volatility, log range volatility and log volume about their window means,
    and whether the bar and the volume were known. The market's: return, log range
    volatility, whether its bar was known, and whether it was known at all; its
    implied volatility, and whether that was known.
    """
    logs = _log_bars(bars)
    volatility = _log_volatility(logs)  # (batch, lookback - 1)
    anchor = volatility.mean(1, keepdim=True)
    unit = 2.0 * torch.exp(anchor)
    volume, volume_known = _log_volume(bars[:, 1:, VOLUME])
    returns = (logs.close - logs.previous_close) / unit
    gaps = (logs.open - logs.previous_close) / unit
    own = [
        returns,
        gaps,
        volatility - anchor,
        volume,
        logs.known,
        volume_known,
    ]

    market_bars, has_market = _market(bars)
    market = _log_bars(market_bars)
    market_volatility = _log_volatility(market)
    market_anchor = market_volatility.mean(1, keepdim=True)
    market_returns = has_market * (market.close - market.previous_close) / (2.0 * torch.exp(market_anchor))
    of_market = [
        market_returns,
        has_market * (market_volatility - market_anchor),
        has_market * market.known,
        has_market.expand_as(market_volatility),
    ]

    share = logs.known.mean(1, keepdim=True)  # ranges and squared returns each get their own coefficients
    means, market_means = _means(volatility), _means(market_volatility)
    implied, has_implied = _log_implied(bars[:, 1:, IMPLIED_VOLATILITY])
    regressors = torch.cat(
        [
            *(means * share, means * (1.0 - share), share),
            *(_newest(returns), gaps[:, -1:].abs().clamp(max=5.0), returns[:, -5:].abs().mean(1, keepdim=True)),
            *(market_means * has_market, has_market, _newest(market_returns)),
            *(implied[:, -1:], has_implied[:, -1:]),
        ],
        dim=-1,
    )
    sessions = torch.stack([*own, *of_market, implied, has_implied], dim=-1)
    return Inputs(regressors.float(), sessions.clamp(-5.0, 5.0).float())


def _means(volatility: Tensor) -> Tensor:
    """Mean log volatility over each of MEAN_WIDTHS, (batch, lookback − 1) to (batch, len(MEAN_WIDTHS))."""
    return torch.stack([volatility[:, -width:].mean(1) for width in MEAN_WIDTHS], dim=-1) - USUAL_LOG_VOLATILITY


def _newest(returns: Tensor) -> Tensor:
    """Size of the newest return, and the losses of the newest session and of the newest five, (batch, N_NEWEST)."""
    size, loss = returns[:, -1:].abs(), torch.relu(-returns[:, -1:])
    return torch.cat([size, loss, torch.relu(-returns[:, -5:].sum(1, keepdim=True))], dim=-1).clamp(max=5.0)


def _market(bars: Tensor) -> tuple[Tensor, Tensor]:
    """Bars of the market (batch, lookback, 4), and 1 where all its closes are known (batch, 1); else bars of ones."""
    prices = bars[..., MARKET_OPEN : MARKET_CLOSE + 1]
    absent = torch.isnan(bars[..., MARKET_CLOSE]).to(bars.dtype).amax(1, keepdim=True)  # (batch, 1)
    return torch.where(absent[..., None] > 0, torch.ones_like(prices), prices), 1.0 - absent


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


def _log_implied(level: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the implied volatility over its usual level, zero where absent, and 1 where present; both as ``level``."""
    present = level > 0  # false for NaN
    known = present.to(level.dtype)
    return torch.log(torch.where(present, level, torch.full_like(level, USUAL_IMPLIED)) / USUAL_IMPLIED), known
