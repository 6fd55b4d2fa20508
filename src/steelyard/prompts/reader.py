"""From a prompt file to a `Prompt`; everything wrong with it is an `InvalidFile` with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidFile, InvalidValue, closest, did_you_mean
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.schema import (
    FileModel,
    MessageModel,
    ParametersModel,
    ResponseFormatModel,
    ToolModel,
    VariableModel,
)
from steelyard.prompts.strict_yaml import Document, read_yaml
from steelyard.prompts.template import Fault, Where
from steelyard.prompts.variable import REQUIRED, TYPES, Variable

__all__ = ["read_prompt"]


def read_prompt(name: str, path: Path, data: bytes | None = None) -> Prompt:
    """The prompt that a file describes.

    Args:
        name: The prompt's name.
        path: The file.
        data: Its bytes, where they were read already.

    Raises:
        InvalidFile: anything is wrong with the file: what, in which line, and what to do.
    """
    document = read_yaml(path, data)
    value = document.value
    if not isinstance(value, dict):
        raise document.fault(
            "a prompt file must hold keys", do="Begin with 'description:' and 'messages:' or 'template:'."
        )
    raw = _long_form(cast("dict[str, JSON]", value))
    try:
        model = FileModel.model_validate(raw)
    except ValidationError as error:
        raise _of_pydantic(document, error) from None
    given, wheres = _messages(document, model)
    try:
        return Prompt(
            name=name,
            messages=given,
            variables={k: _variable(document, k, v) for k, v in model.variables.items()},
            model=model.model,
            parameters=_parameters(document, model.parameters),
            tools=tuple(t.model_dump(exclude_none=True) for t in model.tools),
            response_format=model.response_format.model_dump(exclude_none=True)
            if model.response_format
            else None,
            syntax=model.syntax,
            description=" ".join(model.description.split()),
        )
    except Fault as fault:
        where = wheres(fault.where)
        text = _at(value, where)
        line = document.line(where, text if isinstance(text, str) else None, fault.offset)
        raise InvalidFile(path, fault.what, do=fault.do, line=line) from None
    except InvalidValue as error:
        raise InvalidFile(path, error.what, do=error.do, line=1) from None


def _long_form(value: Mapping[str, JSON]) -> dict[str, JSON]:
    """The file's value with `name: str` written out as `name: {type: str}`."""
    out = dict(value)
    variables = value.get("variables")
    if isinstance(variables, dict):
        out["variables"] = {
            k: {"type": v} if isinstance(v, str) else ({} if v is None else v)
            for k, v in cast("dict[str, JSON]", variables).items()
        }
    for key in ("description", "variables", "parameters", "tools"):  # 'tools:' with nothing after it
        if key in out and out[key] is None:
            del out[key]
    return out


def _messages(
    document: Document, model: FileModel
) -> tuple[tuple[dict[str, JSON], ...], Callable[[Where], Where]]:
    """The messages, and what turns a place in the prompt into a place in the file."""
    if model.template is not None and model.messages is not None:
        raise document.fault(
            "both 'messages' and 'template' are given", do="Keep one of them.", where=("template",)
        )
    if model.template is not None:
        message: dict[str, JSON] = {"role": "user", "content": model.template}

        def to_template(where: Where) -> Where:
            return ("template",) if where[:1] == ("messages",) else where

        return (message,), to_template
    if not model.messages:
        raise document.fault(
            "there is no message",
            do="Write 'messages:' with role and content, or one 'template:'.",
            where=("messages",),
        )
    messages = tuple(
        {"role": m.role, "content": m.content} | m.model_dump(exclude_none=True) for m in model.messages
    )
    for message in messages:
        if message["content"] is None and message.get("tool_calls"):
            del message["content"]
    return messages, _same


def _same(where: Where) -> Where:
    return where


def _variable(document: Document, name: str, model: VariableModel) -> Variable:
    has_default = "default" in model.model_fields_set
    where: Where = ("variables", name, "required")
    if model.required is True and has_default:
        raise document.fault(
            f"variable {name!r} is required and has a default", do="Keep one of the two.", where=where
        )
    if model.required is False and not has_default:
        raise document.fault(
            f"variable {name!r} is not required but has no default",
            do="Give the default that stands in for it.",
            where=where,
        )
    return Variable(
        type=model.type,
        description=" ".join(model.description.split()),
        default=model.default if has_default else REQUIRED,
    )


def _parameters(document: Document, model: ParametersModel) -> dict[str, JSON]:
    out = model.model_dump(exclude_none=True)
    stop = out.get("stop")
    if stop is not None and not (
        isinstance(stop, str) or (isinstance(stop, list) and all(isinstance(s, str) for s in stop))
    ):
        raise document.fault(
            "'stop' is neither a text nor a list of texts",
            do="Write stop: ['###'].",
            where=("parameters", "stop"),
        )
    return out


# -- pydantic's errors, in words and with lines -----------------------------------------------------
_MODELS: tuple[tuple[tuple[str | type, ...], type[BaseModel]], ...] = (
    ((), FileModel),
    (("messages", int), MessageModel),
    (("variables", str), VariableModel),
    (("parameters",), ParametersModel),
    (("tools", int), ToolModel),
    (("response_format",), ResponseFormatModel),
)
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "finite_number": "a finite number",
}


def _of_pydantic(document: Document, error: ValidationError) -> InvalidFile:
    """The first of pydantic's errors by line."""
    found = error.errors(include_url=False, include_context=True)
    located = sorted(found, key=lambda e: document.line(tuple(e["loc"])) or 0)
    first = located[0]
    where: Where = tuple(first["loc"])
    key = _name(where)
    kind = first["type"]
    if kind == "extra_forbidden":
        known = _known(where[:-1])
        hint = did_you_mean(str(where[-1]), known, f"Known keys: {', '.join(known)}.")
        return document.fault(f"unknown key {str(where[-1])[:80]!r}{_under(where)}", do=hint, where=where)
    if kind == "missing":
        return document.fault(
            f"{str(where[-1])!r} is missing{_under(where)}", do=f"Write '{where[-1]}:'.", where=where
        )
    if kind == "literal_error":
        allowed = str(first.get("ctx", {}).get("expected", "")).replace("'", "")
        close = closest(str(first["input"]), allowed.replace(" or ", ", ").split(", "))
        hint = f" (did you mean {close}?)" if close is not None else ""
        what = f"{key} is {_shown(first['input'])}, which it cannot be{hint}"
        types = (
            " Types are " + ", ".join(TYPES) + "." if where[-1:] == ("type",) and "variables" in where else ""
        )
        return document.fault(what, do=types.strip() or f"Use {allowed}.", where=where)
    if kind in _WANTED:
        what = f"{key} is {_shown(first['input'])}, but must be {_WANTED[kind]}"
        return document.fault(what, do=f"Write {_WANTED[kind]}.", where=where)
    message = first["msg"].replace("Input should be", "it must be")
    return document.fault(f"{key} is {_shown(first['input'])}: {message}", do="Mend the value.", where=where)


def _known(where: Where) -> list[str]:
    for pattern, model in _MODELS:
        if len(pattern) == len(where) and all(
            p == w if isinstance(p, str) else isinstance(w, p) for p, w in zip(pattern, where, strict=True)
        ):
            return list(model.model_fields)
    return []


def _name(where: Where) -> str:
    text = ""
    for key in where:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return repr(text[:120]) if text else "the file"


def _under(where: Where) -> str:
    return f" under {_name(where[:-1])}" if len(where) > 1 else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "empty" if value is None else repr(value)[:60]


def _at(value: JSON, where: Where) -> JSON:
    for key in where:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
