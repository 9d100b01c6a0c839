"""Liveness."""

from typing import Literal

from schemas.common import Document


class Up(Document):
    """The process answers."""

    status: Literal["ok"] = "ok"
