"""Data that looks like a serialised object stays data, wherever it is kept; the environment is not read."""

import json

import pytest

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.results import Usage
from steelyard.core.settings import load_settings
from steelyard.data import read_dataset, write_jsonl
from steelyard.evals.gate import run_gate
from steelyard.evals.weigh import weigh
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.lm.tape import Recording, Tape
from steelyard.prompts import Prompt, Variable
from steelyard.report import write_report
from steelyard.store.memory import MemoryStore

SECRET = "sk-canary-77c0"
ATTACKS = {
    "langchain secret": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]},
    "langchain constructor": {
        "lc": 1,
        "type": "constructor",
        "id": ["os", "system"],
        "kwargs": {"command": "id"},
    },
    "jsonpickle": {
        "py/object": "os.system",
        "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}],
    },
    "json schema ref": {"$ref": "file:///etc/passwd"},
    "yaml tag": {"!!python/object/apply:os.system": ["id"]},
    "reducer": {"__reduce__": ["os.system", ["id"]], "__class__": "x", "__proto__": {}},
    "environment": {"env": "${OPENAI_API_KEY} $OPENAI_API_KEY %OPENAI_API_KEY%"},
}


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@evaluator(name="m")
def same(outputs, reference_outputs):
    return outputs == reference_outputs


def echo(inputs):
    return inputs["row"]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_comes_back_as_it_went_in(attack, tmp_path, watching):
    path = tmp_path / "d.jsonl"
    data = Dataset(
        name="d",
        examples=tuple(
            Example(
                id=f"e{i}", inputs={"row": attack, "i": i}, reference_outputs=attack, metadata={"m": attack}
            )
            for i in range(40)
        ),
    )
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(tmp_path, environ={"OPENAI_API_KEY": SECRET})
    with watching("socket.connect", "subprocess.Popen", "os.system", "pickle.find_class") as seen:
        write_jsonl(data, path)
        again = read_dataset(path)
        assert [e.inputs["row"] for e in again] == [attack] * 40
        with Workspace(settings, store=MemoryStore()) as workspace:
            report = run_gate(
                Gate(task=echo, name="g", dataset=again, evaluators=[same], require=[at_least("m", 0.5)]),
                workspace,
            )
            write_report(workspace.session_report(), tmp_path / "report")
        assert report.outcome == "pass", report.verdict.sentence
        bundle = EvidenceBundle.open(settings.home / "evidence" / report.evidence_id)
        bundle.verify()
        assert [r.outputs for r in bundle.scores.rows] == [attack] * 40
        assert weigh(bundle).to_bytes() == bundle.verdict_bytes
        prompt = Prompt(
            name="p",
            messages=({"role": "user", "content": "{{ o }}"},),
            variables={"o": Variable(type="object", default=attack)},
            parameters={"extra_body": attack},
        )
        back = Prompt.from_content("p", json.loads(json.dumps(prompt.content())), expect=prompt.digest)
        assert json.loads(back.render(o=attack).messages[0]["content"]) == attack
        assert json.loads(back.render().messages[0]["content"]) == attack
        assert back.render().parameters["extra_body"] == attack
        kept = Recording(
            key="0" * 64,
            status=200,
            headers={},
            body=json.dumps(attack).encode(),
            usage=Usage(calls=1),
            about={},
        )
        Tape(tmp_path / "tape").put(kept)
        assert Tape(tmp_path / "tape").get("0" * 64) == kept
    git = [a for e, a in seen if e == "subprocess.Popen" and a[1][0] == "git"]
    assert [e for e in seen if e[0] != "subprocess.Popen"] == []
    assert len(seen) == len(git)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
