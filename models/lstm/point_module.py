"""The loss and the optimiser of the point networks."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.lstm.loop import TimedModule
from models.lstm.point_networks import PointNetwork

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss, a scalar, of forecasts and targets, (batch,) each."""


class CloseBatch(NamedTuple):
    """Scaled closes, float32: windows (batch, lookback) and the close after each, (batch,)."""

    windows: Tensor
    target: Tensor


class PointModule(TimedModule):
    """Trains a point network on the next close.

    Args:
        network: trained in place.
        loss: between forecast and target, both scaled.
        learning_rate: of Adam.
        decay: factor of the learning rate after every step.
        l2: penalty on the squared weights of ``network.shrunk``.
    """

    network: PointNetwork

    def __init__(self, network: PointNetwork, loss: Loss, *, learning_rate: float, decay: float, l2: float) -> None:
        super().__init__(network)
        self.loss = loss
        self.learning_rate = learning_rate
        self.decay = decay
        self.l2 = l2

    def training_step(self, batch: CloseBatch, batch_idx: int) -> Tensor:
        penalty = sum((weight.square().sum() for weight in self.network.shrunk), start=torch.zeros(()))
        return self._error(batch) + self.l2 * penalty

    def validation_loss(self, batch: CloseBatch) -> float:
        """Loss without the penalty, which says nothing about the forecast."""
        return float(self._error(batch))

    def configure_optimizers(self) -> Optimizer:
        trained = (parameter for parameter in self.network.parameters() if parameter.requires_grad)
        return torch.optim.Adam(trained, lr=self.learning_rate)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Decay the learning rate; torch's schedulers warn where the budget ends before the first step."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * self.decay**self.n_steps_done

    def _error(self, batch: CloseBatch) -> Tensor:
        return self.loss(self.network.next_scaled(batch.windows), batch.target)
