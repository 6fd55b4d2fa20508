"""The error tree: one root, and each error is also the builtin a caller would expect.

    SteelyardError
    ├── InvalidFile      (ValueError)       a file people wrote: names file, line, what, what to do
    ├── InvalidValue     (ValueError)       an argument, a name, a value that cannot be stored
    ├── InvalidOutput    (ValueError)       task code says: the model answered, but the answer is unusable
    ├── NotFound         (LookupError)      a prompt, version, alias, dataset, evaluator … that is not there
    ├── ReplayMiss       (LookupError)      replay mode met a request nobody recorded
    ├── Conflict         (RuntimeError)     two writers on one name or alias; nothing was lost
    ├── Refused          (PermissionError)  allowed by the machine, not by the rules (promotion, deletion)
    ├── Corrupt          (ValueError)       a checksum does not match: the bytes are not what was written
    ├── CallFailed       (RuntimeError)     a model call failed: carries `kind` and `status`
    ├── StoreUnavailable (ConnectionError)  the tracking store cannot be reached or used
    ├── MissingExtra     (ImportError)      an optional part is not installed
    ├── RunStopped       (RuntimeError)     a run could not go on; its rows are kept, it can be resumed
    └── GateFailed       (AssertionError)   a gate said no; carries the verdict

`Interrupted` (KeyboardInterrupt) is no SteelyardError: Ctrl-C or SIGTERM ended a run, which can be resumed.

Constructors take facts and write the sentence: what failed, on which value, what exists instead,
what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "CallFailed",
    "Conflict",
    "Corrupt",
    "GateFailed",
    "Interrupted",
    "InvalidFile",
    "InvalidOutput",
    "InvalidValue",
    "MissingExtra",
    "NotFound",
    "Refused",
    "ReplayMiss",
    "RunStopped",
    "SteelyardError",
    "StoreUnavailable",
    "closest",
    "did_you_mean",
]


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that `word` was probably meant to be; None if none is that close (0 any, 1 the same)."""
    import difflib  # only where something went wrong

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """`Did you mean 'label'?` where one of the known words is close to `word`, else `otherwise`."""
    close = closest(word, known)
    return f"Did you mean {close!r}?" if close is not None else otherwise


class SteelyardError(Exception):
    """The root of every error that Steelyard raises on purpose."""


class InvalidFile(SteelyardError, ValueError):
    """A file that a person wrote cannot be used.

    Args:
        path: The file.
        what: What is wrong, without a full stop: `"unknown key 'temprature'"`.
        do: What to do about it, a sentence.
        line: 1-based line, where one can be named.
    """

    def __init__(self, path: str | Path, what: str, *, do: str, line: int | None = None) -> None:
        self.path, self.line, self.what, self.do = Path(path), line, what, do
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {what}. {do}")


class InvalidValue(SteelyardError, ValueError):
    """A value handed to Steelyard cannot be used."""

    def __init__(self, what: str, *, do: str) -> None:
        self.what, self.do = what, do
        super().__init__(f"{what}. {do}")


class InvalidOutput(SteelyardError, ValueError):
    """Raised by task code: the model completed, but its answer cannot be used.

    Such a row is not an error: it scores 0 and is labelled `invalid_output`.

    Args:
        reason: Why the answer is unusable.
        output: The answer as it came, kept for the report.
    """

    def __init__(self, reason: str, output: object = None) -> None:
        self.reason, self.output = reason, output
        super().__init__(reason)


class NotFound(SteelyardError, LookupError):
    """A named thing does not exist.

    Args:
        kind: What it is: `"prompt"`, `"alias"`, `"dataset"`, `"evaluator"`.
        name: The name that was asked for.
        existing: The names that exist, for the did-you-mean.
        where: Where it was looked for.
        do: What to do next; made up from `existing` if left out.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        existing: Iterable[str] = (),
        where: str | None = None,
        do: str | None = None,
    ) -> None:
        self.kind, self.name = kind, name
        self.existing = tuple(sorted(existing))
        sentence = f"no {kind} {name!r}" + (f" in {where}" if where else "")
        close = closest(name, self.existing)
        if close is not None:
            sentence += f"; did you mean {close!r}?"
        elif self.existing:
            shown = ", ".join(map(repr, self.existing[:8]))
            more = f" and {len(self.existing) - 8} more" if len(self.existing) > 8 else ""
            sentence += f"; there is {shown}{more}"
        else:
            sentence += f"; there is no {kind} at all"
        end = "" if sentence.endswith("?") else "."
        super().__init__(f"{sentence}{end} {do}" if do else sentence)


class ReplayMiss(SteelyardError, LookupError):
    """Replay mode met a request that was never recorded; no socket was opened."""

    def __init__(self, request: str, *, key: str, folder: str | Path) -> None:
        self.request, self.key = request, key
        super().__init__(
            f"replay has no recording of {request} (key {key[:12]}) in {folder}. "
            "Run once with --steelyard-lm=auto (or STEELYARD_LM_MODE=auto) to record it."
        )


class Conflict(SteelyardError, RuntimeError):
    """Another writer was first: exactly one wins, both contents are kept.

    Args:
        what: The thing both wrote: `"alias 'production' of prompt 'support'"`.
        expected: Digest (or None: absent) that the loser believed to be current.
        actual: Digest (or None: absent) that is current.
        wanted: Digest that the loser wanted to set.
    """

    def __init__(self, what: str, *, expected: str | None, actual: str | None, wanted: str | None) -> None:
        self.expected, self.actual, self.wanted = expected, actual, wanted
        super().__init__(
            f"{what} is at {actual or 'nothing'}, not at {expected or 'nothing'} as expected, "
            f"so it was not moved to {wanted or 'nothing'}. Both versions are kept: look at its history "
            "and decide again."
        )


class Refused(SteelyardError, PermissionError):
    """The rules forbid it; the sentence says which rule and what would satisfy it."""

    def __init__(self, what: str, *, because: str, do: str) -> None:
        self.what, self.because, self.do = what, because, do
        super().__init__(f"{what} is refused: {because}. {do}")


class Corrupt(SteelyardError, ValueError):
    """Stored bytes are not the bytes that were written."""

    def __init__(self, path: str | Path, what: str, *, do: str, line: int | None = None) -> None:
        self.path, self.line, self.what = Path(path), line, what
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where} is damaged: {what}. {do}")


class CallFailed(SteelyardError, RuntimeError):
    """A model call did not give a usable completion.

    Args:
        kind: One word of `steelyard.core.score.FAILURE_KINDS`.
        what: What happened.
        status: HTTP status, where there was one.
        retryable: Whether trying again may help.
    """

    def __init__(self, kind: str, what: str, *, status: int | None = None, retryable: bool = False) -> None:
        self.kind, self.what, self.status, self.retryable = kind, what, status, retryable
        super().__init__(what)


class StoreUnavailable(SteelyardError, ConnectionError):
    """The tracking store cannot be reached or used."""

    def __init__(self, uri: str, what: str, *, do: str) -> None:
        self.uri = uri
        super().__init__(f"the store at {uri} cannot be used: {what}. {do}")


class MissingExtra(SteelyardError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{needed_for} needs the package {package!r}. Install it with: pip install 'steelyard[{extra}]'"
        )


class GateFailed(SteelyardError, AssertionError):
    """A gate did not pass. `verdict` holds the whole answer."""

    def __init__(self, sentence: str, *, verdict: object) -> None:
        self.verdict = verdict
        super().__init__(sentence)


class RunStopped(SteelyardError, RuntimeError):
    """A run could not go on: a full disk, another process at the same run. Its durable rows are kept.

    Args:
        gate: The gate whose run it is.
        what: What stopped it.
        do: What to do next, a sentence.
    """

    def __init__(self, gate: str, what: str, *, do: str) -> None:
        self.gate, self.what = gate, what
        super().__init__(f"the run of gate {gate!r} stopped: {what}. {do}")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came while rows were run. What was acknowledged is on disk.

    Args:
        signal: The signal's number.
        sentence: What it means for the run; added by whoever knows the run.
    """

    def __init__(self, signal: int, sentence: str = "stopped by the user") -> None:
        self.signal, self.sentence = signal, sentence
        super().__init__(sentence)

    @property
    def exit_code(self) -> int:
        """What a process returns that a signal ended: 128 + its number."""
        return 128 + self.signal
