"""The algorithms of the two original projects, written again from their descriptions. Both state a single price.

The first, a Lightning LSTM, scales closes between the minimum and the maximum of its training part and learns the
price of the next session. The second, a Keras LSTM, divides 60 closes by the first of them and learns the next ratio;
it feeds its forecasts back for further sessions. Both train on about the sessions that their authors used. Three
mistakes of the first are not repeated, because they would only make it worse: its target lies one session too
late, its last epoch is kept, and its test part stops the fit. Here the best epoch on the last fifth of what is known is
kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.peers.task import HORIZON, LEVELS, Known, Past, Values

LOOKBACK = 60
SESSIONS = 1640  # those of the published split, 2018-01 to 2024-07
FIT_SHARE = 0.8
BATCH = 32
EPOCHS = 30


class FirstNetwork(nn.Module):
    """Two layers of 64 units, the layout that our ``price_lstm`` keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 64, num_layers=2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.lstm(windows[..., None])
        found: Tensor = self.head(states[:, -1])[:, 0]
        return found


class SecondNetwork(nn.Module):
    """LSTM 128, dropout, LSTM 64, batch norm, dropout, dense 32, dense 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(1, 128, batch_first=True)
        self.second = nn.LSTM(128, 64, batch_first=True)
        self.norm = nn.BatchNorm1d(64, eps=1e-3, momentum=0.01)
        self.dense, self.head = nn.Linear(64, 32), nn.Linear(32, 1)
        self.dropout = nn.Dropout(0.25)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.first(windows[..., None])
        states, _ = self.second(self.dropout(states))
        found: Tensor = self.head(torch.relu(self.dense(self.dropout(self.norm(states[:, -1])))))[:, 0]
        return found


class Original(ABC):
    """A network per ticker that learns the next close from the last 60."""

    network: Callable[[], nn.Module]
    weight_decay = 0.0

    def __init__(self) -> None:
        self._ready: dict[str, tuple[nn.Module, Tensor]] = {}

    def fit(self, known: Known, folder: Path) -> None:
        for past in known.tested:
            torch.manual_seed(0)
            closes = torch.tensor(past.closes[-SESSIONS:], dtype=torch.float32)
            part = closes[: round(FIT_SHARE * len(closes))]
            extremes = torch.stack([part.min(), part.max()])
            windows = closes.unfold(0, LOOKBACK + 1, 1)
            inputs, unit = self.scaled(windows[:, :-1], extremes)
            network = _train(self.network(), inputs, windows[:, -1] / unit, self.weight_decay)
            save_file({**network.state_dict(), "scale": extremes}, folder / f"{past.ticker}.safetensors")

    def load(self, folder: Path) -> None:
        for path in folder.glob("*.safetensors"):
            stored = load_file(path)
            extremes, network = stored.pop("scale"), self.network()
            network.load_state_dict(stored)
            self._ready[path.stem] = network.eval(), extremes

    @torch.no_grad()
    def forecast(self, pasts: Sequence[Past]) -> Values:
        """Each point is repeated at every level: a distribution without width, whose CRPS is the absolute error."""
        return np.array([np.repeat(self._path(past)[:, None], len(LEVELS), axis=1) for past in pasts])

    def _path(self, past: Past) -> Values:
        """The closes that follow, shape (HORIZON,), each fed back for the next."""
        network, extremes = self._ready[past.ticker]
        window = torch.tensor(past.closes[None, -LOOKBACK:], dtype=torch.float32)
        path = []
        for _ in range(HORIZON):
            inputs, unit = self.scaled(window, extremes)
            last = window[:, -1]
            path.append((unit * network(inputs)).clamp(last / 2, last * 2))  # else a price could fall below zero
            window = torch.cat([window[:, 1:], path[-1][None]], dim=1)
        return torch.cat(path).double().numpy()

    @abstractmethod
    def scaled(self, windows: Tensor, extremes: Tensor) -> tuple[Tensor, Tensor]:
        """What the network reads of windows (n, LOOKBACK), and the unit of what it states, (n,).

        Args:
            windows: closes.
            extremes: the lowest and the highest close of the training part.
        """


class First(Original):
    """Closes between the extremes of all training prices, to a price. Its own service forecasts one session only."""

    network = FirstNetwork

    def scaled(self, windows: Tensor, extremes: Tensor) -> tuple[Tensor, Tensor]:
        return (windows - extremes[0]) / (extremes[1] - extremes[0]), torch.ones(len(windows))


class Second(Original):
    """Closes divided by the first of the window, to the ratio of the next close to it."""

    network = SecondNetwork
    weight_decay = 5e-4

    def scaled(self, windows: Tensor, extremes: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - the other reads it
        return windows / windows[:, :1], windows[:, 0]


def _train(network: nn.Module, inputs: Tensor, targets: Tensor, weight_decay: float) -> nn.Module:
    """The network with the weights of its best epoch on the last fifth of the examples."""
    cut = round(FIT_SHARE * len(inputs))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    kernels = [
        one for name, one in network.named_parameters() if "weight" in name and one.ndim == 2 and "hh" not in name
    ]
    best, kept = float("inf"), network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(cut).split(BATCH):  # type: ignore[no-untyped-call]  # of torch
            penalty = weight_decay * sum((one**2).sum() for one in kernels) if weight_decay else 0.0
            loss = nn.functional.mse_loss(network(inputs[batch]), targets[batch]) + penalty
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.eval()
        with torch.no_grad():
            found = float(nn.functional.mse_loss(network(inputs[cut:]), targets[cut:]))
        if found < best:
            best = found
            kept = {name: one.clone() for name, one in network.state_dict().items()}
    network.load_state_dict(kept)
    return network
