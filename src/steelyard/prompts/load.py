"""Loading a prompt by ref: the working file, a version, an alias, a digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steelyard.core.errors import NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings
from steelyard.prompts.files import read_working
from steelyard.prompts.prompt import Prompt

if TYPE_CHECKING:
    from steelyard.store import Store, Version

__all__ = ["load_prompt", "prompt_of"]


def load_prompt(ref: str | Ref, settings: Settings, store: Store | None = None) -> Prompt:
    """The prompt that a ref names.

    Args:
        ref: `name` or `name@working` (the file), `name@3`, `name@production`, `name@sha256:…`.
        settings: Where files and store are.
        store: An open store; the settings' store is opened for the call if it is needed and none is given.

    Raises:
        NotFound: no such file, version or alias. InvalidFile: the file cannot be used. Corrupt: the stored
            content is not that of its digest. StoreUnavailable, MissingExtra: the store cannot be used.
    """
    ref = Ref.parse(ref) if isinstance(ref, str) else ref
    if ref.is_working:
        return read_working(ref.name, settings)
    if store is not None:
        return _from_store(ref, settings, store)
    from steelyard.store import open_store

    store = open_store(settings)
    try:
        return _from_store(ref, settings, store)
    finally:
        store.close()


def prompt_of(version: Version) -> Prompt:
    """The prompt of a registered version, verified against its digest."""
    return Prompt.from_content(
        version.name,
        version.content,
        description=version.tags.get("description", ""),
        described={k.removeprefix("variable."): v for k, v in version.tags.items()},
        expect=version.digest,
    )


def _from_store(ref: Ref, settings: Settings, store: Store) -> Prompt:
    if settings.lock.is_file():
        from steelyard.prompts.lock import bootstrap, read_lock

        bootstrap(read_lock(settings.lock), store, names=(ref.name,))
    if ref.alias is not None:
        aliases = store.aliases("prompt", ref.name)
        if ref.alias not in aliases:
            raise NotFound(
                "alias",
                ref.alias,
                existing=aliases,
                where=f"prompt {ref.name!r}",
                do="Set the first one with: steelyard bless",
            )
        return prompt_of(store.version("prompt", ref.name, aliases[ref.alias]))
    return prompt_of(store.version("prompt", ref.name, ref.version or ref.digest or ""))
