"""Mutation tests: change the code of a folder in one place at a time and see whether the folder's own tests fail.

python -m tools.mutants models                          100 mutants, drawn at random
python -m tools.mutants services/prices/csv --sample 50 --seed 7

The mutants are Cosmic Ray's, each run in a copy of the working tree. Left out are changes of annotations, and those to
an operator of another kind (``<`` to ``is``, ``+`` to ``<<``), which almost any call of the line would notice. Places
are drawn first, then one of the mutants of each: an operator with many substitutes counts once.
"""

import argparse
import ast
import difflib
import gc
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from hypothesis import Phase, settings

OTHER_TESTS = {
    "models": ["tests/contracts/test_forecaster.py"],
    "services/evaluation/backtesting.py": ["tests/services/test_backtest.py"],
    "services/prices": ["tests/contracts/test_price_source.py", "tests/test_dirty_prices.py"],
    "services/storage": ["tests/contracts/test_artifact_store.py"],
}
"""Of each folder, the tests outside its mirror in ``tests/`` that are its own."""
SAME_KIND = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitOr", "BitAnd", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"In", "NotIn"},
)
DOUBTFUL = ("ExceptionReplacer", "ReplaceBinaryOperator_Mul", "ReplaceBinaryOperator_Pow")
"""Operators that also change ``boto.ClientError`` in an ``except``, and the stars of a signature: not all is Python."""
LIMIT_S = 120  # of processor time, several times what the tests of a folder take: the mutant loops
WAIT_S = 1200  # by the clock: the mutant waits for what never comes
OPTIONS = (
    "-x -q -p no:xdist -p no:cacheprovider --hypothesis-profile=mutants "
    "-W ignore::pytest.PytestAssertRewriteWarning"  # of plugins that were imported before the fork
)


@dataclass(frozen=True)
class Mutant:
    """One change that an operator of Cosmic Ray makes to one node of a file."""

    path: Path
    source: str
    name: str
    operator: Operator
    row: int
    node: int
    variant: int

    def code(self) -> str:
        """The whole file with the change."""
        tree = get_ast(self.source)
        node = list(ast_nodes(tree))[self.node]
        siblings = node.parent.children if node.parent else []
        place = next(place for place, sibling in enumerate(siblings) if sibling is node)
        mutated = self.operator.mutate(node, self.variant)
        siblings[place : place + 1] = [] if mutated is None else [mutated]
        return str(tree.get_code())

    def is_python(self) -> bool:
        """Whether it can be made, and compiles."""
        try:
            compile(self.code(), self.path, "exec")
        except (AttributeError, SyntaxError):
            return False
        return True

    def described(self) -> str:
        """Where it is, and the lines that it changes."""
        lines = difflib.unified_diff(self.source.splitlines(), self.code().splitlines(), n=0, lineterm="")
        changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        return "\n".join([f"{self.path}:{self.row} {self.name}", *(f"    {line}" for line in changed)])


def main() -> None:
    """Print the mutants that survive, and how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="folders or files of one folder, relative to the root")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants; 0 for one in every place")
    parser.add_argument("--seed", type=int, default=0, help="chooses the mutants: the same seed, the same mutants")
    parser.add_argument("--nearest", action="store_true", help="run only the tests that are named after each file")
    arguments = parser.parse_args()
    files = sorted({file for path in arguments.paths for file in ([path] if path.is_file() else path.rglob("*.py"))})
    chosen = sample([place for file in files for place in places(file)], arguments.sample, arguments.seed)
    import_libraries()
    gc.freeze()
    survivors = 0
    with copy_of_tree() as tree:
        tests = {mutant.path: tests_of(mutant.path, nearest=arguments.nearest) for mutant in chosen}
        if not passes(tree, sorted(set(chain(*tests.values()))), mutated=False):
            sys.exit("the tests fail without any change")
        for number, mutant in enumerate(chosen, 1):
            (tree / mutant.path).write_text(mutant.code())
            if passes(tree, tests[mutant.path]):
                survivors += 1
                print(f"\n{number}/{len(chosen)} survived: {mutant.described()}")
            print(".", end="", flush=True)
            (tree / mutant.path).write_text(mutant.source)
    killed = len(chosen) - survivors
    print(f"\n{len(chosen)} mutants, {killed} killed ({killed / max(1, len(chosen)):.0%}), {survivors} survived")


def import_libraries() -> None:
    """Import what the tests need from elsewhere, once for all the processes that are forked from this one."""
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    import_module("tests.conftest")
    # no example of one mutant may fail another, and the first that fails is enough: shrinking it takes seconds
    unshrunk = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", deadline=None, database=None, derandomize=True, phases=unshrunk)
    root = Path.cwd()
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "/"))
        if file.is_relative_to(root) and not file.is_relative_to(root / ".venv"):
            del sys.modules[name]  # each process imports its own, mutated or not


def places(file: Path) -> list[list[Mutant]]:
    """The mutants of a file, those of one place together."""
    code = file.read_text()
    annotations = list(_annotations(ast.parse(code)))
    nodes = list(ast_nodes(get_ast(code)))
    by_place: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
    for name, operator in _operators():
        for number, node in enumerate(nodes):
            for variant, (place, _) in enumerate(operator.mutation_positions(node)):
                if any(start <= place < stop for start, stop in annotations):
                    continue
                mutant = Mutant(file, code, name, operator, place[0], number, variant)
                if not name.startswith(DOUBTFUL) or mutant.is_python():
                    by_place[place].append(mutant)
    return [by_place[place] for place in sorted(by_place)]


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def _operators() -> Iterator[tuple[str, Operator]]:
    for name in OperatorProvider():
        kind = OperatorProvider()[name]
        replaced = set(name.split("_")[1:]) if name.startswith(("ReplaceBinary", "ReplaceComparison")) else set()
        if not kind.arguments() and (not replaced or any(replaced <= same for same in SAME_KIND)):
            yield name, kind()


def sample(candidates: list[list[Mutant]], size: int, seed: int) -> list[Mutant]:
    """One mutant of each of ``size`` places, of every place where ``size`` is 0."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    chosen = draw.sample(candidates, min(size or len(candidates), len(candidates)))
    return [draw.choice(mutants) for mutants in chosen]


def tests_of(file: Path, *, nearest: bool) -> list[str]:
    """The tests of a file's folder, those named after the file first, and its doctests."""
    mirror = Path("tests") / file.parent
    names = [file.stem]
    if not mirror.is_dir():  # the tests of models/baselines are in tests/models
        names.append(mirror.name)
        mirror = mirror.parent
    tests = sorted(mirror.glob("test_*.py"))
    named = [test for test in tests if any(name in test.stem for name in names)]
    if nearest and named:
        return [str(file), *map(str, named)]
    others = [test for prefix, tests in OTHER_TESTS.items() if file.is_relative_to(prefix) for test in tests]
    return [str(file), *map(str, dict.fromkeys([*named, *tests])), *others]


@contextmanager
def copy_of_tree() -> Iterator[Path]:
    """A copy of the working tree, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is found on PATH
        capture_output=True,
        check=True,
    )
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if Path(name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, tree / name)
        yield tree


def passes(tree: Path, tests: list[str], *, mutated: bool = True) -> bool:
    """Whether the tests pass in the copy."""
    child = os.fork()
    if child == 0:
        _run(tree, tests, mutated)
    _, status = os.waitpid(child, 0)
    return status == 0


def _run(tree: Path, tests: list[str], mutated: bool) -> None:
    """Run the tests in this process, and end it."""
    status = 1
    try:
        os.chdir(tree)
        sys.path[0] = str(tree)
        if mutated:
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
            signal.alarm(WAIT_S)
            sys.dont_write_bytecode = True  # the next mutant may have the size and the second of this one
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
        status = int(pytest.main([*OPTIONS.split(), *tests]))
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
