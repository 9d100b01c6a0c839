"""The state of a training between two epochs as bytes: safetensors with a JSON header; never pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from errors import ArtifactCorrupt

FORMAT_VERSION = 1

Tensors = dict[str, Tensor]


class LoopState(BaseModel):
    """The part of a checkpoint without tensors.

    Attributes:
        epoch: finished passes over the fit block.
        n_steps: finished steps of the optimiser.
        losses: on the early-stopping block, of every epoch.
        best_epoch, best_loss: of the best weights so far.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    epoch: int
    n_steps: int
    losses: tuple[float, ...]
    best_epoch: int
    best_loss: float


@dataclass(frozen=True, eq=False)
class FitState:
    """A training after a finished epoch.

    Attributes:
        loop: counts and losses.
        module: network and loss, by name.
        optimizer: the optimiser's tensors, by ``{parameter}.{name}``.
        best: the best weights of the network; empty where no epoch is chosen.
    """

    loop: LoopState
    module: Tensors
    optimizer: Tensors
    best: Tensors

    @classmethod
    def of(
        cls, loop: LoopState, module: nn.Module, optimizer: Optimizer, best: Mapping[str, Tensor] | None
    ) -> "FitState":
        state = optimizer.state_dict()["state"]
        tensors = {f"{number}.{name}": one for number, each in state.items() for name, one in each.items()}
        return cls(loop, dict(module.state_dict()), tensors, dict(best or {}))

    def restore(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Give module and optimiser this state; learning rates stay, because they follow from the number of steps."""
        module.load_state_dict(self.module)
        state: dict[int, Tensors] = {}
        for key, tensor in self.optimizer.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


_PARTS = ("module", "optimizer", "best")


def to_bytes(state: FitState) -> bytes:
    tensors = {
        f"{part}:{name}": tensor.detach().contiguous()
        for part in _PARTS
        for name, tensor in getattr(state, part).items()
    }
    return bytes(save(tensors, metadata={"loop": state.loop.model_dump_json()}))


def from_bytes(data: bytes) -> FitState:
    """The inverse of ``to_bytes``.

    Raises:
        ArtifactCorrupt: the bytes are not a checkpoint of this version.
    """
    try:
        tensors = load(data)
        header_size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_size])["__metadata__"]["loop"]
        loop = LoopState.model_validate_json(header)
    except (SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise ArtifactCorrupt("the checkpoint is not readable") from error
    if loop.format_version != FORMAT_VERSION:
        raise ArtifactCorrupt(f"the checkpoint has format {loop.format_version}, not {FORMAT_VERSION}")
    parts: dict[str, Tensors] = {part: {} for part in _PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition(":")
        parts[part][name] = tensor
    return FitState(loop, **parts)
