"""Measurements of a long-lived server: kept in the process, or its processes, until Prometheus asks for them."""

import os
import re
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from telemetry.measures import METRICS, Exposition, Metric
from telemetry.system import is_alive

# they would double every counter, and nobody asks for them
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_MODES = {"sum": "livesum", "newest": "mostrecent"}
_FILE_OF_PROCESS = re.compile(r"\w+_(\d+)\.db")


class PrometheusMeter:
    """Everything in the catalogue, in a registry of its own.

    Where PROMETHEUS_MULTIPROC_DIR was set when ``prometheus_client`` was imported, the
    processes of one server share that folder, and whichever is asked answers for all.

    Args:
        folder: what that variable names; None when there is one process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._exposed = CollectorRegistry()
        own = self._exposed if folder is None else None  # what is shared is read from the folder instead
        self._metrics = {measure.name: _metric(measure, own) for measure in METRICS}
        for measure in METRICS:
            for labels in measure.initial_labels:
                self._metrics[measure.name].labels(*labels)
        if folder is None:
            prometheus_client.ProcessCollector(registry=self._exposed)
            prometheus_client.GCCollector(registry=self._exposed)
        else:
            MultiProcessCollector(self._exposed, path=str(folder))  # type: ignore[no-untyped-call]

    def record(self, measure: Metric, value: float = 1.0, **labels: str) -> None:
        """Add to a counter, set a gauge, or put a value into a histogram."""
        metric = self._metrics[measure.name]
        series = metric.labels(**labels) if labels else metric
        if isinstance(series, Counter):
            series.inc(value)
        elif isinstance(series, Gauge):
            series.set(value)
        elif isinstance(series, Histogram):
            series.observe(value)

    def flush(self) -> None:
        """Nothing: Prometheus comes for it."""

    @property
    def process_ids(self) -> tuple[int, ...]:
        """This process, or the living ones that share the folder."""
        if self._folder is None:
            return (os.getpid(),)
        return tuple(sorted(pid for pid in self._known_processes() if is_alive(pid)))

    def exposition(self, accept: str) -> Exposition:
        """Everything measured so far, in a format that the ``Accept`` header names or the plain text."""
        self._forget_the_dead()
        try:
            encode, media_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is no number; anybody can send one
            encode, media_type = choose_encoder("")
        return Exposition(encode(self._exposed), media_type)

    def total(self, measure: Metric) -> float:
        """The sum over all series of a counter or a gauge."""
        self._forget_the_dead()
        samples = (sample for family in self._exposed.collect() for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == measure.name)

    def _forget_the_dead(self) -> None:
        """Let the gauges of processes that are gone count no more; what they counted stays."""
        if self._folder is not None:
            for pid in self._known_processes() - {*self.process_ids}:
                mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]

    def _known_processes(self) -> set[int]:
        """Every process that ever counted in the folder."""
        assert self._folder is not None  # noqa: S101 - asked only then
        found = (_FILE_OF_PROCESS.fullmatch(path.name) for path in self._folder.glob("*.db"))
        return {int(process[1]) for process in found if process}


def _metric(measure: Metric, registry: CollectorRegistry | None) -> MetricWrapperBase:
    if measure.kind == "counter":
        return Counter(measure.name, measure.help, measure.labels, registry=registry)
    if measure.kind == "gauge":
        mode = _MODES[measure.multiprocess_mode]
        return Gauge(measure.name, measure.help, measure.labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
    return Histogram(measure.name, measure.help, measure.labels, registry=registry, buckets=measure.buckets)
