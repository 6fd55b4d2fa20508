"""The ledger's rule and the names, without any store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.canonical import digest
from steelyard.core.errors import Corrupt
from steelyard.core.ref import check_name
from steelyard.store.ledger import Line, replay
from steelyard.store.naming import base_name, decode, encode, join_text, key, ledger_name, split_text
from steelyard.store.place import shown, sqlite_file
from steelyard.testing.store_parts import move

DIGESTS = [digest(i) for i in range(3)]
STATES = st.sampled_from([None, *DIGESTS])


@st.composite
def lines(draw):
    """What writers may leave behind: stale moves, requests sent twice, deletions."""
    out = []
    for number in range(1, draw(st.integers(0, 25)) + 1):
        nonce = draw(st.integers(0, 30))
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, 2))
            out.append(Line(number=number, nonce=f"{nonce}", entry=None, version=at + 1, digest=DIGESTS[at]))
            continue
        before, after = draw(STATES), draw(STATES)
        entry = replace(move("p", before, after), alias=draw(st.sampled_from(["a", "b"])))
        version = None if after is None else DIGESTS.index(after) + 1
        if before is not None or after is not None:
            out.append(Line(number=len(out) + 1, nonce=f"{nonce}", entry=entry, version=version))
    return [replace(line, number=i) for i, line in enumerate(out, 1)]


@given(lines())
def test_what_took_effect_is_a_chain(series):
    ledger = replay(series)
    for alias in ("a", "b"):
        chain = [e for e in ledger.moves.values() if e.alias == alias]
        assert [e.number for e in chain] == list(range(1, len(chain) + 1))
        stands = None
        for entry in chain:
            assert entry.before == stands
            stands = entry.after
        assert ledger.at(alias) == stands
    standing = {version for _, version in ledger.state.values()}
    assert not standing & ledger.deleted


@given(lines(), st.data())
def test_what_took_effect_stays(series, data):
    cut = data.draw(st.integers(0, len(series)))
    early, late = replay(series[:cut]), replay(series)
    assert early.moves.items() <= late.moves.items()
    assert early.deleted <= late.deleted
    shuffled = data.draw(st.permutations(series))
    assert replay(shuffled) == late


def test_a_request_sent_twice_counts_once():
    a, b = DIGESTS[:2]
    there, back = move("p", None, a), move("p", a, None)
    series = [("n1", there), ("n1", there), ("n2", back), ("n1", there)]
    ledger = replay(Line(number=i, nonce=n, entry=e, version=1) for i, (n, e) in enumerate(series, 1))
    assert list(ledger.moves) == [1, 3]
    assert ledger.at("production") is None
    assert b not in dict(ledger.state.values())


SEGMENT = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}\Z")
NAMES = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)


@given(NAMES, NAMES)
def test_names_are_escaped_reversibly(one, other):
    check_name(one)
    assert decode(encode(one)) == one
    places = {
        place(kind, n)
        for n in {one, other}
        for kind in ("prompt", "model", "adapter")
        for place in (base_name, ledger_name)
    }
    assert len(places) == 6 * len({one, other})
    assert all(
        set(p) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") for p in places
    )


def test_names_people_use_stay_as_they_are():
    for name in ("support-intent", "llama-3.1", "a_b"):
        assert base_name("prompt", name) == name
    assert base_name("prompt", "team/intent") == "team..intent"
    long = "a/" * 99 + "b"
    assert len(ledger_name("adapter", long)) < 256
    assert base_name("prompt", long) != base_name("prompt", long[:-1] + "c")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(1, 7))
def test_texts_come_back_from_tags(text, size):
    assert join_text("t", split_text("t", text, size=size), where="here") == text


@pytest.mark.parametrize("change", [{"t.1": "XX"}, {"t.sum": "9 x"}, {"t.0": None}, {"t.sum": None}])
def test_a_changed_tag_is_told(change):
    tags = {**split_text("t", "abcdef", size=2), **change}
    with pytest.raises(Corrupt, match="here"):
        join_text("t", {k: v for k, v in tags.items() if v is not None}, where="here")


@pytest.mark.parametrize("text", ["../../x", "a//b", "", "a?b", "é", "x" * 300])
def test_keys_are_what_mlflow_takes(text):
    import re

    assert re.fullmatch(r"[\w\-. :/]{1,250}", key(text), flags=re.ASCII)
    assert ".." not in key(text).split("/")


def test_addresses_show_no_secrets():
    assert shown("postgresql://u:p@h:5/db?password=x") == "postgresql://h:5/db"
    assert sqlite_file("sqlite:////a/b.db").as_posix() == "/a/b.db"
    assert sqlite_file("postgresql://h/db") is None
