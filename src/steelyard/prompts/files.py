"""Where prompt files are: names to paths and back, never outside the root."""

from __future__ import annotations

from pathlib import Path

from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.ref import check_name
from steelyard.core.settings import Settings
from steelyard.prompts.prompt import Prompt

__all__ = ["names", "path_of", "read_working"]

_SUFFIXES = (".yaml", ".yml")


def names(settings: Settings) -> list[str]:
    """The names of all prompt files, sorted. Files and folders that begin with `.` or `_` do not count."""
    root = settings.prompts
    found: set[str] = set()
    if root.is_dir():
        for suffix in _SUFFIXES:
            for file in root.rglob(f"*{suffix}"):
                parts = file.relative_to(root).with_suffix("").parts
                if file.is_file() and not any(part[0] in "._" for part in parts):
                    found.add("/".join(parts))
    return sorted(found)


def path_of(name: str, settings: Settings) -> Path:
    """The file of a prompt, whether or not it is there.

    Raises:
        InvalidValue: the name is not allowed, or a link leads out of the prompts' folder. Nothing is opened.
    """
    check_name(name, kind="prompt name")
    root = settings.prompts
    path = root / f"{name}.yaml"
    if not path.is_file() and (other := root / f"{name}.yml").is_file():
        path = other
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise InvalidValue(
            f"the file of prompt {name!r} is a link that leads out of the prompts' folder",
            do="Put the file itself into the folder.",
        )
    return path


def read_working(name: str, settings: Settings) -> Prompt:
    """The prompt in the checkout's file.

    Raises:
        NotFound: there is no such file. InvalidFile: it cannot be used.
    """
    path = path_of(name, settings)
    if not path.is_file():
        raise NotFound("prompt file", name, existing=names(settings), where=str(settings.prompts))
    from steelyard.prompts.reader import read_prompt

    try:
        shown = path.relative_to(Path.cwd())
    except ValueError:
        shown = path
    try:
        return read_prompt(name, shown if shown.is_file() else path)
    except RecursionError:
        raise InvalidFile(shown, "nested too deeply", do="Flatten it.", line=1) from None
