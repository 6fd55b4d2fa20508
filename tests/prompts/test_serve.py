"""Prompts for applications: memory, disk, a store that is down, threads, forks."""

from __future__ import annotations

import logging
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import steelyard
from steelyard.core.clock import stamp
from steelyard.core.errors import Corrupt, InvalidFile, InvalidValue, MissingExtra, NotFound, StoreUnavailable
from steelyard.core.ref import Ref
from steelyard.core.settings import load_settings
from steelyard.prompts import Prompt, Variable, refresher, serve
from steelyard.prompts import source as source_module
from steelyard.prompts.copies import Copies, Copy
from steelyard.prompts.lock import Lock, LockedAlias, write_lock
from steelyard.prompts.push import register
from steelyard.prompts.source import PromptSource
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

FULL = bool(os.environ.get("STEELYARD_FULL"))
REF = "support@production"


def make(text: str, name: str = "support") -> Prompt:
    return Prompt(
        name=name,
        messages=({"role": "user", "content": text + " {{ x }}"},),
        variables={"x": Variable(description="what it is")},
        description="said " + text,
    )


class Shelf(MemoryStore):
    """A store that can be down, can hang, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.calls = 0
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()

    def _asked(self) -> None:
        self.calls += 1
        self.asked.set()
        assert self.go.wait(60)
        if self.down:
            raise StoreUnavailable("shelf:", "it is down", do="Wait.")

    def aliases(self, kind, name):
        self._asked()
        return super().aliases(kind, name)

    def version(self, kind, name, selector):
        self._asked()
        return super().version(kind, name, selector)

    def history(self, kind, name, alias=None):
        self._asked()
        return super().history(kind, name, alias)

    def point(self, prompt: Prompt, alias: str = "production") -> None:
        """Move an alias, whatever `down` says."""
        register(prompt, self)
        before = MemoryStore.aliases(self, "prompt", prompt.name).get(alias)
        with self._lock:
            entry = LedgerEntry(
                kind="prompt",
                name=prompt.name,
                alias=alias,
                before=before,
                after=prompt.digest,
                action="promote",
                who="me",
                when=stamp(),
            )
            self._ledger.setdefault(("prompt", prompt.name), []).append(entry)


@pytest.fixture
def here(tmp_path):
    return load_settings(tmp_path, environ={})


@pytest.fixture
def shelf():
    shelf = Shelf()
    shelf.point(make("one"))
    return shelf


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(source_module, "_clock", lambda: now[0])
    return now


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="steelyard.prompts")
    return lambda level=logging.WARNING: [r.getMessage() for r in caplog.records if r.levelno == level]


def settle(source: PromptSource) -> None:
    """Wait until nothing is being refreshed."""
    end = time.monotonic() + 60
    while source._pending:
        assert time.monotonic() < end
        time.sleep(0.002)


def text_of(prompt: Prompt) -> str:
    return prompt.render(x="!").messages[0]["content"]


# -- memory ---------------------------------------------------------------------------------------
def test_memory_serves_and_an_alias_is_asked_for_again_behind_the_caller(here, shelf, clock):
    source = PromptSource(here, store=shelf)
    first = source.get(REF)
    assert text_of(first) == "one !"
    asked = shelf.calls
    shelf.point(make("two"))
    clock[0] += here.prompt_ttl_s * 0.89
    assert source.get(REF) is first
    assert shelf.calls == asked
    clock[0] += here.prompt_ttl_s * 0.2
    assert source.get(REF) is first  # the caller does not wait
    settle(source)
    assert text_of(source.get(REF)) == "two !"
    assert source.get(REF).description == "said two"
    assert source.get(REF).variables["x"].description == "what it is"


def test_a_caller_never_waits_for_a_store_that_hangs(here, shelf, clock):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    shelf.go.clear()
    shelf.asked.clear()
    clock[0] += 100
    assert text_of(source.get(REF)) == "one !"
    assert shelf.asked.wait(60)  # the refresh hangs in the store now
    for _ in range(100):
        clock[0] += 100
        assert text_of(source.get(REF)) == "one !"
    assert len(source._pending) == 1  # asked once, not a hundred times
    shelf.go.set()
    settle(source)


def test_an_answer_that_comes_late_does_not_undo_a_later_one(here, shelf, clock):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    answered, go_on = threading.Event(), threading.Event()
    real = shelf.aliases

    def slow(kind, name):
        found = real(kind, name)
        if threading.current_thread() is not threading.main_thread():
            answered.set()
            assert go_on.wait(60)
        return found

    shelf.aliases, shelf.is_light = slow, True
    clock[0] += 100
    source.get(REF)
    assert answered.wait(60)  # the thread has the old answer in hand
    shelf.point(make("two"))
    clock[0] += 1
    assert text_of(source.get(REF, fresh=True)) == "two !"
    go_on.set()
    settle(source)
    assert text_of(source.get(REF)) == "two !"
    shelf.down = True
    assert text_of(PromptSource(here, store=shelf).get(REF)) == "two !"  # on disk too


def test_a_store_that_hangs_holds_up_no_other_prompt(here, shelf, clock):
    shelf.point(make("well", name="other"))
    old = PromptSource(here, store=shelf)
    old.get(REF)
    old.get("other@production")
    write_file(here, "file")
    source = PromptSource(here, store=shelf)
    shelf.go.clear()
    shelf.asked.clear()
    source.get(REF)
    assert shelf.asked.wait(60)  # the thread hangs in the store
    assert text_of(source.get("other@production")) == "well !"
    assert text_of(source.get("support@working")) == "file !"
    assert text_of(source.get(REF)) == "one !"
    shelf.go.set()
    settle(source)


def test_an_unchanged_alias_costs_one_question(here, shelf, clock):
    source = PromptSource(here, store=shelf)
    first = source.get(REF)
    asked = shelf.calls
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert shelf.calls == asked + 1
    assert source.get(REF) is first
    assert source.served()[0].age_s < 60


def test_pinned_versions_are_asked_for_once(here, shelf, clock):
    source = PromptSource(here, store=shelf)
    digest = make("one").digest
    refs = ["support@1", f"support@{digest}", f"support@{digest[:20]}"]
    assert {source.get(ref).digest for ref in refs} == {digest}
    asked = shelf.calls
    clock[0] += 1e9
    assert {source.get(ref).digest for ref in refs} == {digest}
    settle(source)
    again = PromptSource(here, store=shelf)  # from disk
    assert {again.get(ref).digest for ref in refs} == {digest}
    assert shelf.calls == asked


def test_sixteen_threads_ask_a_first_time_once(here, shelf):
    source = PromptSource(here, store=shelf)
    shelf.go.clear()
    got: list[Prompt] = []
    threads = [threading.Thread(target=lambda: got.append(source.get(REF))) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert shelf.asked.wait(60)
    shelf.go.set()
    for thread in threads:
        thread.join(60)
    assert len(got) == 16
    assert len({id(p) for p in got}) == 1
    assert shelf.calls == 2  # aliases, version


def test_threads_while_the_alias_moves(here, shelf):
    source = PromptSource(here.with_(prompt_ttl_s=0.001), store=shelf)
    versions = [make(str(i)) for i in range(20)]
    known = {p.digest for p in versions} | {make("one").digest}
    stop = threading.Event()
    bad: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                if source.get(REF).digest not in known:
                    bad.append("unknown")
            except Exception as error:
                bad.append(error)

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for version in versions:
        shelf.point(version)
    end = time.monotonic() + 60
    while source.get(REF).digest != versions[-1].digest and time.monotonic() < end:
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(60)
    settle(source)
    assert not bad
    assert source.get(REF).digest == versions[-1].digest


# -- down and back --------------------------------------------------------------------------------
def test_a_store_that_is_down_is_said_once_with_the_age_and_its_return_is_seen(here, shelf, clock, said):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    shelf.down = True
    for _ in range(50):
        clock[0] += 100
        assert text_of(source.get(REF)) == "one !"
        settle(source)
    (warning,) = said()
    assert "it is down" in warning
    assert REF in warning
    assert "version 1" in warning
    assert "seconds ago" in warning
    assert source.served()[0].error is not None
    shelf.down = False
    shelf.point(make("two"))
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert text_of(source.get(REF)) == "two !"
    assert "answers again" in said(logging.INFO)[0]
    assert source.served()[0].error is None
    shelf.down = True
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert len(said()) == 2  # another outage


def test_the_copy_on_disk_serves_a_new_process_at_once(here, shelf, clock, said, monkeypatch):
    PromptSource(here, store=shelf).get(REF)
    shelf.down = True
    shelf.go.clear()  # not even an answer
    hours = time.time() + 3 * 3600
    monkeypatch.setattr(time, "time", lambda: hours)
    source = PromptSource(here, store=shelf)
    prompt = source.get(REF)  # while the store hangs
    assert text_of(prompt) == "one !"
    assert prompt.variables["x"].description == "what it is"
    assert source.served()[0].origin == "disk"
    shelf.go.set()
    settle(source)
    (warning,) = said()
    assert "3 hours ago" in warning
    shelf.down = False
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert source.served()[0].origin == "store"


def test_fresh_or_error(here, shelf):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    shelf.point(make("two"))
    assert text_of(source.get(REF, fresh=True)) == "two !"
    assert text_of(source.get(REF)) == "two !"
    shelf.down = True
    with pytest.raises(StoreUnavailable, match="it is down"):
        source.get(REF, fresh=True)
    assert text_of(source.get(REF)) == "two !"
    with pytest.raises(InvalidValue, match="both fresh and with a fallback"):
        source.get(REF, fresh=True, fallback="x")


def test_a_store_that_was_down_is_not_asked_by_every_call(here, shelf, clock):
    shelf.down = True
    source = PromptSource(here, store=shelf)
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            source.get(REF)
    assert shelf.calls == 1
    clock[0] += 100
    shelf.down = False
    assert text_of(source.get(REF)) == "one !"


def test_another_store_s_copies_are_not_served(here, shelf):
    PromptSource(here, store=shelf).get(REF)
    other = here.with_(tracking_uri="nosuchplugin:shelf")
    with pytest.raises(NotFound, match="store"):
        PromptSource(other).get(REF)


def test_a_plugin_s_bug_does_not_end_the_thread(here, shelf, clock, said):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    shelf.aliases = lambda *_: 1 / 0
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert "ZeroDivisionError" in said()[0]
    with pytest.raises(StoreUnavailable, match="ZeroDivisionError"):
        PromptSource(here.with_(home=here.root / "elsewhere"), store=shelf).get(REF)
    del shelf.aliases
    shelf.point(make("two"))
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert text_of(source.get(REF)) == "two !"


# -- not there ------------------------------------------------------------------------------------
def test_not_found_names_what_is_missing(here, shelf):
    source = PromptSource(here, store=shelf)
    with pytest.raises(NotFound, match=r"'productoin'.*did you mean 'production'"):
        source.get("support@productoin")
    with pytest.raises(NotFound, match=r"no prompt 'sopport'.*did you mean 'support'.*prompts push"):
        source.get("sopport@production")
    with pytest.raises(NotFound, match="prompt file"):
        source.get("support@working")
    with pytest.raises(InvalidValue):
        source.get("support@")


def test_an_alias_that_is_taken_away_is_served_on_and_said_once(here, shelf, clock, said):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    digest = make("one").digest
    shelf.move_alias(
        LedgerEntry(
            kind="prompt",
            name="support",
            alias="production",
            before=digest,
            after=None,
            action="remove",
            who="me",
            when=stamp(),
        )
    )
    for _ in range(5):
        clock[0] += 100
        assert source.get(REF).digest == digest
        settle(source)
    (warning,) = said()
    assert "no alias 'production'" in warning
    assert "is served on" in warning
    with pytest.raises(NotFound):
        source.get(REF, fresh=True)


@pytest.mark.parametrize(
    "fallback",
    [
        make("spare"),
        "spare {{ x }}",
        [{"role": "user", "content": "spare {{ x }}"}],
        ({"role": "system", "content": "spare {{ x }}"},),
    ],
)
def test_a_fallback_serves_when_nothing_else_is_there(here, shelf, clock, said, fallback):
    shelf.down = True
    source = PromptSource(here, store=shelf)
    assert {text_of(source.get(REF, fallback=fallback)) for _ in range(10)} == {"spare !"}
    assert shelf.calls == 1
    (warning,) = said()
    assert "fallback" in warning
    shelf.down = False
    clock[0] += 100
    assert text_of(source.get(REF, fallback=fallback)) == "spare !"  # nobody waits for the store twice
    settle(source)
    assert text_of(source.get(REF, fallback=fallback)) == "one !"
    assert text_of(source.get("nobody@production", fallback=fallback)) == "spare !"  # none there: also said
    assert "no prompt 'nobody'" in said()[-1]
    asked = shelf.calls
    assert text_of(source.get("nobody@production", fallback=fallback)) == "spare !"
    assert shelf.calls == asked
    shelf.point(make("now", name="nobody"))
    clock[0] += 100
    assert text_of(source.get("nobody@production", fallback=fallback)) == "spare !"
    settle(source)
    assert text_of(source.get("nobody@production", fallback=fallback)) == "now !"


def test_content_that_cannot_be_used_is_one_prompt_s_trouble(here, shelf, clock, said):
    source = PromptSource(here, store=shelf)
    shelf.point(make("well", name="other"))
    source.get(REF)
    source.get("other@production")
    newer = shelf.register("prompt", "support", digest="sha256:" + "1" * 64, content={"format": 2})
    entry = shelf.history("prompt", "support")[-1]
    shelf.move_alias(replace(entry, before=entry.after, after=newer.digest))
    shelf.point(make("better", name="other"))
    for ref in (REF, "other@production") * 3:
        clock[0] += 100
        source.get(ref)
        settle(source)
    assert text_of(source.get(REF)) == "one !"
    assert text_of(source.get("other@production")) == "better !"
    (warning,) = said()
    assert "format 2" in warning
    new = PromptSource(here.with_(home=here.root / "elsewhere"), store=shelf)
    with pytest.raises(Corrupt, match="format 2"):
        new.get(REF)
    assert text_of(new.get(REF, fallback="spare {{ x }}")) == "spare !"
    assert text_of(new.get("other@production")) == "better !"


def test_a_bad_fallback_is_told_while_all_is_well(here, shelf):
    source = PromptSource(here, store=shelf)
    with pytest.raises(InvalidValue, match="not closed"):
        source.get(REF, fallback="oh {{ x")
    with pytest.raises(InvalidValue, match="no role"):
        source.get(REF, fallback=[{"role": "boss", "content": "x"}])


# -- lock and files -------------------------------------------------------------------------------
def locked(settings, prompt: Prompt, alias: str = "production") -> None:
    lock = Lock().with_alias(prompt.name, alias, LockedAlias(digest=prompt.digest), prompt.content())
    write_lock(settings.lock, lock)


def test_lock_mode_pins_a_deploy_and_touches_no_store(here, shelf, clock):
    pinned = here.with_(prompts_from="lock")
    locked(here, make("locked"))
    shelf.down = True
    source = PromptSource(pinned, store=shelf)
    prompt = source.get(REF)
    assert text_of(prompt) == "locked !"
    assert source.get(f"support@{prompt.digest[:15]}") == prompt
    locked(here, make("other"))
    clock[0] += 1e6
    assert source.get(REF) is prompt
    assert shelf.calls == 0
    assert not source._pending
    assert not (here.home / "prompts").exists()
    with pytest.raises(NotFound, match=r"steelyard\.lock.*steelyard prompts sync"):
        source.get("support@staging")
    with pytest.raises(InvalidValue, match="no numbers"):
        source.get("support@3")
    assert text_of(PromptSource(pinned).get(REF)) == "other !"


def test_lock_mode_without_a_lock(here):
    with pytest.raises(NotFound, match="lock file"):
        PromptSource(here.with_(prompts_from="lock")).get(REF)


def test_a_damaged_lock_is_told_or_replaced_by_the_fallback(here, said):
    here.lock.parent.mkdir()
    here.lock.write_text("format: 1\n")
    source = PromptSource(here.with_(prompts_from="lock"))
    with pytest.raises(InvalidFile):
        source.get(REF)
    assert text_of(source.get(REF, fallback="spare {{ x }}")) == "spare !"
    assert len(said()) == 1


def test_the_lock_stands_in_for_an_alias_the_store_never_had_and_for_a_store_that_is_down(here, said, clock):
    locked(here, make("locked"))
    empty = Shelf()
    assert text_of(PromptSource(here, store=empty).get(REF)) == "locked !"
    assert empty.calls
    assert not said()
    empty.down = True
    source = PromptSource(here, store=empty)
    assert text_of(source.get(REF, fallback="spare {{ x }}")) == "locked !"
    assert "from the lock file" in said()[0]
    empty.down = False
    empty.point(make("two"))
    clock[0] += 100
    source.get(REF)
    settle(source)
    assert text_of(source.get(REF)) == "two !"


def write_file(settings, text: str) -> Path:
    settings.prompts.mkdir(exist_ok=True)
    file = settings.prompts / "support.yaml"
    part = file.with_suffix(".part")
    part.write_text(f"template: '{text} {{{{ x }}}}'\nvariables: {{x: str}}\n")
    part.replace(file)  # as editors save
    return file


@pytest.mark.parametrize(("mode", "ref"), [("store", "support@working"), ("files", REF), ("lock", "support")])
def test_working_files_are_read_again_when_they_change(here, mode, ref):
    source = PromptSource(here.with_(prompts_from=mode), store=Shelf())
    file = write_file(here, "one")
    first = source.get(ref)
    assert text_of(first) == "one !"
    assert source.get(ref) is first
    write_file(here, "two")
    assert text_of(source.get(ref)) == "two !"
    file.write_text("template: [")
    with pytest.raises(InvalidFile):
        source.get(ref)
    write_file(here, "three")
    assert text_of(source.get(ref)) == "three !"


def test_files_mode_and_versions(here):
    source = PromptSource(here.with_(prompts_from="files"))
    write_file(here, "one")
    digest = source.get(REF).digest
    assert source.get(f"support@{digest}").digest == digest
    with pytest.raises(NotFound):
        source.get("support@sha256:" + "0" * 64)
    with pytest.raises(InvalidValue, match="no numbers"):
        source.get("support@1")


# -- the copies on disk ---------------------------------------------------------------------------
def test_copies_are_private_and_replaced_whole(here, shelf):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    (file,) = (here.home / "prompts").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    shelf.point(make("two"))
    source.get(REF, fresh=True)
    assert [f.name for f in (here.home / "prompts").iterdir()] == [file.name]


def test_a_copy_damaged_at_any_byte_is_noticed_and_set_aside(here, shelf, said):
    source = PromptSource(here, store=shelf)
    source.get(REF)
    copies = source._disk()
    file = copies.path(Ref.parse(REF))
    whole = file.read_bytes()
    assert copies.read(Ref.parse(REF)) is not None
    damages = [whole[:n] for n in range(len(whole))] + [whole + b"\n"]
    for i in range(len(whole)):
        damages.append(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
    logging.disable(logging.WARNING)  # a thousand warnings help nobody; one is looked at below
    try:
        for damaged in damages:
            file.write_bytes(damaged)
            assert copies.read(Ref.parse(REF)) is None
            assert not file.exists()
    finally:
        logging.disable(logging.NOTSET)
    assert len(copies.damaged) == len(damages)
    assert len(list((here.home / "prompts" / "damaged").iterdir())) == len(damages)
    file.write_bytes(whole[:-1])
    assert text_of(PromptSource(here, store=shelf).get(REF)) == "one !"  # start-up succeeds, from the store
    assert "is damaged" in said()[0]
    assert file.read_bytes()[:70] != b""


def test_a_whole_copy_in_another_s_place_is_not_taken(here, shelf):
    shelf.point(make("other", name="other"))
    source = PromptSource(here, store=shelf)
    source.get(REF)
    source.get("other@production")
    copies = source._disk()
    copies.path(Ref.parse(REF)).write_bytes(copies.path(Ref.parse("other@production")).read_bytes())
    assert copies.read(Ref.parse(REF)) is None


def test_a_home_that_cannot_be_written_is_said_once(here, shelf, said):
    here.home.write_text("a file is in the way")
    source = PromptSource(here, store=shelf)
    assert text_of(source.get(REF)) == "one !"
    source.get("support@1")
    (warning,) = said()
    assert "could be kept on disk" in warning


# -- forks ----------------------------------------------------------------------------------------
def in_child(check) -> int:
    """Exit code of a forked child that runs `check`; 99 if it raised, 14 ends by its alarm."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            import signal

            signal.alarm(60)
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_forks_at_any_moment_do_not_hang(here, shelf):
    """Fault 12: the child's thread starts anew, and does none of the parent's jobs."""
    source = PromptSource(here.with_(prompt_ttl_s=0.0001), store=shelf)
    source.get(REF)
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            source.get(REF)
            time.sleep(0.0005)

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> bool:
        clean = not source._pending and refresher._jobs.empty() and refresher._thread is None
        MemoryStore.__init__(other := Shelf())
        other.point(make("child"))
        source._given = source._reader = other  # a store of its own, as a child opens one
        before = text_of(source.get(REF))
        end = time.monotonic() + 30
        while text_of(source.get(REF)) != "child !" and time.monotonic() < end:
            time.sleep(0.001)
        return clean and before in ("one !", "child !") and text_of(source.get(REF)) == "child !"

    try:
        for _ in range(1000 if FULL else 40):
            assert in_child(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    settle(source)
    assert text_of(source.get(REF)) == "one !"  # and the parent goes on


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_modules_being_loaded(here):
    began, go = threading.Event(), threading.Event()

    def load() -> None:
        with refresher.loading():
            began.set()
            go.wait(60)

    thread = threading.Thread(target=load)
    thread.start()
    assert began.wait(60)
    threading.Timer(0.2, go.set).start()
    assert in_child(go.is_set) == 0  # set before the fork came about
    thread.join(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_server_that_hangs_delays_no_fork(here):
    """The thread waits for an answer over HTTP, and the process forks meanwhile, at once."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        there = here.with_(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        source = PromptSource(there)
        copy = Copy(prompt=make("one"), number=1, confirmed=time.time())
        source._disk().write(Ref.parse(REF), copy)
        assert text_of(source.get(REF)) == "one !"
        connection, _ = silent.accept()  # the thread has asked
        connection.recv(100)

        def child() -> bool:
            return text_of(source.get(REF)) == "one !"

        assert refresher._loading.acquire(blocking=False)  # free: nothing that a fork would wait for
        refresher._loading.release()
        for _ in range(10):
            assert in_child(child) == 0
        connection.close()
        settle(source)
        assert "cannot be used" in source.served()[0].error


_WRITER = """
import sys, time
from pathlib import Path
from steelyard.core.ref import Ref
from steelyard.prompts import Prompt
from steelyard.prompts.copies import Copies, Copy
copies = Copies(Path(sys.argv[1]), "shelf:")
made = [Prompt(name="support", messages=({"role": "user", "content": t * 5000},)) for t in "ab"]
print("ready", flush=True)
while True:
    for prompt in made:
        copies.write(Ref.parse("support@production"), Copy(prompt=prompt, number=1, confirmed=1.0))
"""


def test_writers_that_are_killed_leave_a_whole_copy(tmp_path):
    """Two processes write one copy over and over; at whatever moment they die, one of the two is there."""
    copies = Copies(tmp_path / "prompts", "shelf:")
    rng = random.Random(7)
    for _ in range(200 if FULL else 8):
        argv = [sys.executable, "-c", _WRITER, str(copies.folder)]
        writers = [subprocess.Popen(argv, stdout=-1) for _ in range(2)]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        end = time.monotonic() + rng.uniform(0.01, 0.1)
        while time.monotonic() < end or copies.read(Ref.parse(REF)) is None:
            assert not copies.damaged
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()
        copy = copies.read(Ref.parse(REF))
        assert copy is not None
        assert copy.prompt.messages[0]["content"] in ("a" * 5000, "b" * 5000)
    assert not copies.damaged


# -- steelyard.prompt -----------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path, monkeypatch, shelf):
    """An application's folder; the store is a plugin's."""
    from steelyard.store.opening import STORES

    monkeypatch.setitem(STORES._loaders, "shelf", lambda: lambda _: shelf)
    monkeypatch.setitem(STORES._values, "shelf", lambda _: shelf)
    monkeypatch.setenv("STEELYARD_TRACKING_URI", "shelf:one")
    monkeypatch.chdir(tmp_path)
    steelyard.prompts.serve.forget()
    yield tmp_path
    steelyard.prompts.serve.forget()


def test_the_function_serves_from_a_plugin_store(project, shelf):
    assert text_of(steelyard.prompt(REF)) == "one !"
    assert steelyard.prompt(REF) is steelyard.prompt(Ref.parse(REF))
    assert steelyard.prompt("support@3", fallback="spare {{ x }}").messages[0]["content"] == "spare {{ x }}"
    assert [s.ref for s in serve.served()] == [REF]
    mine = load_settings(prompt_ttl_s=1.0)
    assert text_of(steelyard.prompt(REF, settings=mine)) == "one !"
    assert serve._source(mine) is serve._source(load_settings(prompt_ttl_s=1.0))
    shelf.point(make("two"))
    assert text_of(steelyard.prompt(REF, fresh=True)) == "two !"


def test_memory_is_a_store_too(tmp_path):
    settings = load_settings(tmp_path, environ={}, tracking_uri="memory:")
    with pytest.raises(NotFound, match="no prompt 'support'"):
        steelyard.prompt(REF, settings=settings)


def test_no_thread_before_it_is_needed(tmp_path):
    code = """
import sys, threading
from pathlib import Path
from steelyard.core.settings import load_settings
import steelyard
write = lambda t: Path("prompts/support.yaml").write_text("template: " + t)
Path("prompts").mkdir(); write("hello")
assert steelyard.prompt("support").render().messages[0]["content"] == "hello"
assert [t.name for t in threading.enumerate()] == ["MainThread"]
heavy = {"mlflow", "openai", "numpy", "requests", "sqlalchemy", "logging", "http"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_mlflow_the_local_store_is_told_and_the_fallback_serves(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.version", None)
    from steelyard.store.opening import STORES

    monkeypatch.delitem(STORES._values, "mlflow", raising=False)
    settings = load_settings(tmp_path, environ={})
    with pytest.raises(MissingExtra, match=r"steelyard\[evals\]"):
        steelyard.prompt(REF, settings=settings)
    assert text_of(steelyard.prompt(REF, settings=settings, fallback="spare {{ x }}")) == "spare !"


# -- against a model ------------------------------------------------------------------------------
class Serving(RuleBasedStateMachine):
    """Whatever happens, a caller gets the last version this machine could have seen, or the one before it."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.settings = load_settings(Path(self.folder.name), environ={})
        self.patch = pytest.MonkeyPatch()
        self.now = 1000.0
        self.jobs: list = []
        self.patch.setattr(source_module, "_clock", lambda: self.now)
        self.patch.setattr(refresher, "submit", lambda job: self.jobs.append(job) or True)
        self.shelf = Shelf()
        self.source = PromptSource(self.settings, store=self.shelf)
        self.stored: str | None = None  # where the alias stands
        self.seen: str | None = None  # what memory or disk must hold

    @rule(text=st.sampled_from("abcd"))
    def move(self, text):
        self.shelf.point(make(text))
        self.stored = make(text).digest

    @rule(down=st.booleans())
    def weather(self, down):
        self.shelf.down = down

    @rule(seconds=st.sampled_from([0.1, 5.0, 61.0, 10_000.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def work(self):
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            refused = self.source._outage is not None and self.now < self.source._outage.until
            job()
            if not self.shelf.down and not refused and self.stored is not None:
                self.seen = self.stored

    @rule()
    def restart(self):
        self.jobs = []
        self.source = PromptSource(self.settings, store=self.shelf)

    @rule()
    def call(self):
        known = self.seen
        refused = self.source._outage is not None and self.now < self.source._outage.until
        try:
            got = self.source.get(REF).digest
        except StoreUnavailable:
            assert known is None
            assert self.shelf.down or refused
        except NotFound:
            assert known is None
            assert self.stored is None
        else:
            assert got == (known or self.stored)
            self.seen = got

    @precondition(lambda self: self.stored is not None and not self.shelf.down)
    @rule()
    def fresh(self):
        assert self.source.get(REF, fresh=True).digest == self.stored
        self.seen = self.stored

    @invariant()
    def one_job_at_most(self):
        assert len(self.jobs) <= 1

    def teardown(self):
        self.patch.undo()
        self.folder.cleanup()


Serving.TestCase.settings = hypothesis_settings(
    max_examples=300 if FULL else 40, stateful_step_count=25, deadline=None
)
TestServing = Serving.TestCase


# -- the page -------------------------------------------------------------------------------------
def test_the_application_in_the_docs_runs(project, shelf, monkeypatch):
    """Its code as it stands, under a real ASGI client, against a real HTTP endpoint."""
    fastapi_client = pytest.importorskip("fastapi.testclient")
    from steelyard.testing.chat_server import ChatServer

    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    (code,) = [b.split("```")[0] for b in page.split("```python\n") if "FastAPI(" in b.split("```")[0]]
    intent = Prompt(
        name="support-intent",
        messages=({"role": "user", "content": "Sort: {{ message }}"},),
        variables={"message": Variable()},
        parameters={"temperature": 0},
    )
    shelf.point(intent)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with ChatServer(["refund", "billing"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        namespace: dict = {"__name__": "page"}
        exec(compile(code, "docs/prompts.md", "exec"), namespace)
        with fastapi_client.TestClient(namespace["app"]) as client:
            assert [s.ref for s in serve.served()] == ["support-intent@production"]
            answer = client.post("/intent", params={"message": "money back"}).json()
            assert answer == {"intent": "refund", "prompt": f"support-intent@{intent.digest}"}
            health = client.get("/health").json()["support-intent@production"]
            assert (health["version"], health["from"], health["error"]) == (1, "store", None)
            serve.forget()
            shelf.down = True  # a new process with the registry down: the copy on disk
            assert client.post("/intent", params={"message": "x"}).json()["intent"] == "billing"
        sent = [call.json for call in server.calls]
        assert [(s["messages"][0]["content"], s["temperature"]) for s in sent] == [
            ("Sort: money back", 0),
            ("Sort: x", 0),
        ]
