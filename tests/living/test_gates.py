"""The living example on the real local model: the gate sees a worse prompt, and a replay opens no socket."""

import shutil
import socket
from pathlib import Path

import pytest

from steelyard import Dataset, Gate, at_least, exact_match, not_worse_than
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.lm.weights import WeightsMissing, find_weights
from steelyard.release import bless
from steelyard.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
ROWS = 40


def classify(inputs, prompt, lm):
    return lm.complete(prompt.render(message=inputs["message"])).json()


def spec(dataset):
    return Gate(
        task=classify,
        name="intent",
        dataset=dataset,
        prompt="support-intent",
        evaluators=[exact_match("intent")],
        require=[at_least("exact_match", 0.10), not_worse_than("production", "exact_match", margin=0.05)],
    )


@pytest.fixture(scope="module")
def weights():
    try:
        find_weights("smollm2")
    except WeightsMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gate_fails_a_worse_prompt_and_replays_without_a_socket(weights, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    (tmp_path / "prompts").mkdir()
    working = tmp_path / "prompts" / "support-intent.yaml"
    shutil.copy(ROOT / "prompts" / "support-intent.yaml", working)
    settings = load_settings(tmp_path, environ={})
    rows = [e for e in load_dataset(ROOT / "evals/datasets/support-intent.jsonl", settings).split("test")
            if e.metadata["language"] == "en"][:ROWS]  # fmt: skip
    gate = spec(Dataset(name="support-intent", examples=tuple(rows)))
    store = MemoryStore()

    with Workspace(settings, store=store) as workspace:
        first = run_gate(gate, workspace)
        assert first.replay_counts == {"hit": 0, "live": ROWS}
        evidence = store.evidence(name="support-intent")[-1]
        bless(store, settings, evidence, floors_pass=True, policy=gate.policy)

        shutil.copy(ROOT / "evals" / "pilot" / "support-intent.worse.yaml", working)
        worse = run_gate(gate, workspace)
    assert worse.outcome == "fail"
    paired = worse.verdict.findings[1]
    assert paired.outcome == "fail"
    assert paired.high < 0
    assert paired.missing == 0  # cut-off JSON is a wrong answer, not an error

    def refuse(*_):
        raise AssertionError("a replay opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with Workspace(load_settings(tmp_path, environ={}, lm_mode="replay"), store=store) as workspace:
        again = run_gate(gate, workspace)
    assert again.replay_counts == {"hit": ROWS, "live": 0}
    assert again.verdict.to_bytes() == worse.verdict.to_bytes()
