"""The digest of a function: its normalised source, its bound arguments, a declared version."""

from __future__ import annotations

import functools
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable
from typing import Any

from steelyard.core.canonical import JSON, digest
from steelyard.core.errors import InvalidValue

__all__ = ["described_function", "function_digest", "normalised_source"]


def normalised_source(source: str) -> str:
    """The source without comments, blank lines, trailing blanks and common indentation.

    Same text for the same code on every Python version (no unparsing).
    """
    source = textwrap.dedent(source)
    lines = source.splitlines()
    keep = [len(line) for line in lines]
    inside_string = [False] * len(lines)
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                keep[token.start[0] - 1] = token.start[1]
            elif token.end[0] > token.start[0] and token.type != tokenize.NEWLINE:
                # A string over several lines: its lines are content and stay as they are.
                for n in range(token.start[0] - 1, token.end[0] - 1):
                    inside_string[n] = True
    except (tokenize.TokenError, IndentationError):  # a lambda cut out of an expression
        return "\n".join(line.rstrip() for line in lines if line.strip())
    out: list[str] = []
    for line, width, fixed in zip(lines, keep, inside_string, strict=True):
        text = line if fixed else line[:width].rstrip()
        if text or fixed:
            out.append(text)
    return "\n".join(out)


def function_digest(function: Callable[..., Any], *, version: str | None = None) -> str:
    """The identity of a function as `sha256:<hex>`.

    Made of its name, normalised source, default arguments, `functools.partial` arguments, closure values
    (plain values and other functions) and the declared version. Code it merely calls is not followed:
    declare a `version` and raise it when that code changes its meaning.

    Args:
        function: A function, a method (with the object it belongs to), a `functools.partial`, or an object
            with a `__call__` (its class's source and its state, as `core.objects` describes them).
        version: Declared version; required where no source can be read or a closure value has no JSON form.

    Raises:
        InvalidValue: no source can be read, or a bound value has no JSON form, and no version is declared.
    """
    from steelyard.core.objects import described_object

    return digest(described_object(function, version))


def described_function(
    function: Any, version: str | None, describe: Callable[[Any], JSON], owner: Callable[[Any], JSON]
) -> JSON:
    """What `function_digest` is the digest of.

    Args:
        function: As there.
        version: As there.
        describe: Describes what it binds.
        owner: Describes the object that a method belongs to.

    Raises:
        InvalidValue: as there.
    """
    bound: dict[str, JSON] = {}
    while isinstance(function, functools.partial):
        partial: functools.partial[Any] = function
        bound |= {f"arg{i}": describe(a) for i, a in enumerate(partial.args)}
        bound |= {k: describe(v) for k, v in partial.keywords.items()}
        function = partial.func
    if inspect.ismethod(function):
        if not inspect.isclass(function.__self__):
            bound["self"] = owner(function.__self__)
        function = function.__func__
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        return {"object": owner(function), "bound": bound, "version": version}
    name = str(getattr(function, "__qualname__", type(function).__name__))
    try:
        source = _source_of(function)
    except (OSError, TypeError):
        if version is None:
            raise InvalidValue(
                f"the source of {name!r} cannot be read, so its identity is unknown",
                do="Declare one: version='1', and raise it when the code changes.",
            ) from None
        source = None
    for key, value in (getattr(function, "__kwdefaults__", None) or {}).items():
        bound[f"default:{key}"] = describe(value)
    for i, value in enumerate(getattr(function, "__defaults__", None) or ()):
        bound[f"default:{i}"] = describe(value)
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    for key, cell in zip(code.co_freevars if code else (), cells, strict=True):
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if content is not function:
            bound[f"closure:{key}"] = describe(content)
    return {"name": name.rpartition(".")[2], "source": source, "bound": bound, "version": version}


def _source_of(function: Any) -> JSON:
    text = inspect.getsource(function)
    code = getattr(function, "__code__", None)
    if code is None or code.co_name != "<lambda>":
        return normalised_source(text)
    # The "source" of a lambda is its whole line; two on one line differ by where their code stands in it.
    places = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
    lines = text.splitlines()
    if not places:
        # Python 3.12 gives the body of `lambda: 1` no place: the constant itself tells two on one line apart.
        return [normalised_source(text), list(code.co_varnames), [repr(c) for c in code.co_consts]]
    first, last = min(p[0] for p in places), max(p[1] for p in places)
    start = min(p[2] for p in places if p[0] == first)
    end = max(p[3] for p in places if p[1] == last)
    body = lines[first - code.co_firstlineno : last - code.co_firstlineno + 1]
    encoded = [line.encode() for line in body]
    encoded[-1] = encoded[-1][:end]
    encoded[0] = encoded[0][start:]
    return [[line.decode().strip() for line in encoded], list(code.co_varnames)]
