"""What a reply on the wire says: usage, and why it is no full completion."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Reply", "is_model_call", "read_reply"]

_MODEL_PATHS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages")
_TERMINAL_EVENTS = ("response.completed", "response.incomplete", "message_stop")
_COUNTS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
_ONCE = ('"usage"', '"choices"', '"message"')  # a quote inside a text is written \" and does not match


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
    path = path.partition("?")[0].rstrip("/")
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return _read_stream(path, body)
    try:
        data: Any = _json(body)
    except (ValueError, RecursionError) as error:
        start = body[:60].decode("utf-8", "replace").strip()
        if start.startswith("<"):
            return Reply(problem=f"the provider answered with a page instead of JSON: {start!r}")
        return Reply(problem=f"the provider's answer is no JSON ({error}); it starts with {start!r}")
    if not isinstance(data, dict):
        return Reply(problem=f"the provider's answer is a JSON {type(data).__name__}, not an object")
    answer = cast("dict[str, Any]", data)
    return _counted(answer, problem=_problem(path, answer), data=answer)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        twin = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return out


_PLAIN = json.JSONDecoder(parse_constant=_no_constant)
_STRICT = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_twins)


def _json(raw: bytes | str) -> Any:
    text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw
    twins = any(text.count(mark) > 1 for mark in _ONCE)  # rare, and looking for them in every object is slow
    return (_STRICT if twins else _PLAIN).decode(text)


def _problem(path: str, answer: Mapping[str, Any]) -> str | None:
    if answer.get("error"):
        return f"the provider answered 200 with an error: {str(answer['error'])[:300]}"
    if not path.endswith(("/chat/completions", "/completions")):
        return None
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return "the provider's answer has no choices"
    for choice in cast("list[Any]", choices):
        if not isinstance(choice, dict):
            return "the provider's answer has a choice that is no object"
        one = cast("dict[str, Any]", choice)
        if path.endswith("/chat/completions"):
            if problem := _message_problem(one):
                return problem
        elif not isinstance(one.get("text"), str):
            return "the provider's answer has a choice without a text"
    return None


def _message_problem(choice: Mapping[str, Any]) -> str | None:
    message = choice.get("message")
    if not isinstance(message, dict):
        return "the provider's answer has a choice without a message"
    said = cast("dict[str, Any]", message)
    content, calls = said.get("content"), said.get("tool_calls") or []
    if content is not None and not isinstance(content, str):
        return f"the answer's content is a JSON {type(content).__name__}, not text"
    if not isinstance(calls, list):
        return "the answer's tool_calls are no list"
    # Cut off before the first visible token, or filtered: an answer, if an empty one.
    cut = choice.get("finish_reason") in ("length", "content_filter")
    for call in cast("list[Any]", calls):
        if problem := _call_problem(call, cut=cut):
            return problem
    others = any(said.get(key) for key in ("function_call", "refusal", "audio"))
    if content is None and not calls and not others and not cut:
        return "the answer has neither content nor tool calls"
    return None


def _call_problem(call: Any, *, cut: bool) -> str | None:
    parts: Mapping[str, Any] = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
    if isinstance(parts.get("custom"), dict):  # its input is free text
        return None
    function = parts.get("function")
    if not isinstance(function, dict):
        return "the answer has a tool call without a function"
    made = cast("dict[str, Any]", function)
    name, arguments = made.get("name"), made.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        return "the answer has a tool call whose name or arguments are no text"
    return None if cut else _arguments_problem(name, arguments)


def _arguments_problem(name: str, arguments: str) -> str | None:
    if not arguments.strip():  # how many servers write "no arguments"
        return None
    try:
        value = _json(arguments)
    except (ValueError, RecursionError) as error:
        return f"the answer calls {name!r} with arguments that are no JSON ({error}): {arguments[:60]!r}"
    if not isinstance(value, dict):
        return f"the answer calls {name!r} with a JSON {type(value).__name__} for arguments, not an object"
    return None


def _counted(answer: Mapping[str, Any], *, problem: str | None, **more: Any) -> Reply:
    raw = answer.get("usage")
    usage: Mapping[str, Any] = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = cast("dict[str, Any]", details).get("cached_tokens") if isinstance(details, dict) else 0
    model = answer.get("model")
    if raw is not None and not isinstance(raw, dict):
        problem = problem or f"the answer's usage is a JSON {type(raw).__name__}, not an object"
    for name in _COUNTS:
        if (value := usage.get(name)) is not None and _count(value) is None:
            problem = problem or f"the answer's usage says {name} = {str(value)[:40]!r}, which is no count"
    return Reply(
        model=model if isinstance(model, str) else None,
        input_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))) or 0,
        output_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))) or 0,
        cached_tokens=_count(cached) or 0,
        counted=any(_count(usage.get(name)) is not None for name in _COUNTS),
        problem=problem,
        **more,
    )


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or not 0 <= value < 2**53 or value != int(value):
        return None
    return int(value)


def _events(body: bytes) -> Iterator[str]:
    # Lines end with \n, \r or \r\n and nothing else: splitlines() would cut at U+2028 inside of a text.
    for line in body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data:"):
            yield line[5:].strip()


class _Said:
    """One choice of a chat stream, put together."""

    def __init__(self) -> None:
        self.content = self.other = False
        self.calls: dict[int, list[str]] = {}
        self.finish: str | None = None

    def add(self, choice: Mapping[str, Any]) -> str | None:
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish = reason
        delta = choice.get("delta")
        if delta is None:
            return None
        if not isinstance(delta, dict):
            return "the stream has a delta that is no object"
        piece = cast("dict[str, Any]", delta)
        content, calls = piece.get("content"), piece.get("tool_calls") or []
        if content is not None and not isinstance(content, str):
            return f"the stream has content that is a JSON {type(content).__name__}, not text"
        self.content = self.content or content is not None
        self.other = self.other or any(piece.get(k) for k in ("refusal", "function_call", "audio"))
        if not isinstance(calls, list):
            return "the stream's tool_calls are no list"
        for call in cast("list[Any]", calls):
            part: Mapping[str, Any] = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
            function = part.get("function")
            made: Mapping[str, Any] = cast("dict[str, Any]", function) if isinstance(function, dict) else {}
            arguments = made.get("arguments")
            if arguments is not None and not isinstance(arguments, str):
                return "the stream has a tool call whose arguments are no text"
            index = part.get("index")
            pieces = self.calls.setdefault(index if isinstance(index, int) else 0, [])
            pieces.append(arguments or "")
        return None

    def problem(self) -> str | None:
        if self.finish is None or self.finish in ("length", "content_filter"):
            return None
        for pieces in self.calls.values():
            if found := _arguments_problem("a tool", "".join(pieces)):
                return found
        if not self.content and not self.calls and not self.other:
            return "the answer has neither content nor tool calls"
        return None


def _read_stream(path: str, body: bytes) -> Reply:
    merged: dict[str, Any] = {}
    said: dict[Any, _Said] = {}
    ended, problem = False, None
    for text in _events(body):
        if text == "[DONE]":
            ended = True
            continue
        try:
            event: Any = _json(text)
        except (ValueError, RecursionError):
            problem = f"the stream holds an event that is no JSON: {text[:60]!r}"
            continue
        if not isinstance(event, dict):
            problem = f"the stream holds an event that is a JSON {type(event).__name__}, not an object"
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
        for choice in cast("list[Any]", choices) if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                one = cast("dict[str, Any]", choice)
                problem = said.setdefault(str(one.get("index")), _Said()).add(one) or problem
                ended = ended or bool(one.get("finish_reason"))
        ended = ended or chunk.get("type") in _TERMINAL_EVENTS
    if problem is None and not ended:
        problem = "the stream was cut: it ended before the answer did"
    if path.endswith("/chat/completions"):
        if problem is None and not said:
            problem = "the stream has no choices"
        problem = problem or next((p for s in said.values() if (p := s.problem())), None)
    return _counted(merged, problem=problem)
