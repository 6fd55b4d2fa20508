"""LangChain's serialized prompts (`lc`, `id`, `kwargs`), read as data.

Nothing is looked up or constructed: an object is known by the last word of its `id`, every one of its keys
must be known, a `secret` is never resolved, and what is not on the list is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import Building, allowed, keyed, listed
from steelyard.prompts.foreign.jinja_space import from_jinja, guessed_types, simple_segments
from steelyard.prompts.foreign.manifest_model import read_binding, read_model
from steelyard.prompts.foreign.text import read_fstring, read_mustache

__all__ = ["is_manifest", "read_manifest"]

_ROLES = {"System": "system", "Human": "user", "AI": "assistant"}
_CHAT_ROLES = {"human": "user", "ai": "assistant"} | {
    r: r for r in ("system", "user", "assistant", "developer")
}
_EMPTY = ("output_parser", "input_types", "tags", "metadata", "optional_variables", "name")
_TEMPLATE = (
    "template",
    "template_format",
    "input_variables",
    "partial_variables",
    "validate_template",
    *_EMPTY,
)
_CHAT = ("messages", "input_variables", "partial_variables", "validate_template", "template_format", *_EMPTY)


def is_manifest(value: object) -> bool:
    """Whether a JSON value is a serialized object of LangChain's."""
    return isinstance(value, Mapping) and "lc" in value and "id" in value


def read_manifest(value: object, name: str) -> Building:
    """What a manifest describes: a prompt template, alone or followed by an OpenAI chat model.

    Raises:
        InvalidValue: an unknown object or key, a template with more than plain names, or a value that is not
            data (a function, a secret).
    """
    building = Building(name)
    kind, kwargs = node(value, "the manifest")
    steps = [value]
    if kind == "RunnableSequence":
        given = allowed(kwargs, ("first", "middle", "last", "name"), kind)
        steps = [given.get("first"), *listed(given.get("middle"), "middle"), given.get("last")]
    _prompt(building, steps[0])
    for step in steps[1:]:
        _step(building, step)
    return building


def node(value: object, where: str) -> tuple[str, dict[str, Any]]:
    """The kind and arguments of a serialized object.

    Raises:
        InvalidValue: it is none, or is one that only code could bring back.
    """
    found = allowed(value, ("lc", "type", "id", "kwargs", "name", "graph", "repr"), where)
    path = found.get("id")
    if found.get("lc") != 1 or not isinstance(path, list) or not path:
        raise InvalidValue(f"{where} is no serialized object of LangChain's", do="Write it with dumpd().")
    kind = str(cast("list[Any]", path)[-1])[:60]
    if found.get("type") != "constructor":
        what = "a secret, which is never resolved" if found.get("type") == "secret" else "code, not data"
        raise InvalidValue(
            f"{where} is {what} ({kind})", do="Take it out: a prompt holds text and schemas only."
        )
    if not str(path[0]).startswith("langchain"):
        raise InvalidValue(
            f"{where} is {kind} of {str(path[0])[:60]!r}", do="Only LangChain's own prompts are read."
        )
    return kind, keyed(found.get("kwargs"), f"{where} ({kind})")


def _prompt(building: Building, value: object) -> None:
    kind, kwargs = node(value, "the prompt")
    if kind == "PromptTemplate":
        building.add({"role": "user", "content": _text(building, kwargs, "the template")})
        return
    if kind not in ("ChatPromptTemplate", "StructuredPrompt"):
        raise InvalidValue(
            f"{kind} cannot be read as a prompt", do="Give a PromptTemplate or a ChatPromptTemplate."
        )
    structured = ("schema_", "schema", "structured_output_kwargs") if kind == "StructuredPrompt" else ()
    given = allowed(kwargs, (*_CHAT, *structured), kind)
    partial = keyed(given.get("partial_variables"), "partial_variables")
    for i, message in enumerate(listed(given.get("messages"), "messages")):
        _message(building, message, f"message {i + 1}", partial)
    _partial(building, {k: v for k, v in partial.items() if v != []})  # [] stands for an optional placeholder
    _empty(building, given)
    if structured:
        _structured(building, given)


def _empty(building: Building, given: Mapping[str, Any]) -> None:
    if given.get("output_parser") is not None:
        raise InvalidValue("the prompt has an output parser", do="Take it out: a prompt holds no code.")
    if given.get("metadata") or given.get("tags"):
        building.note("Metadata and tags of the template were left out.")


def _structured(building: Building, given: Mapping[str, Any]) -> None:
    schema = given.get("schema_", given.get("schema"))
    options = allowed(
        given.get("structured_output_kwargs") or {},
        ("method", "strict", "include_raw"),
        "structured_output_kwargs",
    )
    if not isinstance(schema, Mapping):
        raise InvalidValue("the schema of the structured prompt is no object", do="Give a JSON schema.")
    body = dict(cast("Mapping[str, Any]", schema))
    title = body.get("title") or body.get("name") or "answer"
    strict = {"strict": options["strict"]} if options.get("strict") is not None else {}
    building.response_format = {
        "type": "json_schema",
        "json_schema": {"name": str(title), "schema": body.get("schema", body), **strict},
    }


def _partial(building: Building, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not isinstance(value, (str, int, float)):
            raise InvalidValue(
                f"the partial variable {name[:40]!r} is no text or number",
                do="Give its text, or leave it out.",
            )
        building.defaults[name] = str(value)  # as str.format writes it


def _message(building: Building, value: object, where: str, partial: Mapping[str, Any]) -> None:
    kind, kwargs = node(value, where)
    where = f"{where} ({kind})"
    if kind == "MessagesPlaceholder":
        given = allowed(kwargs, ("variable_name", "optional", "n_messages"), where)
        variable = str(given.get("variable_name"))[:40]
        if not given.get("optional") and variable not in partial:
            raise InvalidValue(
                f"{where} puts in a list of messages ({variable!r}), which a prompt of Steelyard's cannot",
                do="Make it optional to leave it out, or put the messages in where the request is built.",
            )
        building.note(f"The optional placeholder {variable!r} for further messages was left out.")
    elif kind.endswith("PromptTemplate"):
        building.add(_templated(building, kind, kwargs, where))
    else:
        building.add(_fixed(kind, kwargs, where))


def _templated(building: Building, kind: str, kwargs: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = ("prompt", "additional_kwargs", "role", "input_variables")
    given = allowed(kwargs, known, where)
    role = _ROLES.get(kind.removesuffix("MessagePromptTemplate"))
    if kind == "ChatMessagePromptTemplate":
        role = _CHAT_ROLES.get(str(given.get("role")))
    if role is None:
        raise InvalidValue(
            f"{where} has no role that is known", do="Use system, user, assistant or developer."
        )
    extra = allowed(given.get("additional_kwargs") or {}, ("__openai_role__",), f"{where} additional_kwargs")
    if extra.get("__openai_role__") == "developer":
        role = "developer"
    prompt = given.get("prompt")
    if isinstance(prompt, list):
        parts = cast("list[Any]", prompt)
        return {
            "role": role,
            "content": [_part(building, p, f"{where} part {i + 1}") for i, p in enumerate(parts)],
        }
    inner, inner_kwargs = node(prompt, where)
    if inner != "PromptTemplate":
        raise InvalidValue(f"{where} holds a {inner}", do="Give it a PromptTemplate.")
    return {"role": role, "content": _text(building, inner_kwargs, where)}


def _part(building: Building, value: object, where: str) -> dict[str, Any]:
    kind, kwargs = node(value, where)
    if kind == "PromptTemplate":
        return {"type": "text", "text": _text(building, kwargs, where)}
    if kind not in ("ImagePromptTemplate", "DictPromptTemplate"):
        raise InvalidValue(f"{where} is a {kind}", do="Give text, image or dict templates.")
    given = allowed(kwargs, _TEMPLATE, where)
    _partial(building, keyed(given.get("partial_variables"), "partial_variables"))
    template = given.get("template")
    if kind == "ImagePromptTemplate":
        template = {"type": "image_url", "image_url": allowed(template, ("url", "detail"), where)}
    read = _language(building, given.get("template_format", "f-string"))

    def walk(member: Any, path: str) -> Any:
        if isinstance(member, str):
            return read(member, path)
        if isinstance(member, Mapping):
            return {k: walk(v, f"{path}.{k}") for k, v in cast("Mapping[str, Any]", member).items()}
        if isinstance(member, list):
            return [walk(v, path) for v in cast("list[Any]", member)]
        return member

    part = walk(allowed(template, template or {}, where), where)
    part["type"] = cast("Mapping[str, Any]", template).get("type")  # the kind of a part is fixed text
    return part


def _text(building: Building, kwargs: Mapping[str, Any], where: str) -> Any:
    given = allowed(kwargs, _TEMPLATE, where)
    _partial(building, keyed(given.get("partial_variables"), "partial_variables"))
    _empty(building, given)
    template = given.get("template")
    if not isinstance(template, str):
        raise InvalidValue(f"{where} has no text as its template", do="Give a text.")
    return _language(building, given.get("template_format", "f-string"))(template, where)


def _language(building: Building, language: object) -> Callable[[str, str], Any]:
    """What reads a text of a template language."""

    def fstring(text: str, where: str) -> Any:
        return building.segments(read_fstring(text, where))

    def mustache(text: str, where: str) -> Any:
        segments, escaped = read_mustache(text, where)
        for name in sorted(escaped):
            building.note(
                f"mustache writes & < > and quotes in {name!r} as HTML; here the value stays as it is."
            )
        return building.segments(segments)

    def jinja(text: str, where: str) -> Any:
        return read_jinja(building, text, where)

    found = {"f-string": fstring, "mustache": mustache, "jinja2": jinja}.get(str(language))
    if found is None:
        raise InvalidValue(
            f"{str(language)[:40]!r} is no template format that is known",
            do="Use f-string, mustache or jinja2.",
        )
    return found


def read_jinja(building: Building, text: str, where: str) -> Any:
    """A text for Jinja's defaults: as segments where it only puts names in, else in our Jinja syntax."""
    segments = simple_segments(text, where)
    if segments is not None:
        return building.segments(segments)
    from steelyard.prompts.sandbox import JinjaTemplate

    ours = from_jinja(text)
    try:
        names = JinjaTemplate(ours).names
    except InvalidValue as error:
        raise InvalidValue(f"{where}: {error.what}", do=error.do) from None
    for name, kind in guessed_types(text, where).items():
        if kind != "str" and name in names:
            building.types[name] = kind
            building.note(
                f"{name!r} is taken as {kind}, from how the Jinja template uses it: check its type."
            )
    return building.jinja(ours, sorted(names, key=text.find))


def _fixed(kind: str, kwargs: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A message whose text is no template."""
    known = (
        "content",
        "type",
        "name",
        "tool_calls",
        "tool_call_id",
        "role",
        "additional_kwargs",
        "id",
        "status",
    )
    empty = ("response_metadata", "invalid_tool_calls", "usage_metadata", "example", "artifact")
    given = allowed(kwargs, (*known, *empty), where)
    roles = {
        "SystemMessage": "system",
        "HumanMessage": "user",
        "AIMessage": "assistant",
        "ToolMessage": "tool",
    }
    role = _CHAT_ROLES.get(str(given.get("role"))) if kind == "ChatMessage" else roles.get(kind)
    extra = given.get("additional_kwargs") or {}
    if extra == {"__openai_role__": "developer"}:
        role, extra = "developer", {}
    if role is None or extra or given.get("invalid_tool_calls"):
        raise InvalidValue(
            f"{where} cannot be read as a message",
            do="Give system, human, AI and tool messages without extras.",
        )
    out: dict[str, Any] = {"role": role, "content": given.get("content", "")}
    out |= {k: given[k] for k in ("name", "tool_call_id") if given.get(k)}
    calls = [
        allowed(c, ("name", "args", "id", "type"), where)
        for c in listed(given.get("tool_calls"), "tool_calls")
    ]
    if calls:
        out["tool_calls"] = [
            {
                "id": c.get("id"),
                "type": "function",
                "function": {
                    "name": c.get("name"),
                    "arguments": json.dumps(c.get("args", {}), ensure_ascii=False),
                },
            }
            for c in calls
        ]
    return out


def _step(building: Building, value: object) -> None:
    """A step after the prompt: an OpenAI chat model, bound or not, or the parser of a structured prompt."""
    if isinstance(value, Mapping) and cast("Mapping[str, Any]", value).get("type") == "not_implemented":
        path = cast("list[Any]", cast("Mapping[str, Any]", value).get("id") or ["?"])
        building.note(f"The step {str(path[-1])[:60]!r} after the model is code and was left out.")
        return
    kind, kwargs = node(value, "a step of the sequence")
    if kind == "RunnableBinding":
        given = allowed(kwargs, ("bound", "kwargs", "config", "config_factories", "name"), kind)
        _step(building, given.get("bound"))
        read_binding(building, given.get("kwargs") or {})
    else:
        read_model(building, kind, kwargs)
