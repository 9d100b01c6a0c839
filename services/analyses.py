"""Analyses of the same prices are computed once: kept in memory and in the store, and few are computed at once."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cachetools import LRUCache

from errors import AnalysisCapacityExceeded, AppError, ArtifactCorrupt, ArtifactNotFound
from schemas.analysis import AnalysisRequest
from schemas.common import Document
from schemas.keys import key_name
from services.analysis.report import analysis_of, history_to_analyse, page_of
from services.prices.series import PriceHistory, PriceSource
from services.storage.documents import read_document
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind

ANALYSES = "analyses/"
AT_ONCE = 1  # each keeps a core busy, and matplotlib is not thread-safe
MAX_WAITING = 8  # about 5 s of work; a server with more to do than that refuses
RETRY_AFTER_S = 5
IN_MEMORY = 32  # about 13 MB: a page has characters of two bytes

ROOT = Path(__file__).parents[1]
PROGRAM = ("services/analysis/**/*.py", "services/analysis/**/*.j2", "schemas/analysis.py")  # what decides the content
LIBRARIES = ("numpy", "scipy", "statsmodels", "matplotlib", "jinja2", "exchange_calendars")

log = logging.getLogger(__name__)


class KeptAnalysis(Document):
    """An answer as it was first sent; ``sha256`` is that of the body."""

    sha256: str
    body: str


@dataclass(frozen=True, eq=False)
class WantedAnalysis:
    """An analysis in one of its formats.

    Attributes:
        key: where it is kept; different prices, formats or programs have different keys.
        history: what is analysed.
        page: whether it is wanted as a page.
        kept: the body, where it is known already.
    """

    key: str
    history: PriceHistory
    page: bool
    kept: str | None = None

    def compute(self) -> str:
        """The body."""
        return page_of(self.history) if self.page else analysis_of(self.history).model_dump_json()


@dataclass(eq=False)
class _Computation:
    """One analysis, and how many callers wait for it."""

    body: Future[str]
    n_waiting: int = 0


class Analyses:
    """Answers with kept analyses, and computes the others one after another.

    Args:
        store: while it is unavailable, every process computes for itself.
        writer: writes new analyses in the background; a failure of either pauses both.
    """

    def __init__(self, store: ArtifactStore, writer: WriteBehind) -> None:
        self._store = store
        self._writer = writer
        self._in_memory: LRUCache[str, str] = LRUCache(IN_MEMORY)
        self._computations: dict[str, _Computation] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="analysis")

    def find(self, ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> WantedAnalysis:
        """What the request asks for, with the kept body if there is one.

        Raises:
            AnalysisUnavailable, InsufficientHistory, ZeroVariance, PricesInvalid: the prices cannot be analysed.
            TickerNotFound, UnknownExchange, UpstreamUnavailable: from the source.
        """
        history = history_to_analyse(ticker, request, prices, now)
        key = _key(history, request.format)
        with self._lock:
            kept = self._in_memory.get(key)
        if kept is None and (kept := self._read(key)) is not None:
            with self._lock:
                self._in_memory[key] = kept
        return WantedAnalysis(key, history, request.format == "html", kept)

    @contextmanager
    def computed(self, wanted: WantedAnalysis) -> Iterator[Future[str]]:
        """The body, which may still be computed; callers that want the same share one computation.

        A computation that has not begun when the last caller leaves the block is dropped.

        Raises:
            AnalysisCapacityExceeded: too many others wait.
        """
        with self._lock:
            computation = self._computation(wanted)
            computation.n_waiting += 1
        try:
            yield computation.body
        finally:
            with self._lock:
                computation.n_waiting -= 1
                if not computation.n_waiting and computation.body.cancel():
                    del self._computations[wanted.key]

    def _computation(self, wanted: WantedAnalysis) -> _Computation:
        kept = wanted.kept if wanted.kept is not None else self._in_memory.get(wanted.key)
        if kept is not None:
            body: Future[str] = Future()
            body.set_result(kept)
            return _Computation(body)
        if wanted.key not in self._computations:
            if len(self._computations) >= AT_ONCE + MAX_WAITING:
                raise AnalysisCapacityExceeded(
                    "too many analyses are being computed; try again later", retry_after_s=RETRY_AFTER_S
                )
            self._computations[wanted.key] = _Computation(self._threads.submit(self._compute, wanted))
        return self._computations[wanted.key]

    def _compute(self, wanted: WantedAnalysis) -> str:
        body = None
        try:
            body = wanted.compute()
        finally:
            with self._lock:  # at once: who comes between would compute it again
                if body is not None:
                    self._in_memory[wanted.key] = body
                del self._computations[wanted.key]
        self._writer.put(partial(self._write, wanted.key, body))
        return body

    def _read(self, key: str) -> str | None:
        if self._writer.pause.lasts:
            return None
        try:
            kept = read_document(self._store, key, KeptAnalysis)
        except ArtifactNotFound:
            return None
        except ArtifactCorrupt as error:
            log.warning("an analysis is computed again: %s", error.message)
            return None
        except AppError as error:
            self._writer.pause.begin()
            log.warning("no kept analysis was read: %s", error.message)
            return None
        if kept.sha256 != _sha256(kept.body):
            log.warning("an analysis is computed again: the checksum of %s is wrong", key)
            return None
        return kept.body

    def _write(self, key: str, body: str) -> bool:
        try:
            self._store.put(key, KeptAnalysis(sha256=_sha256(body), body=body).model_dump_json().encode())
        except AppError as error:
            log.warning("an analysis was not stored: %s", error.message)
            return False
        return True


def _key(history: PriceHistory, form: str) -> str:
    """Of everything that decides the content: the prices, what is known about them, the format and the program."""
    series = history.series
    facts = (
        form,
        series.ticker,
        series.exchange,
        series.currency,
        history.source,
        history.stale,
        sorted(history.dropped.items()),
        sorted(history.repaired.items()),
    )
    digest = sha256(_program() + repr(facts).encode())
    digest.update(series.sessions.astype("<M8[D]").tobytes())
    digest.update(series.bars.astype("<f8").tobytes())
    return f"{ANALYSES}{key_name(series.ticker)}/{series.last_session}-{digest.hexdigest()[:32]}.json"


@cache
def _program() -> bytes:
    """A digest of the code and the libraries that analyse."""
    digest = sha256(repr([(name, _version(name)) for name in LIBRARIES]).encode())
    for path in sorted(path for pattern in PROGRAM for path in ROOT.glob(pattern)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.digest()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _sha256(body: str) -> str:
    return sha256(body.encode()).hexdigest()
