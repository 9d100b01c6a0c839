"""Networks that are none of ours are refused before ONNX Runtime sees them."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from config import BUNDLED
from errors import ArtifactCorrupt
from models.base import QUANTILE_GRID
from models.fitting import NETWORK
from models.onnx_file import MAX_BYTES, MAX_HIDDEN, validate_network
from models.runtime import OnnxForecaster
from tests.hostile_models import constant_network, table

INTERRUPTED = """
import signal, sys
from pathlib import Path
from models.onnx_file import validate_network

class Stopped(BaseException):
    pass

def stop(*_):
    raise Stopped

network, interruptions = Path(sys.argv[1]).read_bytes(), 0
signal.signal(signal.SIGALRM, stop)
while interruptions < 2000:
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4 + interruptions % 50 * 1e-5)
        while True:
            validate_network(network)
    except Stopped:
        interruptions += 1
"""
OURS = (BUNDLED / NETWORK).read_bytes()
EARLIER = sorted(Path("tests/data").rglob(NETWORK))


def edited(edit: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_model_from_string(OURS)
    edit(model)
    return bytes(model.SerializeToString())


def external_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", ".env"), ("offset", "0"), ("length", "64")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def external_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["secret"], value=numpy_helper.from_array(np.zeros(8))))
    tensor = model.graph.node[-1].attribute[0].t
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def graph_in_a_known_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ImageDecoder", ["x"], ["y"]))


def other_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Add", ["x", "x"], ["y"], domain="com.microsoft"))


def graphs_in_a_known_operator(model: onnx.ModelProto) -> None:
    graphs = [helper.make_graph([], "inner", [], [])]
    model.graph.node[0].attribute.append(helper.make_attribute("bodies", graphs))


def sparse_constant(model: onnx.ModelProto) -> None:
    values, indices = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("i", 7, [1], [0])
    attribute = helper.make_attribute("sparse_value", helper.make_sparse_tensor(values, indices, [1]))
    model.graph.node[0].attribute.append(attribute)


def sparse_constants(model: onnx.ModelProto) -> None:
    values, indices = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("i", 7, [1], [0])
    attribute = helper.make_attribute("values", [helper.make_sparse_tensor(values, indices, [1])])
    model.graph.node[0].attribute.append(attribute)


def external_in_a_list(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(8))
    tensor.data_location = TensorProto.EXTERNAL  # without saying where
    model.graph.node[0].attribute.append(helper.make_attribute("values", [tensor]))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def function(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Add", ["x"], ["x"], [], opset))


def sparse_weights(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1]))


@pytest.mark.parametrize("content", [OURS, *(path.read_bytes() for path in EARLIER)])
def test_our_own_networks_pass(content: bytes) -> None:
    validate_network(content)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (external_weights, "reads its weights from another file"),
        (external_constant, "reads its weights from another file"),
        (loop, "operator of no network of ours, 'Loop'"),
        (graph_in_a_known_operator, "a graph within a graph"),
        (graphs_in_a_known_operator, "a graph within a graph"),
        (sparse_constant, "a graph within a graph"),
        (sparse_constants, "a graph within a graph"),
        (external_in_a_list, "reads its weights from another file"),
        (training, "functions of its own"),
        (unknown_operator, "operator of no network of ours, 'ImageDecoder'"),
        (other_domain, "operators of another domain"),
        (function, "functions of its own"),
        (sparse_weights, "sparse weights"),
    ],
)
def test_anything_else_is_corrupt_and_never_runs(edit: Callable[[onnx.ModelProto], None], message: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=message):
        OnnxForecaster(edited(edit), QUANTILE_GRID)


def test_a_file_larger_than_any_of_ours_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactCorrupt, match="has 8000001 bytes; the limit is 8000000"):
        validate_network(bytes(MAX_BYTES + 1))

    monkeypatch.setattr("models.onnx_file.MAX_BYTES", len(OURS))
    validate_network(OURS)


@pytest.mark.parametrize("sizes", [(), (0,), (MAX_HIDDEN + 1,), (64, 64), ("many",)])
def test_an_lstm_without_one_size_or_of_a_large_one_is_corrupt(sizes: tuple[int | str, ...]) -> None:
    with pytest.raises(ArtifactCorrupt, match="expected an LSTM of up to 256 units in the stored network"):
        validate_network(edited(lstm_of(*sizes)))


@pytest.mark.parametrize("size", [1, MAX_HIDDEN])
def test_an_lstm_of_an_ordinary_size_passes(size: int) -> None:
    validate_network(edited(lstm_of(size)))


def test_an_operator_that_is_only_described_as_an_lstm_passes() -> None:
    def described(model: onnx.ModelProto) -> None:
        model.graph.node[0].doc_string = "LSTM"

    validate_network(edited(described))


def lstm_of(*sizes: int | str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        node = helper.make_node("LSTM", ["x"], ["y"], clip=1.0)
        node.attribute.extend(helper.make_attribute("hidden_size", size) for size in sizes)
        model.graph.node.append(node)

    return edit


def test_a_network_of_more_operators_than_any_of_ours_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    n_nodes = len(onnx.load_model_from_string(OURS).graph.node)
    monkeypatch.setattr("models.onnx_file.MAX_NODES", n_nodes)
    validate_network(OURS)

    monkeypatch.setattr("models.onnx_file.MAX_NODES", n_nodes - 1)
    with pytest.raises(ArtifactCorrupt, match=f"has {n_nodes} operators; the limit is {n_nodes - 1}"):
        validate_network(OURS)


def test_weights_that_say_they_are_in_the_file_pass() -> None:
    def stated(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = TensorProto.DEFAULT

    validate_network(edited(stated))


def test_a_network_of_other_levels_or_columns_is_corrupt() -> None:
    with pytest.raises(ArtifactCorrupt, match=r"found 10 columns and 105 levels"):
        OnnxForecaster(OURS, QUANTILE_GRID[1:])
    with pytest.raises(ArtifactCorrupt, match=r"found 7 columns and 105 levels"):
        OnnxForecaster(constant_network(table(), columns=7), QUANTILE_GRID)


@given(place=st.integers(0, len(OURS) - 1), content=st.binary(min_size=1, max_size=64))
def test_damaged_bytes_pass_or_are_corrupt(place: int, content: bytes) -> None:
    damaged = OURS[:place] + content + OURS[place + len(content) :]
    with suppress(ArtifactCorrupt):
        validate_network(damaged)


def test_an_exception_of_a_signal_does_not_crash_the_process() -> None:
    subprocess.run([sys.executable, "-c", INTERRUPTED, str(BUNDLED / NETWORK)], check=True, timeout=120)
