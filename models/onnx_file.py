"""Refuses networks that this program has not exported: ONNX Runtime would run them, and read any file for weights.

A stored network may come from a bucket that others can write to. Only the operators of our own networks are accepted,
without subgraphs, loops and functions, and only weights that the file itself holds. Limits on their number and on the
size of an LSTM bound how long a run can take. The field numbers are those of
``onnx.proto``; protobuf reads the fields without ONNX's own package, which is large.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from errors import ArtifactCorrupt

MAX_BYTES = 8_000_000  # the largest of ours has under one
MAX_NODES = 10_000  # the largest of ours, whose 30 steps follow each other, has 2282
MAX_HIDDEN = 256  # units of an LSTM; ours have at most 64
_OPERATORS = (
    "Abs Add BatchNormalization Cast Clip Concat Constant ConstantOfShape Div Exp Expand Gather Gemm Greater Identity "
    "IsNaN LSTM Log MatMul Max Min Mul Neg Or Pow ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Shape Slice "
    "Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where"
)
OPERATORS = frozenset(_OPERATORS.split())

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 1, 3, 5, 10
_ATTRIBUTE_GRAPHS = (6, 11, 22, 23)  # graphs and sparse tensors
_TENSOR_EXTERNAL = (13, 14)  # where the weights lie outside the file

Field = tuple[int, object]


def validate_network(model: bytes) -> None:
    """Raise ArtifactCorrupt where the bytes are no network as this program exports it."""
    if len(model) > MAX_BYTES:
        raise ArtifactCorrupt(f"the stored network has {len(model)} bytes; the limit is {MAX_BYTES}")
    try:
        with _signals_held_back():
            _validate_model(model)
    except DecodeError as error:
        raise ArtifactCorrupt("the stored network is not readable as ONNX") from error


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Lets no handler of a signal raise here: protobuf crashes where that happens while it makes an UnknownFieldSet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _validate_model(model: object) -> None:
    for number, value in _fields(model):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ArtifactCorrupt("the stored network has functions of its own")
        if number == _MODEL_GRAPH:
            _validate_graph(value)


def _validate_graph(graph: object) -> None:
    parts = list(_fields(graph))
    n_nodes = sum(number == _GRAPH_NODE for number, _ in parts)
    if n_nodes > MAX_NODES:
        raise ArtifactCorrupt(f"the stored network has {n_nodes} operators; the limit is {MAX_NODES}")
    for number, value in parts:
        if number == _GRAPH_NODE:
            _validate_node(value)
            _validate_lstm(value)
        elif number == _GRAPH_INITIALIZER:
            _validate_tensor(value)
        elif number == _GRAPH_SPARSE:
            raise ArtifactCorrupt("the stored network has sparse weights")


def _validate_node(node: object) -> None:
    for number, value in _fields(node):
        if number == _NODE_OPERATOR and _text(value) not in OPERATORS:
            raise ArtifactCorrupt(f"the stored network has an operator of no network of ours, {_text(value)[:40]!r}")
        if number == _NODE_DOMAIN and _text(value):
            raise ArtifactCorrupt("the stored network has operators of another domain than ONNX's")
        if number == _NODE_ATTRIBUTE:
            for part, content in _fields(value):
                if part in _ATTRIBUTE_GRAPHS:
                    raise ArtifactCorrupt("the stored network has a graph within a graph")
                if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _validate_tensor(content)


def _validate_lstm(node: object) -> None:
    """Refuse a large LSTM: nothing stops it between two steps of its sequence."""
    parts = list(_fields(node))
    if not any(number == _NODE_OPERATOR and _text(value) == "LSTM" for number, value in parts):
        return
    attributes = [dict(_fields(value)) for number, value in parts if number == _NODE_ATTRIBUTE]
    sizes = [one.get(_ATTRIBUTE_INT) for one in attributes if _text(one.get(_ATTRIBUTE_NAME)) == "hidden_size"]
    if len(sizes) != 1 or not isinstance(sizes[0], int) or not 1 <= sizes[0] <= MAX_HIDDEN:
        raise ArtifactCorrupt(f"expected an LSTM of up to {MAX_HIDDEN} units in the stored network, found {sizes}")


def _validate_tensor(tensor: object) -> None:
    if any(number in _TENSOR_EXTERNAL and value != 0 for number, value in _fields(tensor)):
        raise ArtifactCorrupt("the stored network reads its weights from another file")


def _fields(message: object) -> Iterator[Field]:
    if not isinstance(message, bytes):
        raise DecodeError("expected a message")
    parsed = Empty()
    parsed.ParseFromString(message)
    for field in UnknownFieldSet(parsed):
        yield field.field_number, field.data


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
