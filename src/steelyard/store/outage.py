"""A server that is away: told within seconds, and waited for as long as that takes.

MLflow would try a request again blindly and for minutes. Here a call is tried again only where that cannot do
harm: it was never sent, or it may be done twice; and all waiting of one operation together stays under
`PATIENCE_S`, so a restart of the server does not show and a dead one is told.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, TypeVar

__all__ = [
    "PATIENCE_S",
    "REQUEST_S",
    "Patient",
    "code_of",
    "cut_short",
    "operation",
    "outage_of",
    "patience_left",
]

T = TypeVar("T")

PATIENCE_S = 8.0
"""Seconds that one operation of the store may lose to calls that fail and to waiting, all together."""
REQUEST_S = 6
"""Seconds for an answer to begin; `MLFLOW_HTTP_REQUEST_TIMEOUT` overrides it."""

Outage: TypeAlias = Literal["unsent", "unanswered", "silent"]
"""`unsent`: nothing was there to take the request. `unanswered`: the connection broke, or a proxy or a
starting server answered 502 to 504. `silent`: no answer in time. Only the first surely changed nothing."""

_TWICE = (
    *("get_", "search_", "list_", "download_", "load_", "set_", "log_", "delete_"),
    *("create_registered_model", "create_experiment"),  # the second time they say that it is there already
)
"""Beginnings of calls that come to the same when they are done twice."""
_lost: ContextVar[list[float] | None] = ContextVar("steelyard_lost", default=None)


@contextlib.contextmanager
def operation() -> Generator[None]:
    """A block whose calls share one patience; inside another one, that one's."""
    if _lost.get() is not None:
        yield
        return
    token = _lost.set([0.0])
    try:
        yield
    finally:
        _lost.reset(token)


def patience_left() -> float:
    """Seconds that the operation may still lose."""
    lost = _lost.get()
    return PATIENCE_S if lost is None else max(0.0, PATIENCE_S - lost[0])


def cut_short(call: Callable[[], T], seconds: float) -> T:
    """What the call gives, if it does within so many seconds.

    Raises:
        TimeoutError: it does not; it is left to itself.
    """
    out: list[Any] = []

    def work() -> None:
        try:
            out.append((call(), None))
        except BaseException as error:  # whatever it is, the caller's thread raises it
            out.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not out:
        raise TimeoutError(f"no answer within {seconds:.1f} s")
    value, error = out[0]
    if error is not None:
        raise error
    return value


class Patient:
    """An object whose methods are tried again through an outage.

    Args:
        inner: The object, such as MLflow's client.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            return _patiently(
                lambda: found(*arguments, **named),
                twice=name.startswith(_TWICE),
                remove=name.startswith("delete_"),
            )

        return call


def _patiently(call: Callable[[], T], *, twice: bool, remove: bool) -> T | None:
    lost = _lost.get() or [0.0]
    for turn in range(1_000):
        began = time.monotonic()
        try:
            return call()
        except Exception as error:
            kind = outage_of(error)
            if turn and remove and code_of(error) == "RESOURCE_DOES_NOT_EXIST":
                return None  # the first try did it, and its answer was lost
            if kind is None:
                raise
            lost[0] += time.monotonic() - began
            wait = min(1.0, 0.1 * 2**turn) * random.uniform(0.75, 1.25)  # noqa: S311 - to spread, not to hide
            again = kind == "unsent" or (twice and kind == "unanswered")
            if not again or lost[0] + wait > PATIENCE_S:
                raise
            lost[0] += wait
            time.sleep(wait)
    raise AssertionError("patience never ends")


def code_of(error: BaseException) -> str | None:
    """MLflow's error code; None for an error that is not MLflow's."""
    return getattr(error, "error_code", None)


def outage_of(error: BaseException) -> Outage | None:
    """What kind of outage an error tells of; None if it is about something else."""
    for cause in _causes(error):
        name, module = type(cause).__name__, type(cause).__module__.partition(".")[0]
        text = str(cause)
        if name in ("ConnectTimeout", "NewConnectionError", "ConnectTimeoutError", "NameResolutionError"):
            return "unsent"
        if isinstance(cause, ConnectionRefusedError):
            return "unsent"
        if name in ("ReadTimeout", "ReadTimeoutError"):
            return "silent"
        if module == "urllib3" and "too many 429" in text:
            return "unsent"
        if module == "urllib3" and "too many 50" in text and "too many 500" not in text:
            return "unanswered"
        if name in ("RemoteDisconnected", "ProtocolError", "IncompleteRead", "ChunkedEncodingError"):
            return "unanswered"
        if isinstance(cause, (ConnectionResetError, BrokenPipeError)):
            return "unanswered"
        if module in ("psycopg", "psycopg2") and name in ("OperationalError", "InterfaceError"):
            if "timeout expired" in text or ("connection to server" in text and "failed" in text):
                return "unsent"
            if "closed" in text or "terminat" in text:
                return "unanswered"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came out of, the deepest first."""
    chain: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        cause = todo.pop()
        if not isinstance(cause, BaseException) or cause in chain:
            continue
        chain.append(cause)
        todo += [
            cause.__cause__,
            cause.__context__,
            getattr(cause, "orig", None),
            getattr(cause, "reason", None),
        ]
        todo += [a for a in cause.args if isinstance(a, BaseException)]
    return reversed(chain)
