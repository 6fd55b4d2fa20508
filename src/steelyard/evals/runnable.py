"""LangChain runnables as tasks: chains, LangGraph graphs, agents. LangChain itself is never imported."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidOutput, InvalidValue
from steelyard.lm.one_loop import on_one_loop

__all__ = ["as_json", "built_chain", "is_runnable", "runnable_method", "runnable_task"]


def is_runnable(value: object) -> bool:
    """Whether a value is a LangChain runnable. Nothing is imported: what is one has loaded its package."""
    module = sys.modules.get("langchain_core.runnables.base")
    return module is not None and isinstance(value, module.Runnable)


def runnable_method(value: object) -> str | None:
    """`invoke` or `ainvoke` where the value is that method of a runnable, else None."""
    owner, name = getattr(value, "__self__", None), getattr(value, "__name__", None)
    return name if owner is not None and is_runnable(owner) and name in ("invoke", "ainvoke") else None


def runnable_task(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function of `inputs` that calls a runnable, and gives its output as JSON.

    Args:
        call: A runnable, called by `invoke` in a thread, or its own `invoke` or `ainvoke`.
    """
    method: Any = cast("Any", call).invoke if is_runnable(call) else call
    if method.__name__ == "ainvoke":

        async def ainvoke(inputs: Mapping[str, JSON]) -> JSON:
            with _Unparsed():
                return as_json(await on_one_loop(lambda: method(dict(inputs))))

        return ainvoke

    def invoke(inputs: Mapping[str, JSON]) -> JSON:
        with _Unparsed():
            return as_json(method(dict(inputs)))

    return invoke


def built_chain(factory: Callable[..., Any]) -> Callable[..., Any]:
    """The task of a factory that takes `prompt` and `lm` and gives a runnable.

    The runnable is built once for each prompt and model, not once a row.
    """
    name = getattr(factory, "__qualname__", repr(factory))
    built: dict[tuple[int, int], tuple[Any, Any, Callable[..., Any]]] = {}
    lock = threading.Lock()
    wants = [n for n in ("prompt", "lm") if n in inspect.signature(factory).parameters]

    def task(inputs: Mapping[str, JSON], prompt: Any = None, lm: Any = None) -> Any:
        key = (id(prompt), id(lm))
        with lock:
            if key not in built:
                offered = {"prompt": prompt, "lm": lm}
                chain = factory(**{k: offered[k] for k in wants})
                if not is_runnable(chain):
                    raise InvalidValue(
                        f"task {name!r} takes no 'inputs' and gave a {type(chain).__name__}, not a chain",
                        do="Return a LangChain runnable, or take 'inputs' and return the outputs.",
                    )
                built[key] = (prompt, lm, runnable_task(chain))  # holding both keeps their ids their own
            found = built[key][2]
        return found(inputs)

    return task


def as_json(value: Any) -> Any:
    """What a runnable gave, with messages and documents as plain values.

    A message alone is its text, or an OpenAI message where it calls tools or has parts; messages inside of
    something are OpenAI messages. What is not LangChain's own stays as it is.
    """
    module = sys.modules.get("langchain_core.messages")
    if module is not None and isinstance(value, module.BaseMessage):
        plain_text = isinstance(value.content, str) and not getattr(value, "tool_calls", None)
        return value.content if plain_text else _openai(module, value)
    return _inner(module, value, 0)


def _inner(messages: Any, value: Any, depth: int) -> Any:
    if depth > 100:
        return value  # `plain` refuses it with its own words
    if messages is not None and isinstance(value, messages.BaseMessage):
        return _openai(messages, value)
    if hasattr(value, "to_messages") and hasattr(value, "to_string"):  # a prompt value
        return [_inner(messages, m, depth + 1) for m in value.to_messages()]
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        return {k: _inner(messages, v, depth + 1) for k, v in items.items()}
    if isinstance(value, (list, tuple)):
        return [_inner(messages, v, depth + 1) for v in cast("list[Any]", value)]
    if hasattr(value, "page_content") and hasattr(value, "metadata"):  # a document
        return {"page_content": value.page_content, "metadata": _inner(messages, value.metadata, depth + 1)}
    return value


def _openai(messages: Any, message: Any) -> dict[str, JSON]:
    # Keeps role, content, tool calls and what a tool message answers; no ids of runs, no usage.
    return dict(messages.convert_to_openai_messages(message))


class _Unparsed:
    """LangChain's "the model answered, but not in this form" as ours: an invalid output, no error."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        module = sys.modules.get("langchain_core.exceptions")
        if module is not None and isinstance(error, module.OutputParserException):
            said = getattr(error, "llm_output", None)
            raise InvalidOutput(str(error).partition("\nFor troubleshooting")[0], output=said) from error
