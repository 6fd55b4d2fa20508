"""The evidence bundle: one folder that holds all a verdict is computed from.

    <id>/
      manifest.json      format, gate, identity, planned pairs, policy, look, provenance (clock, git)
      rows.log           the candidate's rows, one checksummed line each, appended as they come in
      baseline-<alias>/  manifest.json and rows.log of each baseline, copied from its own bundle
      verdict.json       the verdict's canonical bytes
      seal.json          SHA-256 of every file above; a bundle without it is incomplete and can be resumed

The verdict is a pure function of the bundle: no other file, no clock, no network.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON, canonical, digest
from steelyard.core.clock import utc_now
from steelyard.core.errors import Corrupt, InvalidValue, NotFound
from steelyard.core.files import write_atomically
from steelyard.core.results import Identity, Row, Scores
from steelyard.evidence.rowlog import RowLog, read_rows, recover_rows
from steelyard.evidence.shape import BadShape, check_manifest, identity_of, planned_of, row_of

__all__ = ["FORMAT", "EvidenceBundle", "EvidenceWriter", "new_evidence_id"]

FORMAT = 1
_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


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


class EvidenceWriter:
    """A bundle being written. Rows are durable one by one; `seal` ends it.

    Args:
        folder: A new or an unsealed folder, named by its id.
        manifest: What is being run; JSON. `identity` and `planned` are required.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, JSON]) -> None:
        if not _ID.fullmatch(folder.name):
            raise InvalidValue(f"{folder.name!r} is no evidence id", do="Use new_evidence_id().")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.manifest = folder, {"format": FORMAT, **manifest}
        if (folder / "seal.json").exists():
            raise InvalidValue(f"evidence bundle {folder.name} is sealed", do="Begin a new one.")
        recovered, self.damaged = recover_rows(folder / "rows.log")
        self.rows: dict[tuple[str, int], Row] = {}
        for value in recovered:
            row = Row.from_json(value)
            self.rows[row.key] = row
        write_atomically(folder / "manifest.json", canonical(self.manifest))
        self._log = RowLog(folder / "rows.log")

    @property
    def id(self) -> str:
        """The bundle's id."""
        return self.folder.name

    def append(self, row: Row) -> None:
        """Write a row; when this returns, it survives the death of the process.

        Raises:
            InvalidValue: the pair has a row already.
        """
        if row.key in self.rows:
            raise InvalidValue(
                f"evidence bundle {self.id} already has a row for example {row.example_id!r}, "
                f"trial {row.trial}",
                do="Write each planned pair once.",
            )
        self._log.append(row.to_json())
        self.rows[row.key] = row

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

    def close(self) -> None:
        """Stop writing without sealing: the bundle stays incomplete and can be resumed."""
        self._log.close()

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
        return EvidenceBundle(folder=self.folder, manifest=self.manifest)


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
