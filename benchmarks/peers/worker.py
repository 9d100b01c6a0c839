"""One method in a process of its own: ``python -m benchmarks.peers.worker METHOD STAGE FOLDER``.

FOLDER has the task. ``fit`` fits the method, forecasts from every origin and writes the quantiles; ``answer`` loads the
ready model, and measures the first answer and later ones, one ticker at a time. Both write METHOD.STAGE.json.
"""

import json
import re
import resource
import sys
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.peers.methods import METHODS
from benchmarks.peers.task import Method, Task, forecasts

TASK = {"fit": "task.npz", "answer": "questions.npz"}
ANSWERS = 10  # forecasts timed after the first


def main(name: str, stage: str, folder: Path) -> None:
    task = Task.load(folder / TASK[stage])
    ready = folder / "models" / name
    ready.mkdir(parents=True, exist_ok=True)
    method = METHODS[name].build(folder / "models")
    costs = _fit(method, task, ready, folder / f"{name}.npz") if stage == "fit" else _answer(method, task, ready)
    costs[f"{stage}_peak_mb"] = _peak_mb()
    (folder / f"{name}.{stage}.json").write_text(json.dumps(costs), encoding="utf-8")


def _fit(method: Method, task: Task, ready: Path, results: Path) -> dict[str, float]:
    before = _cpu_seconds()
    method.fit(task.known, ready)
    fitted = _cpu_seconds()
    method.load(ready)
    np.savez(results, allow_pickle=False, **forecasts(method, task))
    return {"fit_s": fitted - before, "forecasts_s": _cpu_seconds() - fitted}


def _answer(method: Method, task: Task, ready: Path) -> dict[str, float]:
    method.load(ready)
    method.forecast(task.tested[:1])
    first = _cpu_seconds()
    seconds = []
    for k in range(1, ANSWERS + 1):
        before = _cpu_seconds()
        method.forecast([task.tested[k % len(task.tested)]])
        seconds.append(_cpu_seconds() - before)
    return {"first_answer_s": first, "answer_s": median(seconds)}


def _cpu_seconds() -> float:
    """Processor time since the start of this process, with that of the processes that it has started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mb() -> float:
    """Most memory of this process. ``ru_maxrss`` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
