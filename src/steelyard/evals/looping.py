"""The event loop of a run: bounded waits for foreign code, and an orderly stop on Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from steelyard.core.errors import Interrupted

__all__ = ["Late", "run_sync", "within"]

T = TypeVar("T")
_PATIENCE_S = 1.0
"""Seconds that code of the user's own may hold the loop after the first signal, and cancelled tasks may take
to end."""


async def within(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of foreign async code, or TimeoutError after that many seconds.

    Unlike `asyncio.wait_for` it does not wait for code that swallows its cancellation, and `sys.exit` inside
    is an error of that code, not the end of the loop.

    Raises:
        TimeoutError: with `args == ()`, the time is over. RuntimeError: it called sys.exit.
    """
    task = asyncio.ensure_future(_contained(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_ignored)
        raise Late
    return task.result()


class Late(TimeoutError):
    """Our own time limit, to be told from a TimeoutError that the code raised."""


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except SystemExit as error:  # asyncio would end the whole run with it
        raise RuntimeError(f"it called sys.exit({error.code!r})") from None


def _ignored(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # read, so that asyncio does not complain of one that nobody waits for


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, from sync code, also where an event loop already runs (a notebook).

    Raises:
        Interrupted: SIGINT or SIGTERM came; the coroutine was cancelled first.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    outcome: list[Any] = []
    loops: list[Callable[[], None]] = []
    context = contextvars.copy_context()

    def inside() -> None:
        try:
            outcome.append((context.run(_run, work, loops.append), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=inside, name="steelyard-run", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for cancel in loops:
            cancel()
        thread.join(2 * _PATIENCE_S)
        raise Interrupted(signal.SIGINT) from None
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _run(work: Coroutine[Any, Any, T], tell: Callable[[Callable[[], None]], None] | None = None) -> T:
    # asyncio.run would wait without end for tasks and threads that do not heed their cancellation.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(work)

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    if tell is not None:
        tell(cancel)
    try:
        with _signals(cancel) as came:
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                if came:
                    raise Interrupted(came[0]) from None
                raise
            finally:
                _end(loop, task)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Cancel what still runs and give it a moment, not more."""
    left = asyncio.all_tasks(loop)
    for one in left:
        one.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=_PATIENCE_S))
    for one in (*left, task):
        if one.done():
            _ignored(one)
        else:
            one._log_destroy_pending = False  # type: ignore[attr-defined]  # it was told, and did not listen
    loop.run_until_complete(loop.shutdown_asyncgens())


@contextmanager
def _signals(cancel: Callable[[], None]) -> Generator[list[int]]:
    """The signals that came: one cancels, the next interrupts code that holds the loop, a third ends."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    main = threading.main_thread().ident
    over = threading.Event()

    def insist() -> None:
        if not over.wait(_PATIENCE_S) and main is not None and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, came[0])

    def caught(number: int, _frame: object) -> None:
        came.append(number)
        if len(came) == 1:
            cancel()
            threading.Thread(target=insist, name="steelyard-stop", daemon=True).start()
        elif len(came) == 2:
            raise Interrupted(came[0])
        else:
            sys.stderr.write("steelyard: stopped at once; what was acknowledged is on disk.\n")
            os._exit(128 + number)

    ours = {s: f for s, f in before.items() if f is not signal.SIG_IGN and f is not None}
    for number in ours:
        signal.signal(number, caught)
    try:
        yield came
    finally:
        over.set()
        for number, handler in ours.items():
            signal.signal(number, handler)
