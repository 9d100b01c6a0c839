"""Liveness: no dependency is asked."""

from fastapi import APIRouter

from schemas.up import Up

router = APIRouter(tags=["health"])


@router.get("/up", summary="Is the process alive?")
def up() -> Up:
    """Answer ok as long as the process answers at all."""
    return Up()
