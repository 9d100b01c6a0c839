"""Two networks that forecast the next close, and further steps recursively.

Both read closes only, because only closes can be fed back. Each forecast is
appended to the window, the oldest close is dropped and the scale is computed
again, up to the horizon. That path is the median. The quantiles around it are
the window's own volatility, grown with the square root of the step, times a
table of the network's errors on the fit block in those units. All scaling
happens here, forwards and back: bars go in, prices come out, and k × bars gives
k × prices.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.base import CLOSE, QUANTILE_GRID

MIN_RANGE = 1e-6  # of the highest close: keeps a window that never moves from dividing by zero
MIN_VOLATILITY = 1e-4  # of a log return: a window that never moves still gets an interval
MAX_MOVE = 2.0  # no session more than doubles or halves the price: a diverging path stays positive and finite
RECURRENT_DROPOUT = 0.1
FORGET_BIAS = -2.0  # the gate passes 12 %; Keras' 1 passes 73 %


@dataclass(frozen=True)
class PointConfig:
    """The shape of a point network.

    Attributes:
        lookback: sessions per window.
        horizon: steps forecast, from the second on recursively.
    """

    lookback: int
    horizon: int


class Scale(NamedTuple):
    """Scaled closes are (closes − offset) / unit, each (batch, 1)."""

    offset: Tensor
    unit: Tensor


class PointNetwork(nn.Module, ABC):
    table: Tensor

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("table", torch.zeros(config.horizon, len(QUANTILE_GRID), dtype=torch.float64))

    @abstractmethod
    def scale(self, closes: Tensor) -> Scale:
        """The scale of windows (batch, lookback)."""

    @property
    def shrunk(self) -> tuple[Tensor, ...]:
        """The weights under the L2 penalty."""
        return ()

    @abstractmethod
    def next_scaled(self, windows: Tensor) -> Tensor:
        """The scaled next close, (batch,), from scaled windows (batch, lookback), both float32."""

    def next_close(self, closes: Tensor) -> Tensor:
        """The price at step 1, (batch, 1), from windows (batch, lookback), both float64."""
        scale = self.scale(closes)
        scaled = self.next_scaled(((closes - scale.offset) / scale.unit).float())
        forecast = scale.offset + scale.unit * scaled[:, None].double()
        last = closes[:, -1:]
        return torch.maximum(torch.minimum(forecast, last * MAX_MOVE), last / MAX_MOVE)

    def path(self, closes: Tensor) -> Tensor:
        """Prices at steps 1…horizon, (batch, horizon), from windows (batch, lookback), both float64."""
        steps = []
        for _ in range(self.config.horizon):
            steps.append(self.next_close(closes))
            closes = torch.cat([closes[:, 1:], steps[-1]], dim=1)
        return torch.cat(steps, dim=1)

    def forward(self, bars: Tensor) -> Tensor:
        """Price quantiles (batch, horizon, n_levels) from bars (batch, lookback, 5), both float64."""
        closes = bars[:, :, CLOSE]
        returns = step_volatility(closes, self.config.horizon)[..., None] * self.table  # (batch, horizon, n_levels)
        return self.path(closes)[..., None] * torch.exp(returns)


class PriceLSTM(PointNetwork):
    """Two LSTM layers of 64 with dropout between them, on closes between the minimum and the maximum of their window.

    The first original project's network; its scaler had one range for all time, which every new high exceeds.
    """

    def __init__(self, config: PointConfig) -> None:
        super().__init__(config)
        self.lstm = nn.LSTM(1, 64, num_layers=2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(64, 1)

    def scale(self, closes: Tensor) -> Scale:
        low, high = closes.amin(1, keepdim=True), closes.amax(1, keepdim=True)
        return Scale(low, torch.maximum(high - low, MIN_RANGE * high))

    def next_scaled(self, windows: Tensor) -> Tensor:
        states, _ = self.lstm(windows[..., None])
        scaled: Tensor = self.head(states[:, -1])[:, 0]
        return scaled


class ForgetfulLSTM(nn.LSTM):
    """One LSTM layer with Keras' single bias and recurrent dropout, and with a short initial memory.

    Its initial weights are Keras', except that the forget gate starts nearly
    closed: tomorrow's close is near today's, and a network that starts with a
    memory of its whole window has to unlearn it first. Torch's second bias only
    adds to the first, so it stays zero.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, n_inputs: int, hidden: int) -> None:
        super().__init__(n_inputs, hidden, batch_first=True)
        nn.init.xavier_uniform_(self.weight_ih_l0)
        nn.init.orthogonal_(self.weight_hh_l0)
        nn.init.zeros_(self.bias_ih_l0)
        nn.init.constant_(self.bias_ih_l0[hidden : 2 * hidden], FORGET_BIAS)
        nn.init.zeros_(self.bias_hh_l0)
        self.bias_hh_l0.requires_grad_(False)

    def states(self, sequence: Tensor) -> Tensor:
        """The state after every session, (batch, lookback, hidden), from (batch, lookback, n_inputs).

        In training, Keras masks the recurrent state with one mask per window for
        all of its sessions. Zeroing columns of the recurrent kernel is the same,
        except that the windows of a batch share the mask, and keeps the speed of
        the native LSTM, as dropping single weights does (Merity et al., 2017,
        AWD-LSTM).
        """
        if not self.training:
            states: Tensor = self(sequence)[0]
            return states
        mask = nn.functional.dropout(sequence.new_ones(self.hidden_size), RECURRENT_DROPOUT)
        weights = [self.weight_ih_l0, self.weight_hh_l0 * mask, self.bias_ih_l0, self.bias_hh_l0]
        start = sequence.new_zeros(1, sequence.shape[0], self.hidden_size)
        masked, _, _ = torch.lstm(
            sequence,
            (start, start),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=True,
            bidirectional=False,
            batch_first=True,
        )
        return masked


class RatioLSTM(PointNetwork):
    """LSTM 128, dropout, LSTM 64, batch norm, dropout, dense 32, dense 1, on closes divided by the window's first.

    The second original project's network. Keras counts 118,337 parameters, of which 128
    are batch norm's moving averages: buffers to torch. Torch's LSTM has a second
    bias per gate, 768 in all, which only adds to the first: frozen at zero here.
    """

    def __init__(self, config: PointConfig) -> None:
        super().__init__(config)
        self.first = ForgetfulLSTM(1, 128)
        self.second = ForgetfulLSTM(128, 64)
        self.norm = nn.BatchNorm1d(64, eps=1e-3)
        self.dense = nn.Linear(64, 32)
        self.head = nn.Linear(32, 1)
        self.dropout = nn.Dropout(0.25)
        for linear in (self.dense, self.head):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.dense.bias)
        nn.init.ones_(self.head.bias)  # a ratio of one, not of zero

    @property
    def shrunk(self) -> tuple[Tensor, ...]:
        # those of Keras' ``kernel_regularizer``: input kernels, neither the recurrent ones nor the last
        return self.first.weight_ih_l0, self.second.weight_ih_l0, self.dense.weight

    def scale(self, closes: Tensor) -> Scale:
        return Scale(torch.zeros_like(closes[:, :1]), closes[:, :1])

    def next_scaled(self, windows: Tensor) -> Tensor:
        states = self.dropout(self.first.states(windows[..., None]))  # (batch, lookback, 128)
        last = self.second.states(states)[:, -1]  # (batch, 64)
        hidden = torch.relu(self.dense(self.dropout(self.norm(last))))
        scaled: Tensor = self.head(hidden)[:, 0]
        return scaled


def step_volatility(closes: Tensor, horizon: int) -> Tensor:
    """The window's volatility grown with the square root of the step, (batch, horizon), from (batch, lookback)."""
    logs = torch.log(closes)
    volatility = (logs[:, 1:] - logs[:, :-1]).std(1, keepdim=True).clamp(min=MIN_VOLATILITY)
    steps = torch.arange(1, horizon + 1, dtype=closes.dtype)
    return volatility * torch.sqrt(steps)
