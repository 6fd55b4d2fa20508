"""MLflow's prompts: a text or chat template with `{{ name }}`, or Jinja where it holds `{%`.

As a file: JSON with the fields of `mlflow.entities.model_registry.PromptVersion`. Nothing here imports
MLflow; a `PromptVersion` is read by its attributes. `steelyard.store.mlflow_prompts` is for a registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON, plain
from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import Building, allowed, literal, segments_of, text_variables
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.jinja_space import to_jinja
from steelyard.prompts.foreign.json_text import looks_like, read_json
from steelyard.prompts.foreign.manifest_reader import read_jinja
from steelyard.prompts.foreign.text import read_double, write_double
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT", "from_mlflow", "to_mlflow"]

_KEYS = (
    "name",
    "version",
    "template",
    "response_format",
    "model_config",
    "commit_message",
    "tags",
    "aliases",
)
_CONFIG = {"model_name": "model", "stop_sequences": "stop"} | {
    k: k for k in ("temperature", "max_tokens", "top_p", "frequency_penalty", "presence_penalty")
}
_EXTRA = (
    *(
        "seed",
        "max_completion_tokens",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "reasoning_effort",
        "verbosity",
    ),
    *("tool_choice", "parallel_tool_calls", "service_tier", "extra_body"),
)


class _MLflow:
    name = "mlflow"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompt in the JSON of a prompt version."""
        return (_read(allowed(read_json(text, "MLflow's JSON"), _KEYS, "the prompt version"), name),)

    def write(self, prompt: Prompt) -> Exported:
        """The JSON of a prompt version: the arguments of `mlflow.genai.register_prompt`."""
        made, left = to_mlflow(prompt)
        return Exported(text=json.dumps(made, indent=2, ensure_ascii=False) + "\n", left=left)

    def matches(self, text: str) -> bool:
        """Whether it is JSON with a `template` and no key that a prompt version lacks."""

        def version(value: Mapping[str, Any]) -> bool:
            return "template" in value and set(value) <= set(_KEYS)

        return looks_like(text, version)


FORMAT = _MLflow()


def from_mlflow(version: Any, name: str) -> Imported:
    """The prompt of an MLflow `PromptVersion`.

    Args:
        version: The object; only its attributes are read.
        name: What the prompt is to be called.

    Raises:
        InvalidValue: it says what a prompt of Steelyard's cannot say.
    """
    fields = ("template", "response_format", "model_config", "commit_message")
    return _read(plain({k: getattr(version, k) for k in fields}), name)


def _read(value: Mapping[str, Any], name: str) -> Imported:
    building = Building(name)
    building.description = str(value.get("commit_message") or "")
    template = value.get("template")
    messages = template if isinstance(template, list) else [{"role": "user", "content": template}]
    found = [
        allowed(m, ("role", "content"), f"message {i + 1}") for i, m in enumerate(cast("list[Any]", messages))
    ]
    jinja = any("{%" in str(m.get("content")) and "%}" in str(m.get("content")) for m in found)
    for i, message in enumerate(found):
        where, text = f"message {i + 1}", message.get("content")
        if not isinstance(text, str):
            raise InvalidValue(f"{where} has no text", do="Write its content as text.")
        if jinja:
            content = read_jinja(building, text, where)
        else:
            content = building.segments(read_double(text, where, blanks=True))
        building.add({"role": message.get("role"), "content": content})
    config = allowed(value.get("model_config") or {}, (*_CONFIG, *_EXTRA, "provider"), "model_config")
    for key, given in config.items():
        if key == "model_name":
            building.model = str(given)
        elif key == "provider":
            if given not in (None, "openai"):
                building.note(
                    f"The provider {str(given)[:40]!r} was left out: the settings name the endpoint."
                )
        elif given is not None:
            building.parameters[_CONFIG.get(key, key)] = given
    building.response_format = _response_format(value.get("response_format"), name)
    if value.get("tags") or value.get("aliases"):
        building.note("Tags and aliases were left out.")
    return building.done()


def _response_format(schema: object, name: str) -> JSON:
    if schema is None:
        return None
    found = allowed(schema, cast("Any", schema) if isinstance(schema, Mapping) else (), "response_format")
    if found.get("type") in ("json_schema", "json_object", "text"):
        return found
    if "properties" in found or found.get("type") == "object" or "$ref" in found:
        title = str(found.get("title") or name.rpartition("/")[2])
        return {"type": "json_schema", "json_schema": {"name": title, "schema": found}}
    raise InvalidValue(
        "response_format is neither a JSON schema nor OpenAI's form",
        do="Give an object's schema, or leave it out.",
    )


def to_mlflow(prompt: Prompt) -> tuple[dict[str, JSON], tuple[str, ...]]:
    """The arguments of `mlflow.genai.register_prompt`, and what MLflow does otherwise.

    Raises:
        InvalidValue: MLflow's prompts cannot express it.
    """
    if prompt.tools:
        raise _cannot(prompt, "tools")
    where = f"prompt {prompt.name!r}"
    messages: list[dict[str, JSON]] = []
    for i, message in enumerate(prompt.messages):
        content = message.get("content")
        if set(message) != {"role", "content"} or not isinstance(content, str):
            raise _cannot(prompt, f"message {i + 1}, which has more than a role and a text")
        if prompt.syntax == "jinja":
            text = to_jinja(content)
        else:
            text = write_double(
                segments_of(prompt, content, "MLflow"), f"message {i + 1} of {where}", "MLflow"
            )
            if "{%" in text and "%}" in text:
                raise _cannot(prompt, "'{% … %}' as text, which MLflow would run as Jinja")
        messages.append({"role": message["role"], "content": text})
    if prompt.syntax == "jinja" and not any("{%" in m["content"] and "%}" in m["content"] for m in messages):
        raise _cannot(prompt, "Jinja without a '{% … %}', which MLflow would not run")
    single = len(messages) == 1 and messages[0]["role"] == "user"
    config = {
        {"model": "model_name", "stop": "stop_sequences"}.get(k, k): v for k, v in prompt.parameters.items()
    }
    if isinstance(config.get("stop_sequences"), str):
        config["stop_sequences"] = [config["stop_sequences"]]
    if prompt.model is not None:
        config["model_name"] = prompt.model
    made: dict[str, JSON] = {"name": prompt.name, "template": messages[0]["content"] if single else messages}
    if prompt.response_format is not None:
        made["response_format"] = literal(prompt, dict(prompt.response_format), "the response format")
    if config:
        made["model_config"] = config
    if prompt.description:
        made["commit_message"] = prompt.description
    left = [f"The default of {v!r} is not in it: hand {t!r} in." for v, t in text_variables(prompt).items()]
    if prompt.syntax == "jinja":
        left.append("Jinja there prints lists and truth values as Python does, and filters may differ.")
    return made, tuple(left)


def _cannot(prompt: Prompt, what: str) -> InvalidValue:
    return InvalidValue(
        f"prompt {prompt.name!r} cannot be a prompt of MLflow's, which have no place for {what}",
        do="Take it out, or export to langchain.",
    )
