"""A prompt as LangChain's serialized objects, and as the objects themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.prompts.foreign.build import literal, mapped, segments_of, text_variables
from steelyard.prompts.foreign.text import write_fstring
from steelyard.prompts.prompt import Prompt

__all__ = ["chat_prompt", "chat_prompt_node", "differences", "options", "sequence_node"]

_CLASSES = {
    "system": "SystemMessage",
    "developer": "SystemMessage",
    "user": "HumanMessage",
    "assistant": "AIMessage",
    "tool": "ToolMessage",
}
_TYPES = {"SystemMessage": "system", "HumanMessage": "human", "AIMessage": "ai", "ToolMessage": "tool"}
_TAKEN = ("url", "path", "detail")  # LangChain keeps these names of variables from image templates


def sequence_node(prompt: Prompt) -> dict[str, JSON]:
    """The prompt as a manifest; with a model's settings, as a sequence of the template and a `ChatOpenAI`.

    Raises:
        InvalidValue: LangChain's templates cannot express it.
    """
    first = chat_prompt_node(prompt)
    given = options(prompt)
    if not given:
        return first
    model = {"model_name": given.pop("model")} if "model" in given else {}
    bound = {
        k: given.pop(k)
        for k in ("tools", "response_format", "tool_choice", "parallel_tool_calls")
        if k in given
    }
    # The place of the key, as LangChain itself writes it: whoever loads the manifest fills it in.
    key = {"openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}}
    last = _node(("langchain", "chat_models", "openai"), "ChatOpenAI", model | given | key)
    if bound:
        bound_kwargs = {"bound": last, "kwargs": bound, "config": {}}
        last = _node(("langchain", "schema", "runnable"), "RunnableBinding", bound_kwargs)
    return _node(("langchain", "schema", "runnable"), "RunnableSequence", {"first": first, "last": last})


def options(prompt: Prompt) -> dict[str, JSON]:
    """Everything but the messages, as keyword arguments for a LangChain chat model's `bind`.

    Raises:
        InvalidValue: tools or response format hold variables: take them from `render().options()`.
    """
    out: dict[str, JSON] = dict(prompt.parameters)
    if prompt.model is not None:
        out["model"] = prompt.model
    if prompt.tools:
        out["tools"] = literal(prompt, list(prompt.tools), "the tools")
    if prompt.response_format is not None:
        out["response_format"] = literal(prompt, dict(prompt.response_format), "the response format")
    return out


def chat_prompt_node(prompt: Prompt) -> dict[str, JSON]:
    """The messages as a serialized `ChatPromptTemplate`; defaults of variables as partial variables.

    Raises:
        InvalidValue: LangChain's templates cannot express it.
    """
    partial = text_variables(prompt)
    return _node(
        ("langchain", "prompts", "chat"),
        "ChatPromptTemplate",
        {
            "input_variables": sorted(set(prompt.variables) - set(partial)),
            **({"partial_variables": partial} if partial else {}),
            "messages": [_message(prompt, m, f"message {i + 1}") for i, m in enumerate(prompt.messages)],
        },
    )


def chat_prompt(prompt: Prompt) -> Any:
    """The messages as LangChain's `ChatPromptTemplate`.

    Raises:
        MissingExtra: LangChain is not installed.
        InvalidValue: its templates cannot express the prompt.
    """
    try:
        from langchain_core import messages, prompts
        from langchain_core.prompts.dict import DictPromptTemplate
        from langchain_core.prompts.image import ImagePromptTemplate
    except ModuleNotFoundError as error:
        raise MissingExtra(
            error.name or "langchain-core", extra="langchain", needed_for="to_langchain()"
        ) from None
    homes = {"DictPromptTemplate": DictPromptTemplate, "ImagePromptTemplate": ImagePromptTemplate}

    def built(value: Any) -> Any:
        if isinstance(value, list):
            return [built(v) for v in cast("list[Any]", value)]
        if not isinstance(value, Mapping) or "lc" not in value:
            return value
        kind = cast("Mapping[str, Any]", value)["id"][-1]
        made = homes.get(kind) or getattr(prompts, kind, None) or getattr(messages, kind)
        return made(**{k: built(v) for k, v in cast("Mapping[str, Any]", value)["kwargs"].items()})

    template = built(chat_prompt_node(prompt))
    return template.model_copy(update={"metadata": {"steelyard_prompt": str(prompt)}})


def differences(prompt: Prompt) -> tuple[str, ...]:
    """What LangChain does otherwise with the prompt, one sentence each."""
    out: list[str] = []
    for name, variable in prompt.variables.items():
        if not variable.required:
            out.append(f"The default of {name!r} became a partial variable, as text.")
    if prompt.syntax == "jinja":
        out.append("Jinja there prints lists and truth values as Python does, and filters may differ.")
    return tuple(out)


def _node(home: tuple[str, ...], kind: str, kwargs: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"lc": 1, "type": "constructor", "id": [*home, kind], "kwargs": dict(kwargs), "name": kind}


def _message(prompt: Prompt, message: Mapping[str, JSON], where: str) -> dict[str, JSON]:
    role = message["role"]
    extra = {"additional_kwargs": {"__openai_role__": "developer"}} if role == "developer" else {}
    if role == "tool" or set(message) - {"role", "content"}:
        return _fixed(prompt, message, where, extra)
    content = message["content"]
    template: Any
    if isinstance(content, str):
        template = _template(prompt, content)
    else:
        template = [_part(prompt, p, f"{where} part {i + 1}") for i, p in enumerate(content)]
    kind = _CLASSES[role] + "PromptTemplate"
    return _node(("langchain", "prompts", "chat"), kind, {"prompt": template, **extra})


def _fixed(
    prompt: Prompt, message: Mapping[str, JSON], where: str, extra: Mapping[str, JSON]
) -> dict[str, JSON]:
    """A message that no template of LangChain's can make: it must hold no variable."""
    known = {"role", "content", "name", "tool_calls", "tool_call_id"}
    if odd := sorted(set(message) - known):
        raise InvalidValue(
            f"{where} of prompt {prompt.name!r} has {odd[0]!r}, which LangChain's messages cannot express",
            do="Take it out.",
        )
    given = literal(prompt, dict(message), where)
    kind = _CLASSES[given["role"]]
    kwargs: dict[str, JSON] = {"content": given.get("content") or "", "type": _TYPES[kind], **extra}
    kwargs |= {k: given[k] for k in ("name", "tool_call_id") if k in given}
    if given.get("tool_calls"):
        kwargs["tool_calls"] = [_call(prompt, c, where) for c in given["tool_calls"]]
        kwargs["invalid_tool_calls"] = []
    return _node(("langchain", "schema", "messages"), kind, kwargs)


def _call(prompt: Prompt, call: Mapping[str, JSON], where: str) -> dict[str, JSON]:
    try:
        function = call["function"]
        arguments = json.loads(function["arguments"])
        return {"name": function["name"], "args": arguments, "id": call["id"], "type": "tool_call"}
    except (KeyError, TypeError, ValueError):
        raise InvalidValue(
            f"a tool call in {where} of prompt {prompt.name!r} has no id, name or JSON arguments",
            do="Write it as OpenAI gives it.",
        ) from None


def _template(prompt: Prompt, text: str) -> dict[str, JSON]:
    if prompt.syntax == "jinja":
        from steelyard.prompts.foreign.jinja_space import to_jinja

        language, source = "jinja2", to_jinja(text)
        names = sorted(_jinja_names(text))
    else:
        segments = segments_of(prompt, text, "LangChain")
        language, source = "f-string", write_fstring(segments)
        names = sorted({s.text for s in segments if s.variable})
    kwargs = {"input_variables": names, "template": source, "template_format": language}
    return _node(("langchain", "prompts", "prompt"), "PromptTemplate", kwargs)


def _jinja_names(text: str) -> frozenset[str]:
    from steelyard.prompts.sandbox import JinjaTemplate

    return JinjaTemplate(text).names


def _part(prompt: Prompt, part: Mapping[str, JSON], where: str) -> dict[str, JSON]:
    if part["type"] == "text" and set(part) == {"type", "text"}:
        return _template(prompt, part["text"])
    if prompt.syntax == "jinja":
        return _node(
            ("langchain_core", "prompts", "dict"),
            "DictPromptTemplate",
            {"template": _doubled(literal(prompt, dict(part), where)), "template_format": "f-string"},
        )
    names: set[str] = set()

    def text(value: Any) -> Any:
        if isinstance(value, str):
            segments = segments_of(prompt, value, "LangChain")
            names.update(s.text for s in segments if s.variable)
            return write_fstring(segments)
        if isinstance(value, Mapping):
            return {k: text(v) for k, v in cast("Mapping[str, Any]", value).items()}
        return [text(v) for v in cast("list[Any]", value)] if isinstance(value, list) else value

    made = text(part)
    image = made.get("image_url")
    if part["type"] == "image_url" and isinstance(image, dict) and set(made) == {"type", "image_url"}:
        if clash := names & set(_TAKEN):
            raise InvalidValue(
                f"{where} of prompt {prompt.name!r} uses the variable {sorted(clash)[0]!r}, a name that "
                "LangChain keeps for itself in images",
                do="Rename the variable.",
            )
        kwargs = {"input_variables": sorted(names), "template": image, "template_format": "f-string"}
        return _node(("langchain", "prompts", "image"), "ImagePromptTemplate", kwargs)
    return _node(
        ("langchain_core", "prompts", "dict"),
        "DictPromptTemplate",
        {"template": made, "template_format": "f-string"},
    )


def _doubled(value: Any) -> Any:
    def double(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    return mapped(value, double)
