"""Metrics of a long-lived server: kept in its process or processes until Prometheus scrapes them."""

import logging
import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from telemetry.measures import METRICS, UNREADABLE_FILES, Exposition, Metric
from telemetry.system import is_alive

# a second, unused series for every counter
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_MODES = {"sum": "livesum", "newest": "mostrecent"}
_FILE_OF_PROCESS = re.compile(r"\w+_(\d{1,9})\.db")
_SET_ASIDE = ".unreadable"
# what prometheus_client raises for a file that it cannot open, or whose bytes are not those it writes
_DAMAGE = (OSError, struct.error, ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError)

log = logging.getLogger(__name__)


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
        if folder is not None:
            self._forget_dead_processes()
            _set_aside_unreadable(folder)
        self._metrics = {metric.name: _collector(metric, own) for metric in METRICS}
        self._updates: dict[tuple[object, ...], Callable[[float], object]] = {}  # by metric and labels, looked up once
        for metric in METRICS:
            for labels in metric.initial_labels:
                self._metrics[metric.name].labels(*labels)
        if folder is None:
            prometheus_client.ProcessCollector(registry=self._exposed)
            prometheus_client.GCCollector(registry=self._exposed)
        else:
            self._exposed.register(_FolderCollector(folder, lambda n: self.record(UNREADABLE_FILES, n)))

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        key = (metric.name, *labels.items())
        update = self._updates.get(key)
        if update is None:
            update = self._updates[key] = _update(self._metrics[metric.name], labels)
        update(value)

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
                try:
                    mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
                except FileNotFoundError:  # another process of the server was faster
                    pass
                except OSError as error:
                    log.warning("the gauges of ended process %d stay: %s", pid, error)

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


def _update(collector: MetricWrapperBase, labels: Mapping[str, str]) -> Callable[[float], object]:
    """What records a value in the series of these labels."""
    series = collector.labels(**labels) if labels else collector
    if isinstance(series, Counter):
        return series.inc
    if isinstance(series, Gauge):
        return series.set
    assert isinstance(series, Histogram)  # noqa: S101 - METRICS has no other kind
    return series.observe


class _FolderCollector(Collector):
    """The metrics in the files of all processes; a file that cannot be read is logged once, counted and skipped.

    Args:
        folder: of the files.
        count: called with the number of unreadable files when it changes, before the files are merged.
    """

    def __init__(self, folder: Path, count: Callable[[int], None]) -> None:
        self._folder = folder
        self._count = count
        self._unreadable: set[Path] | None = None  # not counted yet

    def collect(self) -> Iterable[Family]:
        paths = sorted(self._folder.glob("*.db"))
        found = _read(paths)  # not each file alone, which takes as long again
        reasons = _unreadable(paths) if isinstance(found, _Damage) else {}
        for path in reasons.keys() - (self._unreadable or set()):
            log.error("metrics file %s is skipped: %s", path, reasons[path].reason)
        is_new = reasons.keys() != self._unreadable
        if is_new:
            self._count(len(reasons))
            self._unreadable = set(reasons)
        if is_new or isinstance(found, _Damage):
            found = _read([path for path in paths if path not in reasons])
        if isinstance(found, _Damage):
            log.error("the metrics files of %s do not fit together: %s", self._folder, found.reason)
            return []
        return found


class _Damage(NamedTuple):
    """Why files cannot be read."""

    reason: str


def _unreadable(paths: Iterable[Path]) -> dict[Path, _Damage]:
    found = {path: _read([path]) for path in paths}
    return {path: damage for path, damage in found.items() if isinstance(damage, _Damage)}


def _read(paths: Sequence[Path]) -> "list[Family] | _Damage":
    """The metrics of the files together."""
    try:
        families = list(MultiProcessCollector.merge([str(path) for path in paths]))  # type: ignore[no-untyped-call]
        texts = {
            text
            for family in families
            for sample in family.samples
            for text in (family.name, sample.name, *sample.labels.values())
        }
    except _DAMAGE as error:
        return _Damage(str(error) or type(error).__name__)
    return families if all(isinstance(text, str) for text in texts) else _Damage("its labels are not texts")


def _set_aside_unreadable(folder: Path) -> None:
    """Rename the unreadable files that no living process writes, so that they are read and reported only once.

    This process may have the id of an ended one, and would not start on a damaged file of it.
    """
    for path, damage in _unreadable(sorted(folder.glob("*.db"))).items():
        process = _FILE_OF_PROCESS.fullmatch(path.name)
        if process is None or (int(process[1]) != os.getpid() and is_alive(int(process[1]))):
            continue
        log.error("metrics file %s of an ended process is set aside as *%s: %s", path, _SET_ASIDE, damage.reason)
        try:
            path.replace(path.with_name(path.name + _SET_ASIDE))
        except FileNotFoundError:  # another process of the server was faster
            pass
        except OSError:
            log.exception("metrics file %s cannot be renamed", path)
