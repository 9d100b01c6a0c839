"""ETags: the name of an answer's content, by which a caller that has it gets 304."""

from hashlib import sha256

from fastapi import Request


def etag_of(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:32]}"'


def known_etags(request: Request) -> set[str]:
    """The ETags that the caller has, compared weakly: without their ``W/``."""
    return {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
