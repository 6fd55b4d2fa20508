"""Registering working files in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.core.errors import NotFound
from steelyard.core.settings import Settings
from steelyard.prompts.files import names, read_working
from steelyard.prompts.prompt import Prompt

if TYPE_CHECKING:
    from steelyard.store import Store, Version

__all__ = ["Pushed", "push", "register", "unpushed"]

_LONGEST_TAG = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A working file's version in the store, and whether this push made it."""

    version: Version
    new: bool


def register(prompt: Prompt, store: Store) -> Version:
    """The prompt's version in the store, made if it is new."""
    tags = {f"variable.{k}": v.description for k, v in prompt.variables.items() if v.description}
    if prompt.description:
        tags["description"] = prompt.description
    tags = {k: v[:_LONGEST_TAG] for k, v in tags.items()}
    return store.register("prompt", prompt.name, digest=prompt.digest, content=prompt.content(), tags=tags)


def push(settings: Settings, store: Store, wanted: tuple[str, ...] = ()) -> list[Pushed]:
    """The versions of the working files, registered where they are new.

    Every file is read before the first is pushed, so one bad file leaves the store as it was.

    Args:
        settings: Where the files are.
        store: The store.
        wanted: Names; all files if left out.
    """
    prompts = [read_working(name, settings) for name in wanted or names(settings)]
    out: list[Pushed] = []
    for prompt in prompts:
        known = _known(prompt, store)
        out.append(Pushed(version=register(prompt, store), new=not known))
    return out


def unpushed(settings: Settings, store: Store) -> list[str]:
    """The names of working files that the store does not hold as they are."""
    return [n for n in names(settings) if not _known(read_working(n, settings), store)]


def _known(prompt: Prompt, store: Store) -> bool:
    try:
        store.version("prompt", prompt.name, prompt.digest)
    except NotFound:
        return False
    return True
