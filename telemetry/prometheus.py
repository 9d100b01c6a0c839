"""Metrics of a long-lived server: kept in its process or processes until Prometheus scrapes them."""

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

# a second, unused series for every counter
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_MODES = {"sum": "livesum", "newest": "mostrecent"}
_FILE_OF_PROCESS = re.compile(r"\w+_(\d+)\.db")


class PrometheusMeter:
    """All METRICS in a registry of its own.

    Args:
        folder: PROMETHEUS_MULTIPROC_DIR, which must be set before ``prometheus_client`` is imported. The processes of
            one server share it, and each exposes the measurements of all. None for a single process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._exposed = CollectorRegistry()
        own = self._exposed if folder is None else None  # with a folder, values are read from there instead
        self._metrics = {metric.name: _collector(metric, own) for metric in METRICS}
        for metric in METRICS:
            for labels in metric.initial_labels:
                self._metrics[metric.name].labels(*labels)
        if folder is None:
            prometheus_client.ProcessCollector(registry=self._exposed)
            prometheus_client.GCCollector(registry=self._exposed)
        else:
            MultiProcessCollector(self._exposed, path=str(folder))  # type: ignore[no-untyped-call]

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        collector = self._metrics[metric.name]
        series = collector.labels(**labels) if labels else collector
        if isinstance(series, Counter):
            series.inc(value)
        elif isinstance(series, Gauge):
            series.set(value)
        elif isinstance(series, Histogram):
            series.observe(value)

    def flush(self) -> None:
        pass

    @property
    def process_ids(self) -> tuple[int, ...]:
        if self._folder is None:
            return (os.getpid(),)
        return tuple(sorted(pid for pid in self._known_processes() if is_alive(pid)))

    def exposition(self, accept: str) -> Exposition:
        self._forget_dead_processes()
        try:
            encode, media_type = choose_encoder(accept)
        except (ValueError, TypeError):  # an OpenMetrics version that is not a number
            encode, media_type = choose_encoder("")
        return Exposition(encode(self._exposed), media_type)

    def total(self, metric: Metric) -> float:
        self._forget_dead_processes()
        samples = (sample for family in self._exposed.collect() for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == metric.name)

    def _forget_dead_processes(self) -> None:
        """Drop the gauges of ended processes; their counters stay."""
        if self._folder is not None:
            for pid in self._known_processes() - {*self.process_ids}:
                mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]

    def _known_processes(self) -> set[int]:
        assert self._folder is not None  # noqa: S101 - callers check it
        found = (_FILE_OF_PROCESS.fullmatch(path.name) for path in self._folder.glob("*.db"))
        return {int(process[1]) for process in found if process}


def _collector(metric: Metric, registry: CollectorRegistry | None) -> MetricWrapperBase:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        mode = _MODES[metric.multiprocess_mode]
        return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
