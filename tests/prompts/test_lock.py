"""The lock file, and a clean clone that starts from it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.errors import InvalidFile
from steelyard.prompts import Prompt
from steelyard.prompts.lock import (
    Decision,
    Lock,
    LockedAlias,
    RequiredGate,
    bootstrap,
    differences,
    read_lock,
    write_lock,
)
from steelyard.prompts.push import register
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

D = "sha256:" + "a" * 64


def prompt(text: str, name: str = "p") -> Prompt:
    return Prompt(name=name, messages=({"role": "user", "content": text},))


def lock_with(text: str = "one", name: str = "p", alias: str = "production") -> Lock:
    made = prompt(text, name)
    locked = LockedAlias(
        digest=made.digest,
        gates={"g": RequiredGate(policy=D, requirements=("exact_match ≥ 0.6",))},
        evidence=(
            Decision(
                id="e1",
                gate="g",
                outcome="pass",
                policy=D,
                task="t",
                lm=None,
                dataset="d",
                evaluators={"m": "x"},
            ),
        ),
    )
    return Lock().with_alias(name, alias, locked, made.content())


def test_it_reads_back_and_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    lock = lock_with("line one\nline {{ '{{' }} two\n").with_alias(
        "a/b", "staging", replace(lock_with().aliases["p"]["production"]), prompt("one").content()
    )
    write_lock(tmp_path / "a.lock", lock)
    write_lock(tmp_path / "b.lock", read_lock(tmp_path / "a.lock"))
    data = (tmp_path / "a.lock").read_bytes()
    assert data == (tmp_path / "b.lock").read_bytes()
    assert b"exact_match \xe2\x89\xa5 0.6" in data  # people read it
    assert b"      line one\n" in data or b"line one\n" in data
    assert list(tmp_path.glob(".*.part")) == []


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda t: "{{" not in t)
)
def test_any_content_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("lock") / "x.lock"
    lock = lock_with(text)
    write_lock(path, lock)
    assert read_lock(path).to_json() == lock.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "no",
        "~",
        "null",
        "1e5",
        "0x1F",
        "0o17",
        "1_000",
        "12:30:45",
        "2020-01-01",
        "=",
        "<<",
        ".inf",
        "- a",
        "a: b",
        "#x",
        "\t",
        " x",
        "x \ny",
        "\r\n",
        "\x85",
        "\ufeff",
        "\u2028",
        "!x",
        "&x",
        "*x",
        "---",
        "...",
    ],
)
def test_words_that_yaml_could_mistake_read_back(tmp_path: Path, text: str) -> None:
    write_lock(tmp_path / "x.lock", lock_with(text))
    assert read_lock(tmp_path / "x.lock").to_json() == lock_with(text).to_json()


def test_it_forgets_contents_that_no_alias_needs() -> None:
    lock = lock_with("one")
    two = prompt("two")
    moved = lock.with_alias("p", "production", LockedAlias(digest=two.digest), two.content())
    assert set(moved.versions["p"]) == {two.digest}
    assert moved.with_alias("p", "production", None) == Lock()


def test_what_a_version_went_live_with() -> None:
    lock = lock_with()
    digest = prompt("one").digest
    assert lock.identity("p", "production", digest, "g") == {
        "task": "t",
        "lm": None,
        "dataset": "d",
        "evaluators": {"m": "x"},
    }
    assert lock.identity("p", "production", D, "g") is None
    assert lock.identity("p", "production", digest, "other") is None
    assert lock.identity("q", "production", digest, "g") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("content: one", "content: two", "its content is not sha256:"),
        ("format: 1\nprompts", "format: 2\nprompts", "the lock has format 2"),
        ("outcome: pass", "outcome: pass\n        force: true", "force"),
        ("policy: sha256", "policy: sha255", "is no digest"),
        ("  p:\n    production:", "  ../p:\n    production:", "is no valid prompt name"),
        ("    production:", "    latest:", "is no valid alias"),
        ("  p:\n    production:", "  q:\n    production:", "the content of q@production is missing"),
        ("format: 1\nprompts", "format: 1\nformat: 1\nprompts", "stands twice"),
        ("format: 1\nprompts", "\tformat: 1\nprompts", "a tab"),
    ],
)
def test_a_lock_with_a_mistake_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "x.lock"
    write_lock(path, lock_with())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InvalidFile) as caught:
        read_lock(path)
    assert said in str(caught.value)
    assert caught.value.line is not None


# -- bootstrap --------------------------------------------------------------------------------------
def test_a_clean_clone_starts_from_the_lock_and_the_ledger_says_so() -> None:
    store, lock = MemoryStore(), lock_with()
    assert bootstrap(lock, store) == []
    assert store.aliases("prompt", "p") == {"production": prompt("one").digest}
    assert store.version("prompt", "p", 1).content == prompt("one").content()
    (entry,) = store.history("prompt", "p")
    assert (entry.action, entry.before, entry.evidence, entry.forced) == ("lock", None, ("e1",), False)
    assert bootstrap(lock, store) == []
    assert len(store.history("prompt", "p")) == 1


def test_only_the_named_prompts_are_taken_over() -> None:
    store = MemoryStore()
    bootstrap(lock_with(), store, names=("other",))
    assert store.names("prompt") == []


def test_a_store_that_moved_on_wins() -> None:
    store, lock, two = MemoryStore(), lock_with(), prompt("two")
    bootstrap(lock, store)
    register(two, store)
    move(store, prompt("one").digest, two.digest)
    (difference,) = bootstrap(lock, store)
    assert (difference.store, difference.ahead) == (two.digest, "store")
    assert store.aliases("prompt", "p")["production"] == two.digest
    assert differences(lock, store) == [difference]
    move(store, two.digest, None)
    (difference,) = bootstrap(lock, store)  # removed on purpose: it does not come back
    assert (difference.store, difference.ahead) == (None, "store")


def test_a_lock_that_moved_on_is_reported_and_not_taken_over_silently() -> None:
    store = MemoryStore()
    bootstrap(lock_with("one"), store)
    (difference,) = bootstrap(lock_with("two"), store)
    assert difference.ahead == "lock"
    assert store.aliases("prompt", "p")["production"] == prompt("one").digest


def test_many_first_starts_at_once_make_one_entry() -> None:
    store, lock = MemoryStore(), lock_with()
    threads = [threading.Thread(target=bootstrap, args=(lock, store)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.history("prompt", "p")) == 1
    assert len(store.versions("prompt", "p")) == 1


def move(store: MemoryStore, before: str | None, after: str | None) -> None:
    store.move_alias(
        LedgerEntry(
            kind="prompt",
            name="p",
            alias="production",
            before=before,
            after=after,
            action="promote" if after else "remove",
            who="w",
            when="2026-01-01T00:00:00.000Z",
        )
    )
