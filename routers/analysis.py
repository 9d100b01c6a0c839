"""The analysis of a ticker's history, as figures or as an HTML page."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import HTMLResponse

from errors import AnalysisUnavailable, ZeroVariance
from routers.dependencies import RuntimeDep, validate_not_future
from routers.guard import GuardedRoute
from routers.problems import PRICE_PROBLEMS, problems
from schemas.analysis import Analysis, AnalysisRequest
from schemas.common import Ticker
from services.analysis.report import analyse, analysis_page

router = APIRouter(route_class=GuardedRoute, prefix="/analysis", tags=["analysis"])

# the page repeats it in a meta element, for when it is opened from a disk
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


# ":path" lets a ticker with an encoded slash reach the pattern, which answers 422 instead of 404
@router.get(
    "/{ticker:path}",
    summary="Analyse a ticker's history",
    response_model=Analysis,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        **problems(*PRICE_PROBLEMS, ZeroVariance, AnalysisUnavailable),
    },
)
def analysis(
    ticker: Annotated[Ticker, Path(examples=["^GSPC"])],
    request: Annotated[AnalysisRequest, Query()],
    runtime: RuntimeDep,
) -> Analysis | Response:
    """Statistics, distribution, volatility, drawdowns, seasons, dependence and data quality of the daily prices."""
    now = runtime.clock()
    validate_not_future(now, "query", start=request.start, end=request.end)
    if request.format == "html":
        page = analysis_page(ticker, request, runtime.prices, now)
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})
    return analyse(ticker, request, runtime.prices, now)
