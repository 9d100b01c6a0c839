"""The algorithms of the two original projects, written again from their descriptions. Both state a single price.

The first, a Lightning LSTM, scales closes between the minimum and the maximum of its training part and learns the
price of the next session. The second, a Keras LSTM, divides 60 closes by the first of them and learns the next ratio;
it feeds its forecasts back for further sessions. Both train on about the sessions that their authors used. Three
mistakes of the first are not repeated, because they would only make it worse: its target lies one session too
late, its last epoch is kept, and its test part stops the fit. Here the last fifth of what is known stops it.
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
BATCH = 32
MAX_EPOCHS = 30
PATIENCE = 5


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
            scale = self.scale_of(closes)
            network = _train(self.network(), *self.examples(closes.unfold(0, LOOKBACK + 1, 1), scale), self.weight_decay)
            save_file({**network.state_dict(), "scale": scale}, folder / f"{past.ticker}.safetensors")

    def load(self, folder: Path) -> None:
        for path in folder.glob("*.safetensors"):
            stored = load_file(path)
            scale, network = stored.pop("scale"), self.network()
            network.load_state_dict(stored)
            self._ready[path.stem] = network.eval(), scale

    @torch.no_grad()
    def forecast(self, pasts: Sequence[Past]) -> Values:
        """Each point is repeated at every level: a distribution without width, whose CRPS is the absolute error."""
        return np.array([np.repeat(self.points(past)[:, None], len(LEVELS), axis=1) for past in pasts])

    def points(self, past: Past) -> Values:
        """The path of closes, shape (HORIZON,)."""
        network, scale = self._ready[past.ticker]
        window = torch.tensor(past.closes[-LOOKBACK:], dtype=torch.float32)
        path = []
        for _ in range(HORIZON):
            path.append(self.price(network, window, scale).clamp(window[-1] / 2, window[-1] * 2))
            window = torch.cat([window[1:], path[-1][None]])
        return torch.stack(path).double().numpy()

    def scale_of(self, closes: Tensor) -> Tensor:
        """What is learnt from the training prices to scale others."""
        return torch.zeros(1)

    @abstractmethod
    def examples(self, windows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of windows that end with the target, shape (n, LOOKBACK + 1)."""

    @abstractmethod
    def price(self, network: nn.Module, window: Tensor, scale: Tensor) -> Tensor:
        """The next close."""


class First(Original):
    """Closes between the extremes of all training prices, to a price. Its own service forecasts one session only."""

    network = FirstNetwork

    def scale_of(self, closes: Tensor) -> Tensor:
        part = closes[: round(0.8 * len(closes))]
        return torch.stack([part.min(), part.max()])

    def examples(self, windows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return (windows[:, :-1] - scale[0]) / (scale[1] - scale[0]), windows[:, -1]

    def price(self, network: nn.Module, window: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = network(((window - scale[0]) / (scale[1] - scale[0]))[None])[0]
        return found


class Second(Original):
    """Closes divided by the first of the window, to the ratio of the next close to it."""

    network = SecondNetwork
    weight_decay = 5e-4

    def examples(self, windows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return windows[:, :-1] / windows[:, :1], windows[:, -1] / windows[:, 0]

    def price(self, network: nn.Module, window: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = window[0] * network((window / window[0])[None])[0]
        return found


def _train(network: nn.Module, inputs: Tensor, targets: Tensor, weight_decay: float) -> nn.Module:
    """The network with the weights of its best epoch on the last fifth of the examples."""
    cut = round(0.8 * len(inputs))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    kernels = [one for name, one in network.named_parameters() if "weight" in name and one.ndim == 2 and "hh" not in name]
    best, kept, waited = float("inf"), network.state_dict(), 0
    for _ in range(MAX_EPOCHS):
        network.train()
        for batch in torch.randperm(cut).split(BATCH):
            penalty = weight_decay * sum((one**2).sum() for one in kernels) if weight_decay else 0.0
            loss = nn.functional.mse_loss(network(inputs[batch]), targets[batch]) + penalty
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            found = float(nn.functional.mse_loss(network(inputs[cut:]), targets[cut:]))
        waited += 1
        if found < best:
            best, waited = found, 0
            kept = {name: one.clone() for name, one in network.state_dict().items()}
        if waited >= PATIENCE:
            break
    network.load_state_dict(kept)
    return network
