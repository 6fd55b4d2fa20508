"""One daemon thread for what need not be waited for; safe across `fork`.

There is no thread before the first job. A forked child has none of its parent's jobs, and starts a thread of
its own with its first one. No fork happens while modules are being loaded under `loading`: a child would
wait for ever for an import that its parent's thread had begun.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["in_child", "loading", "logger", "submit"]

_FORK_WAITS_S = 30.0
_HEAD_START_S = 0.02
"""For whoever started the thread: loading modules would hold the interpreter's lock for milliseconds."""

_starting = threading.Lock()
_thread: threading.Thread | None = None
_jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
_loading = threading.RLock()
_held = threading.local()
_in_child: list[Callable[[], None]] = []


def submit(job: Callable[[], None]) -> bool:
    """Have a job done soon, after those before it; whether there is a thread to do it.

    The job must not raise.
    """
    global _thread
    if _thread is None or not _thread.is_alive():
        with _starting:
            if _thread is None or not _thread.is_alive():
                thread = threading.Thread(target=_work, args=(_jobs,), name="steelyard-prompts", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread can be had, or the interpreter is on its way out
                    return False
                _thread = thread
    _jobs.put(job)
    return True


@contextmanager
def loading() -> Generator[None]:
    """A stretch in which this process does not fork."""
    with _loading:
        yield


def logger() -> Logger:
    """The log `steelyard.prompts`; the module is loaded when there is something to say."""
    if "logging" not in sys.modules:
        with loading():
            import_module("logging")
    from logging import getLogger

    return getLogger("steelyard.prompts")


def in_child(call: Callable[[], None]) -> None:
    """Have something called in every forked child, before anything else of Steelyard's runs there."""
    _in_child.append(call)


def _work(jobs: SimpleQueue[Callable[[], None]]) -> None:
    sleep(_HEAD_START_S)
    while True:
        jobs.get()()


def _before_fork() -> None:
    _held.lock = _loading.acquire(timeout=_FORK_WAITS_S)


def _after_fork_in_parent() -> None:
    if _held.lock:
        _loading.release()


def _after_fork_in_child() -> None:
    global _starting, _thread, _jobs, _loading
    _starting, _thread, _jobs, _loading = threading.Lock(), None, SimpleQueue(), threading.RLock()
    for call in _in_child:
        call()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
