"""Serves a trained model with ONNX Runtime: the only place that imports it, and no torch.

A stored network may be hostile. ``models/onnx_file.py`` refuses what none of ours has; here every run has a bounded
share of memory, and the first run and those of many windows a time limit. A single window needs none afterwards: the
shapes inside a network depend on the number of windows alone, so that each run of one takes as long as the first.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from errors import ArtifactCorrupt
from models.base import N_COLUMNS, N_INPUTS, Bars, Origins, QuantileForecast, with_columns
from models.onnx_file import validate_network
from models.windows import lookback_windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, RunOptions

BATCH = 64  # windows per run: bounds memory at about 7 MB whatever the number of origins, most of it in the CPU's cache
FEW = 8  # windows: a thread of their own would cost more than they do
RUN_LIMIT_S = 10.0  # ours take 0.2 ms for a window and 3 ms for a batch
ENDS_WITHIN_S = 1.0  # what a stopped run may take to end its current operator before it is left alone
MEMORY_LIMIT = 512 * 1024 * 1024  # of all networks together
AT_ONCE = 8  # runs of many windows, so that they fit into MEMORY_LIMIT
REFUSED_S = 600.0  # for how long a network that was too slow is not tried again

_room = threading.BoundedSemaphore(AT_ONCE)
_too_slow: TTLCache[bytes, bool] = TTLCache(64, REFUSED_S)
_lock = threading.Lock()

_Prices = NDArray[np.float64]


class OnnxForecaster:
    """A network from windows of bars to price quantiles, loaded from its ONNX bytes.

    Args:
        model: the exported network: ``bars`` (batch, lookback, 5 or 10) float64 in,
            prices (batch, horizon, n_levels) float64 out.
        quantile_levels: levels of the last axis, ascending.

    Raises:
        ArtifactCorrupt: the bytes are no such network.
    """

    def __init__(self, model: bytes, quantile_levels: Sequence[float]) -> None:
        self._digest = sha256(model).digest()
        with _lock:
            if self._digest in _too_slow:
                raise _slow()
        self._session = _session(model)
        self._levels = np.asarray(quantile_levels, dtype=np.float64)
        self._input, self.lookback, self._columns = _port(self._session.get_inputs(), "input")
        _, self.horizon, n_levels = _port(self._session.get_outputs(), "output")
        self._tried = False
        if self._columns not in (N_COLUMNS, N_INPUTS) or n_levels != self._levels.size:
            raise ArtifactCorrupt(
                f"expected a network from {N_COLUMNS} or {N_INPUTS} columns to {self._levels.size} levels, "
                f"found {self._columns} columns and {n_levels} levels"
            )

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        """The distribution of the close at every step after every origin, see ``Forecaster``."""
        prices = np.empty((origins.size, self.horizon, self._levels.size))
        bars = with_columns(bars, self._columns)
        for first in range(0, origins.size, BATCH):
            batch = slice(first, first + BATCH)
            windows = lookback_windows(bars, origins[batch], self.lookback)
            prices[batch] = self._run(np.ascontiguousarray(windows))
        return QuantileForecast(self._levels, prices)

    def _run(self, windows: Bars) -> _Prices:
        try:
            if self._tried and len(windows) <= FEW:
                (prices,) = self._session.run(None, {self._input: windows})
            else:
                with _room:
                    (prices,) = self._within_limit(
                        lambda options: self._session.run(None, {self._input: windows}, options)
                    )
        except _onnx_errors() as error:
            raise ArtifactCorrupt("the stored network does not run") from error
        self._tried = True
        expected = (len(windows), self.horizon, self._levels.size)
        if prices.shape != expected:
            raise ArtifactCorrupt(f"expected prices of shape {expected} from the network, found {prices.shape}")
        return np.asarray(prices, dtype=np.float64)

    def _within_limit(self, run: "Callable[[RunOptions], list[_Prices]]") -> list[_Prices]:
        """The result of a run, which is given up after ``RUN_LIMIT_S``; it then ends with its current operator."""
        from onnxruntime import RunOptions

        options, future = RunOptions(), Future[list[_Prices]]()
        try:
            threading.Thread(target=_fulfil, args=(future, run, options), name="onnx_run", daemon=True).start()
            return future.result(RUN_LIMIT_S)
        except TimeoutError:
            with _lock:
                _too_slow[self._digest] = True
            raise _slow() from None
        finally:  # also where a signal has ended the wait: a process that ends while a network runs crashes
            options.terminate = True
            wait([future], ENDS_WITHIN_S)


def _fulfil(
    future: "Future[list[_Prices]]", run: "Callable[[RunOptions], list[_Prices]]", options: "RunOptions"
) -> None:
    try:
        future.set_result(run(options))
    except BaseException as error:  # noqa: BLE001 - it is raised again where the result is read
        future.set_exception(error)


def _slow() -> ArtifactCorrupt:
    return ArtifactCorrupt(f"the stored network was stopped: a forecast took more than {RUN_LIMIT_S:g} s")


def _port(ports: "Sequence[NodeArg]", which: str) -> tuple[str, int, int]:
    """Name and the two fixed dimensions of the only input or output: any number of windows, then those."""
    shape: Sequence[object] = ports[0].shape if len(ports) == 1 and ports[0].type == "tensor(double)" else ()
    match shape:
        case [str() | None, int(n), int(m)] if n > 0 and m > 0:
            return ports[0].name, n, m
    raise ArtifactCorrupt(f"expected one {which} of float64 with the shape (any, n, m) in the stored network")


def _session(model: bytes) -> "InferenceSession":
    import onnxruntime

    validate_network(model)
    _limit_memory()
    options = onnxruntime.SessionOptions()
    # one window takes less than a millisecond: more threads only wait for each other
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        # folding would run parts of the network before any limit holds, and makes ours no faster
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
    except _onnx_errors() as error:
        raise ArtifactCorrupt("the stored network is not readable as ONNX") from error


@cache
def _limit_memory() -> None:
    """Let all networks of the process share one bounded pool of memory."""
    import onnxruntime

    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    same_as_requested = 1  # not the next power of two
    onnxruntime.create_and_register_allocator(
        info, onnxruntime.OrtArenaCfg({"max_mem": MEMORY_LIMIT, "arena_extend_strategy": same_as_requested})
    )


@cache
def _onnx_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its own errors have no common class, and those of C++ become Python's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception))
    return (*own, RuntimeError, MemoryError, ValueError, OverflowError, IndexError)
