"""A process that changes one document again and again, while others do the same."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.common import Document
from services.storage.documents import update_document
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from tests.s3_servers import BUCKET, ignore_if_match

KEY = "aliases/names.json"
N_CHANGES = 15


class Names(Document):
    names: tuple[str, ...] = ()


def append(store: ArtifactStore, name: str) -> None:
    update_document(store, KEY, Names, lambda known: Names(names=((known.names if known else ()) + (name,))))


@contextmanager
def open_store(kind: str, where: str, prefix: str) -> Iterator[ArtifactStore]:
    """The store in the folder or on the server ``where``; ``ignoring``: as if that ignored If-Match."""
    if kind == "local":
        yield LocalArtifactStore(Path(where))
        return
    with closing(S3ArtifactStore(BUCKET, where, prefix=prefix)) as store:
        if kind == "ignoring":
            ignore_if_match(store)
        yield store


if __name__ == "__main__":
    with open_store(*sys.argv[1:4]) as opened:
        for number in range(N_CHANGES):
            append(opened, f"{sys.argv[4]}-{number}")
