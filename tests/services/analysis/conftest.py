"""Real prices: the sample's index, and a Brazilian share where reference prices are next to the repository."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.analysis import Analysis, AnalysisRequest
from services.analysis.report import analyse
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSeries

NOW = datetime(2026, 11, 21, tzinfo=UTC)
REFERENCE = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session", params=["^GSPC", "PETR4.SA"])
def real(request: pytest.FixtureRequest) -> PriceSeries:
    ticker: str = request.param
    if ticker == "^GSPC":
        return SampleSource().history(ticker, NOW).series
    if not (REFERENCE / f"{ticker}.csv").is_file():
        pytest.skip(f"no reference prices of {ticker} in shared/data next to the repository")
    return CsvSource(REFERENCE).history(ticker, NOW).series


@pytest.fixture(scope="session")
def of_sample() -> Analysis:
    """The analysis of the whole history of the sample's index."""
    return analyse("^GSPC", AnalysisRequest(), SampleSource(), NOW)
