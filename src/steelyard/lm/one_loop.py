"""One event loop that stays, for async clients that outlive the loop of a run.

LangChain keeps one async HTTP client for all models of a process. Its connections belong to the loop that
opened them; every run has a loop of its own, and the next run would fail with "Event loop is closed".
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["on_one_loop"]

T = TypeVar("T")
_LOCK = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


async def on_one_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine that runs on the loop that stays, in a copy of the caller's context.

    Cancelling the caller cancels it.
    """
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_contained(work), _loop()))


async def _contained(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return await work()
    except (SystemExit, KeyboardInterrupt) as error:  # either would end the loop for everybody
        raise RuntimeError(f"the function raised {type(error).__name__}: {error}") from None


def _loop() -> asyncio.AbstractEventLoop:
    with _LOCK:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="steelyard-loop", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def _after_fork() -> None:
    _loops.clear()  # the thread stayed with the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
