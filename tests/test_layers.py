"""Holds who may import whom, which file is a library's only door, and who may ask the clock or the environment.

The rules are the four tables below. A rule speaks of dotted names, however they are
reached: ``import os; os.environ``, ``from os import environ`` and an alias are one.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_LAYERED = {"tests", "benchmarks", "tools"}  # they may reach anything

# An import points to an earlier row or stays in its own.
LAYERS = (
    ("client",),  # a distribution of its own
    ("at_once", "errors", "schemas", "telemetry"),
    ("models",),
    ("services",),
    ("clock", "config"),
    ("bootstrap",),
    ("routers", "server"),
    ("error_handlers", "app", "aws_lambda", "cli", "worker"),
)

# What a wing of services may import from services, besides itself; the rooms of use cases stand on all wings.
EVERY_WING = ("prices", "storage", "evaluation", "jobs")
WINGS: Mapping[str, tuple[str, ...]] = {
    "prices": (),
    "storage": (),
    "language": (),
    "evaluation": ("prices", "storage"),
    "analysis": ("prices", "language"),
    "webhooks": ("storage",),
    "jobs": ("storage", "webhooks"),
    "forecasting": EVERY_WING,
    "training": (*EVERY_WING, "backtest", "catalogue"),
    "monitoring": (*EVERY_WING, "forecasting"),
    "runs": (*EVERY_WING, "webhooks", "forecasting", "training", "monitoring", "backtest", "catalogue"),
}

LSTM = ("models/lstm/*",)
AWS = ("services/storage/s3.py", "services/jobs/aws_lambda.py")
WEB = ("routers/*", "server/*", "app.py", "aws_lambda.py", "error_handlers.py")
SETTINGS = ("config.py",)
CLOCK = ("clock.py",)
NOWHERE: tuple[str, ...] = ()

# The only files that may use a name, or anything inside it.
DOORS: Mapping[str, tuple[str, ...]] = {
    "torch": LSTM,
    "lightning": LSTM,
    "pytorch_lightning": LSTM,
    "safetensors": LSTM,
    "onnxruntime": ("models/runtime.py",),
    "google.protobuf": ("models/onnx_file.py",),
    "arch": ("models/baselines/gjr_garch.py",),
    "sklearn": ("models/baselines/gradient_boosting.py",),
    "threadpoolctl": ("models/baselines/gradient_boosting.py", "services/analysis/dependence.py"),
    "yfinance": ("services/prices/yahoo.py",),
    "exchange_calendars": ("services/prices/calendars.py",),
    "statsmodels": ("services/analysis/dependence.py", "services/analysis/seasonality.py"),
    "jinja2": ("services/analysis/page/html.py",),
    "httpx2": ("client/*", "cli/inline.py"),
    "stock_forecast_client": ("client/*", "cli/*"),
    "typer": ("cli/*",),
    "rich": ("cli/*",),
    "mcp": ("cli/mcp.py",),
    "matplotlib": ("cli/plots.py", "services/analysis/page/charts.py"),
    "pyarrow": ("services/runs/results.py",),
    "ray": ("services/jobs/ray.py",),
    "boto3": AWS,
    "botocore": AWS,
    "mypy_boto3_s3": AWS,
    "mypy_boto3_lambda": AWS,
    "prometheus_client": ("telemetry/prometheus.py",),
    "psutil": ("telemetry/system.py",),
    "fastapi": WEB,
    "fastapi_offline": WEB,
    "starlette": WEB,
    "uvicorn": ("server/*",),
    "mangum": ("aws_lambda.py",),
    "aws_lambda_powertools": ("telemetry/logs.py", "telemetry/embedded.py"),
    "pickle": NOWHERE,
    "joblib": NOWHERE,
    "dill": NOWHERE,
    "cloudpickle": NOWHERE,
    "shelve": NOWHERE,
    "marshal": NOWHERE,
    "os.environ": SETTINGS,
    "os.environb": SETTINGS,
    "os.getenv": SETTINGS,
    "os.putenv": SETTINGS,
    "dotenv": SETTINGS,
    "pydantic_settings": SETTINGS,
    "datetime.datetime.now": CLOCK,
    "datetime.datetime.utcnow": CLOCK,
    "datetime.datetime.today": CLOCK,
    "datetime.date.today": CLOCK,
    "time.time": CLOCK,
    "time.time_ns": CLOCK,
}


@dataclass(frozen=True)
class Use:
    """A dotted name that a module imports, or reaches through an import, such as ``os.environ``."""

    line: int
    name: str


def violations(path: str, source: str) -> list[str]:
    """One line for each rule the module breaks, naming the place, the import and the rule."""
    tree = ast.parse(source)
    imported = list(imports(path, tree))
    return [
        *above_its_layer(path, imported),
        *beside_its_wing(path, imported),
        *past_the_door(path, [*imported, *reached(path, tree)]),
    ]


def above_its_layer(path: str, imported: Sequence[Use]) -> Iterator[str]:
    own = layer_of(path.removesuffix(".py").split("/")[0])
    for use in imported:
        layer = layer_of(use.name.split(".")[0])
        if own is not None and layer is not None and layer > own:
            yield f"{path}:{use.line} imports {use.name}, which is in a layer above"


def beside_its_wing(path: str, imported: Sequence[Use]) -> Iterator[str]:
    wing = wing_of(path)
    if wing is None:
        return
    for use in imported:
        top, _, inside = use.name.partition(".")
        if top == "services" and inside.split(".")[0] not in (wing, *WINGS.get(wing, ())):
            yield f"{path}:{use.line} imports {use.name}, which the {wing} wing does not know"


def past_the_door(path: str, uses: Sequence[Use]) -> Iterator[str]:
    for name, doors in DOORS.items():
        found = next((use for use in uses if f"{use.name}.".startswith(f"{name}.")), None)
        if found is not None and not any(fnmatch(path, door) for door in doors):
            yield f"{path}:{found.line} uses {found.name}, whose door is {' or '.join(doors) or 'nowhere'}"


def layer_of(top: str) -> int | None:
    """The row a module or package of ours stands in; None for what is not ours."""
    return next((row for row, names in enumerate(LAYERS) if top in names), None)


def wing_of(path: str) -> str | None:
    folders = path.split("/")[:-1]
    return folders[1] if len(folders) > 1 and folders[0] == "services" else None


def imports(path: str, tree: ast.Module) -> Iterator[Use]:
    """What the module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Use(node.lineno, found.name) for found in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(path, node)
            yield from (Use(node.lineno, f"{origin}.{found.name}") for found in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (
                Use(node.lineno, str(named.value)) for named in node.args[:1] if isinstance(named, ast.Constant)
            )


def reached(path: str, tree: ast.Module) -> Iterator[Use]:
    """What the module reaches by attribute through its imports, by its full name: ``dt.now`` as ``datetime.…``."""
    origins = bound_names(path, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            top, _, rest = dotted(node).partition(".")
            if top in origins:
                yield Use(node.lineno, f"{origins[top]}.{rest}")


def bound_names(path: str, tree: ast.Module) -> dict[str, str]:
    """Each name an import binds in the module, with the full name it stands for."""
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            plain = {found.name.split(".")[0]: found.name.split(".")[0] for found in node.names if not found.asname}
            origins |= plain | {found.asname: found.name for found in node.names if found.asname}
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(path, node)
            origins |= {found.asname or found.name: f"{origin}.{found.name}" for found in node.names}
    return origins


def origin_of(path: str, node: ast.ImportFrom) -> str:
    """What stands between ``from`` and ``import``, with leading dots resolved."""
    folders = path.split("/")[: -node.level] if node.level else []
    return ".".join([*folders, *([node.module] if node.module else [])])


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for such an expression, an empty text for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def project_files() -> list[str]:
    """Every module that the rules are about, relative to the repository."""
    files = [path for path in ROOT.glob("*.py") if path.stem not in NOT_LAYERED]
    for package in ROOT.glob("*/__init__.py"):
        if package.parent.name not in NOT_LAYERED:
            files.extend(package.parent.rglob("*.py"))
    files.extend((ROOT / "client" / "stock_forecast_client").glob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


@pytest.mark.parametrize("path", project_files())
def test_module_imports_only_what_its_place_allows(path: str) -> None:
    found = violations(path, (ROOT / path).read_text(encoding="utf-8"))

    assert not found, "\n".join(["", *found])


def test_every_module_has_a_layer() -> None:
    tops = {path.removesuffix(".py").split("/")[0] for path in project_files()}

    assert {top for top in tops if layer_of(top) is None} == set()


def test_every_wing_has_its_rule() -> None:
    wings = {wing for path in project_files() if (wing := wing_of(path)) is not None}

    assert wings - WINGS.keys() == set()


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("schemas/card.py", "from models.base import Forecaster", "models.base.Forecaster"),
        ("services/training.py", "import config", "config"),
        ("services/training.py", "def late():\n    from config import Settings", "config.Settings"),
        ("services/training.py", "if TYPE_CHECKING:\n    from config import Settings", "config.Settings"),
        ("config.py", "from routers import up", "routers.up"),
        ("services/prices/cache/", "from services.storage.store import ArtifactStore", "services.storage.store"),
        ("services/storage/store.py", "from services import prices", "services.prices"),
        ("services/storage/store.py", "from ..prices import series", "services.prices.series"),
        ("models/base.py", "import torch", "torch"),
        ("models/base.py", "import torch.nn.functional as F", "torch.nn.functional"),
        ("models/base.py", "import importlib\nimportlib.import_module('torch')", "torch"),
        ("models/base.py", "__import__('torch')", "torch"),
        ("services/analysis/report.py", "from services.storage import store", "services.storage.store"),
        ("client/stock_forecast_client/errors.py", "from errors import AppError", "errors.AppError"),
        ("routers/models.py", "from stock_forecast_client import Client", "stock_forecast_client.Client"),
        ("app.py", "import pickle", "pickle"),
        ("services/training.py", "import os\nos.environ['HOME']", "os.environ"),
        ("services/training.py", "import os as system\nsystem.getenv('HOME')", "os.getenv"),
        ("services/training.py", "from os import environ", "os.environ"),
        ("services/training.py", "from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("services/training.py", "import datetime as dt\ndt.date.today()", "datetime.date.today"),
        ("services/training.py", "import time\ntime.time()", "time.time"),
        ("services/training.py", "import datetime\nclock = datetime.datetime.now", "datetime.datetime.now"),
    ],
)
def test_a_planted_violation_is_caught(path: str, source: str, found: str) -> None:
    caught = violations(path, source)

    assert len(caught) == 1
    assert caught[0].startswith(f"{path}:{len(source.splitlines())} ")
    assert found in caught[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/base.py", "import errors\nfrom schemas.card import ModelCard\nfrom models import windows"),
        ("services/evaluation/drift.py", "from services.prices import series\nfrom services.storage import store"),
        ("services/prices/cache/", "from . import series\nfrom .series import PriceSeries"),
        ("services/training.py", "from services.prices.series import PriceSeries"),
        ("models/lstm/network.py", "import torch\nfrom safetensors.torch import save"),
        ("services/storage/s3.py", "def late():\n    import boto3"),
        ("config.py", "import os\nos.environ['HOME']"),
        ("clock.py", "from datetime import datetime\ndatetime.now()"),
        ("services/training.py", "import time\ntime.monotonic()"),
        ("services/training.py", "import os\nos.replace('a', 'b')"),
        ("services/training.py", "from datetime import date, datetime\ndatetime(2024, 1, 2)"),
        ("services/training.py", "import torchmetrics"),
    ],
)
def test_what_the_rules_allow_is_not_reported(path: str, source: str) -> None:
    assert violations(path, source) == []
