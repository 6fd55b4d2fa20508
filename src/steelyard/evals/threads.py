"""Daemon threads for code that is not async: a hung call holds up neither the run nor the exit."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["DaemonThreads"]

_Told = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
_Job = tuple[Callable[[], Any], contextvars.Context, "_Told | None"]


class DaemonThreads:
    """Runs sync functions off the event loop, in copies of the caller's context.

    Unlike `ThreadPoolExecutor` its threads are daemons, and one that a timeout gave up on is replaced.

    Args:
        lanes: Most threads that are begun for work that can wait; None begins one whenever none is idle.
    """

    def __init__(self, lanes: int | None = None) -> None:
        self._lanes = lanes
        self._backlog = 0  # jobs that no thread is set aside for
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()

    def start(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """A future of the function's result; its exception, `SystemExit` included, ends there."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.run(function, told=(loop, future))
        return future

    def run(self, function: Callable[[], Any], *, urgent: bool = False, told: _Told | None = None) -> None:
        """Run the function some time soon.

        Args:
            function: What to run; without `told` it must not raise.
            urgent: Begin a thread for it whatever `lanes` says.
            told: A future that gets the result, and its loop.
        """
        with self._lock:
            self._jobs.put((function, contextvars.copy_context(), told))
            if self._idle > 0 and not urgent:
                self._idle -= 1
            elif not urgent and self._lanes is not None and self._threads >= self._lanes:
                self._backlog += 1
            else:
                self._threads += 1
                threading.Thread(target=self._work, name="steelyard-task", daemon=True).start()

    async def call(self, function: Callable[[], Any]) -> Any:
        """The function's result, awaited."""
        return await self.start(function)

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, context, told = job
            try:
                result, error = context.run(function), None
            except BaseException as raised:
                result, error = None, raised
            # The thread is idle before the caller hears of it, so that it can take the caller's next job.
            with self._lock:
                if self._backlog > 0:
                    self._backlog -= 1
                else:
                    self._idle += 1
            if told is not None:
                loop, future = told
                try:
                    loop.call_soon_threadsafe(_settle, future, result, error)
                except RuntimeError:  # the loop is closed: the run was stopped, nobody waits
                    return
                del loop, future
            del job, function, context, told, result, error
            # Give way to the loop, or rows that are done wait until the next ones are: they would all march
            # in step, and the time of each would be that of all.
            time.sleep(0)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, SystemExit):
        # asyncio would re-raise it out of the loop; a task that calls sys.exit must only fail its row.
        future.set_exception(RuntimeError(f"it called sys.exit({error.code!r})"))
    elif isinstance(error, (StopIteration, KeyboardInterrupt)):  # likewise
        future.set_exception(RuntimeError(f"the function raised {type(error).__name__}: {error}"))
    else:
        future.set_exception(error)
