"""The id of this installation, under which its server and its workers know their own jobs."""

import logging
import re
import secrets
import socket
from hashlib import sha256
from pathlib import Path

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.store import LocalArtifactStore

KEY = "installation/id.txt"
_ID = re.compile(r"local-[0-9a-f]{8}")

log = logging.getLogger(__name__)


def installation_id(folder: Path) -> str:
    """The id that lives in the folder, such as ``local-1a2b3c4d``; made once, by the first process that asks.

    A folder that cannot be written has an id made from the names of the machine and the folder.
    """
    store = LocalArtifactStore(folder)
    try:
        if (known := _read(store)) is not None:
            return known
        made = f"local-{secrets.token_hex(4)}"
        if not store.create(KEY, made.encode()) and (known := _read(store)) is not None:
            return known  # another process was faster
        store.put(KEY, made.encode())
    except StoreUnavailable as error:
        place = f"{socket.gethostname()} {folder.resolve()}"
        made = f"local-{sha256(place.encode()).hexdigest()[:8]}"
        log.warning("the id of this installation cannot be stored, %s is used: %s", made, error.message)
    return made


def _read(store: LocalArtifactStore) -> str | None:
    """The stored id; None if there is none, or something else."""
    try:
        text = store.get(KEY).decode(errors="replace").strip()
    except ArtifactNotFound:
        return None
    return text if _ID.fullmatch(text) else None
