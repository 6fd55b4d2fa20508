"""Where in a user's own code an error came up, so that a failed row names a file and a line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

__all__ = ["described"]

_HERE = Path(__file__).resolve().parents[1]
_FOREIGN = tuple(
    Path(folder).resolve()
    for folder in {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def described(error: BaseException) -> str:
    """`KeyError: 'label' (evals/tasks.py:12 in classify)`: the innermost frame in code of the user's own.

    An error that never passed through the user's code is described without a place.
    """
    text = f"{type(error).__name__}: {error}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if not file.is_file():
            continue
        file = file.resolve()
        if file.is_relative_to(_HERE) or any(file.is_relative_to(folder) for folder in _FOREIGN):
            continue
        return f"{text} ({_shown(file)}:{frame.lineno} in {frame.name})"
    return text


def _shown(file: Path) -> str:
    """The path from the working directory, or the file's name alone where it lies elsewhere."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else file.name
