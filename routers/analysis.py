"""The analysis of a ticker's history, as figures or as an HTML page."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from errors import AnalysisCapacityExceeded, AnalysisUnavailable, ZeroVariance
from routers.dependencies import RuntimeDep, validate_not_future
from routers.guard import GuardedRoute, charged
from routers.problems import PRICE_PROBLEMS, problems
from routers.waiting import while_connected
from schemas.analysis import Analysis, AnalysisRequest
from schemas.common import Ticker
from services.language import preferred

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
        **problems(*PRICE_PROBLEMS, ZeroVariance, AnalysisUnavailable, AnalysisCapacityExceeded),
    },
)
async def analysis(
    ticker: Annotated[Ticker, Path(examples=["^GSPC"])],
    request: Annotated[AnalysisRequest, Query()],
    runtime: RuntimeDep,
    http: Request,
) -> Response:
    """Statistics, distribution, volatility, drawdowns, seasons, dependence and data quality of the daily prices."""
    now = runtime.clock()
    validate_not_future(now, "query", start=request.start, end=request.end)
    request = request.model_copy(update={"lang": request.lang or preferred(http.headers.get("Accept-Language"))})
    wanted = await run_in_threadpool(charged(runtime.analyses.find), ticker, request, runtime.prices, now)
    with runtime.analyses.computed(wanted, charged) as computed:
        # shielded: others may wait for the same one
        body = await while_connected(http, asyncio.shield(asyncio.wrap_future(computed)))
    if request.format == "html":
        headers = {
            "Content-Security-Policy": PAGE_POLICY,
            "Content-Language": str(request.lang),
            "Vary": "Accept-Language",
        }
        return HTMLResponse(body, headers=headers)
    return Response(body, media_type="application/json")
