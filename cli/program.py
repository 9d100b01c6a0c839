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


def command_line(*words: str, width: int, **fields: object) -> str:
    """The command on the sample prices, with fields of the API as its options, quoted for a shell.

    It is broken between words into lines of at most ``width``, where a word is not longer; all but the last end with a
    backslash.
    """
    options = [
        f"{option_of(field)} {shlex.quote(str(one))}"
        for field, value in fields.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    lines = ["PRICE_SOURCE=sample"]
    for part in (*map(shlex.quote, (program(), *words)), *options):
        if len(f"{lines[-1]} {part} \\") <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}")
    return " \\\n".join(lines)
