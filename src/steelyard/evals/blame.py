"""Where in a user's own code an error came up, and its text without keys: what a failed row says."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from steelyard.core.settings import secret_values
from steelyard.lm.scrub import scrub

__all__ = ["described", "without_secrets"]

_HERE = Path(__file__).resolve().parents[1]
_FOREIGN = tuple(
    Path(folder).resolve()
    for folder in {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def described(error: BaseException) -> str:
    """`KeyError: 'label' (evals/tasks.py:12 in classify)`: the innermost frame in code of the user's own.

    An error that never passed through the user's code is described without a place.
    """
    text = without_secrets(f"{type(error).__name__}: {error}")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if not file.is_file():
            continue
        file = file.resolve()
        if file.is_relative_to(_HERE) or any(file.is_relative_to(folder) for folder in _FOREIGN):
            continue
        return f"{text} ({_shown(file)}:{frame.lineno} in {frame.name})"
    return text


def without_secrets(text: str) -> str:
    """The text of an error without the secrets of the environment and without what looks like a key.

    Rows are kept for good, sent to the store and shown to colleagues, and clients put keys into their errors.
    """
    return scrub(text, secret_values())


def _shown(file: Path) -> str:
    """The path from the working directory, or the file's name alone where it lies elsewhere."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else file.name
