"""Analyses of the same prices are computed once: kept in memory and in the store, and few are computed at once."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256

from cachetools import LRUCache

from errors import AnalysisCapacityExceeded, AppError, ArtifactCorrupt, ArtifactNotFound
from schemas.analysis import AnalysisRequest
from schemas.common import Document
from schemas.keys import key_name
from services.analysis.report import analysis_of, history_to_analyse, page_of
from services.language import ENGLISH, Language
from services.prices.series import PriceHistory, PriceSource
from services.program import program_digest
from services.shared_work import SharedWork
from services.storage.documents import read_document
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind

ANALYSES = "analyses/"
AT_ONCE = 1  # each keeps a core busy, and matplotlib is not thread-safe
MAX_WAITING = 8  # about 5 s of work; a server with more to do than that refuses
RETRY_AFTER_S = 5
IN_MEMORY = 32  # about 13 MB: a page has characters of two bytes

PROGRAM = (  # what decides the content
    "services/analysis/**/*.py",
    "services/analysis/**/*.j2",
    "services/analysis/**/*.json",
    "services/language/*.py",
    "services/language/*.json",
    "schemas/analysis.py",
)
LIBRARIES = ("numpy", "scipy", "statsmodels", "matplotlib", "jinja2", "exchange_calendars")

Work = Callable[[], str]

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
        page: the language of the page that is wanted; None for figures.
        kept: the body, where it is known already.
    """

    key: str
    history: PriceHistory
    page: Language | None
    kept: str | None = None

    def compute(self) -> str:
        """The body."""
        return analysis_of(self.history).model_dump_json() if self.page is None else page_of(self.history, self.page)


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
        self._lock = threading.Lock()
        self.work = SharedWork[str]("analysis", AT_ONCE, MAX_WAITING, _refusal)

    def find(self, ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> WantedAnalysis:
        """What the request asks for, with the kept body if there is one.

        Raises:
            AnalysisUnavailable, InsufficientHistory, ZeroVariance, PricesInvalid: the prices cannot be analysed.
            TickerNotFound, UnknownExchange, UpstreamUnavailable: from the source.
        """
        history = history_to_analyse(ticker, request, prices, now)
        page = (request.lang or ENGLISH) if request.format == "html" else None
        key = _key(history, page or request.format)
        with self._lock:
            kept = self._in_memory.get(key)
        if kept is None and (kept := self._read(key)) is not None:
            with self._lock:
                self._in_memory[key] = kept
        return WantedAnalysis(key, history, page, kept)

    @contextmanager
    def computed(
        self, wanted: WantedAnalysis, charged: Callable[[Work], Work] = lambda work: work
    ) -> Iterator[Future[str]]:
        """The body, which may still be computed; see ``SharedWork.result_of``. ``charged`` wraps what is computed.

        Raises:
            AnalysisCapacityExceeded: too many others wait.
        """
        if wanted.kept is not None:
            known: Future[str] = Future()
            known.set_result(wanted.kept)
            yield known
            return
        with self.work.result_of(wanted.key, charged(partial(self._compute, wanted))) as body:
            yield body

    def _compute(self, wanted: WantedAnalysis) -> str:
        with self._lock:
            kept = self._in_memory.get(wanted.key)
        if kept is not None:  # since it was looked for
            return kept
        body = wanted.compute()
        with self._lock:
            self._in_memory[wanted.key] = body
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


def _refusal() -> AnalysisCapacityExceeded:
    return AnalysisCapacityExceeded(
        "too many analyses are being computed; try again later", retry_after_s=RETRY_AFTER_S
    )


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
    digest = sha256(program_digest(PROGRAM, LIBRARIES) + repr(facts).encode())
    digest.update(series.sessions.astype("<M8[D]").tobytes())
    digest.update(series.bars.astype("<f8").tobytes())
    return f"{ANALYSES}{key_name(series.ticker)}/{series.last_session}-{digest.hexdigest()[:32]}.json"


def _sha256(body: str) -> str:
    return sha256(body.encode()).hexdigest()
