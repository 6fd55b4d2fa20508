"""Fault 17: a cut or flipped bit at any byte of a bundle, lock or dataset is seen or changes nothing."""

import json
import os
import random

import pytest

from steelyard.core.canonical import digest
from steelyard.core.errors import InvalidFile, SteelyardError
from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Metric, Score
from steelyard.data import read_dataset
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter, new_evidence_id
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.lock import Decision, Lock, LockedAlias, RequiredGate, read_lock, write_lock

FULL = os.environ.get("STEELYARD_FULL") == "1"
DIGEST = "sha256:" + "ab" * 32


def damages(data, most):
    """Every cut and every flipped bit; some of each by default."""
    all_of_them = [(at, None) for at in range(len(data))] + [
        (at, b) for at in range(len(data)) for b in range(8)
    ]
    chosen = all_of_them if FULL else random.Random(17).sample(all_of_them, min(most, len(all_of_them)))
    for at, bit in chosen:
        yield data[:at] if bit is None else data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def test_a_damaged_manifest_baseline_or_seal_is_always_detected(tmp_path):
    identity = Identity(
        task=DIGEST, dataset=DIGEST, dataset_name="d", evaluators={"m": DIGEST}, metrics=(Metric(name="m"),)
    )
    writer = EvidenceWriter(
        tmp_path / new_evidence_id(), {"identity": identity.to_json(), "planned": [["a", 0]]}
    )
    row = Row(example_id="a", scores=(Score(name="m", value=1.0),))
    writer.append(row)
    writer.add_baseline("production", Scores(identity=identity, planned=(("a", 0),), rows=(row,)), "x")
    folder = writer.seal(b'{"outcome": "pass"}').folder
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        sound = file.read_bytes()
        for bad in damages(sound, 120):
            file.write_bytes(bad)
            with pytest.raises(SteelyardError):
                EvidenceBundle.open(folder).verify()
        file.write_bytes(sound)
    EvidenceBundle.open(folder).verify()


def lock(tmp_path):
    prompts = [
        Prompt(
            name="p", messages=({"role": "user", "content": f"{n} {{{{ a }}}}"},), variables={"a": Variable()}
        )
        for n in range(2)
    ]
    decision = Decision(id="20260101T000000-00000000", gate="g", outcome="pass", policy=DIGEST, task=DIGEST,
                        lm=None, dataset=DIGEST, evaluators={"m": DIGEST})  # fmt: skip
    path = tmp_path / "steelyard.lock"
    write_lock(
        path,
        Lock(
            aliases={
                "p": {
                    "production": LockedAlias(
                        digest=prompts[0].digest,
                        gates={"g": RequiredGate(policy=DIGEST, requirements=("m >= 0.5",))},
                        evidence=(decision,),
                    ),
                    "staging": LockedAlias(digest=prompts[1].digest, gates={}, evidence=()),
                }
            },
            versions={"p": {p.digest: p.content() for p in prompts}},
        ),
    )
    return path


def test_no_damage_to_the_lock_changes_what_is_served(tmp_path):
    """The lock is merged by people, so it has no checksum of its own; the contents in it are under theirs."""
    path = lock(tmp_path)
    sound, data = read_lock(path), path.read_bytes()
    refused = 0
    for bad in damages(data, 600):
        path.write_bytes(bad)
        try:
            found = read_lock(path)
        except InvalidFile as error:
            refused += str(path) in str(error)
            continue
        for name, by_digest in found.versions.items():
            for known, content in by_digest.items():
                assert digest(content) == known == Prompt.from_content(name, content).digest
                assert content == sound.versions["p"][known]
    assert refused > 100


def test_a_damaged_dataset_is_refused_or_another_dataset(tmp_path):
    """Its digest is its checksum: the evidence of the sound one is then not comparable."""
    path = tmp_path / "d.jsonl"
    rows = [
        {"id": f"e{i}", "inputs": {"q": f"Frage {i}: Größe?"}, "reference_outputs": {"y": i}}
        for i in range(5)
    ]
    data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    path.write_bytes(data)
    sound = read_dataset(path)
    refused = other = 0
    for bad in damages(data, 600):
        path.write_bytes(bad)
        try:
            found = read_dataset(path)
        except InvalidFile as error:
            refused += "d.jsonl" in str(error)
            continue
        if found.digest == sound.digest:  # only white space between the values
            assert [e.to_json() for e in found] == [e.to_json() for e in sound]
        else:
            other += 1
    assert refused > 100
    assert other > 50
