"""Tasks: the function under evaluation, called with what it asks for by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from steelyard.core.canonical import JSON, digest
from steelyard.core.errors import InvalidValue
from steelyard.core.objects import described_object
from steelyard.core.source import function_digest
from steelyard.evals.runnable import built_chain, is_runnable, runnable_method, runnable_task

__all__ = ["OFFERED", "Task"]

OFFERED = ("inputs", "prompt", "lm")
"""What a task may ask for: the example's inputs, the prompt under test, the language model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A function that turns an example's inputs into outputs.

    Attributes:
        function: The user's function, sync or async.
        wants: Which of `OFFERED` it takes.
        digest: Its identity, `sha256:<hex>`.
    """

    function: Callable[..., Any]
    wants: frozenset[str]
    digest: str

    @classmethod
    def of(cls, function: Callable[..., Any], *, version: str | None = None) -> Task:
        """The task made of a function, a LangChain runnable, or a function that builds one.

        Args:
            function: A function, method, `functools.partial` or callable object that takes any of `OFFERED`
                by name; a runnable (or its `ainvoke`), which gets the inputs as a dict; or a function of
                `prompt` and `lm` alone that gives a runnable.
            version: Declared version, for what has no identity of its own.

        Raises:
            InvalidValue: it is none of these, asks for something that is not offered, or its source cannot be
                read, or it has state without an identity, and no version is declared.
        """
        if is_runnable(function) or runnable_method(function):
            owner = function if is_runnable(function) else cast("Any", function).__self__
            identity = digest({"runnable": described_object(owner, version), "version": version})
            return cls(function=runnable_task(function), wants=frozenset({"inputs"}), digest=identity)
        name = getattr(function, "__qualname__", repr(function))
        if not callable(function):
            raise InvalidValue(
                f"{name} is no task", do="Hand over a function, or a LangChain runnable, itself as the task."
            )
        wants: set[str] = set()
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in OFFERED and parameter.kind is not parameter.POSITIONAL_ONLY:
                wants.add(parameter.name)
            elif parameter.kind is parameter.VAR_KEYWORD:
                wants.update(OFFERED)
            elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
                raise InvalidValue(
                    f"task {name!r} asks for {parameter.name!r}, which nobody gives it",
                    do=f"A task takes any of {', '.join(OFFERED)} by name.",
                )
        if "inputs" not in wants:
            if wants and not _is_async(function):
                identity = function_digest(function, version=version)
                return cls(
                    function=built_chain(function), wants=frozenset({*wants, "inputs"}), digest=identity
                )
            raise InvalidValue(
                f"task {name!r} does not take 'inputs', so it cannot depend on the example",
                do="Write it as: def task(inputs, prompt, lm): ...",
            )
        return cls(
            function=function, wants=frozenset(wants), digest=function_digest(function, version=version)
        )

    @property
    def is_async(self) -> bool:
        """Whether calling it gives an awaitable."""
        return _is_async(self.function)

    def arguments(self, inputs: Mapping[str, JSON], prompt: object, lm: object) -> dict[str, Any]:
        """The keyword arguments of one call."""
        offered = {"inputs": dict(inputs), "prompt": prompt, "lm": lm}
        return {k: offered[k] for k in OFFERED if k in self.wants}


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    call = getattr(function, "__call__", None)  # noqa: B004 - an instance with an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
