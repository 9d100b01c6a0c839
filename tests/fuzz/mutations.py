"""Changes to valid inputs: of JSON documents by their structure, of texts by lines and cells, of bytes anywhere."""

import copy
import json
import random
from typing import Any

import onnx

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 31, 1e-300, -0.5, 1.5, 1e300, -1e300, 10**18, 10**30, -(10**400), float("nan"),
    float("inf"), float("-inf"), "", " ", "x", "0", "1e5", "nan", "null", "2024-02-30", "2024-07-19", "9999-12-31",
    "0001-01-01T00:00:00+14:00", "../../etc/passwd", "ticker/../x", "\ud7ff", "\x00", "é" * 3, "A" * 300, [], {},
    [[]], [None], {"": None}, [0.5, 0.1], [1e999] * 3,
)  # fmt: skip
LARGE = 1e15
CELLS = (
    "",
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "1,5",
    "1.234,56",
    '"',
    "x",
    "2024-02-30",
    "31/12/2024",
    "\x00",
    " ",
    "é",
    "9" * 400,
)
BYTES = (b"", b"\x00", b"\xff", b"\xff\xfe", b"\n", b'"', b"{", b"]", b"1e999", b"NaN", b"-", b"\\ud800", b"A" * 999)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes replaced, inserted, removed or repeated."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.choice((0, 1, 4, 64, 10_000)))
        middle = rng.choice((rng.choice(BYTES), rng.randbytes(rng.choice((1, 2, 16))), content[start:stop] * 2))
        content = content[:start] + middle + content[stop:]
    return content


def mutated_json(document: Any, rng: random.Random) -> bytes:
    """Some values, at any depth, replaced, removed, repeated or swapped with others of the document."""
    if rng.random() < 0.1:
        return mutated_bytes(json.dumps(document).encode(), rng)
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        changed = _changed(changed, rng)
    return json.dumps(changed).replace("Infinity", "1e999").encode()


def _changed(document: Any, rng: random.Random) -> Any:
    parent, key = _place(document, rng)
    if parent is None:
        return rng.choice(ODD) if rng.random() < 0.05 else document
    kind = rng.randrange(6)
    value = parent[key]
    if kind == 0 and isinstance(parent, dict):
        del parent[key]
    elif kind == 0 or (kind == 1 and isinstance(parent, list)):
        parent.insert(key, value) if rng.random() < 0.5 else parent.pop(key)
    elif kind == 1:
        parent[str(rng.choice(("unknown", "", key.upper(), "a" * 50)))] = value
    elif kind == 2 and isinstance(value, int | float) and abs(value) < LARGE:  # false for NaN
        parent[key] = rng.choice((-value, value * 1e9, value + 1, value / 3, str(value), [value], int(value)))
    elif kind == 3:
        other, place = _place(document, rng)
        parent[key] = copy.deepcopy(value if other is None else other[place])
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD))
    return document


def _place(document: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container and a key of it, near the root more often."""
    place: tuple[Any, Any] = (None, None)
    while isinstance(document, dict | list) and document:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        place = (document, rng.choice(keys))
        document = document[place[1]]
        if rng.random() < 0.3:
            break
    return place


def mutated_text(text: str, rng: random.Random) -> bytes:
    """Lines and cells replaced, removed, repeated or moved; sometimes in another encoding."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not lines:
            break
        row = rng.randrange(len(lines))
        separator = next((one for one in (";", "\t", ",") if one in lines[row]), ",")
        cells = lines[row].split(separator)
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(rng.randrange(len(lines)), lines[row])
        elif kind == 1:
            lines.pop(row)
        else:
            column = rng.randrange(len(cells))
            cells[column] = rng.choice(CELLS) if kind < 4 else cells[rng.randrange(len(cells))]
            lines[row] = separator.join(cells)
    content = "\n".join(lines).encode(rng.choice(("utf-8",) * 8 + ("utf-16", "cp1252")), "replace")
    return mutated_bytes(content, rng) if rng.random() < 0.2 else content


def mutated_network(content: bytes, rng: random.Random) -> bytes:
    """Operators, inputs, attributes, weights and shapes changed; sometimes bytes of the file."""
    if rng.random() < 0.3:
        return mutated_bytes(content, rng)
    model = onnx.load_model_from_string(content)
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        node = rng.choice(graph.node)
        tensor = rng.choice(graph.initializer)
        kind = rng.randrange(7)
        if kind == 0:
            node.op_type = rng.choice(graph.node).op_type
        elif kind == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice((*names[:50], "", "bars", "nowhere"))
        elif kind == 2 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i, attribute.f = rng.choice((0, -1, 3, 10**9, 2**62)), rng.choice((0.0, -1.0, 1e30))
        elif kind == 3 and tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, -1, 7, 10**6, 2**40))
        elif kind == 4 and tensor.raw_data:
            tensor.raw_data = mutated_bytes(tensor.raw_data, rng)
        elif kind == 5:
            graph.node.remove(node)
        else:
            shape = rng.choice((graph.input[0], graph.output[0])).type.tensor_type.shape.dim
            if shape:
                rng.choice(shape).dim_value = rng.choice((0, 1, 5, 10, 30, 105, 10**6))
    return bytes(model.SerializeToString())
