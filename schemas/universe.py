"""What the command line says of universes."""

from datetime import date

from pydantic import Field

from schemas.common import Document


class UniverseFailure(Document):
    """A ticker without prices, and why."""

    ticker: str
    code: str = Field(description="See docs/errors.md.")
    detail: str


class UniverseDownload(Document):
    """The outcome of a download."""

    name: str
    folder: str
    n_downloaded: int = Field(description="Files written.")
    n_up_to_date: int = Field(description="Files that had the newest session already.")
    failed: tuple[UniverseFailure, ...] = Field(description="Tickers without new prices.")
    not_tried: tuple[str, ...] = Field(description="Tickers left, because the price source kept refusing.")
    stopped: UniverseFailure | None = Field(description="The refusal that ended the download; null where none did.")


class ListedUniverse(Document):
    """A universe in the list."""

    name: str
    n_tickers: int


class UniverseList(Document):
    """All universes, by name."""

    folder: str
    universes: tuple[ListedUniverse, ...]


class UniverseTicker(Document):
    """A ticker with prices."""

    ticker: str
    exchange: str
    n_sessions: int
    first_session: date
    last_session: date


class UniverseExchange(Document):
    """An exchange, and what of its market the universe has."""

    exchange: str
    n_tickers: int = Field(description="Without its index.")
    index: str | None = Field(description="Index in the universe.")
    implied_volatility: str | None = Field(description="Index of implied volatility in the universe.")
    missing: tuple[str, ...] = Field(description="Indices that models could read, but the universe lacks.")


class UniverseReport(Document):
    """A universe in detail."""

    name: str
    folder: str
    first_session: date | None
    last_session: date | None
    tickers: tuple[UniverseTicker, ...]
    exchanges: tuple[UniverseExchange, ...]
    unreadable: tuple[UniverseFailure, ...] = Field(description="Files that a training would leave out.")
