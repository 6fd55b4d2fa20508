"""A store's content as files, and back: from SQLite to a team's server, from one server to another.

    manifest.json      format, origin, size and SHA-256 of every other file
    versions.jsonl     one version a line, oldest first
    ledger.jsonl       one move a line, with who and when
    evidence.jsonl     one bundle a line, with its run
    bundles/<id>/      the bundle's files
    artifacts/<id>/    what else lay with its run

Numbers of versions are the registry's own and may come out otherwise; digests, contents, tags, moves and
bundles are the same. A version that was deleted but moved to once is made without its content while the moves
are written, and deleted again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, TypeVar, get_args

from steelyard.core.canonical import canonical, digest, short
from steelyard.core.clock import stamp
from steelyard.core.errors import InvalidFile, InvalidValue, Refused
from steelyard.evidence import EvidenceBundle
from steelyard.store.archive import MOST_BYTES, check_member, pack, unpack
from steelyard.store.protocol import EvidenceInfo, Kind, LedgerEntry, RunRecord, Store
from steelyard.store.select import check_entry, check_evidence_id, check_target

__all__ = ["Moved", "export_store", "import_store"]

FORMAT = 1
_MANIFEST = "manifest.json"
_TABLES = ("versions.jsonl", "ledger.jsonl", "evidence.jsonl")
_STAND_IN = {"steelyard.import": "stands for a deleted version"}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How much went out or came in; on import only what was not there yet."""

    versions: int
    moves: int
    evidence: int

    def __str__(self) -> str:
        return f"{self.versions} versions, {self.moves} alias moves, {self.evidence} evidence bundles"


def export_store(store: Store, to: Path) -> Moved:
    """How much was written to a new folder, or to an archive where the name ends in `.tar.gz` or `.tgz`.

    Raises:
        InvalidValue: something is there already.
        Corrupt: a version, a ledger or a bundle is damaged; nothing is left at `to`.
    """
    if to.exists():
        raise InvalidValue(f"{to} is there already", do="Name a new folder or a new .tar.gz file.")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".export-") as temporary:
        folder = Path(temporary) / "store"
        folder.mkdir()
        moved = _write_out(store, folder)
        if _is_archive(to):
            pack(folder, [_MANIFEST, *(n for n in _files(folder) if n != _MANIFEST)], to)
        else:
            folder.rename(to)
    return moved


def import_store(store: Store, source: Path, *, most: int = MOST_BYTES) -> Moved:
    """How much came in that was not there. Everything is checked before anything is written.

    Importing again changes nothing. An alias whose moves here and there are of one line goes on to where the
    longer of the two ends; one that went two ways is refused.

    Args:
        store: Where to.
        source: A folder or an archive that `export_store` wrote.
        most: Bytes that an archive may unpack to.

    Raises:
        InvalidFile: a file is missing, was changed, or was not in the export.
        Corrupt: a bundle is not what was sealed.
        Refused: aliases stand in both and went different ways; all of them are named, and nothing is written.
    """
    if not source.exists():
        raise InvalidValue(f"{source} is not there", do="Give what `steelyard store export` wrote.")
    if source.is_dir():
        return _read_in(store, source)
    with tempfile.TemporaryDirectory(prefix="steelyard-import-") as temporary:
        unpack(source, Path(temporary), most=most)
        return _read_in(store, Path(temporary), shown=source)


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".tar.gz", ".tgz"))


# -- out ----------------------------------------------------------------------------------------------
def _write_out(store: Store, folder: Path) -> Moved:
    versions: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    for kind in get_args(Kind):
        names = set(store.names(kind))
        others: Callable[[str], list[str]] | None = getattr(store, "ledger_names", None)
        for name in sorted(names | set(others(kind) if others else ())):
            versions += [asdict(v) for v in store.versions(kind, name)]
            moves += [asdict(e) for e in store.history(kind, name)]
    evidence = [_evidence_out(store, info, folder) for info in store.evidence()]
    for table, lines in zip(_TABLES, (versions, moves, evidence), strict=True):
        with (folder / table).open("x", encoding="utf-8", newline="\n") as out:
            for line in lines:
                out.write(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n")
    manifest = {
        "format": FORMAT,
        "steelyard": installed("steelyard"),
        "created": stamp(),
        "from": store.uri,
        "files": {
            n: {"size": (folder / n).stat().st_size, "sha256": _sha256(folder / n)} for n in _files(folder)
        },
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return Moved(versions=len(versions), moves=len(moves), evidence=len(evidence))


def _evidence_out(store: Store, info: EvidenceInfo, folder: Path) -> dict[str, Any]:
    bundles = folder / "bundles"
    bundles.mkdir(exist_ok=True)
    EvidenceBundle.open(store.open_evidence(info.id, bundles)).verify()
    run: dict[str, Any] | None = None
    if info.run_id is not None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            record = store.read_run(info.run_id, Path(temporary))
            for at, path in record.artifacts.items():
                target = folder / "artifacts" / info.id / at
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
        run = {**asdict(record), "artifacts": sorted(record.artifacts)}
    return {"info": asdict(replace(info, run_id=None)), "run": run}


def _files(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() or p.is_symlink()
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- in -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    versions: list[dict[str, Any]]
    moves: list[LedgerEntry]
    evidence: list[tuple[EvidenceInfo, RunRecord | None]]


def _read_in(store: Store, folder: Path, *, shown: Path | None = None) -> Moved:
    shown = shown or folder
    content = _checked(folder, shown)
    todo = _new_moves(store, content.moves)
    there = {(v["kind"], v["name"], v["digest"]) for v in content.versions}
    made = 0
    for v in content.versions:
        had = {x.digest for x in store.versions(v["kind"], v["name"])}
        made += v["digest"] not in had
        store.register(v["kind"], v["name"], digest=v["digest"], content=v["content"], tags=v["tags"])
    for entry in todo:
        gone = entry.after is not None and (entry.kind, entry.name, entry.after) not in there
        if gone and entry.after not in {v.digest for v in store.versions(entry.kind, entry.name)}:
            store.register(entry.kind, entry.name, digest=entry.after or "", content={}, tags=_STAND_IN)
        store.move_alias(replace(entry, number=0))
    named: set[tuple[Kind, str]] = {(e.kind, e.name) for e in content.moves}
    for kind, name in sorted(named, key=str):
        for version in store.versions(kind, name):
            standing = store.aliases(kind, name).values()
            if dict(version.tags) == _STAND_IN and version.digest not in standing:
                store.delete_version(kind, name, version.number)
    known = {e.id for e in store.evidence()}
    for info, run in content.evidence:
        if info.id not in known:
            store.add_evidence(info, folder / "bundles" / info.id, run or _bare_run(info))
    new = sum(info.id not in known for info, _ in content.evidence)
    return Moved(versions=made, moves=len(todo), evidence=new)


def _bare_run(info: EvidenceInfo) -> RunRecord:
    return RunRecord(experiment="steelyard", name=info.gate, started=info.created, ended=info.created)


def _checked(folder: Path, shown: Path) -> _Content:
    """What an export holds, every file of it and every value in it checked."""

    def bad(what: str) -> InvalidFile:
        return InvalidFile(shown, what, do="Export it again: steelyard store export.")

    manifest = folder / _MANIFEST
    try:
        said: Any = json.loads(manifest.read_bytes()) if not manifest.is_symlink() else None
        files: dict[str, Any] = dict(said["files"])
        number = said["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise bad("it has no manifest.json that can be read, so it is no export") from None
    if number != FORMAT:
        raise bad(f"it has format {number!r}, and Steelyard {installed('steelyard')} here reads {FORMAT}")
    for name in files:
        check_member(shown, name)
    names = set(_files(folder)) - {_MANIFEST}
    if names != set(files) or any(t not in files for t in _TABLES):
        odd = sorted(names ^ set(files))[:3] or list(_TABLES)
        raise bad(f"files are missing, or are not of the export: {', '.join(map(repr, odd))}")
    for name, stated in files.items():
        path = folder / name
        inside = folder.resolve() in path.resolve().parents
        if path.is_symlink() or not inside or not isinstance(stated, Mapping):
            raise bad(f"{name!r} is a link")
        if path.stat().st_size != stated.get("size") or _sha256(path) != stated.get("sha256"):
            raise bad(f"{name!r} is not what was exported")
    content = _Content(
        versions=list(_read_table(folder, shown, "versions.jsonl", _version)),
        moves=list(_read_table(folder, shown, "ledger.jsonl", _move)),
        evidence=list(_read_table(folder, shown, "evidence.jsonl", lambda raw: _evidence(raw, folder))),
    )
    at: dict[tuple[Kind, str, str], str | None] = {}
    for entry in content.moves:
        alias = (entry.kind, entry.name, entry.alias)
        if at.get(alias) != entry.before:
            raise bad(f"the moves of alias {entry.alias!r} in ledger.jsonl do not follow on one another")
        at[alias] = entry.after
    for info, _run in content.evidence:
        bundle = EvidenceBundle.open(folder / "bundles" / info.id)
        bundle.verify()
        if bundle.seal_digest != info.digest:
            raise bad(f"bundle {info.id} has the seal {short(bundle.seal_digest)}, not {short(info.digest)}")
    return content


def _read_table(folder: Path, shown: Path, table: str, read: Callable[[Any], _T]) -> Iterator[_T]:
    with (folder / table).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line.decode("utf-8"))
                canonical(value)  # half characters, NaN and nesting without end
                yield read(value)
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
                why = " ".join(str(error).split())[:300]
                raise InvalidFile(
                    shown,
                    f"line {number} of {table} is none that an export has ({type(error).__name__}: {why})",
                    do="Export it again: steelyard store export.",
                ) from None


def _texts(raw: Mapping[str, Any], *keys: str, optional: Iterable[str] = ()) -> None:
    odd = [k for k in keys if not isinstance(raw[k], str)]
    odd += [k for k in optional if not isinstance(raw[k], str | None)]
    if odd:
        raise TypeError(f"{odd[0]!r} is no text")


def _object(raw: Mapping[str, Any], key: str, *kinds: type) -> None:
    value = raw[key]
    if not isinstance(value, dict) or any(type(v) not in kinds for v in value.values() if kinds):
        raise TypeError(f"{key!r} is not what an export has")


def _version(raw: Mapping[str, Any]) -> dict[str, Any]:
    _texts(raw, "kind", "name", "digest")
    _object(raw, "content")
    _object(raw, "tags", str)
    check_target(raw["kind"], raw["name"], raw["digest"])
    if raw["kind"] == "prompt" and digest(raw["content"]) != raw["digest"]:
        raise InvalidValue(
            f"the content of {raw['name']}@{short(raw['digest'])} has another digest",
            do="Someone changed it: run `steelyard store check` where it was exported.",
        )
    tags = {str(k): str(v) for k, v in raw["tags"].items()}
    return {**{k: raw[k] for k in ("kind", "name", "digest", "content")}, "tags": tags}


def _move(raw: Mapping[str, Any]) -> LedgerEntry:
    _texts(
        raw, "kind", "name", "alias", "action", "who", "when",
        optional=("before", "after", "verdict", "policy", "reason"),
    )  # fmt: skip
    if not isinstance(raw["evidence"], list) or type(raw["forced"]) is not bool:
        raise TypeError("'evidence' or 'forced' is not what an export has")
    if type(raw["number"]) is not int:
        raise TypeError("'number' is no number")
    values: dict[str, Any] = {**raw, "evidence": tuple(map(str, raw["evidence"]))}
    entry = LedgerEntry(**values)
    check_entry(entry)
    return entry


def _evidence(raw: Mapping[str, Any], folder: Path) -> tuple[EvidenceInfo, RunRecord | None]:
    told: dict[str, Any] = raw["info"]
    _texts(
        told, "id", "digest", "gate", "kind", "candidate", "yardstick", "values", "outcome", "policy",
        "created",
        optional=("name", "subject", "run_id"),
    )  # fmt: skip
    _object(told, "baselines", str, type(None))
    _object(told, "metrics", int, float)
    info = EvidenceInfo(**told)
    check_evidence_id(info.id)
    if raw["run"] is None:
        return info, None
    record: dict[str, Any] = {f.name: raw["run"][f.name] for f in fields(RunRecord)}
    _texts(record, "experiment", "name", "status", "started", "ended")
    for key, kinds in (("params", (str,)), ("tags", (str,)), ("metrics", (int, float, list))):
        _object(record, key, *kinds)
    for series in record["metrics"].values():
        if any(type(v) not in (int, float) for v in (series if isinstance(series, list) else [])):
            raise TypeError("'metrics' is not what an export has")
    if not isinstance(record["artifacts"], list):
        raise TypeError("'artifacts' is no list")
    for at in record["artifacts"]:
        check_member(folder, at)
        if not (folder / "artifacts" / info.id / at).exists():
            raise ValueError(f"the artifact {at!r} is not there")
    record["artifacts"] = {at: folder / "artifacts" / info.id / at for at in record["artifacts"]}
    return info, RunRecord(**record)


def _new_moves(store: Store, moves: list[LedgerEntry]) -> list[LedgerEntry]:
    """The moves that the store has not made yet.

    Raises:
        Refused: an alias went another way there; all such aliases are named.
    """
    by_alias: dict[tuple[Kind, str, str], list[LedgerEntry]] = {}
    for entry in moves:
        by_alias.setdefault((entry.kind, entry.name, entry.alias), []).append(entry)
    todo: list[LedgerEntry] = []
    odd: list[str] = []
    for (kind, name, alias), wanted in by_alias.items():
        there = store.history(kind, name, alias)
        both = min(len(there), len(wanted))
        if there[:both] != wanted[:both]:
            odd.append(
                f"{kind} {name}@{alias} ({short(there[-1].after)} here, {short(wanted[-1].after)} there)"
            )
        todo += wanted[len(there) :]
    if odd:
        raise Refused(
            f"importing {len(odd)} alias{'es' if len(odd) > 1 else ''} that went another way here",
            because=", ".join(odd[:20]),
            do="Nothing was imported: import into an empty store, or promote by evidence instead.",
        )
    return todo
