"""Runs that stop before their end and go on: in one process, on a store in memory, with real bundles."""

import errno
import os
import re
import threading
from dataclasses import replace

import pytest

from steelyard import Dataset, Example, Gate, InvalidOutput, at_least, evaluator, not_worse_than
from steelyard.core.errors import CallFailed, RunStopped
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate, run_only
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.evidence.claim import Claim, unended
from steelyard.evidence.rowlog import RowLog, read_rows
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

N = 80
DATA = Dataset(
    name="numbers",
    examples=tuple(Example(id=f"e{i:03}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(N)),
)


class World:
    """What the task meets: a provider that counts, breaks at a call, and says why."""

    def __init__(self):
        self.calls = []
        self.breaks = {}

    def call(self, x):
        self.calls.append(x)
        if (error := self.breaks.get(x)) is not None:
            raise error


WORLD = World()


def task(inputs):
    WORLD.call(inputs["x"])
    return {"y": inputs["x"] if inputs["x"] % 10 else -1}


@evaluator
def right(outputs, reference_outputs):
    return outputs["y"] == reference_outputs["y"]


@pytest.fixture(autouse=True)
def world():
    WORLD.calls.clear()
    WORLD.breaks.clear()
    return WORLD


@pytest.fixture
def place(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    store = MemoryStore()

    def open_(**options):
        settings = load_settings(tmp_path, environ={}, **options.pop("settings", {}))
        return Workspace(settings, store=store, note=notes.append, **options)

    notes = []
    open_.notes, open_.store, open_.evidence = notes, store, tmp_path / ".steelyard" / "evidence"
    return open_


def spec(**fields):
    base = {
        "task": task, "name": "numbers", "dataset": DATA, "evaluators": [right], "concurrency": 1,
        "require": [at_least("right", 0.5)],
    }  # fmt: skip
    return Gate(**{**base, **fields})


class Died(BaseException):
    """The process is gone: nothing after it runs."""


def die_after(monkeypatch, rows):
    """The append after that many rows never returns."""
    append = RowLog.append
    left = [rows]

    def dying(self, value):
        if left[0] == 0:
            raise Died
        left[0] -= 1
        append(self, value)

    monkeypatch.setattr(RowLog, "append", dying)


def killed_run(place, monkeypatch, rows, gate=None):
    with monkeypatch.context() as patch:
        die_after(patch, rows)
        with pytest.raises(Died):
            run_gate(gate or spec(), place())


def verdict_of(place, report):
    return EvidenceBundle.open(place.evidence / report.evidence_id).verdict_bytes


def test_a_killed_run_goes_on_and_repeats_only_the_call_in_flight(place, monkeypatch):
    killed_run(place, monkeypatch, 41)
    assert len(WORLD.calls) == 42
    report = run_gate(spec(), place())
    assert sorted(WORLD.calls) == sorted([*range(N), 41])
    (begun,) = [f.name for f in place.evidence.iterdir() if f.name != ".open"]
    assert report.evidence_id == begun
    assert place.notes == [f"resumed 41 of 80 rows of {begun}"]
    bundle = EvidenceBundle.open(place.evidence / begun)
    bundle.verify()
    assert len(bundle.manifest["provenance"]["resumed"]) == 1
    whole = run_gate(spec(), place(settings={"on_incomplete": "fresh"}))
    assert whole.evidence_id != begun
    assert verdict_of(place, whole) == bundle.verdict_bytes
    assert [e.id for e in place.store.evidence()] == [begun, whole.evidence_id]
    assert list(unended(place.evidence)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"require": [at_least("right", 0.6)]},
        {"name": "other"},
        {"trials": 2},
        {"version": "2"},
        {"dataset": Dataset(name="numbers", examples=DATA.examples[:-1])},
        {"evaluators": [evaluator(name="right")(lambda outputs: True)]},
    ],
)
def test_another_run_is_not_gone_on_with(place, monkeypatch, change):
    killed_run(place, monkeypatch, 10)
    WORLD.calls.clear()
    gate = spec(**change)
    run_gate(gate, place())
    assert len(WORLD.calls) == len(gate.dataset) * gate.trials
    assert place.notes == []


def test_fresh_begins_anew(place, monkeypatch):
    killed_run(place, monkeypatch, 10)
    WORLD.calls.clear()
    run_gate(spec(), place(settings={"on_incomplete": "fresh"}))
    assert len(WORLD.calls) == N


@pytest.mark.parametrize("kind", ["auth", "budget"])
def test_what_every_call_would_meet_stops_the_run_unmeasurable_and_resumable(place, kind):
    WORLD.breaks[12] = CallFailed(kind, "no more")
    workspace = place()
    workspace.origin = {"target": "x"}
    report = run_gate(spec(), workspace)
    assert WORLD.calls == list(range(13))
    assert report.outcome == "unmeasurable"
    assert "no more (13 of 80 rows are there)" in report.verdict.sentence
    assert "steelyard resume" in report.verdict.sentence
    assert workspace.unended == {"numbers": report.evidence_id}
    assert place.store.evidence() == []
    assert not EvidenceBundle.open(place.evidence / report.evidence_id).sealed
    WORLD.breaks.clear()
    again = run_gate(spec(), place())
    assert again.outcome == "pass"
    assert again.evidence_id == report.evidence_id
    assert sorted(WORLD.calls) == sorted([*range(N), 12])
    assert "1 that failed are run again" in place.notes[0]
    kept = list(read_rows(place.evidence / again.evidence_id / "retried.log"))
    assert [r["failure"]["kind"] for r in kept] == [kind]


def test_a_stopped_run_without_a_gate_says_how_to_go_on(place):
    WORLD.breaks[3] = CallFailed("auth", "the key is no good", status=401)
    with pytest.raises(RunStopped, match=r"the key is no good \(4 of 80 rows are there\)"):
        run_only(spec(), place())
    WORLD.breaks.clear()
    assert len(run_only(spec(), place()).scores.rows) == N
    assert sorted(WORLD.calls) == sorted([*range(N), 3])


def test_the_time_limit_of_a_run_stops_it(place):
    gone = threading.Event()

    def slow(inputs):
        if inputs["x"] == 7:
            gone.wait(30)
        return task(inputs)

    try:
        report = run_gate(spec(task=slow, version="1", run_timeout_s=1.0), place())
    finally:
        gone.set()
    assert report.outcome == "unmeasurable"
    said = re.search(
        r"the time limit of the run is over \((\d+) of 80 rows are there\)", report.verdict.sentence
    )
    assert int(said[1]) <= 7  # a slow machine may not get that far
    again = run_gate(spec(task=slow, version="1"), place())
    assert (again.outcome, again.evidence_id) == ("pass", report.evidence_id)


def test_failed_rows_of_an_ended_run_are_run_again_on_request(place):
    for x in (3, 4, 5):
        WORLD.breaks[x] = CallFailed("rate_limit", "429")
    WORLD.breaks[6] = ValueError("mine")
    first = run_gate(spec(), place())
    assert first.outcome == "unmeasurable"  # 5 % missing
    WORLD.calls.clear()
    WORLD.breaks = {6: ValueError("mine")}
    again = run_gate(spec(), place(resume_id=first.evidence_id, resume_errors=True))
    assert WORLD.calls == [3, 4, 5]
    assert again.outcome == "pass"
    assert again.evidence_id != first.evidence_id
    assert again.verdict.look == 2  # other values than the first time: another look
    bundle = EvidenceBundle.open(place.evidence / again.evidence_id)
    assert bundle.manifest["carried"] == {"from": first.evidence_id, "rows": 77}
    assert f"resumed 77 of 80 rows of {first.evidence_id} as {again.evidence_id}" in place.notes[-1]


def test_the_same_failures_again_are_the_same_look(place):
    WORLD.breaks[3] = WORLD.breaks[4] = CallFailed("timeout", "late")
    first = run_gate(spec(), place())
    again = run_gate(spec(), place(resume_id=first.evidence_id, resume_errors=True))
    assert (first.verdict.look, again.verdict.look) == (1, 1)
    assert verdict_of(place, first) == verdict_of(place, again)


def test_a_score_that_failed_is_made_again_from_the_kept_output(place, monkeypatch):
    @evaluator(version="1")
    def asks(outputs):
        if WORLD.breaks.get("judge"):
            raise CallFailed("provider", "503")
        return True

    gate = spec(evaluators=[right, asks])
    WORLD.breaks["judge"] = True
    killed_run(place, monkeypatch, 5, gate)
    WORLD.breaks.clear()
    WORLD.calls.clear()
    report = run_gate(gate, place())
    assert WORLD.calls == list(range(5, N))  # the task's answers of the first five are kept
    assert all(r.score("asks").value == 1.0 for r in report.candidate.rows)


def test_killed_between_seal_and_store_nothing_is_run_again(place, monkeypatch):
    def dying(*_a, **_k):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(place.store, "add_evidence", dying)
        with pytest.raises(Died):
            run_gate(spec(), place())
    WORLD.calls.clear()
    report = run_gate(spec(), place())
    assert report.outcome == "pass"
    assert WORLD.calls == []
    assert [e.id for e in place.store.evidence()] == [report.evidence_id]
    assert list(unended(place.evidence)) == []


def test_a_baseline_that_is_run_anew_goes_on_too(place, monkeypatch, tmp_path):
    (tmp_path / "prompts").mkdir()

    def prompt(word):
        text = f'description: d\ntemplate: "{word} {{{{ x }}}}"\n'
        text += "variables:\n  x: {type: int, description: d}\n"
        (tmp_path / "prompts" / "count.yaml").write_text(text)

    def with_prompt(inputs, prompt):
        prompt.render(x=inputs["x"])
        return task(inputs)

    gate = spec(task=with_prompt, prompt="count", require=[at_least("right", 0.5)])
    prompt("old")
    first = run_gate(gate, place())
    workspace = place()
    old = workspace.prompt("count")
    place.store.register("prompt", "count", digest=old.digest, content=old.content())
    place.store.move_alias(
        LedgerEntry(
            kind="prompt", name="count", alias="production", before=None, after=old.digest, action="promote",
            who="t", when="2026-01-01T00:00:00.000Z", evidence=(first.evidence_id,),
        )
    )  # fmt: skip
    prompt("new")
    smaller = Dataset(name="numbers", examples=DATA.examples[:60])  # no stored outputs for it
    gate = replace(gate, dataset=smaller, require=[not_worse_than("production", "right", margin=0.2)])
    WORLD.calls.clear()
    killed_run(place, monkeypatch, 60 + 25, gate)
    assert len(WORLD.calls) == 60 + 26
    report = run_gate(gate, place())
    assert len(WORLD.calls) == 120 + 1
    assert report.outcome == "pass"
    assert [n.split(" rows")[0] for n in place.notes] == ["resumed 60 of 60", "resumed 25 of 60"]


def test_exactly_one_of_two_goes_on(place, monkeypatch):
    killed_run(place, monkeypatch, 41)
    (folder,) = unended(place.evidence)
    held = Claim.take(folder)
    WORLD.calls.clear()
    report = run_gate(spec(), place())
    assert len(WORLD.calls) == N
    assert report.evidence_id != folder.name
    assert "another process is running" in place.notes[0]
    with pytest.raises(RunStopped, match="another process"):
        run_gate(spec(), place(resume_id=folder.name))
    held.release(ended=False)
    WORLD.calls.clear()
    assert run_gate(spec(), place()).evidence_id == folder.name
    assert WORLD.calls == list(range(41, N))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("at", [0, 1, 40, 79, 80, 81, 82])
def test_a_disk_that_fails_at_the_nth_write_stops_the_run_in_one_sentence(place, monkeypatch, number, at):
    """Writes 1 to 80 are rows; the manifest comes before, verdict and seal after."""
    count = [-1]
    real = os.write

    def write(fd, data):
        path = os.readlink(f"/proc/self/fd/{fd}")
        if str(place.evidence) in path and "/.open/" not in path:
            count[0] += 1
            if count[0] >= at:
                real(fd, bytes(data)[: len(data) // 2])
                raise OSError(number, os.strerror(number))
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(RunStopped) as caught:
            run_gate(spec(), place())
    assert os.strerror(number) in str(caught.value)
    assert "\n" not in str(caught.value)
    if at == 0:
        assert WORLD.calls == []
        assert "Nothing was run" in str(caught.value)
    else:
        assert f"after {min(at - 1, N)} of 80 rows" in str(caught.value)
    assert place.store.evidence() == []
    WORLD.calls.clear()
    report = run_gate(spec(), place())
    assert report.outcome == "pass"
    assert WORLD.calls == list(range(max(0, at - 1), N))


def test_a_folder_that_cannot_be_written_is_one_sentence(place, tmp_path):
    (tmp_path / ".steelyard").write_text("a file where the folder should be")
    with pytest.raises(RunStopped, match="cannot be written"):
        run_gate(spec(), place())
    assert WORLD.calls == []


def test_invalid_output_is_kept_as_it_was(place, monkeypatch):
    def picky(inputs):
        task(inputs)
        raise InvalidOutput("no number", output="?")

    gate = spec(task=picky, version="1")
    killed_run(place, monkeypatch, 5, gate)
    WORLD.calls.clear()
    report = run_gate(gate, place())
    assert report.outcome == "fail"
    assert WORLD.calls == list(range(5, N))
