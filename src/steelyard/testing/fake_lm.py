"""A scripted model for tests: it answers what you wrote, fails where you say so, and counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from steelyard.core.canonical import digest
from steelyard.core.chat import ChatRequest, Completion
from steelyard.core.errors import CallFailed
from steelyard.core.results import Usage

__all__ = ["Answer", "FakeLM", "Script"]

Answer = str | Completion | Exception
"""What one call gives: a text, a whole completion, or an error to raise."""

Script = Answer | Sequence[Answer] | Mapping[str, Answer] | Callable[[ChatRequest], Answer]


class FakeLM:
    """An `LM` that answers from a script. Safe to call from several threads.

    Args:
        script: One answer for every call; a sequence, one a call, in order; a mapping from a text to the
            answer of the requests whose last message contains it (the first that matches; `""` matches all);
            or a function of the request.
        name: Its name; the identity is made of it.
        usage: What each completion consumes; by default one call of 10 and 5 tokens, free, in 0.01 s.
        concurrency: As in the protocol.

    Attributes:
        requests: Every request it got, in order.
        closed: How often it was closed.
    """

    def __init__(
        self, script: Script, *, name: str = "fake", usage: Usage | None = None, concurrency: int = 4
    ) -> None:
        self.name, self.concurrency = name, concurrency
        self.digest = digest({"api": "fake", "model": name})
        self.requests: list[ChatRequest] = []
        self.closed = 0
        self._script = script
        self._usage = usage or Usage(calls=1, input_tokens=10, output_tokens=5, latency_s=0.01)
        self._lock = threading.Lock()

    def complete(self, request: ChatRequest) -> Completion:
        """The next completion of the script.

        Raises:
            CallFailed: the script is at its end or holds nothing for this request. Exception: a scripted one.
        """
        with self._lock:
            n = len(self.requests)
            self.requests.append(request)
        answer = self._answer(request, n)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(text=answer, finish_reason="stop", model=self.name, usage=self._usage)

    async def acomplete(self, request: ChatRequest) -> Completion:
        """`complete`, awaited."""
        return self.complete(request)

    def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1

    def _answer(self, request: ChatRequest, n: int) -> Answer:
        script = self._script
        if isinstance(script, (str, Completion, Exception)):
            return script
        if isinstance(script, Mapping):
            last = str(request.messages[-1].get("content", "")) if request.messages else ""
            for text, answer in script.items():
                if text in last:
                    return answer
            raise CallFailed("bad_request", f"the script of {self.name!r} holds nothing for {last[:80]!r}")
        if isinstance(script, Sequence):
            if n >= len(script):
                raise CallFailed("provider", f"the script of {self.name!r} has only {len(script)} answers")
            return script[n]
        return script(request)
