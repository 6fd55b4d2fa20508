"""What a reply on the wire says: usage, and why it is no full completion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Reply", "is_model_call", "read_reply"]

_MODEL_PATHS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages")
_TERMINAL_EVENTS = ("response.completed", "response.incomplete", "message_stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply of a model API, read.

    Attributes:
        model: The model's name as given.
        input_tokens, output_tokens, cached_tokens: As the provider counted; 0 where it did not say.
        counted: Whether it said.
        problem: Why this is no full completion, or None.
        data: The whole JSON object; None for a stream.
    """

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    counted: bool = False
    problem: str | None = None
    data: Mapping[str, Any] | None = None


def is_model_call(method: str, path: str) -> bool:
    """Whether a request asks a model for an answer, by the end of its path."""
    return method == "POST" and path.partition("?")[0].rstrip("/").endswith(_MODEL_PATHS)


def read_reply(path: str, content_type: str, body: bytes) -> Reply:
    """The reply to a model call with status 2xx, read; it never raises, `problem` says what is wrong."""
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return _read_stream(body)
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:60].decode("utf-8", "replace").strip()
        if start.startswith("<"):
            return Reply(problem=f"the provider answered with a page instead of JSON: {start!r}")
        return Reply(problem=f"the provider's answer is no JSON ({error}); it starts with {start!r}")
    if not isinstance(data, dict):
        return Reply(problem=f"the provider's answer is a JSON {type(data).__name__}, not an object")
    answer = cast("dict[str, Any]", data)
    return _counted(answer, problem=_problem(path, answer), data=answer)


def _problem(path: str, answer: Mapping[str, Any]) -> str | None:
    if answer.get("error"):
        return f"the provider answered 200 with an error: {str(answer['error'])[:300]}"
    if not path.partition("?")[0].rstrip("/").endswith(("/chat/completions", "/completions")):
        return None
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return "the provider's answer has no choices"
    for choice in cast("list[Any]", choices):
        if not isinstance(choice, dict):
            return "the provider's answer has a choice that is no object"
        if path.partition("?")[0].rstrip("/").endswith("/chat/completions"):
            problem = _message_problem(cast("dict[str, Any]", choice))
            if problem:
                return problem
    return None


def _message_problem(choice: Mapping[str, Any]) -> str | None:
    message = choice.get("message")
    if not isinstance(message, dict):
        return "the provider's answer has a choice without a message"
    said = cast("dict[str, Any]", message)
    content, calls, refusal = said.get("content"), said.get("tool_calls") or [], said.get("refusal")
    if content is not None and not isinstance(content, str):
        return f"the answer's content is a JSON {type(content).__name__}, not text"
    if not isinstance(calls, list):
        return "the answer's tool_calls are no list"
    for call in cast("list[Any]", calls):
        function: Any = cast("dict[str, Any]", call).get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return "the answer has a tool call without a function"
        parts = cast("dict[str, Any]", function)
        if not isinstance(parts.get("name"), str) or not isinstance(parts.get("arguments"), str):
            return "the answer has a tool call whose name or arguments are no text"
    # Cut off before the first visible token, or filtered: an answer, if an empty one.
    cut = choice.get("finish_reason") in ("length", "content_filter")
    if content is None and not calls and not said.get("function_call") and not refusal and not cut:
        return "the answer has neither content nor tool calls"
    return None


def _counted(answer: Mapping[str, Any], **more: Any) -> Reply:
    raw = answer.get("usage")
    usage: Mapping[str, Any] = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = cast("dict[str, Any]", details).get("cached_tokens") if isinstance(details, dict) else 0
    model = answer.get("model")
    return Reply(
        model=model if isinstance(model, str) else None,
        input_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        output_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cached_tokens=_count(cached),
        counted=bool(usage),
        **more,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _events(body: bytes) -> Iterator[str]:
    for line in body.decode("utf-8", "replace").splitlines():
        if line.startswith("data:"):
            yield line[5:].strip()


def _read_stream(body: bytes) -> Reply:
    merged: dict[str, Any] = {}
    ended, problem = False, None
    for text in _events(body):
        if text == "[DONE]":
            ended = True
            continue
        try:
            event: Any = json.loads(text)
        except (ValueError, RecursionError):
            problem = f"the stream holds an event that is no JSON: {text[:60]!r}"
            continue
        if not isinstance(event, dict):
            continue
        chunk = cast("dict[str, Any]", event)
        if chunk.get("error"):
            problem = f"the stream carries an error: {str(chunk['error'])[:300]}"
        # Responses and Anthropic wrap what they report in `response` or `message`.
        for part in (chunk, chunk.get("response"), chunk.get("message")):
            if isinstance(part, dict):
                piece = cast("dict[str, Any]", part)
                if isinstance(piece.get("model"), str):
                    merged["model"] = piece["model"]
                if isinstance(piece.get("usage"), dict):
                    merged["usage"] = {**merged.get("usage", {}), **piece["usage"]}
        choices = chunk.get("choices")
        if isinstance(choices, list):
            finished = [
                c for c in cast("list[Any]", choices) if isinstance(c, dict) and c.get("finish_reason")
            ]
            ended = ended or bool(finished)
        ended = ended or chunk.get("type") in _TERMINAL_EVENTS
    if problem is None and not ended:
        problem = "the stream was cut: it ended before the answer did"
    return _counted(merged, problem=problem)
