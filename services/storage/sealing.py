"""Cards that carry a sha256 of themselves, so that any changed byte shows."""

import re
from hashlib import sha256
from typing import Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError

from errors import ArtifactCorrupt, ArtifactTooNew
from schemas.card import FORMAT_VERSION, ModelCard

_SEALED = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')
_OBJECT = TypeAdapter(dict[str, JsonValue])


class Dumpable(Protocol):
    """A pydantic document."""

    def model_dump_json(self) -> str:
        """JSON text."""
        ...


def seal(document: Dumpable) -> bytes:
    """JSON bytes that begin with the sha256 of the rest."""
    body = document.model_dump_json().encode()
    return b'{"sha256":"' + sha256(body).hexdigest().encode() + b'",' + body[1:]


def unseal(content: bytes, model_id: str) -> ModelCard:
    """The card in sealed bytes.

    Raises:
        ArtifactCorrupt: the seal is broken or the content is no card.
        ArtifactTooNew: ``format_version`` is above ours.
    """
    sealed = _SEALED.match(content)
    if sealed is None:
        raise ArtifactCorrupt(f"the card of {model_id!r} carries no seal")
    body = b"{" + content[sealed.end() :]
    if sha256(body).hexdigest().encode() != sealed[1]:
        raise ArtifactCorrupt(f"the card of {model_id!r} was changed after it was written")
    try:
        version = _OBJECT.validate_json(body).get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArtifactTooNew(
                f"model {model_id!r} has format version {version}, this program reads {FORMAT_VERSION}"
            )
        return ModelCard.model_validate_json(body)
    except ValidationError as error:
        raise ArtifactCorrupt(f"the card of {model_id!r} is not a model card") from error
