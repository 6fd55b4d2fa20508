"""MLflow's scorers and judges as evaluators: values, labels, errors."""

import json
import math
from typing import Literal

import pytest
import requests
from mlflow.entities import Feedback
from mlflow.genai.judges import make_judge
from mlflow.genai.scorers import (
    Equivalence,
    RegexMatch,
    ResponseLength,
    RetrievalGroundedness,
    Scorer,
    scorer,
)

from steelyard import Dataset, Example, Gate, adapt, at_least
from steelyard.core.errors import InvalidValue, ReplayMiss
from steelyard.core.score import Metric
from steelyard.evals.evaluators import resolve_evaluators
from steelyard.evals.gate import run_gate
from steelyard.lm import call_scope, replaying
from steelyard.testing.chat_server import Reply, completion
from steelyard.testing.evaluator_contract import EvaluatorContract, scored

RIGHT = {"inputs": {"q": "capital?"}, "outputs": "Paris", "reference_outputs": "Paris"}
WRONG = {**RIGHT, "outputs": "Berlin, I think"}


@scorer
def same(outputs, expectations) -> bool:
    return outputs == expectations["expected_response"]


@scorer(name="also")
def reasoned(outputs, expectations):
    return Feedback(value="yes" if outputs == expectations["expected_response"] else "no", rationale="why")


class Own(Scorer):
    name: str = "own"
    word: str = "Paris"

    def __call__(self, *, outputs):
        return outputs == self.word


def one(given, row=RIGHT):
    (score,) = scored(resolve_evaluators([given]), row)
    return score


def digest(given):
    return resolve_evaluators([given])[0].digest


class TestMlflow(EvaluatorContract):
    @pytest.fixture(
        params=[
            lambda: same,
            lambda: reasoned,
            Own,
            lambda: RegexMatch(pattern="Par.s"),
            lambda: ResponseLength(max_length=6),
        ]
    )
    def make(self, request):
        return request.param

    @pytest.fixture
    def better(self):
        return RIGHT

    @pytest.fixture
    def worse(self):
        return WRONG

    @pytest.fixture
    def broken(self):
        @scorer
        def raises(outputs):
            raise ValueError("no")

        @scorer
        def nothing(outputs):
            return None

        @scorer
        def failed(outputs):
            return Feedback(error=ValueError("judge down"))

        @scorer
        def failed_with_value(outputs):
            return Feedback(value="yes", error="judge down")

        @scorer
        def word(outputs):
            return "good"

        @scorer
        def number(outputs):
            return 0.5

        @scorer
        def table(outputs):
            return {"a": 1}

        @scorer
        def nan(outputs):
            return math.nan

        return [
            raises,
            nothing,
            failed,
            failed_with_value,
            word,
            number,
            table,
            adapt(nan, direction="higher"),
        ]


def test_yes_no_and_their_reason():
    score = one(reasoned)
    assert (score.name, score.value, score.label, score.explanation) == ("also", 1.0, "yes", "why")
    assert one(reasoned, WRONG).value == 0.0
    equal = one(Equivalence(), {**RIGHT, "outputs": 42, "reference_outputs": 42})
    assert (equal.value, equal.label) == (1.0, "yes")
    assert one(RegexMatch(pattern="Par.s")).value == 1.0


def test_numbers_labels_and_several():
    @scorer
    def words(outputs) -> int:
        return len(outputs.split())

    with pytest.raises(InvalidValue, match="which end is better"):
        resolve_evaluators([words])
    assert one(adapt(words, direction="lower", low=None, high=None)).value == 1.0

    @scorer
    def tone(outputs):
        return "warm"

    assert one(adapt(tone, labels={"warm": 1, "cold": 0})).label == "warm"

    @scorer
    def two(outputs):
        return [Feedback(name="a", value=True), Feedback(name="b", error="down")]

    scores = scored([adapt(two, metrics=[Metric(name="a"), Metric(name="b")])], RIGHT)
    assert [(s.value, s.error is None) for s in scores] == [(1.0, True), (None, False)]
    assert "down" in scores[1].error.message


def test_what_a_row_does_not_have_is_refused():
    with pytest.raises(InvalidValue, match="a trace"):
        resolve_evaluators([RetrievalGroundedness()])

    @scorer
    def by_trace(trace):
        return True

    with pytest.raises(InvalidValue, match="a trace"):
        resolve_evaluators([by_trace])

    @scorer
    def by_session(session):
        return True

    with pytest.raises(InvalidValue, match="session"):
        resolve_evaluators([by_session])


def test_identity_is_code_and_settings():
    def judge(text, **more):
        return make_judge(name="j", instructions=text, feedback_value_type=bool, model="openai:/m", **more)

    assert digest(Own()) != digest(Own(word="Lyon"))
    assert digest(Own()) == digest(Own(name="renamed"))
    assert digest(RegexMatch(pattern="a")) != digest(RegexMatch(pattern="b"))
    assert digest(judge("Is {{ outputs }} right?")) == digest(judge("Is {{ outputs }} right?"))
    assert digest(judge("Is {{ outputs }} right?")) != digest(judge("Is {{ outputs }} wrong?"))
    rated = make_judge(
        name="j", instructions="{{ outputs }}", feedback_value_type=Literal["yes", "no"], model="openai:/m"
    )
    assert resolve_evaluators([rated])[0].metrics == (Metric(name="j"),)
    graded = make_judge(name="j", instructions="{{ outputs }}", feedback_value_type=float, model="openai:/m")
    with pytest.raises(InvalidValue, match="which end is better"):
        resolve_evaluators([graded])


@pytest.mark.server
def test_a_judge_is_recorded_and_replayed(server, workspace, no_sockets, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    server.say(json.dumps({"result": True, "rationale": "r"}))
    judge = make_judge(
        name="right",
        instructions="Is {{ outputs }} the answer to {{ inputs }}?",
        feedback_value_type=bool,
        model="openai:/m",
        base_url=f"{server.base_url}/chat/completions",
    )
    rows = tuple(Example(id=str(i), inputs={"q": f"capital {i}?"}) for i in range(8))

    def task(inputs):
        return inputs["q"].upper()

    spec = Gate(
        task=task,
        name="g",
        dataset=Dataset(name="d", examples=rows),
        evaluators=[judge],
        require=[at_least("right", 0.3)],
    )
    live = run_gate(spec, workspace())
    assert live.outcome == "pass", live.candidate.rows[0].scores
    assert live.candidate.rows[0].scores[0].explanation == "r"
    assert len(server.calls) == len(rows)
    no_sockets()
    again = run_gate(spec, workspace("replay"))
    assert again.verdict.to_bytes() == live.verdict.to_bytes()
    assert len(server.calls) == len(rows)
    recordings = list(workspace().settings.home.rglob("*.rec"))
    assert len(recordings) == len(rows)
    assert not [f for f in recordings if b"sk-canary" in f.read_bytes()]


@pytest.mark.server
def test_other_requests_of_a_task_go_out_as_ever(server, tmp_path):
    url = server.base_url
    server.say(
        [Reply(body={"n": 1}), Reply(body={"n": 2}), completion_of("one"), Reply(status=404, body="no")]
    )
    with replaying(tmp_path) as session, call_scope("a") as calls:
        assert [requests.get(f"{url}/runs", timeout=5).json() for _ in range(2)] == [{"n": 1}, {"n": 2}]
        assert session.counts.recorded == 0
        said = requests.post(f"{url}/chat/completions", json={"model": "m", "messages": []}, timeout=5)
        assert said.json()["choices"][0]["message"]["content"] == "one"
        assert (said.status_code, said.reason, said.ok) == (200, "OK", True)
        assert (session.counts.recorded, calls.usage.input_tokens) == (1, 7)
        failed = requests.post(f"{url}/chat/completions", json={"model": "n", "messages": []}, timeout=5)
        assert failed.status_code == 404
        with pytest.raises(requests.HTTPError):
            failed.raise_for_status()
        assert calls.last_failure.kind == "bad_request"
    with replaying(tmp_path, "replay"), call_scope("b"):
        again = requests.post(f"{url}/chat/completions", json={"model": "m", "messages": []}, timeout=5)
    assert again.json() == said.json()
    with replaying(tmp_path, "replay"), pytest.raises(ReplayMiss), call_scope("b"):
        requests.post(f"{url}/chat/completions", json={"model": "never", "messages": []}, timeout=5)
    assert len(server.calls) == 4


def completion_of(text):
    return Reply(body=completion(text))
