"""LangChain chat models as an `LM`, and an `LM` as a chat model for chains."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from steelyard.core.canonical import JSON, digest
from steelyard.core.chat import ChatRequest, Completion
from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed, InvalidValue, MissingExtra, SteelyardError
from steelyard.core.objects import described_object
from steelyard.core.results import Usage
from steelyard.lm.cost import price
from steelyard.lm.failures import call_failed, kind_of_status
from steelyard.lm.one_loop import on_one_loop
from steelyard.lm.scope import Call, Calls, current

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from steelyard.lm.protocol import LM

__all__ = ["LangChainLM", "chat_model", "is_chat_model", "open_langchain"]

_ENDS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "STOP": "stop",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
"""What other providers call the end of an answer, in OpenAI's words."""


class LangChainLM:
    """A LangChain chat model.

    Prompts render to OpenAI's form; messages, tools, images, parameters and response formats are handed over
    in LangChain's. Parameters that the model's class does not know fail there, not here.

    Args:
        model: Any `BaseChatModel`.
        concurrency: Most calls at once.

    Attributes:
        model: The chat model itself, for chains of a task's own.
        digest: Identity of its class and of every setting that decides the answer: not of keys, addresses,
            timeouts, retries and callbacks.
    """

    def __init__(self, model: BaseChatModel, *, concurrency: int = 8) -> None:
        self.model: Any = model
        named = getattr(model, "model_name", None) or getattr(model, "model", None)
        self.name = str(named or type(model).__name__)
        self.digest = digest({"api": "langchain", "model": described_object(model)})
        self.concurrency = concurrency

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def complete(self, request: ChatRequest) -> Completion:
        """The completion of a request.

        Raises:
            CallFailed: no usable completion, with its kind. ReplayMiss: replay mode and no recording.
            InvalidValue: the request asks for a stream, or for another model than this one.
        """
        asked = _Asked(self, request)
        with asked:
            asked.answer = asked.runnable.invoke(asked.messages, **asked.options)
        return asked.completion()

    async def acomplete(self, request: ChatRequest) -> Completion:
        """`complete`, awaited."""
        asked = _Asked(self, request)
        with asked:
            asked.answer = await on_one_loop(lambda: asked.runnable.ainvoke(asked.messages, **asked.options))
        return asked.completion()

    def close(self) -> None:
        """Nothing: LangChain's clients are shared by all models of a process."""


class _Asked:
    """One call: what is handed to LangChain, and what came back, in our form."""

    def __init__(self, lm: LangChainLM, request: ChatRequest) -> None:
        from langchain_core.messages import convert_to_messages

        options: dict[str, Any] = dict(request.parameters)
        if options.pop("stream", None):
            raise InvalidValue(
                "a prompt asks for stream: true, and a completion comes whole",
                do="Leave it out, or stream the chat model inside the task.",
            )
        self.lm = lm
        self.messages = convert_to_messages([dict(m) for m in request.messages])
        openai_like = _openai_like(lm.model)
        runnable: Any = lm.model
        if request.model is not None and request.model != lm.name:
            if not openai_like:
                raise InvalidValue(
                    f"a prompt names the model {request.model!r}, and lm is the LangChain model {lm.name!r}",
                    do="Leave the model out of the prompt, or hand over that model.",
                )
            options["model"] = request.model
        if request.tools:
            choice = options.pop("tool_choice", None)
            more = {"tool_choice": choice} if choice is not None else {}
            runnable = runnable.bind_tools([dict(t) for t in request.tools], **more)
        self.structured = False
        form = request.response_format
        if form is not None and openai_like:
            options["response_format"] = dict(form)
        elif form is not None and form.get("type") == "json_schema":
            schema: dict[str, Any] = dict(form["json_schema"]["schema"])
            schema.setdefault("title", form["json_schema"].get("name", "answer"))
            runnable = runnable.with_structured_output(schema, include_raw=True)
            self.structured = True
        self.runnable, self.options = runnable, options
        self.answer: Any = None
        self._calls: Calls | None = current()
        self._logged, self._since, self._seconds = 0, 0.0, 0.0

    def __enter__(self) -> None:
        self._logged = len(self._calls.log) if self._calls is not None else 0
        self._since = monotonic()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        self._seconds = monotonic() - self._since
        if error is None or isinstance(error, SteelyardError) or not isinstance(error, Exception):
            return False
        if (cut := _cut_off(error)) is not None:  # `parse` of the openai package raises it: it is an answer
            self.answer = cut
            return True
        failed = call_failed(error) or self._at_the_transport() or _of_other_clients(error)
        if failed is not None:
            raise failed from error
        return False

    def _at_the_transport(self) -> CallFailed | None:
        """What the transport saw go wrong, where LangChain only says that it cannot read the reply."""
        logged = self._calls.log[self._logged :] if self._calls is not None else []
        last = logged[-1].failure if logged else None
        if last is None:
            return None
        again = last.kind in ("rate_limit", "timeout", "transport", "provider")
        return CallFailed(last.kind, last.message, status=last.status, retryable=again)

    def completion(self) -> Completion:
        """The answer in our form.

        Raises:
            CallFailed: it is no message.
        """
        text: str | None = None
        answer: Any = self.answer
        if self.structured and isinstance(answer, Mapping):
            found = cast("Mapping[str, Any]", answer)
            answer = cast("Any", found.get("raw"))
            if found.get("parsed") is not None:
                text = json.dumps(found["parsed"], ensure_ascii=False)
        if not hasattr(answer, "content") or not hasattr(answer, "response_metadata"):
            raise CallFailed("provider", f"the chat model gave a {type(answer).__name__}, no message")
        about: dict[str, Any] = dict(answer.response_metadata or {})
        end = about.get("finish_reason") or about.get("stop_reason") or about.get("done_reason")
        model = about.get("model_name") or about.get("model")
        calls = () if self.structured and text is not None else _tool_calls(answer)
        said = text if text is not None else _text(answer)
        refusal = (getattr(answer, "additional_kwargs", None) or {}).get("refusal")
        return Completion(
            text=said or (refusal if isinstance(refusal, str) else ""),
            tool_calls=calls,
            finish_reason=_ENDS.get(end, end) if isinstance(end, str) else None,
            model=model if isinstance(model, str) else None,
            usage=self._usage(answer, model),
        )

    def _usage(self, answer: Any, model: Any) -> Usage:
        logged = self._calls.log[self._logged :] if self._calls is not None else []
        seen = [c.usage for c in logged if c.usage is not None]
        if len(seen) == 1:  # measured at the transport, and the same when it is replayed
            return seen[0]
        counted: dict[str, Any] = dict(getattr(answer, "usage_metadata", None) or {})
        given, made = int(counted.get("input_tokens") or 0), int(counted.get("output_tokens") or 0)
        details: Any = counted.get("input_token_details") or {}
        cost = None
        if counted:
            cost = price(
                model if isinstance(model, str) else self.lm.name,
                url=str(getattr(self.lm.model, "openai_api_base", None) or ""),
                input_tokens=given,
                output_tokens=made,
                cached_tokens=int(details.get("cache_read") or 0),
            )
        usage = Usage(calls=1, input_tokens=given, output_tokens=made, cost_usd=cost, latency_s=self._seconds)
        if self._calls is not None and not logged:  # a client that no hooked transport sees still counts
            self._calls.add(Call(asked=f"langchain {self.lm.name}", source="live", key="", usage=usage))
        return usage


def is_chat_model(value: object) -> bool:
    """Whether a value is a LangChain chat model. Nothing is imported: what is one has loaded its package."""
    module = sys.modules.get("langchain_core.language_models.chat_models")
    return module is not None and isinstance(value, module.BaseChatModel)


def open_langchain(spec: str, *, concurrency: int = 8, replay: bool = False, **settings: Any) -> LangChainLM:
    """The chat model that LangChain's `init_chat_model` makes of `provider:model`.

    Args:
        spec: `provider:model`.
        concurrency: Most calls at once.
        replay: Whether nobody will be asked: a provider that wants a key gets none.
        **settings: Arguments of the model's class.

    Raises:
        InvalidValue: no provider is named, or LangChain cannot make it. MissingExtra: LangChain, or the
            provider's package, is not installed.
    """
    if find_spec("langchain") is None:
        raise MissingExtra("langchain", extra="langchain", needed_for="A LangChain model")
    if ":" not in spec:
        raise InvalidValue(
            f"langchain:{spec} names no provider",
            do="Write langchain:PROVIDER:MODEL, as in langchain:openai:gpt-5-mini.",
        )
    from langchain.chat_models import init_chat_model

    try:
        try:
            made = init_chat_model(spec, **settings)
        except Exception:  # providers say in words of their own that the key is missing
            if not replay or "api_key" in settings:
                raise
            made = init_chat_model(spec, **settings, api_key="none")
        return LangChainLM(made, concurrency=concurrency)
    except ImportError as error:
        raise InvalidValue(
            f"langchain:{spec} needs a package that is not installed ({error})",
            do="Install the provider's package, such as langchain-anthropic.",
        ) from None
    except SteelyardError:
        raise
    except Exception as error:  # whatever a provider's package says to a missing key or a wrong name
        said = " ".join(str(error).split())[:300]
        raise InvalidValue(
            f"LangChain cannot make the model {spec!r} ({said})",
            do="Mend the name, or set the provider's key.",
        ) from None


def chat_model(lm: LM, **settings: Any) -> BaseChatModel:
    """A LangChain chat model that asks an `LM`, for chains: prompt, then model, then parser.

    Args:
        lm: A `LangChainLM` (its own model comes back), or a model that has an `openai_client()`: an
            OpenAI-compatible endpoint, or a local model, which the first live call starts. Closing the `LM`
            closes the chat model.
        **settings: Fields of `ChatOpenAI`, such as temperature and max_tokens; of a LangChain model, those
            of its class, on a copy.

    Raises:
        InvalidValue: it is neither. MissingExtra: `langchain-openai` is not installed.
    """
    if isinstance(lm, LangChainLM):
        return lm.model.model_copy(update=settings) if settings else lm.model
    opener = getattr(lm, "openai_client", None)
    if opener is None:
        raise InvalidValue(f"{lm!r} has no chat model of LangChain", do="Use lm.complete(...) in the task.")
    if find_spec("langchain_openai") is None:
        raise MissingExtra("langchain-openai", extra="langchain", needed_for="A chat model for chains")
    from langchain_openai import ChatOpenAI

    client, later = opener(), cast("Any", lm).async_openai_client()
    return ChatOpenAI(
        model=lm.name,
        root_client=client,
        client=client.chat.completions,
        root_async_client=later,
        async_client=later.chat.completions,
        api_key=client.api_key,
        **settings,
    )


def _openai_like(model: Any) -> bool:
    return any(base.__module__.startswith("langchain_openai.") for base in type(model).__mro__)


def _text(message: Any) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for part in cast("list[Any]", content):
        if isinstance(part, str):
            parts.append(part)
        elif part.get("type") in ("text", "output_text"):
            parts.append(str(part.get("text", "")))
    return "".join(parts)


def _tool_calls(message: Any) -> tuple[Mapping[str, JSON], ...]:
    good = [
        (c, json.dumps(c["args"], ensure_ascii=False)) for c in getattr(message, "tool_calls", None) or ()
    ]
    bad = [(c, c.get("args") or "") for c in getattr(message, "invalid_tool_calls", None) or ()]
    return tuple(
        {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": text}}
        for c, text in (*good, *bad)
    )


def _cut_off(error: BaseException) -> Any:
    """The message of an answer that `openai`'s `parse` refused because it was cut off at max_tokens."""
    done: Any = getattr(error, "completion", None)
    if type(error).__name__ != "LengthFinishReasonError" or done is None:
        return None
    from langchain_core.messages import AIMessage

    choice, usage = done.choices[0], done.usage
    counted: Any = None
    if usage is not None:
        given, made = usage.prompt_tokens, usage.completion_tokens
        counted = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return AIMessage(
        content=choice.message.content or "",
        response_metadata={"finish_reason": choice.finish_reason, "model_name": done.model},
        usage_metadata=counted,
    )


def _of_other_clients(error: BaseException) -> CallFailed | None:
    """The failure of a client that is neither openai nor httpx, by what most of them carry."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    said = " ".join(str(error).split())[:500] or type(error).__name__
    if isinstance(status, int) and 400 <= status < 600:
        kind = kind_of_status(status)
        again = kind in ("rate_limit", "timeout", "provider")
        return CallFailed(kind, f"the provider answered {status}: {said}", status=status, retryable=again)
    if isinstance(error, json.JSONDecodeError):
        return CallFailed("provider", f"the provider's answer is no JSON ({said})", retryable=True)
    if isinstance(error, TimeoutError):
        return CallFailed("timeout", f"the model did not answer in time ({said})", retryable=True)
    if isinstance(error, ConnectionError):
        return CallFailed("transport", f"the model cannot be reached ({said})", retryable=True)
    return None
