"""Errors of clients, read as our failures."""

from __future__ import annotations

import sys
from types import ModuleType

from steelyard.core.errors import CallFailed, Corrupt, ReplayMiss
from steelyard.core.score import Failure
from steelyard.lm.scrub import scrub, secrets_of

__all__ = ["call_failed", "failure_of", "kind_of_status", "refusal"]


def kind_of_status(status: int) -> str:
    """The kind of failure of an HTTP status that is no success."""
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "rate_limit"
    if status == 408:
        return "timeout"
    return "bad_request" if 400 <= status < 500 else "provider"


_REFUSALS: list[type[CallFailed]] = []


def refusal(kind: str, what: str, *, status: int | None = None) -> CallFailed:
    """An error for the transport to raise: the `openai` package hands it on as its own, and tries no more."""
    openai = sys.modules.get("openai")
    if openai is None:
        return CallFailed(kind, what, status=status)
    if not _REFUSALS:
        _REFUSALS.append(type("CallFailed", (CallFailed, openai.OpenAIError), {"__module__": __name__}))
    return _REFUSALS[0](kind, what, status=status)


def failure_of(error: BaseException) -> Failure | None:
    """The failure that an error of a model call means, or None where it is about something else.

    Knows our own errors and those of `openai`, `httpx2` and `httpx`, raised or chained; imports none of them.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if (found := _failure(at)) is not None:
            return found
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return None


def call_failed(error: BaseException) -> CallFailed | None:
    """The same as an error to raise, `retryable` where trying again may help; None for anything else."""
    if (found := failure_of(error)) is None:
        return None
    retryable = found.kind in ("rate_limit", "timeout", "transport", "provider")
    return CallFailed(found.kind, found.message, status=found.status, retryable=retryable)


def _failure(error: BaseException) -> Failure | None:
    if isinstance(error, CallFailed):
        return Failure(kind=error.kind, message=error.what, status=error.status)
    if isinstance(error, (ReplayMiss, Corrupt)):
        return Failure(kind="replay_miss", message=str(error))
    openai = sys.modules.get("openai")
    if openai is not None and isinstance(error, openai.OpenAIError):
        return _of_openai(openai, error)
    for name in ("httpx2", "httpx"):
        module = sys.modules.get(name)
        if module is not None and isinstance(error, (module.HTTPError, module.InvalidURL)):
            return _of_httpx(module, error)
    return None


def _of_openai(openai: ModuleType, error: BaseException) -> Failure:
    if isinstance(error, openai.APITimeoutError):
        return Failure(
            kind="timeout", message=_sentence("the model did not answer in time", error.__cause__ or error)
        )
    if isinstance(error, openai.APIStatusError):
        status = int(error.status_code)  # pyright: ignore[reportAttributeAccessIssue]  (openai is a module at run time)
        what = f"the provider answered {status}: {_plain_words(str(error), error)}"
        return Failure(kind=kind_of_status(status), message=what, status=status)
    if isinstance(error, openai.APIConnectionError):
        # "Connection error." says nothing; the transport's own words are the cause.
        return Failure(
            kind="transport", message=_sentence("the model cannot be reached", error.__cause__ or error)
        )
    # A missing key, a refused option: the client raised before or after the wire.
    kind = "auth" if "api_key" in str(error) else "provider"
    return Failure(kind=kind, message=_plain_words(str(error), error))


def _of_httpx(module: ModuleType, error: BaseException) -> Failure:
    if isinstance(error, module.TimeoutException):
        return Failure(kind="timeout", message=_sentence("no answer came in time", error))
    if isinstance(error, module.HTTPStatusError):
        status = int(error.response.status_code)  # pyright: ignore[reportAttributeAccessIssue]  (as above)
        return Failure(kind=kind_of_status(status), message=_plain_words(str(error), error), status=status)
    if isinstance(error, (module.UnsupportedProtocol, module.InvalidURL)):
        return Failure(kind="bad_request", message=_sentence("the address cannot be used", error))
    if isinstance(error, (module.DecodingError, module.TooManyRedirects)):
        return Failure(kind="provider", message=_sentence("the answer cannot be read", error))
    return Failure(kind="transport", message=_sentence("the connection failed", error))


def _sentence(what: str, error: BaseException) -> str:
    said = _plain_words(str(error), error)
    return f"{what} ({said})" if said else f"{what} ({type(error).__name__})"


def _plain_words(text: str, error: BaseException | None = None) -> str:
    try:
        request = getattr(error, "request", None)
    except RuntimeError:  # httpx: "has not been set"
        request = None
    secrets = secrets_of(request) if hasattr(request, "headers") else ()
    words = " ".join(scrub(text, secrets).split())
    return words if len(words) <= 500 else words[:500] + "…"
