"""Tasks: the function under evaluation, called with what it asks for by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.core.source import function_digest

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
        """The task made of a function.

        Raises:
            InvalidValue: it is no function, asks for something that is not offered, or its source cannot be
                read and no version is declared.
        """
        name = getattr(function, "__qualname__", repr(function))
        if not callable(function):
            raise InvalidValue(f"{name} is no function", do="Hand over the function itself as the task.")
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
        if not wants & {"inputs"}:
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
        function = inspect.unwrap(self.function)
        call = getattr(function, "__call__", None)  # noqa: B004 - an instance with an async __call__
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)

    def arguments(self, inputs: Mapping[str, JSON], prompt: object, lm: object) -> dict[str, Any]:
        """The keyword arguments of one call."""
        offered = {"inputs": dict(inputs), "prompt": prompt, "lm": lm}
        return {k: offered[k] for k in OFFERED if k in self.wants}
