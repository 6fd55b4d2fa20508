"""Fault 11: the wall clock jumps a day back and forth during a run."""

import asyncio
import datetime as dt
import itertools
import time

import pytest

import steelyard.core.clock as clock
from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle, new_evidence_id
from steelyard.store.memory import MemoryStore

DAY = dt.timedelta(days=1)


@pytest.fixture
def jumping(monkeypatch):
    """Every reading of the wall clock is a day later or earlier than the one before."""
    jumps = itertools.cycle((DAY, -DAY, 3 * DAY, -2 * DAY))

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime.now(tz) + next(jumps)

    wall, readings = time.time, []

    def jumped():
        readings.append(1)
        return wall() + next(jumps).total_seconds()

    monkeypatch.setattr(clock, "datetime", Jumping)
    monkeypatch.setattr(time, "time", jumped)
    return readings


@evaluator(name="m")
def fine(outputs):
    return 1.0


async def task(inputs):
    await asyncio.sleep(30 if inputs["hang"] else 0.001)
    return 1


def gate(timeout_s):
    examples = tuple(Example(id=f"e{i:03}", inputs={"i": i, "hang": i == 7}) for i in range(60))
    return Gate(task=task, name="g", dataset=Dataset(name="d", examples=examples), evaluators=[fine],
                require=[at_least("m", 0.2)], timeout_s=timeout_s,
                concurrency=8, max_missing=0.1)  # fmt: skip


@pytest.mark.timeout(60)
def test_durations_and_deadlines_do_not_follow_the_wall_clock(jumping, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(tmp_path, environ={})
    with Workspace(settings, store=MemoryStore()) as workspace:
        report = run_gate(gate(0.5), workspace)
    rows = EvidenceBundle.open(settings.home / "evidence" / report.evidence_id).scores.rows
    assert report.outcome == "pass"
    assert all(0 <= r.seconds < 20 for r in rows)
    assert all(r.usage.latency_s >= 0 for r in rows)
    # The hanging row ends at its own deadline, and no other does: a day's jump is no timeout.
    assert [r.example_id for r in rows if r.failure] == ["e007"]
    assert [r.failure.kind for r in rows if r.failure] == ["timeout"]
    assert len(rows) == len({r.key for r in rows}) == 60


def test_ids_stay_unique_when_the_clock_stands_still_or_goes_back(jumping):
    ids = [new_evidence_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert len({i[:8] for i in ids}) > 1  # it did jump


def test_look_and_order_come_from_the_ledger_and_not_from_the_clock(jumping, tmp_path):
    from steelyard.core.clock import stamp
    from steelyard.store import LedgerEntry

    store = MemoryStore()
    digests = [f"sha256:{i:064x}" for i in range(12)]
    before = None
    for digest in digests:
        store.register("prompt", "p", digest=digest, content={"n": digest})
        store.move_alias(
            LedgerEntry(
                kind="prompt", name="p", alias="production", before=before, after=digest, action="promote",
                who="t", when=stamp(), evidence=("e",),
            )
        )  # fmt: skip
        before = digest
    history = store.history("prompt", "p", "production")
    assert [e.after for e in history] == digests
    assert [e.when for e in history] != sorted(e.when for e in history)
    assert store.aliases("prompt", "p") == {"production": digests[-1]}
