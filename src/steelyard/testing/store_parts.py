"""Entries, runs and bundles to try a store with, and calls that begin at one moment."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steelyard.core.canonical import digest
from steelyard.store.protocol import EvidenceInfo, LedgerEntry, RunRecord

__all__ = ["NOW", "at_once", "bundle", "contents", "evidence_of", "fresh", "move", "run_of"]

NOW = "2026-01-31T09:30:00.000Z"


def fresh(prefix: str = "p") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def move(name: str, before: str | None, after: str | None, **changes: Any) -> LedgerEntry:
    """A ledger entry to be written."""
    action = "remove" if after is None else "bless" if before is None else "promote"
    entry = LedgerEntry(
        kind="prompt",
        name=name,
        alias="production",
        before=before,
        after=after,
        action=action,
        who="ada@analytical",
        when=NOW,
        evidence=("run-1", "run-2"),
        verdict="pass",
        policy=digest("policy"),
    )
    return replace(entry, **changes)


def run_of(**changes: Any) -> RunRecord:
    """A finished run to be recorded."""
    run = RunRecord(experiment="contract", name="a run", started=NOW, ended="2026-01-31T09:31:00.000Z")
    return replace(run, **changes)


def evidence_of(**changes: Any) -> EvidenceInfo:
    """A bundle's description with an id of its own."""
    evidence = EvidenceInfo(
        id=fresh("ev"),
        digest=digest("seal"),
        gate="evals/test_it.py::test_it",
        kind="prompt",
        name=fresh("team/p"),
        subject=digest("subject"),
        candidate=digest("candidate"),
        yardstick=digest("yardstick"),
        values=digest("values"),
        outcome="pass",
        policy=digest("policy"),
        baselines={"production": digest("baseline"), "anchor": None},
        metrics={"exact_match": 0.625, "latency_s": 0.1 + 0.2},
        created=NOW,
    )
    return replace(evidence, **changes)


def bundle(folder: Path) -> Path:
    """A folder like a sealed bundle's, made at `folder`."""
    (folder / "rows").mkdir(parents=True)
    (folder / "seal.json").write_text('{"checksum": "…"}', encoding="utf-8")
    (folder / "rows" / "candidate.jsonl").write_bytes(b'{"id": "a\\u0000"}\n\xff\n' * 100)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path inside."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call gave or raised, all begun at one moment in threads of their own."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def work(i: int, call: Callable[[], Any]) -> None:
        gate.wait()
        try:
            results[i] = call()
        except BaseException as error:
            results[i] = error  # pyright: ignore[reportCallIssue, reportArgumentType]  # any result at all

    threads = [threading.Thread(target=work, args=(i, call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
