"""The search for symbols by name."""

from typing import Annotated

from fastapi import APIRouter, Query

from routers.dependencies import RuntimeDep
from routers.guard import GuardedRoute
from routers.problems import problems
from schemas.symbols import SymbolsFound

router = APIRouter(route_class=GuardedRoute, tags=["symbols"])


@router.get("/symbols", summary="Find symbols by name", responses=problems())
def symbols(
    runtime: RuntimeDep,
    q: Annotated[
        str, Query(max_length=64, description="A name or a symbol, or the beginning of one.", examples=["Petrobras"])
    ] = "",
    limit: Annotated[int, Query(ge=1, le=50, description="At most this many.")] = 10,
) -> SymbolsFound:
    """The symbols of the price source that a name may mean, best first; without `q`, the first ones that it has."""
    return runtime.symbols.find(q.strip(), limit, runtime.clock())
