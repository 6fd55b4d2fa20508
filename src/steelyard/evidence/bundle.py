"""The evidence bundle: one folder that holds all a verdict is computed from.

    <id>/
      manifest.json      format, gate, identity, planned pairs, policy, look, provenance (clock, git)
      rows.log           the candidate's rows, one checksummed line each, appended as they come in
      baseline-<alias>/  manifest.json and rows.log of each baseline, copied from its own bundle
      verdict.json       the verdict's canonical bytes
      retried.log        rows that failed and were run again, where a resumed run did that
      seal.json          SHA-256 of every file above; a bundle without it is incomplete and can be resumed

The verdict is a pure function of the bundle: no other file, no clock, no network.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from steelyard.core.canonical import JSON, canonical, digest
from steelyard.core.clock import utc_now
from steelyard.core.errors import Corrupt, InvalidValue, NotFound, RunStopped
from steelyard.core.files import write_atomically
from steelyard.core.results import Identity, Row, Scores
from steelyard.evidence.claim import ID, Claim
from steelyard.evidence.rowlog import RowLog, frame, read_rows, recover_rows
from steelyard.evidence.shape import BadShape, check_manifest, identity_of, planned_of, row_of

__all__ = ["FORMAT", "EvidenceBundle", "EvidenceWriter", "new_evidence_id"]

FORMAT = 1


def new_evidence_id() -> str:
    """An id that sorts by time: `20260131T093000-1f2e3d4c`."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


@dataclass(frozen=True, kw_only=True)
class EvidenceBundle:
    """A bundle on disk, opened for reading.

    Attributes:
        folder: The bundle's folder; its name is the id.
        manifest: `manifest.json`.
    """

    folder: Path
    manifest: Mapping[str, JSON]

    @classmethod
    def open(cls, folder: Path) -> EvidenceBundle:
        """The bundle in a folder, its manifest read; call `verify` before trusting the rest.

        Raises:
            NotFound: there is no bundle. Corrupt: the manifest cannot be read.
            InvalidValue: it was written by a newer Steelyard.
        """
        file = folder / "manifest.json"
        if not file.is_file():
            raise NotFound("evidence bundle", folder.name, where=str(folder.parent))
        manifest = _read_json(file)
        if manifest.get("format") != FORMAT:
            raise InvalidValue(
                f"evidence bundle {folder.name} has format {manifest.get('format')!r}, this Steelyard "
                f"reads {FORMAT}",
                do="Update Steelyard.",
            )
        _check(file, manifest)
        return cls(folder=folder, manifest=manifest)

    @property
    def id(self) -> str:
        """The bundle's id."""
        return self.folder.name

    @property
    def sealed(self) -> bool:
        """Whether the run ended and the bundle was sealed."""
        return (self.folder / "seal.json").is_file()

    @cached_property
    def seal_digest(self) -> str:
        """Digest of the seal, and so of every file.

        Raises:
            Corrupt: there is no seal.
        """
        return digest(_read_json(self.folder / "seal.json"))

    def verify(self) -> None:
        """Check every file against the seal.

        Raises:
            Corrupt: no seal, a file is missing, added or changed.
        """
        file = self.folder / "seal.json"
        now = _seal(self.folder)
        if file.is_file() and file.read_bytes() == canonical(now):
            return
        stated: Any = _read_json(file).get("files")
        if not isinstance(stated, dict):
            raise Corrupt(file, "it is not what was sealed", do=_RESTORE)
        odd = sorted(name for name in {*stated, *now["files"]} if stated.get(name) != now["files"].get(name))
        raise Corrupt(self.folder, f"not what was sealed: {', '.join(odd[:3]) or 'seal.json'}", do=_RESTORE)

    @property
    def identity(self) -> Identity:
        """What was run."""
        return identity_of(self.manifest)

    @cached_property
    def scores(self) -> Scores:
        """The candidate's rows, those that count and those that are only reported."""
        return _scores(self.folder, self.manifest)

    def baseline(self, alias: str) -> Scores | None:
        """The rows of a baseline, or None where it was absent."""
        folder = self.folder / f"baseline-{alias}"
        if not folder.is_dir():
            return None
        manifest = _read_json(folder / "manifest.json")
        _check(folder / "manifest.json", manifest)
        return _scores(folder, manifest)

    @property
    def verdict_bytes(self) -> bytes | None:
        """The verdict's canonical bytes, or None where none was reached."""
        file = self.folder / "verdict.json"
        return file.read_bytes() if file.is_file() else None

    @property
    def verdict(self) -> Mapping[str, JSON] | None:
        """The verdict as a JSON object, or None where none was reached.

        Raises:
            Corrupt: it is none.
        """
        file = self.folder / "verdict.json"
        return _read_json(file) if file.is_file() else None


class EvidenceWriter:
    """A bundle being written. Rows are durable one by one; `seal` ends it.

    Args:
        folder: A new or an unsealed folder, named by its id.
        manifest: What is being run; JSON. `identity` and `planned` are required.
        claim: The claim on the folder, where the caller has it already.
        redo: Which rows of an unsealed folder are to be run again. They move to `retried.log`.

    Attributes:
        written: The pairs that have a row.
        retried: The rows that were moved out of the way.
        damaged: Lines that a crash left torn; they move to `rows.log.damaged`.

    Raises:
        InvalidValue: no evidence id, or sealed. RunStopped: another process writes it.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, JSON],
        *,
        claim: Claim | None = None,
        redo: Callable[[Row], bool] = lambda _row: False,
    ) -> None:
        if not ID.fullmatch(folder.name):
            raise InvalidValue(f"{folder.name!r} is no evidence id", do="Use new_evidence_id().")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.manifest = folder, {"format": FORMAT, **manifest}
        if (folder / "seal.json").exists():
            raise InvalidValue(f"evidence bundle {folder.name} is sealed", do="Begin a new one.")
        claim = claim or Claim.take(folder)
        if claim is None:
            raise RunStopped(
                str(manifest.get("gate")),
                f"another process is running it as {folder.name}",
                do="Wait for it, or end it first.",
            )
        self._claim = claim
        self._read: Scores | None = None
        try:
            recovered, self.damaged = recover_rows(folder / "rows.log")
            self.written: set[tuple[str, int]] = set()
            self.retried: dict[tuple[str, int], Row] = {}
            for value in recovered:
                row = Row.from_json(value)
                if redo(row):
                    self.retried[row.key] = row
                else:
                    self.written.add(row.key)
            if self.retried:
                self._set_aside()
            write_atomically(folder / "manifest.json", canonical(self.manifest))
            self._log = RowLog(folder / "rows.log")
        except BaseException:
            claim.release(ended=False)
            raise

    def _set_aside(self) -> None:
        """Move rows that are run again to `retried.log`: nothing that was paid for is forgotten."""
        aside = RowLog(self.folder / "retried.log")
        try:
            for row in self.retried.values():
                aside.append(row.to_json())
        finally:
            aside.close()
        kept = [
            frame(value)
            for value in read_rows(self.folder / "rows.log")
            if (value["example_id"], value["trial"]) not in self.retried
        ]
        write_atomically(self.folder / "rows.log", b"".join(kept))

    @property
    def id(self) -> str:
        """The bundle's id."""
        return self.folder.name

    def append(self, row: Row) -> None:
        """Write a row; when this returns, it survives the death of the process.

        Raises:
            InvalidValue: the pair has a row already.
        """
        if row.key in self.written:
            raise InvalidValue(
                f"evidence bundle {self.id} already has a row for example {row.example_id!r}, "
                f"trial {row.trial}",
                do="Write each planned pair once.",
            )
        self._log.append(row.to_json())
        self._read = None
        self.written.add(row.key)

    def add_baseline(self, alias: str, scores: Scores, source: str) -> None:
        """Copy a baseline's rows into the bundle.

        Args:
            alias: The alias it stands for.
            scores: Its rows.
            source: Where they come from, in words: an evidence id, or "run anew".
        """
        folder = self.folder / f"baseline-{alias}"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "rows.log").unlink(missing_ok=True)
        log = RowLog(folder / "rows.log")
        try:
            for row in scores.rows:
                log.append(row.to_json())
        finally:
            log.close()
        manifest = {
            "format": FORMAT,
            "identity": scores.identity.to_json(),
            "planned": [list(p) for p in scores.planned],
            "source": source,
        }
        write_atomically(folder / "manifest.json", canonical(manifest))

    @property
    def planned(self) -> int:
        """How many rows the run is to have."""
        return len(cast("list[object]", self.manifest["planned"]))

    def scores(self) -> Scores:
        """The rows so far, read back from the file: what is not there cannot count."""
        if self._read is None:
            self._read = _scores(self.folder, self.manifest)
        return self._read

    def draft(self, **additions: JSON) -> EvidenceBundle:
        """The bundle as it would be sealed with these additions."""
        return self._bundle({**self.manifest, **additions})

    def _bundle(self, manifest: Mapping[str, JSON]) -> EvidenceBundle:
        bundle = EvidenceBundle(folder=self.folder, manifest=manifest)
        if self._read is not None:
            bundle.__dict__["scores"] = self._read  # 100,000 rows need not be in memory twice
        return bundle

    def close(self) -> None:
        """Stop writing without sealing: the bundle stays incomplete and can be resumed."""
        try:
            self._log.close()
        finally:
            self._claim.release(ended=False)

    def end(self) -> None:
        """Let go of a sealed bundle for good: its evidence is stored."""
        self._claim.release(ended=True)

    def seal(self, verdict: bytes | None, **additions: JSON) -> EvidenceBundle:
        """Write the verdict, add facts to the manifest, and seal the bundle for good.

        Args:
            verdict: The verdict's canonical bytes; None for a run without a gate.
            **additions: More manifest entries, such as the number of the look.
        """
        self._log.close()
        if additions:
            self.manifest |= additions
            write_atomically(self.folder / "manifest.json", canonical(self.manifest))
        if verdict is not None:
            write_atomically(self.folder / "verdict.json", verdict)
        write_atomically(self.folder / "seal.json", canonical(_seal(self.folder)))
        return self._bundle(self.manifest)


_RESTORE = "Restore the bundle from the store, or run the eval again."


def _check(file: Path, manifest: Mapping[str, JSON]) -> None:
    try:
        check_manifest(manifest)
    except BadShape as error:
        raise Corrupt(file, str(error), do=_RESTORE) from None


def _scores(folder: Path, manifest: Mapping[str, JSON]) -> Scores:
    rows: list[Row] = []
    file = folder / "rows.log"
    try:
        for value in read_rows(file):
            rows.append(row_of(value))
    except BadShape as error:
        raise Corrupt(file, str(error), do=_RESTORE, line=len(rows) + 1) from None
    except FileNotFoundError:
        raise Corrupt(file, "the file is missing", do=_RESTORE) from None
    try:
        return Scores(identity=identity_of(manifest), planned=planned_of(manifest), rows=tuple(rows))
    except InvalidValue as error:
        raise Corrupt(file, error.what, do=_RESTORE) from None


def _seal(folder: Path) -> dict[str, Any]:
    return {"format": FORMAT, "files": {name: _sha256(folder / name) for name in _files(folder)}}


def _files(folder: Path) -> list[str]:
    return sorted(
        str(f.relative_to(folder).as_posix())
        for f in folder.rglob("*")
        if f.is_file() and f.name != "seal.json"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8")  # json's own guess would let half characters through
        value: Any = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            canonical(value)
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupt(file, f"it cannot be read ({str(error)[:200]})", do=_RESTORE) from None
    if not isinstance(value, dict):
        raise Corrupt(file, "it is no JSON object", do=_RESTORE)
    return value  # pyright: ignore[reportUnknownVariableType]
