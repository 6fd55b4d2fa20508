"""Opening a store to read prompts from it, as light as it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steelyard.core.settings import Settings
from steelyard.store.place import shown

if TYPE_CHECKING:
    from steelyard.store.protocol import Store
    from steelyard.store.rest import RestStore

__all__ = ["open_reader", "reader_uri"]


def reader_uri(settings: Settings) -> str:
    """The address of the store that `open_reader` opens, without secrets. Nothing is opened."""
    from steelyard.store.opening import store_uri

    return shown(store_uri(settings))


def open_reader(settings: Settings) -> RestStore | Store:
    """The store that the settings name: a server is read over HTTP without MLflow, all else is opened whole.

    Everything that reading from a server takes is loaded when this returns, and nothing has been sent yet.

    Raises:
        StoreUnavailable, MissingExtra, InvalidValue, NotFound: as `open_store`.
    """
    if (settings.tracking_uri or "").startswith(("http://", "https://")):
        from steelyard.store.rest import RestStore

        return RestStore(settings)
    from steelyard.store.opening import open_store

    return open_store(settings)
