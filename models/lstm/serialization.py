"""A network as bytes: safetensors to resume, ONNX to serve; nothing is ever unpickled."""

import dataclasses
import io
import json
import warnings

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from errors import ArtifactCorrupt
from models.base import N_COLUMNS
from models.lstm.network import NetworkConfig, ReturnLSTM

OPSET = 17


def to_bytes(network: ReturnLSTM) -> bytes:
    """The weights as safetensors, with the shape of the network in their header."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    return bytes(save(state, metadata={"config": json.dumps(dataclasses.asdict(network.config))}))


def from_bytes(weights: bytes) -> ReturnLSTM:
    """The inverse of ``to_bytes``.

    Raises:
        ArtifactCorrupt: the bytes are no such weights.
    """
    try:
        state = load(weights)
        header_size = int.from_bytes(weights[:8], "little")
        config = json.loads(json.loads(weights[8 : 8 + header_size])["__metadata__"]["config"])
        network = ReturnLSTM(NetworkConfig(**config))
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactCorrupt("the stored weights are not readable") from error
    return network.eval()


def to_onnx(network: ReturnLSTM) -> bytes:
    """The whole network, from bars (batch, lookback, 5) to prices (batch, horizon, n_levels), any batch."""
    example = torch.ones(1, network.config.lookback, N_COLUMNS, dtype=torch.float64)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # the exporter that keeps LSTM nodes whole, in 0.2 s instead of 12, is called legacy
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)  # what it sees compared are shapes
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
