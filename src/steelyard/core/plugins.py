"""One generic registry for every extension point: lazy, with collisions and typos told plainly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from steelyard.core.errors import InvalidValue, NotFound

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind: built-ins added in code, plugins found by entry point on first use.

    Args:
        kind: The word for one of them, for error texts: `"evaluator"`.
        group: The entry-point group: `"steelyard.evaluators"`.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._loaders: dict[str, Callable[[], T]] = {}
        self._values: dict[str, T] = {}
        self._scanned = False
        self._lock = threading.RLock()

    def add(self, name: str, loader: Callable[[], T]) -> None:
        """Register a loader under a name.

        Raises:
            InvalidValue: the name is taken.
        """
        with self._lock:
            if name in self._loaders:
                raise InvalidValue(
                    f"the {self.kind} {name!r} is registered twice",
                    do=f"Rename one of them (entry-point group {self.group!r}).",
                )
            self._loaders[name] = loader

    def get(self, name: str) -> T:
        """The thing of that name, loaded once.

        Raises:
            NotFound: no such name; the text offers the nearest.
        """
        with self._lock:
            if name not in self._values:
                if name not in self._loaders:
                    self._scan()
                if name not in self._loaders:
                    raise NotFound(self.kind, name, existing=self._loaders)
                self._values[name] = self._loaders[name]()
            return self._values[name]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            self._scan()
            return iter(sorted(self._loaders))

    def _scan(self) -> None:
        if not self._scanned:
            self._scanned = True
            from importlib.metadata import entry_points  # some 10 ms, and most processes look for no plugin

            for point in entry_points(group=self.group):
                self.add(point.name, point.load)
