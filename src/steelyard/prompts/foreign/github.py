"""GitHub's `.prompt.yml` files (GitHub Models, `gh models eval`, `actions/ai-inference`).

Keys: name, description, model, modelParameters (maxTokens, temperature, topP), messages (role, content),
responseFormat (text, json_object, json_schema), jsonSchema (JSON as text: name, strict, schema), testData,
evaluators. `{{name}}` without blanks puts a variable in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import (
    Building,
    allowed,
    keyed,
    listed,
    literal,
    segments_of,
    text_variables,
    typed_by_rows,
)
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.json_text import looks_like, read_json, read_mapping
from steelyard.prompts.foreign.text import read_double, write_double
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT"]

_KEYS = (
    *("name", "description", "model", "modelParameters", "messages"),
    *("responseFormat", "jsonSchema", "testData", "evaluators"),
)
_PARAMETERS = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}
_MORE = {"maxCompletionTokens": "max_completion_tokens", "frequencyPenalty": "frequency_penalty"} | {
    "presencePenalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
}
_ROLES = ("system", "user", "assistant")


class _GitHub:
    name = "github"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompt in a `.prompt.yml`; its test data comes along as rows, its evaluators are said."""
        value = allowed(read_mapping(text, f"{name}.prompt.yml"), _KEYS, "the file")
        building = Building(name)
        building.description = str(value.get("description") or "")
        building.model = None if value.get("model") is None else str(value["model"])
        names = _PARAMETERS | _MORE
        given = allowed(value.get("modelParameters") or {}, names, "modelParameters")
        building.parameters = {names[k]: v for k, v in given.items() if v is not None}
        messages: Any = value.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidValue("the file has no messages", do="Give at least one with role and content.")
        for i, message in enumerate(cast("list[Any]", messages)):
            where = f"message {i + 1}"
            found = allowed(message, ("role", "content"), where)
            if found.get("role") not in _ROLES or not isinstance(found.get("content"), str):
                raise InvalidValue(f"{where} has no role or text", do=f"Use {', '.join(_ROLES)} and a text.")
            segments = read_double(found["content"], where, blanks=False)
            building.add({"role": found["role"], "content": building.segments(segments)})
        building.response_format = _response_format(value)
        done = _tests(building, value)
        return (done,)

    def write(self, prompt: Prompt) -> Exported:
        """A `.prompt.yml` without test data; defaults stay behind, and it says so."""
        from steelyard.prompts.strict_yaml import dump_ordered

        value: dict[str, JSON] = {"name": prompt.name, "description": prompt.description}
        if prompt.model is not None:
            value["model"] = prompt.model
        back = {ours: theirs for theirs, ours in (_PARAMETERS | _MORE).items()}
        if odd := sorted(set(prompt.parameters) - set(back)):
            raise _cannot(prompt, f"the parameter {odd[0]!r}")
        if prompt.parameters:
            value["modelParameters"] = {back[k]: v for k, v in prompt.parameters.items()}
        if prompt.tools:
            raise _cannot(prompt, "tools")
        if prompt.response_format is not None:
            given = literal(prompt, dict(prompt.response_format), "the response format")
            value["responseFormat"] = given["type"]
            if "json_schema" in given:
                value["jsonSchema"] = json.dumps(given["json_schema"], indent=2, ensure_ascii=False)
        messages: list[JSON] = []
        for i, message in enumerate(prompt.messages):
            if message["role"] not in _ROLES or set(message) != {"role", "content"}:
                raise _cannot(prompt, f"message {i + 1} (role {message['role']!r}, or more than a text)")
            if not isinstance(message["content"], str):
                raise _cannot(prompt, f"message {i + 1}, which has parts other than one text")
            where = f"message {i + 1} of prompt {prompt.name!r}"
            segments = segments_of(prompt, message["content"], "a .prompt.yml file")
            messages.append({"role": message["role"], "content": write_double(segments, where, "GitHub")})
        value["messages"] = messages
        left = [
            f"The default of {v!r} is not in the file: hand {t!r} in."
            for v, t in text_variables(prompt).items()
        ]
        return Exported(text=dump_ordered(value), left=tuple(left))

    def matches(self, text: str) -> bool:
        """Whether it is YAML with messages and a key that only GitHub's files have."""
        marks = {"modelParameters", "testData", "evaluators", "responseFormat", "jsonSchema"}

        def github(value: Mapping[str, Any]) -> bool:
            return "messages" in value and bool(marks & set(value))

        return looks_like(text, github, yaml=True)


FORMAT = _GitHub()


def _cannot(prompt: Prompt, what: str) -> InvalidValue:
    return InvalidValue(
        f"prompt {prompt.name!r} cannot be a .prompt.yml file: the format has no place for {what}",
        do="Take it out, or export to langchain.",
    )


def _response_format(value: Mapping[str, Any]) -> JSON:
    kind, schema = value.get("responseFormat"), value.get("jsonSchema")
    if kind is None and schema is None:
        return None
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidValue(f"responseFormat is {kind!r:.40}", do="Use text, json_object or json_schema.")
    if kind != "json_schema":
        return {"type": kind}
    if isinstance(schema, str):
        schema = read_json(schema, "jsonSchema")
    found = allowed(schema, ("name", "schema", "strict", "description"), "jsonSchema")
    if not isinstance(found.get("name"), str) or not isinstance(found.get("schema"), Mapping):
        raise InvalidValue("jsonSchema has no 'name' or 'schema'", do="Give both, as JSON text.")
    return {"type": "json_schema", "json_schema": found}


def _tests(building: Building, value: Mapping[str, Any]) -> Imported:
    """The prompt with the test data as rows; `expected` becomes the reference output."""
    for i, row in enumerate(listed(value.get("testData"), "testData")):
        found = keyed(row, f"testData row {i + 1}")
        expected = {"reference_outputs": found.pop("expected")} if found.get("expected") is not None else {}
        found.pop("expected", None)
        building.examples.append({"inputs": found, **expected})
    typed_by_rows(building, building.examples)
    for evaluator in listed(value.get("evaluators"), "evaluators"):
        found = allowed(evaluator, ("name", "string", "llm", "uses"), "an evaluator")
        name = str(found.get("name"))[:80]
        source = _evaluator(allowed(found.get("string") or {}, _STRING, f"the evaluator {name!r}"))
        if source is None:
            building.note(f"The evaluator {name!r} asks a model: write it as a judge(...).")
        elif "{{" in source:
            building.note(
                f"The evaluator {name!r} takes its text from a variable: write it as an @evaluator."
            )
        else:
            building.evaluators.append(source)
    return building.done()


_STRING = ("endsWith", "startsWith", "contains", "equals")


def _evaluator(string: Mapping[str, Any]) -> str | None:
    """A string evaluator as Python source, case as `gh models eval` treats it. None where there is none."""
    for key, word in string.items():
        if key == "contains":
            return f"contains({str(word)!r}, ignore_case=True)"
        if key == "equals":
            return f"regex({re.escape(str(word))!r}, full=True)"
        pattern = "^" + re.escape(str(word)) if key == "startsWith" else re.escape(str(word)) + r"\Z"
        return f"regex({pattern!r}, ignore_case=True)"
    return None
