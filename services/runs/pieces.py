"""What an executor brings a worker to: a round of a run, or a chunk of its tickers; and where each is stored."""

import re
from dataclasses import dataclass
from typing import Self

from schemas.run import RUN_ID_PATTERN

RUNS = "runs/"
SPECS, WORK, TABLES = f"{RUNS}specs/", f"{RUNS}work/", f"{RUNS}results/"
CANCEL, END = "stop/cancel.json", "stop/end.json"

_RUN_ID = RUN_ID_PATTERN.strip("^$")
_PIECE = re.compile(rf"({_RUN_ID})\.([0-9]{{1,3}})(?:\.([0-9]{{1,4}}))?")
SPEC_KEY = re.compile(rf"{SPECS}({_RUN_ID})\.json")
ROUND_KEY = re.compile(rf"{WORK}({_RUN_ID})/([0-9]{{3}})/round\.json")


@dataclass(frozen=True)
class Piece:
    """A round of a run, or a chunk of the round.

    Attributes:
        run_id: the run.
        round: number of the round, from 0.
        chunk: number of the chunk, from 0; None for the round itself, which its coordinator works on.
    """

    run_id: str
    round: int
    chunk: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The inverse of ``str``; None where the text is something else, such as the id of a job.

        >>> str(Piece.parse("20261121t093000-1a2b3c4d.0.12")), Piece.parse("20261121t093000-1a2b3c4d")
        ('20261121t093000-1a2b3c4d.0.12', None)
        """
        found = _PIECE.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), None if found[3] is None else int(found[3]))

    def __str__(self) -> str:
        return f"{self.run_id}.{self.round}{'' if self.chunk is None else f'.{self.chunk}'}"

    @property
    def folder(self) -> str:
        """Of the round."""
        return f"{WORK}{self.run_id}/{self.round:03d}/"

    @property
    def key(self) -> str:
        """Of the document that the piece's worker changes."""
        return f"{self.folder}{'round' if self.chunk is None else f'chunk-{self.chunk:04d}'}.json"

    @property
    def prices_key(self) -> str:
        return f"{self.folder}prices-{self.chunk or 0:04d}.npz"

    @property
    def stop_prefix(self) -> str:
        """Something is stored below it once the round is cancelled or has ended."""
        return f"{self.folder}stop/"

    def of_chunk(self, chunk: int) -> "Piece":
        return Piece(self.run_id, self.round, chunk)


def spec_key(run_id: str) -> str:
    return f"{SPECS}{run_id}.json"
