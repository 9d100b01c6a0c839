"""The loss and the optimiser of the return network."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.lstm.loop import TimedModule
from models.lstm.network import Inputs, ReturnLSTM
from models.lstm.samples import ReturnBatch, ReturnWindows

LOSS_LEVELS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
WARM_UP = 0.1  # share of a scheduled training in which the learning rate rises


def crps(log_scale: Tensor, table: Tensor, actual: Tensor) -> Tensor:
    """Continuous ranked probability score from LOSS_LEVELS, (…, batch, horizon); zero where ``actual`` is NaN.

    Args:
        log_scale: (…, batch, horizon).
        table: standardized quantiles, (horizon, len(LOSS_LEVELS)).
        actual: log returns, (batch, horizon).

    Source: Laio and Tamea (2007), Hydrology and Earth System Sciences: twice the mean pinball loss.
    """
    levels = torch.tensor(LOSS_LEVELS)
    edges = torch.cat([torch.zeros(1), (levels[1:] + levels[:-1]) / 2, torch.ones(1)])
    known = ~torch.isnan(actual)
    error = torch.nan_to_num(actual)[..., None] - torch.exp(log_scale)[..., None] * table  # (…, batch, horizon, n)
    pinball = torch.maximum(levels * error, (levels - 1) * error)
    score: Tensor = 2 * (pinball * torch.diff(edges)).sum(-1) * known
    return score


class ReturnLSTMModule(TimedModule):
    """Trains all members on the same batches, each by its own loss; validates the ensemble.

    The loss is the mean CRPS of each step in units of that step's mean absolute return, so that all steps count, as
    ``step_weights`` say, and volatile days as much as they do in an average of CRPS.

    Args:
        network: trained in place.
        table: standardized quantiles to begin with, (horizon, len(LOSS_LEVELS)).
        units: mean absolute return of each step, (horizon,).
        step_weights: weight of each step in the loss, (horizon,), summing to one.
        learning_rate: of the LSTMs.
        core_share: of that learning rate for the regression, which starts near its optimum.
        weight_decay: of the LSTMs.
        n_steps: after which the learning rate has risen and fallen to zero; None for a constant one.
    """

    network: ReturnLSTM

    def __init__(
        self,
        network: ReturnLSTM,
        table: Tensor,
        units: Tensor,
        step_weights: Tensor,
        *,
        learning_rate: float,
        core_share: float,
        weight_decay: float,
        n_steps: int | None,
    ) -> None:
        super().__init__(network)
        self.table = nn.Parameter(table)
        self.units = units
        self.step_weights = step_weights
        self.learning_rate = learning_rate
        self.core_share = core_share
        self.weight_decay = weight_decay
        self.n_steps = n_steps

    def training_step(self, batch: ReturnBatch, batch_idx: int) -> Tensor:
        log_scales = self.network.member_log_scales(Inputs(batch.regressors, batch.sessions))
        score = crps(log_scales, self.table, batch.actual).mean(0).sum(0)
        return self._weighted(score, _n_known(batch.actual))

    def validation_loss(self, windows: ReturnWindows) -> float:
        score, n_known = torch.zeros_like(self.units), torch.zeros_like(self.units)
        for batch in windows.batches():
            log_scale = self.network.log_scale(Inputs(batch.regressors, batch.sessions))
            score += crps(log_scale, self.table, batch.actual).sum(0)
            n_known += _n_known(batch.actual)
        return float(self._weighted(score, n_known)) if n_known.any() else math.nan

    def _weighted(self, score: Tensor, n_known: Tensor) -> Tensor:
        return (score / n_known.clamp(min=1) / self.units * self.step_weights).sum()

    def configure_optimizers(self) -> Optimizer:
        """AdamW; weight decay and the full learning rate are for the LSTMs only."""
        recurrent: list[nn.Parameter] = []
        core: list[nn.Parameter] = [self.table]
        for name, parameter in self.network.named_parameters():
            (recurrent if name.startswith(("lstms", "heads")) else core).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": recurrent, "share": 1.0, "weight_decay": self.weight_decay},
                {"params": core, "share": self.core_share, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
        )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * group["share"] * self._pace(self.n_steps_done)

    def _pace(self, step: int) -> float:
        """Share of the learning rate at a step: a linear rise, then half a cosine."""
        if self.n_steps is None:
            return 1.0
        done = min(step / self.n_steps, 1.0)
        return done / WARM_UP if done < WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _n_known(actual: Tensor) -> Tensor:
    return (~torch.isnan(actual)).sum(0)


def mean_weights(horizon: int, decay: float) -> Tensor:
    """Weights of steps 1…horizon in the loss: step h counts h ** −decay, all summing to one."""
    weights = torch.arange(1, horizon + 1, dtype=torch.float32) ** -decay
    return weights / weights.sum()


def student_t_nll(actual: Tensor, location: Tensor, log_scale: Tensor, dof: Tensor) -> Tensor:
    """Negative log density of a location-scale Student-t, elementwise; location in units of scale."""
    z = actual * torch.exp(-log_scale) - location
    peak = torch.lgamma((dof + 1) / 2) - torch.lgamma(dof / 2) - 0.5 * torch.log(dof * math.pi)
    return log_scale - peak + (dof + 1) / 2 * torch.log1p(z**2 / dof)


def fit_regression(network: ReturnLSTM, known: ReturnBatch, step_weights: Tensor, ridge: float) -> None:
    """The volatility regression alone, by maximum likelihood of a Student-t on the full batch (L-BFGS)."""
    spread = known.regressors.std(0)
    network.centre.copy_(known.regressors.mean(0))
    network.spread.copy_(torch.where(spread > 1e-4, spread, torch.ones_like(spread)))
    n_known = _n_known(known.actual).clamp(min=1)
    variance = torch.nan_to_num(known.actual).square().sum(0) / n_known
    with torch.no_grad():
        network.regression.bias.copy_(0.5 * torch.log(variance + 1e-8) - 0.3)
    location = nn.Parameter(torch.zeros_like(variance))
    log_dof = nn.Parameter(torch.full_like(variance, math.log(4.0)))  # degrees of freedom beyond two
    fitted: Iterable[nn.Parameter] = [*network.regression.parameters(), location, log_dof]
    optimiser = torch.optim.LBFGS(fitted, max_iter=60, line_search_fn="strong_wolfe")
    outcomes, happened = torch.nan_to_num(known.actual), ~torch.isnan(known.actual)

    def closure() -> Tensor:
        optimiser.zero_grad()
        dof = 2.0 + torch.exp(log_dof.clamp(max=5.0))
        loss = student_t_nll(outcomes, location, network.regressed_log_scale(known.regressors), dof) * happened
        penalty = ridge * network.regression.weight.square().mean(1).sum()
        penalised: Tensor = (loss.sum(0) / n_known * step_weights).sum() + penalty
        penalised.backward()  # type: ignore[no-untyped-call]
        return penalised

    optimiser.step(closure)  # type: ignore[no-untyped-call]
