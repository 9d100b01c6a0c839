"""Served forecasts, their outcomes, and the scores computed from both."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_serializer, model_validator

from schemas.accuracy import DetailedReport
from schemas.common import Document, ModelId, Ticker

UNITS = 2**16 - 1  # between the lowest and the highest quantile of a step
FIRST_UNITS = 2**28 - 1  # of the first step, which p-values and metrics are of: as exact as they show


class PackedQuantiles(Document):
    """Ascending prices in a third of the size of their digits, with an error of at most half a unit."""

    lowest: float
    highest: float
    units: Annotated[int, Field(ge=1, le=FIRST_UNITS)]
    gaps: tuple[Annotated[int, Field(ge=0, le=FIRST_UNITS)], ...] = Field(
        description="Between successive prices, in (highest − lowest) / units."
    )


def pack_quantiles(quantiles: Sequence[float], step: int = 2) -> PackedQuantiles:
    """Pack the ascending prices of a step.

    >>> pack_quantiles([100.0, 101.0, 104.0])
    PackedQuantiles(lowest=100.0, highest=104.0, units=65535, gaps=(16384, 49151))
    """
    units = FIRST_UNITS if step == 1 else UNITS
    lowest, highest = quantiles[0], quantiles[-1]
    scale = units / (highest - lowest) if highest > lowest else 0.0
    places = [round((price - lowest) * scale) for price in quantiles]
    gaps = tuple(after - before for before, after in pairwise(places))
    return PackedQuantiles(lowest=lowest, highest=highest, units=units, gaps=gaps)


def unpack_quantiles(packed: PackedQuantiles) -> tuple[float, ...]:
    """The prices, which pack to the same again.

    >>> unpack_quantiles(PackedQuantiles(lowest=100.0, highest=104.0, units=65535, gaps=(16384, 49151)))
    (100.0, 101.0000152590219, 104.0)
    """
    shares = [place / packed.units for place in accumulate(packed.gaps, initial=0)]
    return tuple(packed.lowest * (1 - share) + packed.highest * share for share in shares)


def _unpacked(stored: Any) -> Any:
    # older records have the prices in full
    return unpack_quantiles(PackedQuantiles.model_validate(stored)) if isinstance(stored, Mapping) else stored


Quantiles = Annotated[
    tuple[float, ...],
    BeforeValidator(_unpacked),
    Field(description="At 0.01, 0.02 … 0.99."),
]


class RecordedStep(Document):
    """The forecast of one session; prices unrounded, but quantiles in units of their range."""

    step: int
    session: date
    median: float
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    quantiles: Quantiles

    @field_serializer("quantiles", when_used="json")
    def _packed(self, quantiles: tuple[float, ...]) -> PackedQuantiles:
        return pack_quantiles(quantiles, self.step)


class ForecastRecord(Document):
    """A forecast as it was served; written once, before any of its sessions has closed."""

    ticker: Ticker
    exchange: str | None = Field(default=None, description="Name of the trading calendar; null in older records.")
    model_id: ModelId
    model: str
    target_column: str
    origin: date
    made_at: datetime
    last: float = Field(description="The price at the origin as it was known then; persistence repeats it.")
    levels: tuple[float, ...]
    steps: tuple[RecordedStep, ...]

    @model_validator(mode="after")
    def _can_be_scored(self) -> Self:
        n = len(self.levels)
        if any(one.step < 1 or not len(one.lower) == len(one.upper) == n for one in self.steps):
            raise ValueError("expected steps from 1 on, with a lower and an upper bound of each level")
        if not all(0 < level < 1 for level in self.levels) or self.last <= 0:
            raise ValueError("expected levels between 0 and 1 and a price above zero")
        return self


class ForecastOutcome(Document):
    """One step of a forecast and its outcome, in the prices of the forecast's own day."""

    model_id: ModelId
    model: str
    origin: date
    step: int = Field(ge=1)
    made_at: datetime
    last: float
    actual: float
    median: float
    levels: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    crps: float
    persistence_crps: float
    pit: float = Field(
        ge=0, le=1, description="Share of the distribution below the outcome; uniform where forecasts are right."
    )

    @model_validator(mode="after")
    def _bounds_of_each_level(self) -> Self:
        if not len(self.levels) == len(self.lower) == len(self.upper) or not all(0 < one < 1 for one in self.levels):
            raise ValueError("expected a lower and an upper bound of each level")
        if not (self.last > 0 and self.actual > 0):
            raise ValueError("expected prices above zero")
        return self


class SessionScores(Document):
    """Every forecast of one session of one ticker, once it has closed; written once.

    ``pairs`` is empty where the session was given up: it still had no price after two weeks.
    """

    ticker: Ticker
    exchange: str | None = Field(default=None, description="Name of the trading calendar; null in older documents.")
    session: date
    scored_at: datetime
    pairs: tuple[ForecastOutcome, ...]


class Unscored(Document):
    """A ticker whose prices are unavailable, or a session that has no price."""

    ticker: Ticker
    session: date | None = Field(
        default=None,
        description="The session, tried again for 14 days; null if the whole ticker waits for the next scoring.",
    )
    code: str = Field(description="Error code, session_not_traded or session_price_unusable.")
    detail: str = Field(description="What happened, for people.")


DriftStatus = Literal["ok", "warning", "drifted"]


class DriftCounts(Document):
    """Tickers by the drift status of the model that answers for them."""

    ok: int
    warning: int
    drifted: int
    unknown: int = Field(description="Without a status: too few sessions, or no prices.")


class ScoreReport(Document):
    """The result of a scoring."""

    n_sessions: int = Field(description="Sessions of a ticker with a forecast that this scoring has scored.")
    n_pairs: int = Field(description="Forecasts of these sessions, each compared with the close.")
    n_waiting: int = Field(
        description="Sessions of 2 to 14 days ago without scores, which the next scoring tries again."
    )
    unscored: tuple[Unscored, ...]
    drift: DriftCounts | None = Field(
        default=None, description="Of every ticker with scores; null if the default model cannot be read."
    )
    drifted: tuple[Ticker, ...] = Field(default=(), description="The drifted tickers, the worst first, 1000 at most.")


class RealisedAccuracy(Document):
    """Accuracy of one model's forecasts of one ticker at one step."""

    ticker: Ticker
    model_id: ModelId
    model: str = Field(description="Kind of model, such as return_lstm.")
    first_session: date = Field(description="First session scored.")
    last_session: date = Field(description="Last session scored.")
    report: DetailedReport = Field(description="Callers choose their levels, so each level has its own ``n_origins``.")


class AccuracyOverTime(Document):
    """Realised accuracy by ticker, model and step, of the sessions from ``since`` on."""

    since: date = Field(description="First day of the sessions counted.")
    until: date = Field(description="Last day of the sessions counted.")
    accuracy: tuple[RealisedAccuracy, ...]


class InputDrift(Document):
    """The daily ranges of the latest sessions, compared with those of the sessions before."""

    recent_sessions: int = Field(description="Number of sessions in the recent window.")
    earlier_sessions: int = Field(description="Number of sessions in the window before it.")
    ratio: float = Field(
        description="Mean log range of the recent sessions divided by the mean log range of the earlier ones."
    )
    upper_tail_probability: float = Field(description="Share of the ticker's own past windows with a larger ratio.")


class ErrorDrift(Document):
    """Whether outcomes agree with the one-step forecasts."""

    n_origins: int = Field(description="One-step forecasts with an outcome.")
    level: float = Field(description="Coverage level of the intervals.")
    empirical_coverage: float = Field(description="Share of closes inside the intervals.")
    cusum_high: float = Field(description="CUSUM of misses in excess of 1 − level; zero if there are none.")
    cusum_low: float = Field(description="CUSUM of misses short of 1 − level; zero if there are none.")
    ks_p_value: float | None = Field(
        description="Of a Kolmogorov–Smirnov test that PITs are uniform; null with too few forecasts or without scipy."
    )


class DriftReport(Document):
    """Whether a model still fits a ticker."""

    ticker: Ticker
    model_id: ModelId
    as_of: date = Field(description="The newest session of the prices.")
    status: DriftStatus
    reasons: tuple[str, ...] = Field(description="Why the status is not ok; empty if it is.")
    inputs: InputDrift
    errors: ErrorDrift | None = Field(description="Null before the first outcome.")


class Unjudged(Document):
    """A ticker without a drift status, and why."""

    ticker: Ticker
    code: str = Field(description="Error code, see docs/errors.md.")
    detail: str = Field(description="What happened, for people.")


class DriftOverview(Document):
    """The drift status of a model for the ticker asked for, or for each with scored forecasts."""

    reports: tuple[DriftReport, ...]
    unjudged: tuple[Unjudged, ...]
