"""Serves a trained model with ONNX Runtime: the only place that imports it, and no torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from errors import ArtifactCorrupt
from models.base import N_COLUMNS, N_INPUTS, Bars, Origins, QuantileForecast, with_columns
from models.onnx_file import validate_network
from models.windows import lookback_windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

BATCH = 256  # windows per run: bounds memory at about 25 MB whatever the number of origins


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
        self._session = _session(model)
        self._levels = np.asarray(quantile_levels, dtype=np.float64)
        self._input = self._session.get_inputs()[0].name
        _, lookback, self._columns = self._session.get_inputs()[0].shape
        _, horizon, n_levels = self._session.get_outputs()[0].shape
        if self._columns not in (N_COLUMNS, N_INPUTS) or n_levels != self._levels.size:
            raise ArtifactCorrupt(
                f"expected a network from {N_COLUMNS} or {N_INPUTS} columns to {self._levels.size} levels, "
                f"found {self._columns} columns and {n_levels} levels"
            )
        self.lookback = int(lookback)
        self.horizon = int(horizon)

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        """The distribution of the close at every step after every origin, see ``Forecaster``."""
        prices = np.empty((origins.size, self.horizon, self._levels.size))
        bars = with_columns(bars, self._columns)
        for first in range(0, origins.size, BATCH):
            batch = slice(first, first + BATCH)
            windows = lookback_windows(bars, origins[batch], self.lookback)
            (prices[batch],) = self._session.run(None, {self._input: np.ascontiguousarray(windows)})
        return QuantileForecast(self._levels, prices)


def _session(model: bytes) -> "InferenceSession":
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    validate_network(model)
    options = onnxruntime.SessionOptions()
    # one window takes less than a millisecond: more threads only wait for each other
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise ArtifactCorrupt("the stored network is not readable as ONNX") from error
