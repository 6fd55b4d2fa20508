"""The model that follows a prompt in LangChain's or LangSmith's manifests, read as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import Building, allowed, listed

__all__ = ["PARAMETERS", "read_binding", "read_model"]

PARAMETERS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "frequency_penalty"),
    *("presence_penalty", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "verbosity"),
    *("tool_choice", "parallel_tool_calls", "service_tier", "extra_body"),
)
"""Sampling parameters by OpenAI's names, as prompt files have them."""

_MODEL_KEYS = {"stop_sequences": "stop"}
_CLIENT = (  # how the caller reaches the model: none of a prompt's business
    *(
        "openai_api_base",
        "base_url",
        "openai_organization",
        "organization",
        "openai_proxy",
        "default_headers",
    ),
    *(
        "default_query",
        "request_timeout",
        "timeout",
        "max_retries",
        "streaming",
        "stream_usage",
        "n",
        "disabled_params",
    ),
    *(
        "use_responses_api",
        "output_version",
        "cache",
        "verbose",
        "tags",
        "metadata",
        "name",
        "profile",
        "rate_limiter",
    ),
    *(
        "tiktoken_model_name",
        "include_response_headers",
        "disable_streaming",
        "store",
        "custom_get_token_ids",
    ),
)
_KEYS = ("openai_api_key", "api_key")


def read_model(building: Building, kind: str, kwargs: Mapping[str, Any]) -> None:
    """Take model name and parameters over; how to reach the model stays behind, and that is said.

    Raises:
        InvalidValue: a key that is not known.
    """
    if kind != "ChatOpenAI":
        building.note(f"The model {kind} is none of OpenAI's form and was left out with its parameters.")
        return
    known = ("model", "model_name", "model_kwargs", *PARAMETERS, *_MODEL_KEYS, *_CLIENT, *_KEYS)
    given = {k: v for k, v in allowed(kwargs, known, kind).items() if v is not None}
    name = given.get("model_name", given.get("model"))
    building.model = str(name) if name is not None else None
    for key in _CLIENT:
        if given.get(key) and key not in ("stream_usage", "n"):
            building.note(f"{key!r} of the model is no part of a prompt and was left out.")
    if given.get("n", 1) != 1:
        raise InvalidValue(
            "the model asks for several answers (n)", do="Set n to 1; trials are the gate's business."
        )
    _parameters(building, given)
    extra = given.get("model_kwargs") or {}
    _parameters(building, allowed(extra, PARAMETERS, "model_kwargs"))


def read_binding(building: Building, kwargs: object) -> None:
    """Take over what was bound to the model: tools, response format, parameters.

    Raises:
        InvalidValue: a key that is not known.
    """
    known = ("tools", "response_format", "ls_structured_output_format", "model", "strict", *PARAMETERS)
    given = allowed(kwargs, known, "what is bound to the model")
    if given.get("model") is not None:
        building.model = str(given["model"])
    building.tools += [plain_data(t) for t in listed(given.get("tools"), "tools")]
    if given.get("response_format") is not None:
        building.response_format = plain_data(given["response_format"])
    _parameters(building, given)


def plain_data(value: Any) -> Any:
    """The value, LangChain's mark around look-alikes of its own objects taken off; they stay data."""
    if isinstance(value, Mapping):
        found = cast("Mapping[str, Any]", value)
        if set(found) == {"__lc_escaped__"}:
            return found["__lc_escaped__"]
        return {k: plain_data(v) for k, v in found.items()}
    if isinstance(value, list):
        return [plain_data(v) for v in cast("list[Any]", value)]
    return value


def _parameters(building: Building, given: Mapping[str, Any]) -> None:
    for key in (*PARAMETERS, *_MODEL_KEYS):
        if given.get(key) is not None:
            building.parameters[_MODEL_KEYS.get(key, key)] = plain_data(given[key])
