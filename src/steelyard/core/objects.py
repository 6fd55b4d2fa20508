"""What an object is, as plain JSON: its class's code and its settings, without keys, addresses and clients.

Used for what is bound into tasks and for evaluators and chains of other packages. Two objects described alike
behave alike, as far as their own state says; what cannot be described needs a declared version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import re
import sys
import sysconfig
import types
import typing
from collections import deque
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, cast

from steelyard.core.canonical import JSON, digest_bytes, plain
from steelyard.core.errors import InvalidValue

__all__ = ["described_object", "is_foreign"]

_DEPTH = 40
_FUNCTIONS = 8
_SECRET = re.compile(
    r"(^|_)(api_?key|secret|token|password|credentials?|base_url|api_base|endpoint|organization|proxy)$",
    re.IGNORECASE,
)
_PLUMBING = frozenset(
    {
        # Who watches, how long and how often, over which connection: not what is asked.
        "async_client",
        "cache",
        "callback_manager",
        "callbacks",
        "client",
        "default_headers",
        "default_query",
        "http_async_client",
        "http_client",
        "http_socket_options",
        "max_retries",
        "metadata",
        "rate_limiter",
        "request_timeout",
        "root_async_client",
        "root_client",
        "tags",
        "timeout",
        "verbose",
    }
)
_MEMORY = frozenset({"checkpointer", "store"})  # what a LangGraph graph remembers, not what it does
_OPAQUE_PACKAGES = frozenset({"anthropic", "httpx", "httpx2", "openai"})
"""Clients of these say by their class alone what they are: addresses and keys never count."""
_SETTINGS = ("autoevals", "deepeval", "langchain", "langgraph", "openevals", "pydantic_evals")
"""Packages whose objects are made of settings."""
_KNOWN = frozenset({"autoevals", "deepeval", "openevals", "pydantic_evals", "steelyard"})
"""Packages wherever they lie: a folder beside the environment, a checkout."""
_MARKS = frozenset({"_thread", "pydantic_core", "pydantic_core._pydantic_core"})
"""Locks and marks for "undefined", as packages hold them in their objects: no setting."""
_INSTALLED = tuple(
    Path(folder).resolve()
    for folder in {sysconfig.get_paths()[n] for n in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def described_object(value: Any, version: str | None = None) -> JSON:
    """The object as JSON that is equal for objects of equal code and settings.

    - A value with a `digest` of its own is that; plain values are themselves.
    - Functions are described as `core.source` does, classes of installed packages by name, classes of the
      user's own by their source, pydantic models by their schema.
    - The object itself, callable objects, dataclasses, pydantic models and the parts of LangChain's and
      evaluators' packages are their class and attributes. Keys, addresses, clients, caches and callbacks are
      left out.
    - Anything else (a client, a counter, an open file) has no description.

    Args:
        value: Anything.
        version: Declared version: what cannot be described then counts by its class's name.

    Raises:
        InvalidValue: it, or something in it, has no stable description, and no version is declared.
    """
    return _Describer(version).of(value, 0)


def is_foreign(kind: type) -> bool:
    """Whether a class comes from the standard library, an installed package or Steelyard itself."""
    return _installed(kind.__module__)


@functools.lru_cache(maxsize=4096)
def _installed(module: str) -> bool:
    if module == "builtins" or module.partition(".")[0] in _KNOWN:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.builtin_module_names
    path = Path(file).resolve()
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return any(path.is_relative_to(folder) for folder in _INSTALLED)


class _Describer:
    def __init__(self, version: str | None) -> None:
        self.version, self.functions = version, 0
        self._open: set[int] = set()
        self._foreign = False
        self._done: dict[int, tuple[Any, JSON]] = {}  # with the object, so that its id stays its own

    def of(self, value: Any, depth: int) -> JSON:
        if value is None or isinstance(value, (bool, int, float, str)):
            return plain(value.value if isinstance(value, enum.Enum) else value)
        if isinstance(value, enum.Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):  # code that is merely called: by name, as in a global
            return {"module": value.__name__}
        declared = getattr(value, "digest", None)
        if isinstance(declared, str):
            return declared
        if depth > _DEPTH:
            raise self._opaque(value)
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return {"again": type(value).__qualname__}
        self._open.add(id(value))
        try:
            found = self._of(value, depth)
        finally:
            self._open.discard(id(value))
        self._done[id(value)] = (value, found)
        return found

    def _of(self, value: Any, depth: int) -> JSON:
        if inspect.isroutine(value) or isinstance(value, functools.partial):
            return self._function(value, depth)
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value)
            if all(isinstance(k, str) for k in items):
                return {k: self.of(v, depth + 1) for k, v in items.items()}
            return [[self.of(k, depth + 1), self.of(v, depth + 1)] for k, v in items.items()]
        if isinstance(value, (list, tuple, deque)):
            return [self.of(v, depth + 1) for v in cast("list[Any]", value)]
        if isinstance(value, (set, frozenset)):
            members = [self.of(v, depth + 1) for v in cast("set[Any]", value)]
            return sorted(members, key=repr)
        simple = _simple(value)
        if simple is not None:
            return simple
        if isinstance(value, types.GenericAlias | types.UnionType) or typing.get_origin(value) is not None:
            parts = (typing.get_origin(value), *typing.get_args(value))
            return {"type": [self.of(p, depth + 1) for p in parts]}
        return self._instance(value, depth)

    def _function(self, value: Any, depth: int) -> JSON:
        from steelyard.core.source import described_function

        if inspect.isbuiltin(value) or self.functions >= _FUNCTIONS:
            return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
        plain_function = inspect.isfunction(value)
        if plain_function and _installed(value.__module__ or "") and not hasattr(value, "__wrapped__"):
            # A package's own function: by name, with what it closes over. Updates are not followed.
            bound: dict[str, JSON] = {}
            for key, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                with contextlib.suppress(ValueError):  # an empty cell
                    bound[key] = self._inside(cell.cell_contents, depth)
            defaults = [self._inside(d, depth) for d in value.__defaults__ or ()]
            return {
                "function": f"{value.__module__}.{value.__qualname__}",
                "bound": bound,
                "default": defaults,
            }
        before = self.functions, self._foreign
        self.functions, self._foreign = self.functions + 1, False
        try:
            return described_function(
                value, self.version, lambda held: self.of(held, depth + 1), lambda owner: self.of(owner, 0)
            )
        finally:
            self.functions, self._foreign = before

    def _inside(self, value: Any, depth: int) -> JSON:
        """Something in a package's own object, where a bare `object()` is its mark for "nothing"."""
        before, self._foreign = self._foreign, True
        try:
            return self.of(value, depth + 1)
        finally:
            self._foreign = before

    def _class(self, kind: type) -> JSON:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if is_foreign(kind):
            return name
        schema = getattr(kind, "model_json_schema", None)
        if schema is not None:
            try:
                return {"class": kind.__qualname__, "schema": plain(schema())}
            except Exception:  # noqa: S110 - a model with fields that no schema can show: its source then
                pass
        return {"class": kind.__qualname__, "source": self._source(kind)}

    def _source(self, kind: type) -> JSON:
        from steelyard.core.source import normalised_source

        out: list[JSON] = []
        for base in kind.__mro__:
            if is_foreign(base):
                continue
            try:
                out.append(normalised_source(inspect.getsource(base)))
            except (OSError, TypeError):
                if self.version is None:
                    raise InvalidValue(
                        f"the source of class {base.__qualname__!r} cannot be read: it has no identity",
                        do="Declare one: version='1', and raise it when the code changes.",
                    ) from None
        return out

    def _instance(self, value: Any, depth: int) -> JSON:
        kind = cast("type[Any]", type(value))
        if kind is object and self._foreign:
            return {"mark": True}
        foreign = is_foreign(kind)
        name = f"{kind.__module__}.{kind.__qualname__}" if foreign else kind.__qualname__
        if kind.__module__.partition(".")[0] in _OPAQUE_PACKAGES:
            return {"client": name}
        state = (
            _state(value) if depth == 0 or self._foreign or _has_settings(value, foreign=foreign) else None
        )
        if self._foreign and kind.__module__ in _MARKS:
            return {"class": name}
        if state is None or (not state and kind.__module__ == "builtins"):
            if self.version is not None:
                return name
            raise self._opaque(value)
        kept: dict[str, JSON] = {}
        for key, content in state.items():
            if not _counts(kind, key, foreign=foreign):
                continue
            if foreign and key == "config" and isinstance(content, Mapping):  # of a LangChain runnable
                given = cast("Mapping[str, Any]", content)
                content = {k: v for k, v in given.items() if k not in _PLUMBING and k != "run_name"}
            kept[key] = self._inside(content, depth) if foreign else self.of(content, depth + 1)
        out: dict[str, JSON] = {"class": name, "state": kept}
        if not foreign:
            out["source"] = self._source(kind)
        if self.version is not None:
            out["version"] = self.version
        return out

    def _opaque(self, value: object) -> InvalidValue:
        return InvalidValue(
            f"a value of type {type(value).__qualname__} bound into it has no stable identity",
            do="Declare one: version='1', and raise it when the value changes its meaning.",
        )


def _simple(value: Any) -> JSON:
    """The JSON of a value of the standard library that is one value, else None."""
    if isinstance(value, bytes):
        return {"bytes": digest_bytes(value)}
    if isinstance(value, re.Pattern):
        return {"pattern": str(cast("re.Pattern[Any]", value).pattern), "flags": value.flags}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (typing.TypeVar, typing.ForwardRef)):
        return {"type": str(value)}
    if type(value).__module__ in ("datetime", "decimal", "uuid", "fractions"):
        return str(value)
    if hasattr(value, "get_secret_value"):
        return {"secret": True}
    if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return plain(value)
    if value is Ellipsis or value is NotImplemented:
        return str(value)
    return None


def _state(value: Any) -> dict[str, Any] | None:
    """The attributes by name; None for an object that shows none (a C object, a bare `object()`)."""
    kind = cast("type[Any]", type(value))
    fields = getattr(kind, "__pydantic_fields__", None)
    if kind.__module__.startswith("langgraph.") and hasattr(value, "builder"):
        # A compiled graph: all else is made from what it was drawn with.
        return {
            k: getattr(value, k, None) for k in ("builder", "interrupt_before_nodes", "interrupt_after_nodes")
        }
    if fields is not None:
        return {k: getattr(value, k) for k in fields} | dict(getattr(value, "__pydantic_extra__", None) or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
    slots = [s for base in kind.__mro__ for s in _slots(base)]
    own = getattr(value, "__dict__", None)
    if own is None and not slots:
        return None
    out = {s: getattr(value, s) for s in slots if hasattr(value, s)}
    for key, content in dict(own or {}).items():
        if not isinstance(inspect.getattr_static(kind, key, None), functools.cached_property):
            out[key] = content
    return out


def _has_settings(value: Any, *, foreign: bool) -> bool:
    """Whether an object's attributes are its settings; those of a client, a counter, a cache are not."""
    kind = cast("type[Any]", type(value))
    if hasattr(kind, "__pydantic_fields__") or dataclasses.is_dataclass(value):
        return True
    made_of_settings = any(base.__module__.startswith(_SETTINGS) for base in kind.__mro__)
    return made_of_settings or (callable(value) and not foreign)


def _slots(kind: type) -> tuple[str, ...]:
    given = vars(kind).get("__slots__", ())
    names = (given,) if isinstance(given, str) else tuple(given)
    return tuple(n for n in names if n not in ("__dict__", "__weakref__"))


def _counts(kind: type, name: str, *, foreign: bool) -> bool:
    if _SECRET.search(name):
        return False
    if foreign and (name in _PLUMBING or name.startswith("__")):
        return False
    if name in _MEMORY and kind.__module__.startswith("langgraph."):
        return False
    # What a chat model or a chain is called is for traces; what a tool is called, the model reads.
    return not (foreign and name == "name" and hasattr(kind, "ainvoke") and not hasattr(kind, "args_schema"))
