"""Prompts for applications: from memory, refreshed in the background; from disk when the store is down.

import steelyard

request = steelyard.prompt("support@production").render(message=text)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import cast

from steelyard.core.ref import Ref
from steelyard.core.settings import Settings, load_settings
from steelyard.prompts import refresher
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.served import Entry, Fallback, Served
from steelyard.prompts.source import PromptSource

__all__ = ["Fallback", "PromptSource", "Served", "forget", "prompt", "served"]

_clock = time.monotonic


def prompt(
    ref: str | Ref,
    *,
    fallback: Fallback | None = None,
    fresh: bool = False,
    settings: Settings | None = None,
) -> Prompt:
    """The prompt that a ref names, for applications: from memory, else from disk, else from the store.

    A pinned version (`@3`, `@sha256:…`) is asked for once. An alias is asked for again in the background when
    it is used and `prompt_ttl_s` have passed; the caller gets the last good version meanwhile, also while
    the store is down (one warning in the log says so, with its age). `@working` is the file, read again
    when it has changed. With `prompts_from = "lock"` the committed lock file decides, and no store is asked.

    Args:
        ref: `support@production`, `support@3`, `support@sha256:…`, `support@working`.
        fallback: What serves if nothing else is there; said once in the log.
        fresh: Ask the store now and raise if it does not answer, instead of serving a copy.
        settings: How Steelyard runs; read from the environment and `pyproject.toml` at the first call if
            left out.

    Raises:
        NotFound: the store answers that there is none. StoreUnavailable, MissingExtra: the store cannot be
            used, and there is neither copy nor fallback. InvalidValue: the ref or the fallback is none.
            InvalidFile: a file (`@working`, the lock) cannot be used. Corrupt: the store's content is not
            that of its digest.
    """
    if settings is None and not fresh:
        entry = _entries.get(ref)
        if entry is not None and _clock() < entry.due:
            return entry.prompt
    return _source(settings).get(ref, fallback=fallback, fresh=fresh)


def served(settings: Settings | None = None) -> list[Served]:
    """What `prompt` serves from memory just now, by ref."""
    return _source(settings).served()


def forget() -> None:
    """Forget what is in memory, and the settings; copies on disk stay."""
    global _default, _entries
    with _lock:
        sources = [*_sources, *([_default] if _default else [])]
        _sources.clear()
        _default, _entries = None, {}
    for source in sources:
        source.close()


def _source(settings: Settings | None) -> PromptSource:
    global _default, _entries
    found = _default if settings is None else _of(settings)
    if found is not None:
        return found
    made = PromptSource(settings or load_settings())
    with _lock:
        if settings is not None:
            found = _of(settings)
            if found is None:
                _sources.append(made)
            return found or made
        if _default is None:
            _default, _entries = made, cast("dict[str | Ref, Entry]", made.entries)
        return _default


_lock = threading.Lock()
_default: PromptSource | None = None
_entries: Mapping[str | Ref, Entry] = {}
_sources: list[PromptSource] = []


def _of(settings: Settings) -> PromptSource | None:
    """The source of the same settings: mostly the very same object, so that is looked for first."""
    for source in _sources:
        if source.settings is settings:
            return source
    return next((source for source in _sources if source.settings == settings), None)


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()


refresher.in_child(_in_child)
