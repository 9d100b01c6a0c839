"""Stored models that must not be served: each is a change to the card or the files of a sound one."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.base import QUANTILE_GRID
from models.fitting import NETWORK
from schemas.card import ModelCard
from services.storage.registry import file_report

HORIZON, LEVELS = 30, len(QUANTILE_GRID)

Files = dict[str, bytes]
Document = dict[str, Any]


def sealed(card: ModelCard, files: Mapping[str, bytes]) -> bytes:
    """The card as JSON with the checksums of these files."""
    document = card.model_dump(mode="json")
    document["files"] = {name: file_report(content).model_dump() for name, content in files.items()}
    return json.dumps(document).encode()


def hostile_cards(card: ModelCard) -> Iterator[tuple[str, bytes]]:
    """Cards by what is wrong with them."""
    sound = card.model_dump_json().encode()
    yield "empty", b""
    yield "truncated", sound[: len(sound) // 2]
    yield "no text", b"\xff\xfe\x00" * 50
    yield "null", b"null"
    yield "a list", b"[" + sound + b"]"
    yield "deep", b'{"format_version":' + b"[" * 100_000
    yield "100 MB", b" " * 100_000_000 + sound
    yield "a surrogate", sound.replace(b'"return_lstm"', b'"\\ud800"')
    yield "twice the same key", sound[:-1] + b',"horizon":-1}'
    changes: tuple[tuple[str, Any], ...] = FIELDS
    for name, odd in changes:
        document: Any = json.loads(sound)
        *parents, last = name.split(".")
        place: Any = document
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        if odd is MISSING:
            del place[last]
        else:
            place[last] = odd
        text = json.dumps(document)
        yield f"{name}={str(odd)[:40]}", text.replace('"HUGE"', "1e999").encode()


MISSING = object()
_ODD: tuple[Any, ...] = (MISSING, None, "", "x", [], {}, -1, 0, 1.5, 10**30, -(10**400), float("nan"), float("inf"))
FIELDS: tuple[tuple[str, Any], ...] = (
    *((name, value) for name in ("lookback", "horizon") for value in (*_ODD, 1001, 251, 10**9, True)),
    *(("format_version", value) for value in (MISSING, None, "x", 0, -1, 1, True, 1.0, [], float("nan"))),
    *(("quantile_levels", value) for value in (MISSING, None, [], {}, "x", [0.5], [0.9, 0.5, 0.1], [0, 0.5, 1])),
    *(("quantile_levels", value) for value in ([0.1, 0.5, float("nan")], [-1, 0.5, 2], [0.1, 0.1, 0.5, 0.6, 0.7])),
    ("quantile_levels", [0.1, 0.2, 0.3]),
    ("quantile_levels", [0.1, 0.2, 0.5, 0.9]),
    ("quantile_levels", [0.5] * LEVELS),
    ("quantile_levels", ["HUGE"] * LEVELS),
    *(("model", value) for value in (MISSING, None, "x", 1, [], "persistence")),
    *(("model_id", value) for value in (MISSING, None, "x", "../../etc/passwd", "", 1, "a" * 1000)),
    *(("created_at", value) for value in (MISSING, None, "yesterday", [], "HUGE")),
    *(("series", value) for value in (MISSING, None, [], {}, [1], [[]])),
    *(("series.0.split", value) for value in (MISSING, None, [], {"fit": None})),
    ("series.0.split.test", None),
    *(("series.0.ticker", value) for value in (MISSING, None, 1, "", "../x")),
    *(("series.0.data.last_session", value) for value in (MISSING, None, "2024-02-30", "HUGE", [])),
    *(("test", value) for value in (MISSING, None, [], {}, [1])),
    *(("test_closes_only", value) for value in (MISSING, None, [], {})),
    *(("files", value) for value in (MISSING, None, [], {}, {"model.onnx": None}, {NETWORK: {"sha256": "x"}})),
    ("files", {"../../secret": {"sha256": "0", "n_bytes": 1}}),
    ("files", {"a/b": {"sha256": "0", "n_bytes": 1}}),
    ("files", {"": {"sha256": "0", "n_bytes": 1}}),
    *(("hyperparameters", value) for value in (MISSING, None, [], 1)),
    ("hyperparameters", {"x": float("nan")}),
    ("hyperparameters", {"x": [{"y": "HUGE"}]}),
    *(("request", value) for value in (MISSING, None, [], "x", {}, {"ticker": 1}, {"epochs": -1})),
    *(("calibration", value) for value in (MISSING, None, "x", [])),
    *(("target_column", value) for value in (MISSING, None, "Volume")),
    *(("training.validation_losses", value) for value in (None, [float("nan")], ["HUGE"], "x")),
    *(("warnings", value) for value in (None, "x", [1])),
    *(("libraries", value) for value in (None, [1], {"x": 1})),
    *(("n_calibration", value) for value in (None, ["HUGE"], "x")),
    ("unknown", 1),
)


def hostile_calibrations(sound: bytes) -> Iterator[tuple[str, bytes]]:
    scores: list[list[float]] = json.loads(sound)
    yield "empty", b""
    yield "null", b"null"
    yield "a number", b"1"
    yield "no steps", b"[]"
    yield "a flat list", b"[1,2,3]"
    yield "texts", b'[["x"]]'
    yield "objects", b"[{}]"
    yield "deep", b"[" * 50_000
    yield "truncated", sound[:-5]
    yield "30 empty steps", json.dumps([[]] * HORIZON).encode()
    yield "one empty step", json.dumps([*scores[:-1], []]).encode()
    yield "one step too few", json.dumps(scores[:-1]).encode()
    yield "one step too many", json.dumps([*scores, scores[0]]).encode()
    yield "descending", json.dumps([step[::-1] for step in scores]).encode()
    yield "NaN", json.dumps([[*step[:-1], float("nan")] for step in scores]).encode()
    yield "infinity", json.dumps([[*step[:-1], float("inf")] for step in scores]).encode()
    yield "beyond a float", sound.replace(b"]]", b",1e999]]")
    yield "negative", json.dumps([[-1.0, *step] for step in scores]).encode()
    yield "beyond any price", json.dumps([[1e300] * 100 for _ in scores]).encode()
    yield "null scores", json.dumps([[None, *step] for step in scores]).encode()
    yield "20 MB", _list_of(_list_of(b"0.1", 200_000), len(scores))
    yield "a million steps", _list_of(b"[0.1]", 1_000_000)


def _list_of(item: bytes, times: int) -> bytes:
    """Written here, because ``json.dumps`` takes a second for 20 MB."""
    return b"[" + b", ".join([item] * times) + b"]"


Prices = NDArray[Any]


def network(
    nodes: list[onnx.NodeProto],
    initializers: Mapping[str, Prices] | None = None,
    *,
    lookback: int | str = 20,
    columns: int | str = 10,
    inputs: tuple[tuple[str, int, list[Any]], ...] | None = None,
    outputs: tuple[tuple[str, int, list[Any]], ...] | None = None,
) -> bytes:
    inputs = inputs or (("bars", TensorProto.DOUBLE, ["batch", lookback, columns]),)
    outputs = outputs or (("prices", TensorProto.DOUBLE, ["batch", HORIZON, LEVELS]),)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (initializers or {}).items()],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


FIRST = {"start": np.array([0, 3]), "stop": np.array([1, 4]), "axes": np.array([1, 2])}


def first_closes() -> onnx.NodeProto:
    """``closes``, the first close of each window, (batch, 1, 1)."""
    return helper.make_node("Slice", ["bars", "start", "stop", "axes"], ["closes"])


def constant_network(prices: Prices, columns: int = 10) -> bytes:
    """The first close of each window, times a table of quantiles, (30, 105)."""
    return answering([], {}, prices, columns)


def answering(
    nodes: list[onnx.NodeProto], initializers: Mapping[str, Prices], prices: Prices | None = None, columns: int = 10
) -> bytes:
    """A network that computes ``nodes`` and answers as a sound one, plus their ``sum`` where there are nodes."""
    node = helper.make_node
    scaled = node("Mul", ["closes", "table"], ["scaled" if nodes else "prices"])
    added = [node("Add", ["scaled", "sum"], ["prices"])] if nodes else []
    rows = (table() if prices is None else prices)[None].astype(np.float64)
    return network([*nodes, first_closes(), scaled, *added], {**initializers, **FIRST, "table": rows}, columns=columns)


def shaped(n_more: int, horizon: int, levels: int) -> bytes:
    """A network whose prices have another shape than it says: ``n_more`` windows than given, and the rest."""
    node = helper.make_node
    nodes = [
        node("Shape", ["bars"], ["given"]),
        node("Gather", ["given", "first"], ["n"]),
        node("Add", ["n", "more"], ["count"]),
        node("Concat", ["count", "rest"], ["shape"], axis=0),
        node("Expand", ["one", "shape"], ["prices"]),
    ]
    sizes = {"first": np.array([0]), "more": np.array([n_more]), "rest": np.array([horizon, levels])}
    return network(nodes, {**sizes, "one": np.ones((1, 1, 1))})


def table(edit: Callable[[Prices], object] = lambda _: None) -> Prices:
    prices = np.broadcast_to(1 + 0.1 * (np.array(QUANTILE_GRID) - 0.5), (HORIZON, LEVELS)).copy()
    edit(prices)
    return prices


def set_to(value: float, *place: Any) -> Callable[[Prices], None]:
    def edit(prices: Prices) -> None:
        prices[place] = value

    return edit


def hostile_networks(sound: bytes) -> Iterator[tuple[str, bytes]]:
    node, double = helper.make_node, TensorProto.DOUBLE
    rows = np.array([1, HORIZON, LEVELS])
    one = {"shape": rows, "value": np.ones(1)}
    expand = [node("Expand", ["value", "shape"], ["prices"])]
    yield "empty", b""
    yield "text", b"model"
    yield "truncated", sound[: len(sound) // 2]
    yield "twice", sound + sound
    yield "an empty graph", network([])
    yield "a number in", network(expand, one, inputs=(("x", double, []),))
    yield (
        "two inputs",
        network(expand, one, inputs=(("bars", double, ["batch", 20, 10]), ("more", double, ["batch", 20, 10]))),
    )
    yield (
        "two outputs",
        network(
            [*expand, node("Identity", ["bars"], ["more"])],
            one,
            outputs=(("prices", double, ["batch", HORIZON, LEVELS]), ("more", double, ["batch", 20, 10])),
        ),
    )
    yield "any lookback", network(expand, one, lookback="n")
    yield "any columns", network(expand, one, columns="n")
    yield "seven columns", network(expand, one, columns=7)
    yield "another lookback", network(expand, one, lookback=21)
    yield "a lookback of a billion", network(expand, one, lookback=10**9)
    yield "a lookback of zero", network(expand, one, lookback=0)
    yield "single floats in", network(expand, one, inputs=(("bars", TensorProto.FLOAT, ["batch", 20, 10]),))
    yield "texts in", network(expand, one, inputs=(("bars", TensorProto.STRING, ["batch", 20, 10]),))
    yield "a matrix in", network(expand, one, inputs=(("bars", double, ["batch", 20]),))
    yield "one window only", network(expand, one, inputs=(("bars", double, [1, 20, 10]),))
    for shape in (["batch", HORIZON, 7], ["batch", 31, LEVELS], ["batch", HORIZON], [], ["batch", "h", "n"]):
        yield f"prices of shape {shape}", network(expand, one, outputs=(("prices", double, shape),))
    cast = [node("Expand", ["value", "shape"], ["wide"]), node("Cast", ["wide"], ["prices"], to=1)]
    yield "single floats out", network(cast, one, outputs=(("prices", TensorProto.FLOAT, ["batch", HORIZON, LEVELS]),))
    yield "other prices than declared", shaped(0, 2, 3)
    yield "one price for all", shaped(0, 1, 1)
    yield "more windows than given", shaped(7, HORIZON, LEVELS)
    yield "no windows", shaped(-1, HORIZON, LEVELS)
    yield "a negative number of windows", shaped(-100, HORIZON, LEVELS)
    yield (
        "an index out of range",
        answering(
            [node("Gather", ["bars", "far"], ["g"], axis=1), node("ReduceSum", ["g"], ["sum"], keepdims=0)],
            {"far": np.array([10**6])},
        ),
    )
    yield (
        "a slice of nothing",
        answering(
            [node("Slice", ["bars", "from", "from", "only"], ["s"]), node("ReduceMax", ["s"], ["sum"], keepdims=0)],
            {"from": np.array([5]), "only": np.array([1])},
        ),
    )
    for name, edit in {
        "NaN": set_to(np.nan, ...),
        "one NaN": set_to(np.nan, 0, 50),
        "one NaN at the last step": set_to(np.nan, -1, -1),
        "infinite": set_to(np.inf, 0, -1),
        "minus infinity": set_to(-np.inf, 0, 0),
        "negative": set_to(-1.0, ...),
        "one negative": set_to(-1.0, 3, 0),
        "zero": set_to(0.0, ...),
        "one crossing": set_to(0.5, 0, 60),
        "near the largest float": set_to(1.7e308, ...),
    }.items():
        yield f"{name} prices", constant_network(table(edit))
    yield "descending prices", constant_network(table()[:, ::-1])
    yield "an unknown input", network([node("Add", ["bars", "nowhere"], ["prices"])])
    yield "a cycle", network([node("Add", ["a", "a"], ["prices"]), node("Add", ["prices", "prices"], ["a"])])
    yield from hungry_networks()


def summed(name: str) -> onnx.NodeProto:
    return helper.make_node("ReduceSum", [name], ["sum"], keepdims=0)


def filled(name: str, value: float, kind: type = np.float64) -> onnx.NodeProto:
    """``name``, of the shape ``size``."""
    return helper.make_node("ConstantOfShape", ["size"], [name], value=numpy_helper.from_array(np.array([value], kind)))


def hungry_networks() -> Iterator[tuple[str, bytes]]:
    """Networks of allowed operators that would take gigabytes."""
    node = helper.make_node
    yield "14 GB of zeros", answering([filled("big", 0.0), summed("big")], {"size": np.array([60_000, 30_000])})
    yield (
        "8 GB by an expansion",
        answering(
            [node("Expand", ["value", "size"], ["big"]), summed("big")],
            {"value": np.zeros(1), "size": np.array([10**9])},
        ),
    )
    yield (
        "more than a size can say",
        answering(
            [node("Expand", ["value", "size"], ["big"]), summed("big")],
            {"value": np.zeros(1), "size": np.array([2**31, 2**31, 2**31])},
        ),
    )
    for operator in ("Mul", "Add", "MatMul"):
        yield (
            f"8 GB by {operator} of a column and a row",
            answering(
                [node(operator, ["column", "row"], ["big"]), summed("big")],
                {"column": np.zeros((32_000, 1)), "row": np.zeros((1, 32_000))},
            ),
        )
    yield (
        "8 GB of copies",
        answering(
            [node("Gather", ["row", "zeros"], ["w"]), node("Concat", ["w"] * 2000, ["big"], axis=0), summed("big")],
            {"row": np.zeros(1), "zeros": np.zeros(500_000, dtype=np.int32)},
        ),
    )
    doubling = [node("Concat", [f"d{k}", f"d{k}"], [f"d{k + 1}"], axis=0) for k in range(40)]
    yield "a terabyte by doubling", answering([*doubling, summed("d40")], {"d0": np.zeros(8)})
    yield "1 GB that is kept alive", answering(
        [*(filled(f"k{k}", 0.0) for k in range(20)), node("Concat", [f"k{k}" for k in range(20)], ["big"], axis=0),
         summed("big")],
        {"size": np.array([10_000_000])},
    )  # fmt: skip


def slow_networks() -> Iterator[tuple[str, bytes]]:
    """Networks within every limit of size that still take minutes."""
    node = helper.make_node
    products = [node("MatMul", [f"m{k}", "m0"], [f"m{k + 1}"]) for k in range(2000)]
    yield (
        "2000 products of large matrices",
        answering([filled("m0", 0.0), *products, summed("m2000")], {"size": np.array([1500, 1500])}),
    )
    powers = [node("Pow", [f"p{k}", "e"], [f"p{k + 1}"]) for k in range(2000)]
    yield (
        "2000 powers of millions of numbers",
        answering(
            [filled("p0", 0.5), *powers, summed("p2000")], {"size": np.array([4_000_000]), "e": np.array([1.0001])}
        ),
    )
    inputs = [node("Add", ["x", f"c{k}"], [f"x{k}"]) for k in range(50)]  # equal ones would run once
    lstms = [node("LSTM", [f"x{k}", "w", "r"], [f"y{k}"], hidden_size=256) for k in range(50)]
    sums = [node("ReduceSum", [f"y{k}"], [f"s{k}"], keepdims=0) for k in range(50)]
    yield (
        "50 LSTMs of 20,000 steps",
        answering(
            [
                filled("x", 0.0, np.float32),
                *(one for parts in zip(inputs, lstms, sums, strict=True) for one in parts),
                node("Max", [f"s{k}" for k in range(50)], ["s"]),
                node("Cast", ["s"], ["sum"], to=TensorProto.DOUBLE),
            ],
            {
                **{f"c{k}": np.array(k, np.float32) for k in range(50)},
                "size": np.array([20_000, 1, 4]),
                "w": np.zeros((1, 1024, 4), np.float32),
                "r": np.zeros((1, 1024, 256), np.float32),
            },
        ),
    )


def hostile_parameters(sound: Mapping[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Kind of model, what is wrong, and the file; ``sound`` has the parameters of each kind."""
    for kind, content in sound.items():
        document = json.loads(content)
        yield kind, "empty", b""
        yield kind, "a list", b"[]"
        yield kind, "truncated", content[:-2]
        yield kind, "unknown field", json.dumps({**document, "unknown": 1}).encode()
        for name in document:
            yield kind, f"without {name}", json.dumps({k: v for k, v in document.items() if k != name}).encode()
            for value in ODD_PARAMETERS:
                text = json.dumps({**document, name: value})
                yield kind, f"{name}={str(value)[:30]}", text.replace('"HUGE"', "1e999").encode()
        if "quantiles" in document:
            rows: Any = document["quantiles"]
            reverse = [row[::-1] for row in rows] if isinstance(rows[0], list) else rows[::-1]
            yield kind, "descending quantiles", json.dumps({**document, "quantiles": reverse}).encode()
            yield kind, "a row too few", json.dumps({**document, "quantiles": rows[:-1]}).encode()
        for edit, value in TREES if "trees" in document else ():
            changed = json.loads(content)
            changed["trees"][0][edit] = value
            yield kind, f"{edit} of the trees {str(value)[:20]}", json.dumps(changed).encode()


ODD_PARAMETERS: tuple[Any, ...] = (
    None, "x", [], {}, [[]], [[[]]], "HUGE", ["HUGE"], float("nan"), -(10**400), [None], [float("nan")] * LEVELS,
)  # fmt: skip
TREES: tuple[tuple[str, Any], ...] = (
    ("roots", [10**9]), ("roots", [-1]), ("left", [-1]), ("left", [0] * 3), ("value", []), ("feature", [10**30]),
    ("baseline", None), ("threshold", [None]), ("missing_left", ["x"]),
)  # fmt: skip
