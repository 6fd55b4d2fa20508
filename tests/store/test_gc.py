"""Letting go: what goes, what never does, and being killed at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from filelock import FileLock

from steelyard.cli.main import main
from steelyard.core.canonical import digest
from steelyard.core.clock import utc_now
from steelyard.core.errors import InvalidFile, NotFound, Refused
from steelyard.core.results import Identity
from steelyard.core.settings import load_settings
from steelyard.evidence import EvidenceWriter
from steelyard.store import open_store
from steelyard.store.check import check
from steelyard.store.memory import MemoryStore
from steelyard.store.retention import Retention, alone, plan, sweep
from steelyard.testing.store_parts import evidence_of, move, run_of

NOW = utc_now()
IDENTITY = Identity(task="sha256:1", dataset="sha256:2", dataset_name="", evaluators={}, metrics=()).to_json()
RULES = Retention(evidence_days=90, keep_last=1, replay_days=30, incomplete_days=7)


def _id(number, days):
    return f"{NOW - timedelta(days=days):%Y%m%dT%H%M%S}-{number:08x}"


def _age(path, days):
    then = time.time() - days * 86400
    for inner in (*path.rglob("*"), path):
        os.utime(inner, (then, then))


def _sealed(home, number, days, store=None, **changes):
    """A bundle here, as old as said, and in the store if one is given."""
    writer = EvidenceWriter(home / "evidence" / _id(number, days), {"identity": IDENTITY, "planned": []})
    bundle = writer.seal(b"{}")
    if store is not None:
        created = f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%S}.000Z"
        info = evidence_of(id=bundle.id, digest=bundle.seal_digest, created=created, **changes)
        store.add_evidence(info, bundle.folder, run_of())
    _age(bundle.folder, days)
    return bundle.id


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path, empty_sqlite):
    if request.param == "memory":
        yield MemoryStore()
        return
    store = open_store(empty_sqlite(tmp_path / "sqlite"))
    yield store
    store.close()


def _plan(store, home, rules=RULES, locked=()):
    return {(g.what, g.id) for g in plan(store, home, rules, locked=locked, now=NOW)}


def test_what_is_needed_stays(store, tmp_path):
    home, gate = tmp_path / "home", {"gate": "g", "name": "p"}
    a, b, c, d = (digest({"d": x}) for x in "abcd")
    for x in "abcd":
        store.register("prompt", "p", digest=digest({"d": x}), content={"d": x})
    old = [
        _sealed(home, 1, 400, store, subject=a, **gate),  # decided a move long ago
        _sealed(home, 2, 390, store, subject=b, **gate),  # weighed what stands at production
        _sealed(home, 3, 380, store, subject=c, **gate),  # the lock names it
        _sealed(home, 4, 370, store, subject=d, **gate),  # nobody needs it
        _sealed(home, 5, 360, store, subject=d, gate="other", name="p"),  # the last of its gate
        _sealed(home, 6, 350, store, subject=d, gate="h", name=None),  # not the last of its gate
        _sealed(home, 7, 340, store, subject=d, gate="h", name=None),
        _sealed(home, 8, 5, store, subject=d, **gate),  # young
    ]
    store.move_alias(move("p", None, a, evidence=(old[0],)))
    store.move_alias(move("p", a, b, evidence=()))
    goners = [g for g in plan(store, home, RULES, locked={old[2]}, now=NOW) if g.what == "evidence"]
    assert [g.id for g in goners] == [old[3], old[5]]
    assert all(g.age_days >= 350 for g in goners)
    assert {g.id for g in sweep(store, goners, locked={old[2]})} == {old[3], old[5]}
    assert [e.id for e in store.evidence()] == [old[i] for i in (0, 1, 2, 4, 6, 7)]
    with pytest.raises(NotFound):
        store.open_evidence(old[3], tmp_path / "to")
    assert list(check(store)) == []
    assert "evidence" not in {what for what, _ in _plan(store, home, locked={old[2]})}


def test_what_has_come_to_be_needed_since_stays(store, tmp_path):
    home = tmp_path / "home"
    store.register("prompt", "p", digest=digest("a"), content={})
    one = _sealed(home, 1, 400, store, subject=digest("a"), gate="g", name="p")
    _sealed(home, 2, 300, store, subject=digest("a"), gate="g", name="p")
    goners = [g for g in plan(store, home, RULES, locked=(), now=NOW) if g.what == "evidence"]
    assert [g.id for g in goners] == [one]
    store.move_alias(move("p", None, digest("a"), evidence=(one,)))
    assert list(sweep(store, goners, locked=())) == []
    assert one in {e.id for e in store.evidence()}


def test_copies_recordings_and_runs_that_did_not_end(tmp_path):
    store, home = MemoryStore(), tmp_path / "home"
    old_copy = _sealed(home, 1, 100, store, gate="g", name="p")
    _sealed(home, 2, 50, store, gate="g", name="p")
    locked_only_here = _sealed(home, 3, 100)
    only_here = _sealed(home, 4, 100)
    for number, days in ((5, 8), (6, 6), (7, 100)):
        writer = EvidenceWriter(home / "evidence" / _id(number, days), {"identity": IDENTITY, "planned": []})
        writer.close()
        _age(writer.folder, days)
    resumed = home / "evidence" / _id(7, 100)
    (resumed / "rows.log").write_bytes(b"")  # begun long ago, written to now
    rec = home / "replay" / "ab"
    rec.mkdir(parents=True)
    for name, days in (("old.rec", 31), ("young.rec", 29), ("x.tmp", 2), ("y.tmp", 0), ("notes.txt", 99)):
        (rec / name).write_bytes(b"x" * 10)
        os.utime(rec / name, (time.time() - days * 86400 - 60,) * 2)
    used = rec / "used.rec"
    used.write_bytes(b"x")
    os.utime(used, (time.time(), time.time() - 99 * 86400))  # read today
    (home / "replay" / "link.rec").symlink_to("/etc/passwd")
    for name in (".gc-left", ".fetch-left"):
        (home / "evidence" / name).mkdir()
        _age(home / "evidence" / name, 2)
    (home / "evidence" / "-not-ours").mkdir()
    assert _plan(store, home, locked={locked_only_here}) == {
        ("evidence", old_copy),
        ("copy", old_copy),
        ("copy", only_here),
        ("incomplete", _id(5, 8)),
        ("recording", "replay/ab/old.rec"),
        ("leftover", "replay/ab/x.tmp"),
        ("leftover", ".gc-left"),
        ("leftover", ".fetch-left"),
    }
    goners = plan(store, home, RULES, locked={locked_only_here}, now=NOW)
    assert len(list(sweep(store, goners, locked={locked_only_here}))) == len(goners) == 8
    assert _plan(store, home, locked={locked_only_here}) == set()
    assert {p.name for p in rec.iterdir()} == {"young.rec", "y.tmp", "notes.txt", "used.rec"}
    zero = Retention(evidence_days=0, keep_last=0, replay_days=0, incomplete_days=0)
    young = _sealed(home, 9, 0, store, gate="g", name="p")
    assert young not in {i for _, i in _plan(store, home, zero)}  # nothing younger than a day goes


def test_a_copy_that_a_run_opens_is_new_again(tmp_path, empty_sqlite):
    home, store = tmp_path / "home", open_store(empty_sqlite(tmp_path / "s"))
    copy = _sealed(home, 1, 100, store, gate="g", name="p")
    assert ("copy", copy) in _plan(store, home)
    store.open_evidence(copy, home / "evidence")
    assert ("copy", copy) not in _plan(store, home)
    store.close()


def test_a_bundle_whose_writer_died_goes_after_its_time(tmp_path, empty_sqlite):
    home, store = tmp_path / "home", open_store(empty_sqlite(tmp_path / "s"))
    kept, dead = (_sealed(home, n, 8, store, gate="g", name="p") for n in (1, 2))
    for info in store.evidence():
        client, then = store._backend.client, int((time.time() - 8 * 86400) * 1000)
        if info.id == dead:
            client.delete_tag(info.run_id, "steelyard.evidence.complete")
        with store._backend._raw._tracking_client.store.ManagedSessionMaker(read_only=False) as session:
            from mlflow.store.tracking.dbmodels.models import SqlRun

            session.query(SqlRun).filter(SqlRun.run_uuid == info.run_id).update({"start_time": then})
    assert _plan(store, home, Retention(incomplete_days=10)) == set()
    goners = plan(store, home, RULES, locked=(), now=NOW)
    assert [(g.what, g.id) for g in goners] == [("incomplete", dead)]
    list(sweep(store, goners, locked=()))
    assert store.unfinished_evidence() == {}
    assert [e.id for e in store.evidence()] == [kept]
    store.close()


def test_a_deletion_that_dies_is_not_seen_half_and_is_finished(tmp_path, empty_sqlite, monkeypatch):
    home, store = tmp_path / "home", open_store(empty_sqlite(tmp_path / "s"))
    one = _sealed(home, 1, 100, store, gate="g", name="p")
    root = tmp_path / "s" / ".steelyard" / "store" / "artifacts"
    for name in ("delete_artifacts", "forget_run"):
        with monkeypatch.context() as killed:

            def die(_):
                raise KeyboardInterrupt

            killed.setattr(store._backend, name, die)
            with pytest.raises(KeyboardInterrupt):
                store.delete_evidence(one)
        assert store.evidence() == []
        with pytest.raises(NotFound):
            store.open_evidence(one, tmp_path / "to")
    store.delete_evidence(one)
    store.delete_evidence(one)
    assert [p for p in root.rglob("*") if p.is_file()] == []
    assert list(check(store)) == []
    store.close()


def test_two_at_one_time(tmp_path):
    with alone(tmp_path), pytest.raises(Refused, match="another one holds"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


KILLED = """
import sys
from pathlib import Path
from steelyard.store.memory import MemoryStore
from steelyard.store.retention import Retention, alone, plan, sweep
from steelyard.core.clock import utc_now
home = Path(sys.argv[1])
with alone(home):
    goners = plan(MemoryStore(), home, Retention(), locked=(), now=utc_now())
    for g in sweep(MemoryStore(), goners, locked=()):
        print(g.id, flush=True)
"""


def test_killed_in_the_middle_the_next_one_takes_the_rest(tmp_path):
    home = tmp_path / "home"
    ids = [_sealed(home, n, 400) for n in range(60)]
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(home)], stdout=subprocess.PIPE, text=True)
    killed.stdout.readline()
    killed.kill()
    killed.communicate()
    left = {p.name for p in (home / "evidence").iterdir()}
    assert left - {".open"} - {f".gc-{i}" for i in ids} <= set(ids)  # .open: the claims of runs under way
    for name in left & set(ids):
        assert (home / "evidence" / name / "seal.json").is_file()  # whole, or aside
    done = subprocess.run([sys.executable, "-c", KILLED, str(home)], check=True, capture_output=True)
    assert done.stderr == b""
    assert {p.name for p in (home / "evidence").iterdir()} <= {".open"}


# -- the command --------------------------------------------------------------------------------------
def _gc(capsys, *arguments):
    main_code = None
    try:
        main(["gc", *arguments])
    except SystemExit as left:
        main_code = left.code
    return main_code, capsys.readouterr()


def test_the_command_shows_first_and_deletes_when_told(tmp_path, empty_sqlite, monkeypatch, capsys):
    settings = empty_sqlite(tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        "[tool.steelyard]\nretention = { evidence_days = 90, keep_last = 0 }\n"
    )
    monkeypatch.chdir(tmp_path)
    store = open_store(settings)
    one = _sealed(settings.home, 1, 100, store, gate="g", name="p")
    store.close()
    code, said = _gc(capsys)
    assert code == 0
    assert f"evidence    {one}  100 days" in said.out
    assert "would delete 1 copy, 1 evidence" in said.out
    assert "--yes" in said.out
    code, said = _gc(capsys, "--json", "--evidence-days", "101")
    assert json.loads(said.out) == {"deleted": False, "bytes": 0, "found": []}
    assert (settings.home / "evidence" / one).is_dir()
    with FileLock(settings.home / "gc.lock"):
        assert _gc(capsys, "--yes")[0] == 2
    code, said = _gc(capsys, "--yes", "--json")
    found = json.loads(said.out)
    assert (found["deleted"], {f["what"] for f in found["found"]}) == (True, {"evidence", "copy"})
    assert found["bytes"] > 0
    assert not (settings.home / "evidence" / one).exists()
    assert "nothing" in _gc(capsys)[1].out


@pytest.mark.parametrize(
    "text", ["{ days = 1 }", "{ keep_last = -1 }", '{ keep_last = "1" }', "{ keep_last = true }"]
)
def test_rules_that_are_none_are_told(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(f"[tool.steelyard]\nretention = {text}\n")
    with pytest.raises(InvalidFile, match="retention"):
        load_settings(tmp_path, environ={})
