"""Liveness: no dependency is asked."""

from fastapi import APIRouter

from routers.problems import problems
from schemas.up import Up

router = APIRouter(tags=["health"])


@router.head("/up", include_in_schema=False)
@router.get("/up", summary="Is the process alive?", responses=problems())
def up() -> Up:
    """Answer ok as long as the process answers at all."""
    return Up()
