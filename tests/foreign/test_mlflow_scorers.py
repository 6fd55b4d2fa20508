"""MLflow's scorers and judges as evaluators: values, labels, errors."""

import math
from typing import Literal

import pytest
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

from steelyard import adapt
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Metric
from steelyard.evals.evaluators import resolve_evaluators
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
