"""What every store must do, as tests to inherit.

Write a class and two fixtures, and pytest runs all of it on your store:

    from steelyard.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path): ...

        @pytest.fixture
        def reopen(self, store): ...

`store` gives an open store that this test may fill (it need not be empty: every test takes names of its own).
`reopen` gives a function from nothing to a store on the same data, opened anew as another process would.
"""

# What tests do needs no docstring beyond their names.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.canonical import digest
from steelyard.core.errors import Conflict, InvalidValue, NotFound, Refused
from steelyard.store.protocol import Kind, LedgerEntry, Store
from steelyard.testing.store_parts import at_once, bundle, contents, evidence_of, fresh, move, run_of

__all__ = ["StoreContract"]

WRITERS = 6


class StoreContract:
    """Every obligation of `steelyard.store.Store`, one test each."""

    # -- versions ---------------------------------------------------------------------------------
    def test_a_version_comes_back_as_it_went_in(self, store: Store, reopen: Callable[[], Store]) -> None:
        name = fresh("team/intent")
        content: dict[str, Any] = {
            "messages": [
                {"role": "user", "content": "Wie geht’s {{ name }}? 日本語 🎯 \r\n\ttab \0 end '; --"}
            ],
            "parameters": {"temperature": 0.0, "n": 1, "big": 2**53 - 1, "none": None, "yes": True},
            "empty": {"list": [], "object": {}, "text": ""},
        }
        tags = {"git": "abc123", "note": "a 'quoted' note\nwith lines", "weird key: é!": "x" * 7000}
        made = store.register("prompt", name, digest=digest(content), content=content, tags=tags)
        assert (made.kind, made.name, made.number) == ("prompt", name, 1)
        for opened in (store, reopen()):
            back = opened.version("prompt", name, 1)
            assert back == made
            assert back.content == content
            assert back.tags == tags
            assert isinstance(back.content["parameters"]["temperature"], float)

    @pytest.mark.parametrize("size", [99_999, 100_001, 3_000_000])
    def test_content_may_be_of_any_size(self, store: Store, size: int) -> None:
        name, content = fresh(), {"template": "é€x" * (size // 3)}
        store.register("prompt", name, digest=digest(content), content=content)
        assert store.version("prompt", name, 1).content == content

    def test_the_same_content_is_the_same_version(self, store: Store, reopen: Callable[[], Store]) -> None:
        name, content = fresh(), {"template": "a"}
        first = store.register("prompt", name, digest=digest(content), content=content, tags={"n": "1"})
        again = reopen().register("prompt", name, digest=digest(content), content=content, tags={"n": "2"})
        assert again == first
        other = store.register("prompt", name, digest=digest("b"), content={"template": "b"})
        assert other.number > first.number
        assert [v.number for v in store.versions("prompt", name)] == [first.number, other.number]

    def test_writers_at_one_time_get_one_version(self, store: Store, reopen: Callable[[], Store]) -> None:
        name, content = fresh(), {"template": "raced"}
        stores = [store, *(reopen() for _ in range(WRITERS - 1))]
        made = at_once(
            [lambda s=s: s.register("prompt", name, digest=digest(content), content=content) for s in stores]
        )
        assert [e for e in made if isinstance(e, BaseException)] == []
        assert {v.number for v in made} == {made[0].number}
        assert [v.number for v in store.versions("prompt", name)] == [made[0].number]

    @pytest.mark.parametrize("kind", ["prompt", "model", "adapter"])
    def test_kinds_do_not_meet(self, store: Store, kind: Kind) -> None:
        name = fresh("same")
        for k in ("prompt", "model", "adapter"):
            store.register(k, name, digest=digest(k), content={"kind": k})
        assert store.version(kind, name, 1).content == {"kind": kind}
        assert name in store.names(kind)
        store.move_alias(move(name, None, digest(kind), kind=kind))
        assert store.aliases(kind, name) == {"production": digest(kind)}

    def test_names_do_not_meet(self, store: Store) -> None:
        stem = fresh("n")
        tails = ["a/b", "a..b", "a.b", "a._b", "a_.b", "a./b", "a.._/b", "a", "a.", "a/_ledger", "a/_model"]
        names = sorted(f"{stem}.{t}" for t in tails) + [f"{stem}/{'long/' * 30}{x}" for x in "xy"]
        for name in names:
            store.register("prompt", name, digest=digest(name), content={"template": name})
            store.move_alias(move(name, None, digest(name)))
        assert {n for n in store.names("prompt") if n.startswith(stem)} == set(names)
        for name in names:
            assert [v.content["template"] for v in store.versions("prompt", name)] == [name]
            assert store.aliases("prompt", name) == {"production": digest(name)}

    @pytest.mark.parametrize(
        "name", ["../x", "a/../b", "", "a//b", "/a", ".a", "a%2e", "a\0", "a'b", "x" * 201]
    )
    def test_names_that_are_none_are_refused(self, store: Store, name: str) -> None:
        with pytest.raises(InvalidValue):
            store.register("prompt", name, digest=digest(1), content={})
        with pytest.raises(InvalidValue):
            store.versions("prompt", name)
        with pytest.raises(InvalidValue):
            store.move_alias(move(name, None, digest(1)))

    def test_selectors(self, store: Store) -> None:
        name = fresh()
        assert store.versions("prompt", name) == []
        with pytest.raises(NotFound):
            store.version("prompt", name, 1)
        twins = ["sha256:" + "ab" * 31 + "01", "sha256:" + "ab" * 31 + "02"]
        made = [store.register("prompt", name, digest=d, content={"d": d}) for d in twins]
        assert store.version("prompt", name, made[1].number) == made[1]
        assert store.version("prompt", name, twins[0]) == made[0]
        assert store.version("prompt", name, twins[1][:-1] + "2") == made[1]
        with pytest.raises(InvalidValue, match="fits 2 versions"):
            store.version("prompt", name, "sha256:ababab")
        with pytest.raises(NotFound, match="99"):
            store.version("prompt", name, 99)
        with pytest.raises(NotFound):
            store.version("prompt", name, digest("never"))
        with pytest.raises(InvalidValue):
            store.version("prompt", name, "production")

    @pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": "\ud800"}, {"x": 2**60}, {"x": object()}])
    def test_content_that_json_cannot_hold_is_refused(self, store: Store, content: dict[str, Any]) -> None:
        name = fresh()
        with pytest.raises(InvalidValue):
            store.register("prompt", name, digest=digest(1), content=content)
        assert store.versions("prompt", name) == []

    # -- aliases and ledger -----------------------------------------------------------------------
    def test_an_alias_moves_and_tells(self, store: Store, reopen: Callable[[], Store]) -> None:
        name, (a, b) = fresh("team/p"), (digest("a"), digest("b"))
        assert store.aliases("prompt", name) == {}
        assert store.history("prompt", name) == []
        for d in (a, b):
            store.register("prompt", name, digest=d, content={"d": d})
        wanted = [
            move(name, None, a),
            move(name, a, b, forced=True, reason="the judge was down; see 日誌", verdict=None, policy=None),
            move(name, b, a, action="rollback", evidence=()),
            move(name, a, None),
            move(name, None, b, action="lock"),
        ]
        written = [store.move_alias(entry) for entry in wanted]
        assert written == [replace(e, number=i) for i, e in enumerate(wanted, 1)]
        other = store.move_alias(move(name, None, a, alias="canary"))
        assert other.number == 1
        for opened in (store, reopen()):
            assert opened.aliases("prompt", name) == {"canary": a, "production": b}
            assert opened.history("prompt", name, "production") == written
            assert opened.history("prompt", name) == [other, *written]

    def test_a_move_from_elsewhere_is_a_conflict(self, store: Store, reopen: Callable[[], Store]) -> None:
        name, (a, b) = fresh(), (digest("a"), digest("b"))
        for d in (a, b):
            store.register("prompt", name, digest=d, content={"d": d})
        with pytest.raises(Conflict) as absent:
            store.move_alias(move(name, a, b))
        assert (absent.value.expected, absent.value.actual, absent.value.wanted) == (a, None, b)
        store.move_alias(move(name, None, a))
        with pytest.raises(Conflict) as there:
            reopen().move_alias(move(name, None, b))
        assert (there.value.expected, there.value.actual, there.value.wanted) == (None, a, b)
        assert store.aliases("prompt", name) == {"production": a}
        assert len(store.history("prompt", name)) == 1

    def test_of_writers_at_one_time_one_wins(self, store: Store, reopen: Callable[[], Store]) -> None:
        name = fresh()
        stores = [store, *(reopen() for _ in range(WRITERS - 1))]
        digests = [digest(i) for i in range(WRITERS)]
        for d in digests:
            store.register("prompt", name, digest=d, content={"d": d})
        before: str | None = None
        for _ in range(4):
            todo = [
                partial(s.move_alias, move(name, before, d, action="promote"))
                for s, d in zip(stores, digests, strict=True)
                if d != before
            ]
            made = at_once(todo)
            won = [e for e in made if isinstance(e, LedgerEntry)]
            lost = [e for e in made if isinstance(e, Conflict)]
            assert len(won) == 1, made
            assert len(won) + len(lost) == len(todo), made
            assert {(e.expected, e.actual) for e in lost} <= {(before, won[0].after)}
            before = won[0].after
            assert store.aliases("prompt", name) == {"production": before}
        assert [e.number for e in store.history("prompt", name)] == [1, 2, 3, 4]

    def test_an_alias_cannot_move_to_what_is_not_there(self, store: Store) -> None:
        name = fresh()
        with pytest.raises(NotFound):
            store.move_alias(move(name, None, digest("never")))
        assert store.history("prompt", name) == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"alias": "Production"},
            {"alias": "latest"},
            {"action": "transition"},
            {"action": "remove"},
            {"forced": True, "reason": " "},
            {"after": "sha256:12"},
            {"after": None, "action": "remove"},
            {"kind": "dataset"},
        ],
    )
    def test_entries_that_are_none_are_refused(self, store: Store, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidValue):
            store.move_alias(replace(move(fresh(), None, digest(1)), **changes))

    def test_every_alias_that_a_ref_can_name(self, store: Store) -> None:
        name = fresh()
        store.register("prompt", name, digest=digest(1), content={})
        for alias in ("v2", "a", "eu-west_1", "z" * 64):
            store.move_alias(move(name, None, digest(1), alias=alias))
        assert set(store.aliases("prompt", name)) == {"v2", "a", "eu-west_1", "z" * 64}

    def test_a_version_that_an_alias_points_at_stays(self, store: Store) -> None:
        name, (a, b) = fresh(), (digest("a"), digest("b"))
        for d in (a, b):
            store.register("prompt", name, digest=d, content={"d": d})
        store.move_alias(move(name, None, a))
        with pytest.raises(Refused, match="production"):
            store.delete_version("prompt", name, 1)
        assert store.version("prompt", name, 1).digest == a
        store.move_alias(move(name, a, b))
        store.delete_version("prompt", name, 1)
        assert [v.digest for v in store.versions("prompt", name)] == [b]
        with pytest.raises(NotFound):
            store.move_alias(move(name, b, a, action="rollback"))
        with pytest.raises(NotFound):
            store.delete_version("prompt", name, 1)
        again = store.register("prompt", name, digest=a, content={"d": a})
        assert again.number > 2  # a number never means two contents
        assert store.move_alias(move(name, b, a, action="rollback")).number == 3

    def test_deleting_and_moving_at_one_time_never_both_happen(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        other = reopen()
        for _ in range(4):
            name = fresh()
            number = store.register("prompt", name, digest=digest("a"), content={}).number
            moved, deleted = at_once(
                [
                    lambda n=name: store.move_alias(move(n, None, digest("a"))),
                    lambda n=name, v=number: other.delete_version("prompt", n, v),
                ]
            )
            if isinstance(deleted, BaseException):
                assert isinstance(deleted, Refused), deleted
                assert store.version("prompt", name, store.aliases("prompt", name)["production"])
            else:
                assert isinstance(moved, NotFound), moved
                assert store.aliases("prompt", name) == {}
                assert store.versions("prompt", name) == []

    # -- runs and evidence ------------------------------------------------------------------------
    def test_a_run_of_any_shape_is_recorded(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "a.html").write_text("<p>", encoding="utf-8")
        run = run_of(
            params={
                "long": "p" * 20_000,
                "nul": "a\0b",
                "empty": "",
                **{f"p{i}": "v" * 5000 for i in range(230)},
            },
            metrics={"series": [i / 3 for i in range(1500)], "one": 0.5, "nan": float("nan"), "a/b c%": 1},
            tags={"long": "t" * 20_000, "weird é!": "x", **{f"t{i}": "v" for i in range(130)}},
            artifacts={"report/report.html": tmp_path / "a.html", "b": bundle(tmp_path / "b")},
        )
        assert store.record_run(run) != store.record_run(run_of(status="FAILED"))

    def test_an_artifact_that_is_not_there_is_told(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(InvalidValue, match=r"gone\.txt"):
            store.record_run(run_of(artifacts={"gone.txt": tmp_path / "gone.txt"}))

    def test_evidence_is_found_and_opened(
        self, store: Store, reopen: Callable[[], Store], tmp_path: Path
    ) -> None:
        folder = bundle(tmp_path / "bundle")
        evidence = evidence_of(metrics={f"m{i}": i / 7 for i in range(700)})
        stored = store.add_evidence(evidence, folder, run_of(params={"a": "b"}))
        assert stored.run_id is not None
        assert replace(stored, run_id=None) == evidence
        for opened in (store, reopen()):
            assert opened.evidence(name=evidence.name) == [stored]
            assert stored in opened.evidence()
        there = reopen().open_evidence(evidence.id, tmp_path / "to")
        assert there == tmp_path / "to" / evidence.id
        assert contents(there) == contents(folder)
        (there / "seal.json").write_text("mine", encoding="utf-8")
        assert store.open_evidence(evidence.id, tmp_path / "to") == there  # and is not fetched again
        assert (there / "seal.json").read_text(encoding="utf-8") == "mine"
        assert contents(store.open_evidence(evidence.id, tmp_path / "too")) == contents(folder)

    def test_evidence_is_stored_once(self, store: Store, reopen: Callable[[], Store], tmp_path: Path) -> None:
        folder, evidence = bundle(tmp_path / "bundle"), evidence_of()
        stored = store.add_evidence(evidence, folder, run_of())
        again = replace(evidence, outcome="fail")
        assert reopen().add_evidence(again, folder, run_of()) == stored
        assert store.evidence(name=evidence.name) == [stored]
        raced, stores = evidence_of(), [store, *(reopen() for _ in range(2))]
        made = at_once([lambda s=s: s.add_evidence(raced, folder, run_of()) for s in stores])
        assert [e for e in made if isinstance(e, BaseException)] == []
        assert len(store.evidence(name=raced.name)) == 1

    def test_evidence_is_narrowed_by_every_given_value(self, store: Store, tmp_path: Path) -> None:
        folder, name = bundle(tmp_path / "bundle"), fresh("team/p")
        made = [
            store.add_evidence(
                evidence_of(
                    name=name, subject=digest(s), yardstick=digest(y), created=f"2026-01-0{i}T00:00:00.000Z"
                ),
                folder,
                run_of(),
            )
            for i, (s, y) in enumerate([("s1", "y1"), ("s2", "y1"), ("s1", "y2")], 1)
        ]
        assert store.evidence(name=name) == made
        assert store.evidence(name=name, subject=digest("s1")) == [made[0], made[2]]
        assert store.evidence(name=name, subject=digest("s1"), yardstick=digest("y1")) == [made[0]]
        assert store.evidence(name=name, candidate=digest("other")) == []
        nameless = store.add_evidence(evidence_of(name=None, subject=None), folder, run_of())
        assert nameless in store.evidence()
        assert nameless not in store.evidence(name=name)

    def test_evidence_that_is_not_there_is_told(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            store.open_evidence(fresh("never"), tmp_path)
        with pytest.raises(InvalidValue):
            store.open_evidence("../never", tmp_path)

    def test_a_run_is_read_as_it_can_be_recorded_again(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("beside", encoding="utf-8")
        run = run_of(
            params={"k": "v"},
            metrics={"one": 0.5, "series": [0.25, 0.5, 0.75]},
            tags={"t": "v"},
            artifacts={"a.txt": tmp_path / "a.txt"},
        )
        evidence = store.add_evidence(evidence_of(), bundle(tmp_path / "b"), run)
        assert evidence.run_id is not None
        there = store.read_run(evidence.run_id, tmp_path / "to")
        assert replace(there, artifacts={}) == replace(run, artifacts={})
        assert {at: path.read_text("utf-8") for at, path in there.artifacts.items()} == {"a.txt": "beside"}
        with pytest.raises(NotFound):
            store.read_run("0" * 32, tmp_path)

    def test_evidence_is_deleted_for_good(
        self, store: Store, reopen: Callable[[], Store], tmp_path: Path
    ) -> None:
        name = fresh()
        kept, gone = (
            store.add_evidence(evidence_of(name=name), bundle(tmp_path / f"b{i}"), run_of()) for i in range(2)
        )
        for _ in range(2):
            store.delete_evidence(gone.id)
            for opened in (store, reopen()):
                assert opened.evidence(name=name) == [kept]
                with pytest.raises(NotFound):
                    opened.open_evidence(gone.id, tmp_path / "to")
        assert contents(store.open_evidence(kept.id, tmp_path / "to")) == contents(tmp_path / "b0")
        with pytest.raises(InvalidValue):
            store.delete_evidence("../x")

    # -- the store itself -------------------------------------------------------------------------
    def test_it_works_again_after_close(self, store: Store) -> None:
        name = fresh()
        store.register("prompt", name, digest=digest(1), content={})
        store.close()
        assert store.version("prompt", name, 1).digest == digest(1)
        assert store.uri
