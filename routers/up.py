"""Liveness, without any dependency."""

from fastapi import APIRouter

from routers.problems import problems
from schemas.up import Up

router = APIRouter(tags=["health"])


@router.get("/up", summary="Is the process alive?", responses=problems())
async def up() -> Up:  # in the event loop: it answers even while every thread waits for a store that hangs
    """Answer ok while the process runs."""
    return Up()
