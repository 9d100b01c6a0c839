"""The loss of the point networks, their optimiser, and nothing else."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.lstm.loop import TimedModule
from models.lstm.point_networks import PointNetwork

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of forecasts and targets, (batch,) each: their mean, a scalar."""


class Batch(NamedTuple):
    """Scaled closes, float32: windows (batch, lookback) and the close after each, (batch,)."""

    windows: Tensor
    target: Tensor


class PointModule(TimedModule):
    """Trains a point network on the next close.

    Args:
        network: what is trained, in place.
        loss: between forecast and target, both scaled.
        learning_rate: of Adam.
        decay: what the learning rate is multiplied by after every step.
        l2: added to the loss per squared weight that the network wants shrunk.
    """

    network: PointNetwork

    def __init__(self, network: PointNetwork, loss: Loss, *, learning_rate: float, decay: float, l2: float) -> None:
        super().__init__(network)
        self.loss = loss
        self.learning_rate = learning_rate
        self.decay = decay
        self.l2 = l2

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of the batch and the penalty."""
        penalty = sum((weight.square().sum() for weight in self.network.shrunk), start=torch.zeros(()))
        return self._error(batch) + self.l2 * penalty

    def validation_loss(self, batch: Batch) -> float:
        """Loss without the penalty: what is wanted is a near forecast, not a small network."""
        return float(self._error(batch))

    def configure_optimizers(self) -> Optimizer:
        """Adam."""
        trained = (parameter for parameter in self.network.parameters() if parameter.requires_grad)
        return torch.optim.Adam(trained, lr=self.learning_rate)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Slow down from step to step; torch's schedulers warn of a fit whose budget ends before its first."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * self.decay**self.global_step

    def _error(self, batch: Batch) -> Tensor:
        return self.loss(self.network.next_scaled(batch.windows), batch.target)
