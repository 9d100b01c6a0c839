"""The bundled model: files of the program rather than of a store."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from errors import ArtifactCorrupt, ArtifactNotFound, ModelNotFound
from models.fitting import NETWORK
from schemas.card import ModelCard
from services.storage.cards import read_card


@dataclass(frozen=True)
class BundledModel:
    """A model as two paths: its network, and its card in one folder with the other files.

    Attributes:
        network: the ONNX file.
        metadata: the card.
        lookback: the lookback that ``LOOK_BACK`` demands; None where it is not set.
    """

    network: Path
    metadata: Path
    lookback: int | None = None

    @cached_property
    def card(self) -> ModelCard:
        """The card, read once.

        Raises:
            ModelNotFound: there is no such file.
            ArtifactCorrupt: the file is not a card, or its lookback is not the one demanded.
        """
        try:
            content = self.metadata.read_bytes()
        except FileNotFoundError:
            raise ModelNotFound("the default model is missing", model_id="default") from None
        except OSError as error:
            raise ArtifactCorrupt("the card of the default model cannot be read") from error
        card = read_card(content, "default")
        if self.lookback not in (None, card.lookback):
            raise ArtifactCorrupt(f"LOOK_BACK is {self.lookback} sessions, but the default model reads {card.lookback}")
        return card

    def read(self, name: str) -> bytes:
        """One of its files.

        Raises:
            ArtifactNotFound: it is missing.
            ArtifactCorrupt: it exists and cannot be read.
        """
        path = self.network if name == NETWORK else self.metadata.with_name(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise ArtifactNotFound(name) from None
        except OSError as error:
            raise ArtifactCorrupt(f"{name} of the default model cannot be read") from error
