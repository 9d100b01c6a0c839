"""Commands that a person can paste into a shell."""

import shlex
import shutil
from pathlib import Path

from cli.exits import option_of

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bin" / "stock-forecast"


def program() -> str:
    """What starts this program in the current folder: its name on ``PATH``, or the path of the script."""
    on_path = shutil.which(SCRIPT.name)
    if on_path is not None and Path(on_path).resolve() == SCRIPT:
        return SCRIPT.name
    return str(SCRIPT.relative_to(ROOT) if Path.cwd() == ROOT else SCRIPT)


def command_line(*words: str, **fields: object) -> str:
    """The command with fields of the API as its options, quoted for a shell.

    >>> command_line("train", "^GSPC", start_date="2010-01-01", levels=[0.5, 0.8]).partition(" ")[2]
    "train '^GSPC' --start 2010-01-01 --level 0.5 --level 0.8"
    """
    options = [
        word
        for field, value in fields.items()
        for one in (value if isinstance(value, list) else [value])
        for word in (option_of(field), str(one))
    ]
    return shlex.join([program(), *words, *options])
