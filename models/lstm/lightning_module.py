"""The loss and the optimiser of the return network."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.lstm.loop import TimedModule
from models.lstm.network import Inputs, ReturnLSTM


class ReturnBatch(NamedTuple):
    """Network inputs and targets: cumulative log returns (batch, horizon), NaN beyond the block."""

    regressors: Tensor
    sessions: Tensor
    actual: Tensor


def student_t_nll(actual: Tensor, location: Tensor, log_scale: Tensor, dof: Tensor) -> Tensor:
    """Negative log density of a location-scale Student-t, elementwise; location in units of scale."""
    z = actual * torch.exp(-log_scale) - location
    peak = torch.lgamma((dof + 1) / 2) - torch.lgamma(dof / 2) - 0.5 * torch.log(dof * math.pi)
    return log_scale - peak + (dof + 1) / 2 * torch.log1p(z**2 / dof)


def weighted_nll(network: ReturnLSTM, log_scale: Tensor, actual: Tensor, step_weights: Tensor) -> Tensor:
    """Mean loss over the known targets of each step, summed over steps by their weights.

    Args:
        network: whose location and degrees of freedom are used.
        log_scale: (…, batch, horizon).
        actual: (batch, horizon), NaN where unknown.
        step_weights: (horizon,), summing to one.
    """
    known = ~torch.isnan(actual)
    dof = network.degrees_of_freedom()
    loss = student_t_nll(torch.nan_to_num(actual), network.location, log_scale, dof) * known
    n_known = known.expand_as(loss).flatten(0, -2).sum(0)  # (horizon,)
    per_step = loss.flatten(0, -2).sum(0) / n_known.clamp(min=1)
    return (per_step * step_weights).sum()


class ReturnLSTMModule(TimedModule):
    """Trains all members on the same batches, each by its own loss; validates the ensemble.

    Args:
        network: trained in place.
        step_weights: weight of each step in the loss, (horizon,).
        learning_rate: of the LSTMs; the regression starts near its optimum and moves at a third of it.
        weight_decay: of the LSTMs.
    """

    network: ReturnLSTM

    def __init__(self, network: ReturnLSTM, step_weights: Tensor, *, learning_rate: float, weight_decay: float) -> None:
        super().__init__(network)
        self.step_weights = step_weights
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def training_step(self, batch: ReturnBatch, batch_idx: int) -> Tensor:
        log_scales = self.network.member_log_scales(Inputs(batch.regressors, batch.sessions))
        return weighted_nll(self.network, log_scales, batch.actual, self.step_weights)

    def validation_loss(self, batch: ReturnBatch) -> float:
        log_scale = self.network.member_log_scales(Inputs(batch.regressors, batch.sessions)).mean(0)
        return float(weighted_nll(self.network, log_scale, batch.actual, self.step_weights))

    def configure_optimizers(self) -> Optimizer:
        """AdamW; weight decay and the full learning rate are for the LSTMs only."""
        recurrent: list[nn.Parameter] = []
        core: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            (recurrent if name.startswith(("lstms", "heads")) else core).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": recurrent, "weight_decay": self.weight_decay},
                {"params": core, "lr": self.learning_rate / 3, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
        )
