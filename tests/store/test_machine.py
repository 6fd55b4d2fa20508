"""The registry against a pure model: any order of calls, and a process that dies after any call to MLflow."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from steelyard.core.canonical import digest
from steelyard.core.errors import Conflict, NotFound, Refused
from steelyard.store import open_store
from steelyard.store.check import check
from steelyard.store.memory import MemoryStore
from steelyard.testing.store_parts import move

FULL = os.environ.get("STEELYARD_FULL") == "1"
CONTENTS = [{"template": t} for t in "abc"]
DIGESTS = [digest(c) for c in CONTENTS]
ALIASES = ["production", "canary"]
WHERE = st.sampled_from([None, *DIGESTS])


class Killed(BaseException):
    """The process dies here."""


class Mortal:
    """Stands before MLflow's registry and dies before or after its nth call."""

    def __init__(self, inner, left, after):
        self._inner, self.left, self._after = inner, left, after

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments, **named):
            self.left -= 1
            if self.left == 0 and not self._after:
                raise Killed
            out = found(*arguments, **named)
            if self.left == 0:
                raise Killed
            return out

        return call


class Registry(RuleBasedStateMachine):
    """One prompt, two aliases, three contents; the model is a list of moves and a set of digests."""

    def open(self):
        raise NotImplementedError

    @initialize()
    def begin(self):
        self.store = self.open()
        self.there: list[str] = []
        self.moves: dict[str, list[str]] = {a: [] for a in ALIASES}  # where each stood, in order
        self.maybe = None

    def _stands(self, alias):
        return self.moves[alias][-1] if self.moves[alias] else None

    # -- what can happen --------------------------------------------------------------------------
    @rule(which=st.integers(0, 2))
    def register(self, which):
        version = self.store.register("prompt", "p", digest=DIGESTS[which], content=CONTENTS[which])
        assert (version.digest, version.content) == (DIGESTS[which], CONTENTS[which])
        if DIGESTS[which] not in self.there:
            self.there.append(DIGESTS[which])

    @rule(alias=st.sampled_from(ALIASES), before=WHERE, after=WHERE, right=st.booleans())
    def move(self, alias, before, after, right):
        before = self._stands(alias) if right else before
        if before is None and after is None:
            return
        entry = move("p", before, after, alias=alias)
        if before != self._stands(alias):
            with pytest.raises(Conflict) as told:
                self.store.move_alias(entry)
            assert (told.value.expected, told.value.actual) == (before, self._stands(alias))
        elif after is not None and after not in self.there:
            with pytest.raises(NotFound):
                self.store.move_alias(entry)
        else:
            assert self.store.move_alias(entry).number == len(self.moves[alias]) + 1
            self.moves[alias].append(after)

    @rule(alias=st.sampled_from(ALIASES))
    def roll_back(self, alias):
        """To where it stood before, as `steelyard prompts rollback` does."""
        history = self.store.history("prompt", "p", alias)
        if len(history) > 1 and history[-1].before is not None:
            self.move(alias, None, history[-1].before, True)

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0, 2))
    def delete(self, which):
        gone = self.there[which % len(self.there)]
        number = self.store.version("prompt", "p", gone).number
        if gone in {self._stands(a) for a in ALIASES}:
            with pytest.raises(Refused):
                self.store.delete_version("prompt", "p", number)
        else:
            self.store.delete_version("prompt", "p", number)
            self.there.remove(gone)

    @rule()
    def reopen(self):
        self.store = self.open()

    # -- what holds -------------------------------------------------------------------------------
    @invariant()
    def is_as_the_model_says(self):
        assert [v.digest for v in self.store.versions("prompt", "p")] == self.there
        stands = {a: self._stands(a) for a in ALIASES if self._stands(a) is not None}
        assert self.store.aliases("prompt", "p") == stands
        for alias in ALIASES:
            history = self.store.history("prompt", "p", alias)
            assert [e.after for e in history] == self.moves[alias]
            assert [e.before for e in history] == [None, *self.moves[alias]][: len(history)]
            assert [e.number for e in history] == list(range(1, len(history) + 1))
        assert set(stands.values()) <= set(self.there)


class OnMemory(Registry):
    def open(self):
        return getattr(self, "store", None) or MemoryStore()


class OnMlflow(Registry):
    put = None  # the fixture `empty_sqlite`

    def open(self):
        if hasattr(self, "store"):
            self.store.close()
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="steelyard-machine-"))
            self.settings = type(self).put(self.folder)
        return open_store(self.settings)

    def teardown(self):
        if hasattr(self, "folder"):
            assert list(check(self.store)) == []
            self.store.close()
            shutil.rmtree(self.folder)

    @contextmanager
    def _dying(self, calls, after):
        backend = self.store._backend
        whole, backend.registry = backend.registry, Mortal(backend.registry, calls, after)
        try:
            with contextlib.suppress(Killed):
                yield
        finally:
            backend.registry = whole
        self.store = self.open()

    @rule(which=st.integers(0, 2), calls=st.integers(1, 6), after=st.booleans())
    def die_registering(self, which, calls, after):
        with self._dying(calls, after):
            self.store.register("prompt", "p", digest=DIGESTS[which], content=CONTENTS[which])
        there = {v.digest for v in self.store.versions("prompt", "p")}
        assert there - set(self.there) <= {DIGESTS[which]}  # the old or the new
        if DIGESTS[which] in there and DIGESTS[which] not in self.there:
            self.there.append(DIGESTS[which])

    @rule(alias=st.sampled_from(ALIASES), after=WHERE, calls=st.integers(1, 9), late=st.booleans())
    def die_moving(self, alias, after, calls, late):
        before = self._stands(alias)
        if (before is None and after is None) or (after is not None and after not in self.there):
            return
        with self._dying(calls, late):
            self.store.move_alias(move("p", before, after, alias=alias))
        history = self.store.history("prompt", "p", alias)
        assert len(history) - len(self.moves[alias]) in (0, 1)
        if len(history) > len(self.moves[alias]):
            assert history[-1].after == after
            self.moves[alias].append(after)

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0, 2), calls=st.integers(1, 6), late=st.booleans())
    def die_deleting(self, which, calls, late):
        gone = self.there[which % len(self.there)]
        if gone in {self._stands(a) for a in ALIASES}:
            return
        number = self.store.version("prompt", "p", gone).number
        with self._dying(calls, late):
            self.store.delete_version("prompt", "p", number)
        # Half done it may still be seen, though no alias can go there; the repair finishes it.
        list(check(self.store, repair=True))
        if gone not in {v.digest for v in self.store.versions("prompt", "p")}:
            self.there.remove(gone)


def _run(machine, examples, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.explicit, Phase.generate]
            if not FULL
            else list(Phase),  # shrinking takes many minutes
            print_blob=True,
            derandomize=not FULL,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory_is_the_model():
    _run(OnMemory, 300 if FULL else 40, 40)


@pytest.mark.slow
def test_mlflow_is_the_model(empty_sqlite):
    _run(type("OnThisMlflow", (OnMlflow,), {"put": staticmethod(empty_sqlite)}), 100 if FULL else 5, 20)
