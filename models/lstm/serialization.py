"""A network as bytes: safetensors to resume, ONNX to serve; never pickle."""

import dataclasses
import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar, overload

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from errors import ArtifactCorrupt
from models.base import N_COLUMNS, N_INPUTS, QUANTILE_GRID
from models.fitting import NETWORK, WEIGHTS, FittedModel
from models.lstm.loop import LoopReport
from models.lstm.network import NetworkConfig, ReturnLSTM
from models.lstm.point_networks import PointConfig, PointNetwork, PriceLSTM, RatioLSTM

OPSET = 17

Network = ReturnLSTM | PointNetwork
N = TypeVar("N", bound=Network)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The name of a network in the header of its weights, and how it is built from the header's config."""

    name: str
    build: Callable[..., Network]


_UNNAMED = "return_lstm"  # the first kind has no name in its header, so that its bytes stay the same
_KINDS: Mapping[type[nn.Module], _Kind] = {
    ReturnLSTM: _Kind(_UNNAMED, lambda **config: ReturnLSTM(NetworkConfig(**config))),
    PriceLSTM: _Kind("price_lstm", lambda **config: PriceLSTM(PointConfig(**config))),
    RatioLSTM: _Kind("ratio_lstm", lambda **config: RatioLSTM(PointConfig(**config))),
}


def to_fitted_model(network: Network, recipe: Mapping[str, JsonValue], report: LoopReport) -> FittedModel:
    return FittedModel(
        files={WEIGHTS: to_bytes(network), NETWORK: to_onnx(network)},
        quantile_levels=QUANTILE_GRID,
        hyperparameters={**dataclasses.asdict(network.config), **recipe},
        best_epoch=report.best_epoch,
        validation_losses=report.validation_losses,
        stopped_by=report.stopped_by,
    )


def to_bytes(network: Network) -> bytes:
    """The weights as safetensors, with the kind and the shape of the network in their header."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    config = dataclasses.asdict(network.config)
    kind = _KINDS[type(network)].name
    header = config if kind == _UNNAMED else {"kind": kind, **config}
    return bytes(save(state, metadata={"config": json.dumps(header)}))


@overload
def from_bytes(weights: bytes) -> ReturnLSTM: ...
@overload
def from_bytes(weights: bytes, wanted: type[N]) -> N: ...
def from_bytes(weights: bytes, wanted: type[nn.Module] = ReturnLSTM) -> nn.Module:
    """The inverse of ``to_bytes``.

    Args:
        weights: the bytes of ``to_bytes``.
        wanted: the expected kind of network.

    Raises:
        ArtifactCorrupt: the bytes are not the weights of such a network.
    """
    kind = _KINDS[wanted]
    try:
        state = load(weights)
        config = _config(weights)
        found = config.pop("kind", _UNNAMED)
        if found != kind.name:
            raise ArtifactCorrupt(f"expected the weights of a {kind.name}, found those of a {found}")
        network = kind.build(**config)
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactCorrupt("the stored weights are not readable") from error
    return network.eval()


def _config(weights: bytes) -> dict[str, JsonValue]:
    header_size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + header_size])
    return {**json.loads(header["__metadata__"]["config"])}


def to_onnx(network: Network) -> bytes:
    """The whole network, from bars (batch, lookback, 5 or 10) to prices (batch, horizon, n_levels), any batch."""
    columns = N_INPUTS if isinstance(network, ReturnLSTM) else N_COLUMNS
    example = torch.ones(1, network.config.lookback, columns, dtype=torch.float64)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # the exporter called legacy keeps LSTM nodes whole, and takes 0.2 s instead of 12
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)  # only shapes are compared
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size other than 1")
        torch.onnx.export(
            network,
            (example,),
            buffer,  # type: ignore[arg-type]  # the legacy exporter writes to any binary file
            dynamo=False,
            opset_version=OPSET,
            input_names=["bars"],
            output_names=["prices"],
            dynamic_axes={"bars": {0: "batch"}, "prices": {0: "batch"}},
        )
    return buffer.getvalue()
