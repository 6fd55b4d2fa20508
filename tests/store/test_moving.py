"""Checking a store, and moving it: out of one kind of store, into another, and back."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.cli.main import main
from steelyard.core.canonical import digest
from steelyard.core.errors import Corrupt, InvalidFile, InvalidValue, Refused
from steelyard.core.results import Identity
from steelyard.core.settings import load_settings
from steelyard.evidence import EvidenceWriter
from steelyard.store import open_store
from steelyard.store.archive import unpack
from steelyard.store.check import check
from steelyard.store.memory import MemoryStore
from steelyard.store.moving import export_store, import_store
from steelyard.testing.store_parts import contents, evidence_of, move, run_of
from steelyard.testing.store_servers import MlflowServer

IDENTITY = Identity(task="sha256:1", dataset="sha256:2", dataset_name="", evaluators={}, metrics=()).to_json()


def sealed(folder, evidence_id):
    """A real bundle, as far as a store cares."""
    writer = EvidenceWriter(folder / evidence_id, {"identity": IDENTITY, "planned": [], "note": evidence_id})
    return writer.seal(b'{"outcome":"pass"}')


def fill(store, tmp_path):
    """A life: versions of each kind, moves of all sorts, a deleted version, evidence with a run."""
    texts = [{"template": f"Say {{{{ x }}}} {i} é日\0"} for i in range(3)]
    a, b, c = map(digest, texts)
    for text in texts:
        store.register("prompt", "team/p", digest=digest(text), content=text, tags={"git": "abc", "é": "x"})
    store.register("model", "churn", digest=digest("m"), content={"weights": "sha256:1"})
    bundle = sealed(tmp_path / "made", "20260131T093000-0000000a")
    (tmp_path / "notes.txt").write_text("beside", encoding="utf-8")
    info = evidence_of(id=bundle.id, digest=bundle.seal_digest, name="team/p", subject=b)
    run = run_of(
        params={"k": "v"},
        metrics={"one": 0.5, "series": [0.25, 0.5, 0.75]},
        tags={"t": "v"},
        artifacts={"extra/notes.txt": tmp_path / "notes.txt"},
    )
    store.add_evidence(info, bundle.folder, run)
    store.move_alias(move("team/p", None, a, evidence=(), action="bless"))
    store.move_alias(move("team/p", a, b, evidence=(bundle.id,), who="zoë@host"))
    store.move_alias(move("team/p", b, c, forced=True, reason="judge down", evidence=()))
    store.move_alias(move("team/p", None, b, alias="canary", evidence=()))
    store.move_alias(move("team/p", b, None, alias="canary", evidence=()))
    store.move_alias(move("churn", None, digest("m"), kind="model", evidence=()))
    store.delete_version("prompt", "team/p", 1)
    return [a, b, c]


def picture(store, tmp_path):
    """All that a contract promises to keep, whatever the kind of store."""
    out = {}
    for kind in ("prompt", "model", "adapter"):
        for name in store.names(kind):
            versions = [(v.digest, dict(v.content), dict(v.tags)) for v in store.versions(kind, name)]
            out[kind, name] = (versions, store.aliases(kind, name), store.history(kind, name))
    for info in store.evidence():
        run = store.read_run(info.run_id, tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        files = contents(store.open_evidence(info.id, tmp_path / f"to-{len(list(tmp_path.iterdir()))}"))
        beside = {
            (at if not path.is_dir() else f"{at}/{inner}"): data
            for at, path in run.artifacts.items()
            for inner, data in (contents(path) if path.is_dir() else {"": path.read_bytes()}).items()
        }
        run = replace(run, artifacts={})
        out[info.id] = (replace(info, run_id=None), files, run, beside)
    return out


@pytest.fixture
def local(tmp_path, empty_sqlite):
    store = open_store(empty_sqlite(tmp_path / "local"))
    yield store
    store.close()


def test_a_store_is_moved_and_moved_again(local, tmp_path, empty_sqlite):
    a, _, _ = fill(local, tmp_path)
    before = picture(local, tmp_path)
    assert str(export_store(local, tmp_path / "out")) == "3 versions, 6 alias moves, 1 evidence bundles"
    export_store(local, tmp_path / "out.tar.gz")
    other = open_store(empty_sqlite(tmp_path / "other"))
    assert import_store(other, tmp_path / "out") == export_store(local, tmp_path / "again")
    assert picture(other, tmp_path) == before
    assert a not in {v.digest for v in other.versions("prompt", "team/p")}  # its stand-in is gone again
    assert list(check(other)) == []
    # A second time, from the archive: nothing is new and nothing changes.
    numbers = [v.number for v in other.versions("prompt", "team/p")]
    assert str(import_store(other, tmp_path / "out.tar.gz")).startswith("0 versions, 0 alias moves, 0 evid")
    assert [v.number for v in other.versions("prompt", "team/p")] == numbers
    assert picture(other, tmp_path) == before
    memory = MemoryStore()
    import_store(memory, tmp_path / "out")
    assert picture(memory, tmp_path) == before
    other.close()


@pytest.mark.server
def test_a_local_store_moves_to_a_team_s_and_back(local, postgres, bucket, tmp_path, empty_sqlite):
    fill(local, tmp_path)
    before = picture(local, tmp_path)
    export_store(local, tmp_path / "out.tar.gz")
    folder = tmp_path / "server"
    folder.mkdir()
    with MlflowServer(postgres.database(), f"{bucket.uri}/moved", folder, env=bucket.env) as server:
        team = open_store(load_settings(tmp_path, environ={}, tracking_uri=server.uri))
        import_store(team, tmp_path / "out.tar.gz")
        assert picture(team, tmp_path) == before
        assert list(check(team)) == []
        export_store(team, tmp_path / "back")
    back = open_store(empty_sqlite(tmp_path / "back-home"))
    import_store(back, tmp_path / "back")
    assert picture(back, tmp_path) == before
    back.close()


def test_an_import_that_died_is_finished(local, tmp_path, monkeypatch):
    fill(local, tmp_path)
    export_store(local, tmp_path / "out")
    before = picture(local, tmp_path)
    for point in range(1, 40):
        other = MemoryStore()
        left = [point]

        def killed(call, left=left):
            def run(*arguments, **named):
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt
                return call(*arguments, **named)

            return run

        with monkeypatch.context() as patch:
            for name in ("register", "move_alias", "delete_version", "add_evidence"):
                patch.setattr(other, name, killed(getattr(other, name)))
            try:
                import_store(other, tmp_path / "out")
            except KeyboardInterrupt:
                pass
            else:
                assert point > 10  # every write was a place to die at
                break
        import_store(other, tmp_path / "out")
        again = picture(other, tmp_path)
        assert {k: again[k] for k in again if isinstance(k, tuple)} == {
            k: before[k] for k in before if isinstance(k, tuple)
        }
        assert len(other.evidence()) == 1
    else:
        pytest.fail("the import never came to its end")


def test_aliases_that_went_two_ways_are_refused_and_named(local, tmp_path):
    _, b, c = fill(local, tmp_path)
    export_store(local, tmp_path / "out")
    other = MemoryStore()
    other.register("prompt", "team/p", digest=b, content={"template": "x"})
    other.move_alias(move("team/p", None, b))
    with pytest.raises(Refused, match=r"team/p@production") as told:
        import_store(other, tmp_path / "out")
    assert c.removeprefix("sha256:")[:12] in str(told.value)
    assert "churn" not in str(told.value)
    assert other.names("model") == []  # nothing came in
    assert len(other.versions("prompt", "team/p")) == 1


def test_a_store_that_went_on_keeps_going_on(local, tmp_path):
    _, b, c = fill(local, tmp_path)
    export_store(local, tmp_path / "out")
    other = MemoryStore()
    import_store(other, tmp_path / "out")
    other.move_alias(move("team/p", c, b, action="rollback"))
    assert import_store(other, tmp_path / "out").moves == 0
    assert other.aliases("prompt", "team/p") == {"production": b}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "versions.jsonl").write_text((d / "versions.jsonl").read_text().replace("Say", "Sax")),
        lambda d: (d / "bundles/20260131T093000-0000000a/verdict.json").write_text("{}"),
        lambda d: (d / "bundles/20260131T093000-0000000a/verdict.json").unlink(),
        lambda d: (d / "more.txt").write_text("x"),
        lambda d: (d / "ledger.jsonl").unlink(),
        lambda d: (d / "manifest.json").unlink(),
        lambda d: (d / "manifest.json").write_text("[]"),
        lambda d: (d / "link").symlink_to("/etc/passwd"),
        lambda d: _manifest(d, lambda m: m["files"].update({"../../x": {"size": 1, "sha256": ""}})),
        lambda d: _manifest(d, lambda m: m.update(format=2)),
    ],
)
def test_an_export_that_was_changed_is_refused(local, tmp_path, change):
    fill(local, tmp_path)
    export_store(local, tmp_path / "out")
    change(tmp_path / "out")
    other = MemoryStore()
    with pytest.raises(InvalidFile):
        import_store(other, tmp_path / "out")
    assert other.names("prompt") == []


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("versions.jsonl", lambda line: line | {"name": "../x"}),
        ("versions.jsonl", lambda line: line | {"content": {"template": "other"}}),
        ("versions.jsonl", lambda line: line | {"digest": "sha256:12"}),
        ("ledger.jsonl", lambda line: line | {"alias": "latest"}),
        ("ledger.jsonl", lambda line: line | {"surprise": 1}),
        ("evidence.jsonl", lambda line: line | {"info": line["info"] | {"id": "../x"}}),
        ("evidence.jsonl", lambda line: line | {"info": line["info"] | {"digest": digest("other")}}),
        ("evidence.jsonl", lambda line: line | {"run": line["run"] | {"artifacts": ["../../etc/passwd"]}}),
        ("evidence.jsonl", lambda line: []),
    ],
)
def test_an_export_made_by_someone_clever_is_refused(local, tmp_path, table, change):
    """Its checksums are right; what it says is not."""
    fill(local, tmp_path)
    out = tmp_path / "out"
    export_store(local, out)
    lines = [json.loads(x) for x in (out / table).read_text(encoding="utf-8").splitlines()]
    lines = [change(line) if not i else line for i, line in enumerate(lines)]
    data = "".join(json.dumps(x) + "\n" for x in lines).encode()
    (out / table).write_bytes(data)

    def honest(manifest):
        import hashlib

        manifest["files"][table] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    _manifest(out, honest)
    other = MemoryStore()
    with pytest.raises((InvalidFile, InvalidValue, Corrupt)):
        import_store(other, out)
    assert other.names("prompt") == []


def _manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _archive(file, *members):
    with tarfile.open(file, "w:gz") as archive:
        for name, kind, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname, member.size = data.decode(), 0
            archive.addfile(member, io.BytesIO(data))
    return file


FILE = tarfile.REGTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../x", FILE, b"x")],
        [("a/../../x", FILE, b"x")],
        [("/tmp/x", FILE, b"x")],
        [("a\\..\\x", FILE, b"x")],
        [("C:x/..", FILE, b"x")],
        [(".hidden", FILE, b"x")],
        [("a/./b", FILE, b"x")],
        [("x" * 300, FILE, b"x")],
        [("link", tarfile.SYMTYPE, b"/etc/passwd")],
        [("link", tarfile.SYMTYPE, b".."), ("link/x", FILE, b"x")],
        [("hard", tarfile.LNKTYPE, b"../../etc/passwd")],
        [("fifo", tarfile.FIFOTYPE, b"")],
        [("dev", tarfile.CHRTYPE, b"")],
        [("a", FILE, b"1"), ("a", FILE, b"2")],
        [("a", FILE, b"1"), ("a/b", FILE, b"2")],
    ],
)
def test_archives_that_attack_are_refused(tmp_path, members):
    file, to = _archive(tmp_path / "x.tar.gz", *members), tmp_path / "to"
    to.mkdir()
    with pytest.raises(InvalidFile):
        unpack(file, to)
    assert {p.name for p in tmp_path.iterdir()} == {"x.tar.gz", "to"}
    assert not [p for p in to.rglob("*") if p.is_symlink()]


def test_archives_that_swell_are_refused(tmp_path):
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=9) as out:
        member = tarfile.TarInfo("zeros")
        member.size = 300 * 2**20
        out.write(member.tobuf())
        for _ in range(300):
            out.write(bytes(2**20))
        out.write(bytes(1024))
    (tmp_path / "to").mkdir()
    with pytest.raises(InvalidFile, match="unpacks to"):
        unpack(bomb, tmp_path / "to")
    assert sum(p.stat().st_size for p in (tmp_path / "to").rglob("*")) < 130 * 2**20
    shutil.rmtree(tmp_path / "to")
    (tmp_path / "to").mkdir()
    with pytest.raises(InvalidFile, match="unpacks to"):
        unpack(_archive(tmp_path / "big.tar.gz", ("a", FILE, b"x" * 5000)), tmp_path / "to", most=4000)


@pytest.mark.parametrize(
    "data", [b"", b"no archive", gzip.compress(b"no tar", mtime=0), gzip.compress(b"x" * 2000, mtime=0)[:40]]
)
def test_what_is_no_archive_is_told(tmp_path, data):
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(InvalidFile):
        import_store(MemoryStore(), tmp_path / "x.tar.gz")


# -- check --------------------------------------------------------------------------------------------
def test_a_sound_store_has_no_findings(local, tmp_path):
    fill(local, tmp_path)
    assert list(check(local)) == []


@pytest.mark.parametrize(
    ("about", "harm"),
    [
        (
            "projection",
            lambda s: s._backend.registry.set_registered_model_alias("team..p", "production", "2"),
        ),
        ("alias", lambda s: s._backend.registry.delete_model_version("team..p", "3")),
        ("ledger", lambda s: s._backend.registry.delete_model_version("team..p._ledger", "2")),
        ("ledger", lambda s: _tag(s, "team..p._ledger", "2", "steelyard.line.0", "{}")),
        ("version", lambda s: _tag(s, "team..p", "3", "steelyard.content.0", "{}")),
        ("evidence", lambda s: _seal(s).write_text("{}")),
        ("evidence", lambda s: _seal(s).parent.joinpath("manifest.json").write_text("{}")),
        ("evidence", lambda s: shutil.rmtree(_seal(s).parent)),
        ("evidence", lambda s: s.delete_evidence("20260131T093000-0000000a")),
        ("evidence", lambda s: s._backend.client.set_tag(_run(s), "steelyard.evidence.value.0", "{}")),
        ("version", lambda s: s.register("prompt", "odd", digest=digest("no"), content={"template": "t"})),
    ],
)
def test_every_harm_is_found(local, tmp_path, about, harm):
    fill(local, tmp_path)
    harm(local)
    found = list(check(local))
    assert {f.about for f in found} >= {about}, found
    assert list(check(local)) == found  # looking mends nothing
    after = [f.about for f in check(local, repair=True) if not f.mended]
    if about == "projection":
        assert after == []
        assert list(check(local)) == []
    else:
        assert about in after


def test_a_deletion_that_died_half_way_is_found_and_finished(local, tmp_path, monkeypatch):
    _, b, _ = fill(local, tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(local._versions, "delete", lambda *_: None)
        local.delete_version("prompt", "team/p", 2)
    (found,) = check(local)
    assert "was deleted and is still there" in found.what
    assert [f.mended for f in check(local, repair=True)] == [True]
    assert b not in {v.digest for v in local.versions("prompt", "team/p")}


def _tag(store, name, version, key, value):
    from mlflow.entities.model_registry import ModelVersionTag

    store._backend.registry.store.set_model_version_tag(name, version, ModelVersionTag(key, value))


def _run(store):
    return store.evidence()[0].run_id


def _seal(store):
    root = store._backend.client.get_run(_run(store)).info.artifact_uri.removeprefix("file://")
    return Path(root) / "evidence" / "20260131T093000-0000000a" / "seal.json"


# -- the commands -------------------------------------------------------------------------------------
def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return left.value.code, capsys.readouterr().out


def test_the_commands(local, tmp_path, monkeypatch, capsys):
    fill(local, tmp_path)
    monkeypatch.chdir(tmp_path / "local")
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "local" / ".steelyard"))
    code, out = run(capsys, "store", "check")
    assert (code, out.endswith(": sound\n")) == (0, True)
    code, out = run(capsys, "store", "info", "--json")
    facts = json.loads(out)
    assert (facts["prompts"], facts["prompt_versions"], facts["evidence_bundles"], facts["layout"]) == (
        1,
        2,
        1,
        "1",
    )
    assert run(capsys, "store", "info")[1].startswith("uri ")
    code, out = run(capsys, "store", "export", str(tmp_path / "x.tar.gz"))
    assert (code, out) == (0, f"{tmp_path / 'x.tar.gz'}: 3 versions, 6 alias moves, 1 evidence bundles\n")
    assert run(capsys, "store", "export", str(tmp_path / "x.tar.gz"))[0] == 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    local._backend.registry.set_registered_model_alias("team..p", "production", "2")
    code, out = run(capsys, "store", "check", "--json")
    assert (code, [f["about"] for f in json.loads(out)]) == (1, ["projection"])
    code, out = run(capsys, "store", "check", "--repair")
    assert (code, "(mended)" in out) == (0, True)
    assert run(capsys, "store", "check")[0] == 0
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "new"))
    code, out = run(capsys, "store", "import", str(tmp_path / "x.tar.gz"))
    assert (code, out.partition("new: ")[2]) == (0, "3 versions, 6 alias moves, 1 evidence bundles\n")
    assert run(capsys, "store", "check")[0] == 0
