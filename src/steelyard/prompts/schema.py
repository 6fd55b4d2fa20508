"""The shape of a prompt file, for pydantic. Only `prompts.reader` imports this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FileModel", "MessageModel", "ParametersModel", "VariableModel"]

_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MessageModel(_Strict):
    """A chat message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Any = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class VariableModel(_Strict):
    """A variable; `default` present means it need not be handed in."""

    type: Literal["str", "int", "float", "bool", "list", "object"] = "str"
    description: str = ""
    default: Any = None
    required: bool | None = None


class ParametersModel(_Strict):
    """Sampling parameters, by OpenAI's names; what only one provider knows goes under `extra_body`."""

    temperature: Annotated[_Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Number, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: Any = None
    frequency_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, _Number] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    service_tier: str | None = None
    extra_body: dict[str, Any] | None = None


class ToolModel(_Strict):
    """An OpenAI tool definition."""

    type: str
    function: dict[str, Any] | None = None
    custom: dict[str, Any] | None = None


class ResponseFormatModel(_Strict):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class FileModel(_Strict):
    """A prompt file."""

    description: str = ""
    messages: list[MessageModel] | None = None
    template: str | None = None
    variables: dict[str, VariableModel] = {}
    model: str | None = None
    parameters: ParametersModel = ParametersModel()
    tools: list[ToolModel] = []
    response_format: ResponseFormatModel | None = None
    syntax: Literal["default", "jinja"] = "default"
