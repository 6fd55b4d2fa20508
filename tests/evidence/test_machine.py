"""The evidence bundle against a pure model: appends, crashes at any byte, bit flips, retries, seal."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from steelyard.core.errors import Corrupt, InvalidValue, RunStopped
from steelyard.core.results import Identity, Row
from steelyard.core.score import Failure, Metric, Score
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter, new_evidence_id
from steelyard.evidence.claim import unended
from steelyard.evidence.rowlog import frame

FULL = os.environ.get("STEELYARD_FULL") == "1"
IDENTITY = Identity(
    task="sha256:t",
    dataset="sha256:d",
    dataset_name="d",
    evaluators={"m": "sha256:e"},
    metrics=(Metric(name="m"),),
)
KEYS = [str(i) for i in range(12)]
MANIFEST = {"gate": "g", "identity": IDENTITY.to_json(), "planned": [[k, 0] for k in KEYS]}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


class Bundle(RuleBasedStateMachine):
    """`model` holds what was acknowledged, in order; the files must never say anything else."""

    @initialize()
    def begin(self):
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / new_evidence_id()
        self.model: dict[str, Row] = {}
        self.sealed = False
        self.writer = EvidenceWriter(self.folder, MANIFEST)

    def teardown(self):
        if hasattr(self, "root"):
            self.writer.close()
            shutil.rmtree(self.root)

    @property
    def log(self):
        return self.folder / "rows.log"

    def reopen(self, redo=lambda _row: False):
        """What the next process does."""
        self.writer.close()
        self.writer = EvidenceWriter(self.folder, MANIFEST, redo=redo)

    @precondition(lambda self: not self.sealed)
    @rule(key=st.sampled_from(KEYS), text=TEXT, fails=st.booleans())
    def append(self, key, text, fails):
        row = (
            Row(example_id=key, failure=Failure(kind="timeout", message=text))
            if fails
            else Row(example_id=key, outputs={"t": text}, scores=(Score(name="m", value=1.0),))
        )
        if key in self.model:
            with pytest.raises(InvalidValue, match="already"):
                self.writer.append(row)
        else:
            self.writer.append(row)
            self.model[key] = row

    @precondition(lambda self: not self.sealed)
    @rule(text=TEXT, share=st.floats(0, 1, exclude_max=True))
    def crash_in_the_middle_of_an_append(self, text, share):
        line = frame(Row(example_id="torn", outputs=text).to_json())
        with self.log.open("ab") as file:
            file.write(line[: int(len(line) * share)])
        self.reopen()
        assert self.writer.damaged == (1 if int(len(line) * share) else 0)

    @precondition(lambda self: not self.sealed and self.model)
    @rule(at=st.integers(0, 10**9), bit=st.integers(0, 7))
    def a_bit_flips_in_an_unsealed_row(self, at, bit):
        data = bytearray(self.log.read_bytes())
        at %= len(data)
        lines_before = bytes(data).splitlines(keepends=True)
        data[at] ^= 1 << bit
        self.log.write_bytes(data)
        # The row it hit is gone for good, and its neighbour with it if the line feed between them was hit.
        position, hit = 0, []
        for (key, _), line in zip(self.model.items(), lines_before, strict=True):
            if position <= at < position + len(line):
                hit.append(key)
                if at == position + len(line) - 1:
                    hit += list(self.model)[list(self.model).index(key) + 1 :][:1]
            position += len(line)
        for key in hit:
            del self.model[key]
        self.reopen()
        assert self.writer.damaged >= 1

    @precondition(lambda self: not self.sealed)
    @rule()
    def failed_rows_are_run_again(self):
        failed = {k for k, r in self.model.items() if r.failure is not None}
        self.reopen(redo=lambda row: row.failure is not None)
        assert {k for k, _ in self.writer.retried} == failed
        self.model = {k: r for k, r in self.model.items() if k not in failed}

    @precondition(lambda self: not self.sealed)
    @rule()
    def a_second_process_is_kept_out(self):
        with pytest.raises(RunStopped, match="another process"):
            EvidenceWriter(self.folder, MANIFEST)

    @precondition(lambda self: not self.sealed)
    @rule(stored=st.booleans())
    def seal(self, stored):
        bundle = self.writer.seal(b'{"v":1}', look=1)
        assert bundle.sealed
        if stored:
            self.writer.end()
        else:
            self.writer.close()
        assert (self.folder in list(unended(self.root))) is not stored
        self.sealed = True

    @precondition(lambda self: self.sealed)
    @rule(which=st.integers(0, 10**9), at=st.integers(0, 10**9), bit=st.integers(0, 7))
    def a_bit_flips_in_a_sealed_file(self, which, at, bit):
        files = sorted(f for f in self.folder.rglob("*") if f.is_file())
        file = files[which % len(files)]
        good = file.read_bytes()
        if not good:
            return
        data = bytearray(good)
        data[at % len(data)] ^= 1 << bit
        file.write_bytes(data)
        with pytest.raises((Corrupt, InvalidValue)):
            EvidenceBundle.open(self.folder).verify()
        file.write_bytes(good)

    @precondition(lambda self: self.sealed)
    @rule()
    def a_sealed_bundle_takes_no_more(self):
        with pytest.raises(InvalidValue, match="sealed"):
            EvidenceWriter(self.folder, MANIFEST)

    @invariant()
    def files_say_what_was_acknowledged(self):
        if not hasattr(self, "model"):
            return
        bundle = EvidenceBundle.open(self.folder)
        if self.sealed:
            bundle.verify()
        assert list(bundle.scores.rows) == list(self.model.values())
        assert bundle.sealed is self.sealed
        if not self.sealed:
            assert self.writer.written == {(k, 0) for k in self.model}


Bundle.TestCase.settings = settings(
    max_examples=400 if FULL else 60,
    stateful_step_count=40 if FULL else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBundle = Bundle.TestCase


def test_the_model_can_tell_a_difference(tmp_path):
    """The machine's own check fails on a bundle that lost a row."""
    machine = Bundle()
    machine.begin()
    machine.append(key="1", text="x", fails=False)
    machine.model["2"] = replace(machine.model["1"], example_id="2")
    with pytest.raises(AssertionError):
        machine.files_say_what_was_acknowledged()
    machine.teardown()
