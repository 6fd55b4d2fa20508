"""Budgets, refused credentials and outages against a real server on loopback, through the whole gate."""

import json

import pytest

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.chat import ChatRequest
from steelyard.core.errors import InvalidValue
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.lm import OpenAILM
from steelyard.store.memory import MemoryStore
from steelyard.testing.chat_server import ChatServer, Reply, completion, failing

pytestmark = pytest.mark.server
N = 30
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
DATA = Dataset(name="n", examples=tuple(Example(id=f"e{i:02}", inputs={"x": i}) for i in range(N)))


def task(inputs, lm):
    message = {"role": "user", "content": f"say {inputs['x']}"}
    return lm.complete(ChatRequest(messages=(message,), parameters={"max_tokens": 10})).text


@evaluator
def said(outputs):
    return outputs == "yes"


@pytest.fixture
def server():
    with ChatServer(Reply(body=completion("yes", usage=USAGE))) as server:
        yield server


@pytest.fixture
def place(tmp_path, server):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    store, notes = MemoryStore(), []

    def run(concurrency=1, settings=None, **fields):
        lm = OpenAILM("m", server.base_url, "key")
        spec = Gate(
            task=task, name="g", version="1", dataset=DATA, lm=lm, evaluators=[said],
            require=[at_least("said", 0.5)], concurrency=concurrency, **fields,
        )  # fmt: skip
        settings = load_settings(tmp_path, environ={}, **(settings or {}))
        with Workspace(settings, store=store, note=notes.append) as workspace:
            report = run_gate(spec, workspace)
        lm.close()
        return report

    run.notes, run.evidence = notes, tmp_path / ".steelyard" / "evidence"
    return run


def asked(server):
    return [int(c.json["messages"][-1]["content"].split()[1]) for c in server.calls]


@pytest.mark.parametrize("where", ["gate", "settings"])
def test_a_run_stops_at_its_token_cap_and_goes_on_with_a_larger_one(place, server, where):
    def run(cap):
        if where == "gate":
            return place(max_tokens_total=cap)
        return place(settings={"max_tokens_total": cap})

    first = run(400)
    assert first.outcome == "unmeasurable"
    assert "max_tokens_total = 400 would be exceeded" in first.verdict.sentence
    spent = 30 * len(server.calls)
    assert 300 <= spent <= 400
    again = run(10_000)
    assert again.outcome == "pass"
    assert again.evidence_id == first.evidence_id
    assert sorted(asked(server)) == list(range(N))  # nothing was paid for twice


def test_what_an_earlier_part_spent_counts_for_the_resumed_run(place, server):
    place(max_tokens_total=400)
    before = len(server.calls)
    again = place(max_tokens_total=500)
    assert again.outcome == "unmeasurable"
    assert 30 * len(server.calls) <= 500
    assert len(server.calls) - before <= 4


def test_a_dollar_cap_without_a_price_stops_before_anything_is_spent(place, server):
    report = place(max_cost_usd=1.0)
    assert report.outcome == "unmeasurable"
    assert "max_tokens_total" in report.verdict.sentence
    assert server.calls == []


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_refused_key_stops_the_run_and_a_good_one_ends_it(place, server, concurrency):
    server.say(failing(401))
    first = place(concurrency)
    assert first.outcome == "unmeasurable"
    assert "401" in first.verdict.sentence
    assert "run the same code again: it resumes by itself" in first.verdict.sentence
    assert len(server.calls) <= max(3, concurrency)
    server.say(Reply(body=completion("yes", usage=USAGE)))
    calls = len(server.calls)
    again = place(concurrency)
    assert (again.outcome, again.evidence_id) == ("pass", first.evidence_id)
    assert sorted(asked(server)[calls:]) == list(range(N))


def test_a_provider_that_fails_at_random_leaves_each_row_scored_or_failed_with_its_cause(place, server):
    def script(call):
        x = int(call.json["messages"][-1]["content"].split()[1])
        return failing(400) if x % 10 == 3 else Reply(body=completion("yes", usage=USAGE))

    server.say(script)
    report = place(4)
    assert report.outcome == "unmeasurable"  # 10 % missing
    bundle = EvidenceBundle.open(place.evidence / report.evidence_id)
    assert bundle.sealed
    failed = {r.example_id: r.failure for r in bundle.scores.rows if r.failure}
    assert sorted(failed) == ["e03", "e13", "e23"]
    assert {f.kind for f in failed.values()} == {"bad_request"}
    json.loads(bundle.verdict_bytes)


@pytest.mark.parametrize("field", ["timeout_s", "run_timeout_s", "max_tokens_total", "max_cost_usd"])
def test_limits_below_zero_are_refused(field):
    with pytest.raises(InvalidValue, match=field):
        Gate(task=task, dataset=DATA, **{field: 0})
