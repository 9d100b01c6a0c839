"""Which version of the program has computed something."""

from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def program_digest(files: tuple[str, ...], libraries: tuple[str, ...]) -> bytes:
    """A digest of the program's files that match the patterns, and of the versions of the libraries."""
    digest = sha256(repr([(name, _version(name)) for name in libraries]).encode())
    for path in sorted({path for pattern in files for path in ROOT.glob(pattern) if path.is_file()}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.digest()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
