"""Evaluators of the real packages, as they are: each passes the contract, and no error becomes a score."""

import asyncio
import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import autoevals
import openevals
import openevals.exact
import openevals.json
import openevals.string.levenshtein
import openevals.trajectory
import pytest
from autoevals import Score as AutoScore
from autoevals.score import Scorer as AutoScorer
from langsmith.evaluation import EvaluationResult, EvaluationResults, RunEvaluator, run_evaluator
from pydantic_evals.evaluators import (
    Contains,
    Equals,
    EqualsExpected,
    EvaluationReason,
    Evaluator,
    HasMatchingSpan,
    IsInstance,
    MaxDuration,
)

from steelyard import adapt, evaluator, exact_match
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Metric
from steelyard.evals.evaluators import resolve_evaluators, score_row
from steelyard.evals.gate import run_gate
from steelyard.testing.evaluator_contract import EvaluatorContract, scored

RIGHT = {"inputs": {"q": "capital?"}, "outputs": "Paris", "reference_outputs": "Paris"}
WRONG = {**RIGHT, "outputs": "Lyon"}


def one(given, row=RIGHT):
    (score,) = scored(resolve_evaluators([given]), row)
    return score


def metric(given):
    (adapted,) = resolve_evaluators([given])
    (found,) = adapted.metrics
    return (found.name, found.direction, found.low, found.high)


def digest(given):
    return resolve_evaluators([given])[0].digest


class Text(EvaluatorContract):
    @pytest.fixture
    def better(self):
        return RIGHT

    @pytest.fixture
    def worse(self):
        return WRONG


# -- our own: the contract is that of natives too ---------------------------------------------------


class TestNative(Text):
    @pytest.fixture(params=[exact_match, lambda: evaluator(lambda outputs: outputs == "Paris")])
    def make(self, request):
        return request.param


# -- LangSmith --------------------------------------------------------------------------------------


def by_run(run, example):
    return {"key": "same", "score": run.outputs["output"] == example.outputs["output"], "comment": "why"}


def by_name(outputs, reference_outputs) -> bool:
    return outputs == reference_outputs


async def awaited(inputs, outputs, reference_outputs):
    return EvaluationResult(key="same", score=outputs == reference_outputs)


@run_evaluator
def decorated(run, example):
    return EvaluationResult(key="same", score=run.outputs["output"] == example.outputs["output"])


class Judge(RunEvaluator):
    def __init__(self, strict=True):
        self.strict = strict

    def evaluate_run(self, run, example=None, evaluator_run_id=None):
        assert run.inputs == {"q": "capital?"}
        assert run.id
        assert example.id
        return EvaluationResults(results=[EvaluationResult(key="s", score=run.outputs == example.outputs)])


class TestLangSmith(Text):
    @pytest.fixture(params=[lambda: by_run, lambda: by_name, lambda: awaited, lambda: decorated, Judge])
    def make(self, request):
        return request.param

    @pytest.fixture
    def broken(self):
        def raises(run, example):
            raise KeyError("x")

        def nothing(outputs):
            return None

        def keyed(outputs):
            return {"key": "k", "score": None}

        def nan(outputs):
            return {"score": math.nan}

        def failed(outputs):
            return EvaluationResult(key="k", score=0, comment="boom", extra={"error": True})

        def word(outputs):
            return "good"

        def empty(outputs):
            return {"results": []}

        def number(outputs):
            return {"key": "k", "score": 0.5}

        def neither(outputs):
            return {"comment": "hm"}

        return [raises, nothing, keyed, nan, failed, word, empty, number, neither]

    def test_values_names_and_words(self):
        score = one(by_run)
        assert (score.name, score.value, score.explanation) == ("by_run", 1.0, "why")
        assert metric(by_name) == ("by_name", "higher", 0.0, 1.0)
        assert metric(decorated)[0] in ("same", "decorated")

    def test_a_number_counts_once_somebody_said_which_end_is_better(self):
        def toxicity(outputs):
            return {"key": "toxicity", "score": 0.25}

        assert "nobody says whether more is better" in one(toxicity).error.message
        assert one(adapt(toxicity, direction="lower")).value == 0.25
        assert metric(adapt(toxicity, direction="lower")) == ("toxicity", "lower", 0.0, 1.0)

        def stars(outputs) -> float:
            return 4.5

        with pytest.raises(InvalidValue, match="which end is better"):
            resolve_evaluators([stars])
        assert one(adapt(stars, direction="higher")).error.kind == "evaluator", "4.5 is outside of [0, 1]"
        assert one(adapt(stars, direction="higher", low=1, high=5)).value == 4.5
        unbounded = adapt(stars, direction="higher", low=None, high=None, name="stars", unit="stars")
        assert metric(unbounded) == ("stars", "higher", None, None)

    def test_labels_are_worth_what_is_said(self):
        def tone(outputs):
            return {"key": "tone", "value": "warm", "comment": "c"}

        score = one(adapt(tone, labels={"warm": 1, "cool": 0.5, "rude": 0}))
        assert (score.value, score.label, score.explanation) == (1.0, "warm", "c")
        with pytest.raises(InvalidValue, match="tell good from bad"):
            adapt(tone, labels={"warm": 1})

    def test_several_metrics_are_declared_by_name(self):
        def both(outputs, reference_outputs):
            return {"results": [{"key": "a", "score": True}, {"key": "b", "score": 7}]}

        assert "declare each" in one(both).error.message
        two = adapt(
            both, metrics=[Metric(name="a"), Metric(name="b", direction="lower", low=None, high=None)]
        )
        scores = scored([two], RIGHT)
        assert [(s.name, s.value) for s in scores] == [("a", 1.0), ("b", 7.0)]
        three = adapt(both, metrics=[Metric(name="a"), Metric(name="b", high=9.0), Metric(name="c")])
        assert [s.error is None for s in scored([three], RIGHT)] == [True, True, False]
        with pytest.raises(InvalidValue, match="says it all"):
            adapt(both, metrics=[Metric(name="a")], direction="higher")

    def test_parts_of_a_row(self):
        row = {
            "inputs": {"q": {"text": "capital?"}},
            "outputs": {"answer": "Paris", "why": "x"},
            "reference_outputs": {"city": "Paris"},
        }

        def seen(inputs, outputs, reference_outputs):
            return (inputs, outputs, reference_outputs) == ("capital?", "Paris", "Paris")

        picked = adapt(seen, field="answer", reference="city", input="q.text")
        assert one(picked, row).value == 1.0
        absent = one(picked, {**row, "outputs": {"why": "x"}})
        assert (absent.value, absent.label) == (0.0, "absent")
        assert one(picked, {**row, "reference_outputs": None}).error.kind == "evaluator"
        assert one(picked, {**row, "outputs": "Paris"}).error.kind == "evaluator"

    def test_identity_is_code_and_settings(self):
        assert digest(Judge()) != digest(Judge(strict=False))
        assert digest(adapt(by_name, name="other")) == digest(by_name)
        assert digest(adapt(by_name, direction="lower")) != digest(by_name)
        assert digest(adapt(by_name, field="x")) != digest(by_name)
        assert digest(adapt(by_name, version="2")) != digest(by_name)
        assert len({digest(f) for f in (by_run, by_name, awaited, decorated, Judge())}) == 5


# -- openevals --------------------------------------------------------------------------------------


class TestOpenevals(Text):
    @pytest.fixture(
        params=[
            lambda: openevals.exact_match,
            lambda: openevals.exact.exact_match_async,
            lambda: openevals.string.levenshtein.levenshtein_distance,
        ]
    )
    def make(self, request):
        return request.param

    @pytest.fixture
    def broken(self):
        judge = openevals.create_llm_as_judge(
            prompt="{outputs}", judge=Asked({"nothing": 1}), feedback_key="x"
        )
        return [adapt(judge, direction="higher")]


class Asked:
    """An OpenAI client as openevals takes it: it answers with one object."""

    digest = "sha256:" + "0" * 64

    def __init__(self, answer):
        from types import SimpleNamespace as Bag

        def create(**kwargs):
            import json

            return Bag(choices=[Bag(message=Bag(content=json.dumps(answer)))])

        self.chat = Bag(completions=Bag(create=create))


class TestOpenevalsJson(EvaluatorContract):
    @pytest.fixture
    def make(self):
        return lambda: openevals.json.create_json_match_evaluator(aggregator="average")

    @pytest.fixture
    def better(self):
        return {"inputs": {}, "outputs": {"a": 1, "b": 2}, "reference_outputs": {"a": 1, "b": 2}}

    @pytest.fixture
    def worse(self, better):
        return {**better, "outputs": {"a": 1, "b": 3}}

    def test_several(self, worse):
        each = openevals.json.create_json_match_evaluator()
        names = [f"json_match:{k}" for k in "ab"]
        two = adapt(each, metrics=[Metric(name=n) for n in names])
        assert [(s.name, s.value) for s in scored([two], worse)] == [(names[0], 1.0), (names[1], 0.0)]


def trajectory(*names):
    return [
        {"role": "user", "content": "q"},
        *(
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": n, "type": "function", "function": {"name": n, "arguments": "{}"}}],
            }
            for n in names
        ),
    ]


class TestOpenevalsTrajectory(EvaluatorContract):
    @pytest.fixture(
        params=[
            lambda: openevals.trajectory.create_trajectory_match_evaluator(trajectory_match_mode="strict"),
            lambda: openevals.trajectory.create_async_trajectory_match_evaluator(
                trajectory_match_mode="unordered"
            ),
        ]
    )
    def make(self, request):
        return request.param

    @pytest.fixture
    def better(self):
        return {"inputs": {}, "outputs": trajectory("a", "b"), "reference_outputs": trajectory("a", "b")}

    @pytest.fixture
    def worse(self, better):
        return {**better, "outputs": trajectory("a")}

    def test_the_mode_is_in_name_and_identity(self):
        strict, loose = (
            openevals.trajectory.create_trajectory_match_evaluator(trajectory_match_mode=m)
            for m in ("strict", "subset")
        )
        assert metric(strict) == ("trajectory_strict_match", "higher", 0.0, 1.0)
        assert digest(strict) != digest(loose)


def test_a_judge_of_openevals_has_no_direction_of_its_own():
    lazy = openevals.create_llm_as_judge(
        prompt="Lazy? {outputs}", judge=Asked({"score": True, "reasoning": "r"}), model="m"
    )
    with pytest.raises(InvalidValue, match="which end is better"):
        resolve_evaluators([lazy])
    score = one(adapt(lazy, name="lazy", direction="lower", version="1"))
    assert (score.name, score.value, score.explanation) == ("lazy", 1.0, "r")
    graded = openevals.create_llm_as_judge(prompt="{outputs}", choices=[1, 3, 5], judge=Asked({"score": 3}))
    assert metric(adapt(graded, direction="higher"))[2:] == (1.0, 5.0)
    other = openevals.create_llm_as_judge(prompt="Else {outputs}", judge=Asked({"score": True}), model="m")
    assert digest(adapt(lazy, direction="lower")) != digest(adapt(other, direction="lower"))


# -- autoevals --------------------------------------------------------------------------------------


class TestAutoevals(Text):
    @pytest.fixture(params=[autoevals.ExactMatch, lambda: autoevals.Levenshtein, autoevals.Levenshtein])
    def make(self, request):
        return request.param

    @pytest.fixture
    def broken(self):
        class Skips(AutoScorer):
            def _run_eval_sync(self, output, expected=None, **kwargs):
                return AutoScore(name="skips", score=None)

        class Raises(AutoScorer):
            def _run_eval_sync(self, output, expected=None, **kwargs):
                raise ValueError("no")

        class Errs(AutoScorer):
            def _run_eval_sync(self, output, expected=None, **kwargs):
                score = AutoScore(name="errs", score=0)
                score.error = RuntimeError("bad JSON")
                return score

        class Other(AutoScorer):
            def _run_eval_sync(self, output, expected=None, **kwargs):
                return 1

        return [Skips(), Raises(), Errs(), Other(), autoevals.NumericDiff()]

    def test_names_ranges_and_settings(self):
        assert metric(autoevals.Levenshtein()) == ("Levenshtein", "higher", 0.0, 1.0)
        assert digest(autoevals.Levenshtein) == digest(autoevals.Levenshtein())
        assert digest(autoevals.ValidJSON(schema={"type": "object"})) != digest(autoevals.ValidJSON())
        row = {"inputs": {}, "outputs": 9, "reference_outputs": 10}
        assert one(autoevals.NumericDiff(), row).value == pytest.approx(1 - 1 / 19)
        row = {"inputs": {}, "outputs": {"a": 1, "b": "x"}, "reference_outputs": {"a": 1, "b": "x"}}
        assert one(autoevals.JSONDiff(), row).value == 1.0
        assert one(adapt(autoevals.Levenshtein(), field="b"), row).value == 1.0

    def test_partial_arguments_count(self):
        class Least(autoevals.partial.ScorerWithPartial):
            def _run_eval_sync(self, output, expected=None, least=0, **kwargs):
                return AutoScore(name="least", score=float(len(output) >= least))

        assert [one(Least.partial(least=n)).value for n in (3, 9)] == [1.0, 0.0]
        assert digest(Least.partial(least=3)) != digest(Least.partial(least=9))


# -- pydantic-evals ---------------------------------------------------------------------------------


@dataclass
class Same(Evaluator):
    fold: bool = False

    def evaluate(self, ctx) -> bool:
        return ctx.output == ctx.expected_output


@dataclass
class Later(Evaluator):
    async def evaluate(self, ctx):
        return EvaluationReason(value=ctx.output == ctx.expected_output, reason="compared")


class TestPydanticEvals(Text):
    @pytest.fixture(params=[EqualsExpected, lambda: Equals("Paris"), lambda: Contains("Par"), Same, Later])
    def make(self, request):
        return request.param

    @pytest.fixture
    def broken(self):
        @dataclass
        class Raises(Evaluator):
            def evaluate(self, ctx):
                raise ValueError("no")

        @dataclass
        class Skips(Evaluator):
            def evaluate(self, ctx):
                return {}

        @dataclass
        class Word(Evaluator):
            def evaluate(self, ctx):
                return "good"

        @dataclass
        class Number(Evaluator):
            def evaluate(self, ctx):
                return 0.5

        @dataclass
        class Spans(Evaluator):
            def evaluate(self, ctx):
                return ctx.span_tree.any(lambda node: True)

        return [Raises(), Skips(), Word(), Number(), Spans(), adapt(Nan(), direction="higher")]

    def test_reasons_names_labels_and_several(self):
        assert one(Later()).explanation == "compared"
        assert metric(Equals("x", evaluation_name="is_x"))[0] == "is_x"
        assert one(IsInstance("str")).value == 1.0
        assert one(EqualsExpected(), {**RIGHT, "reference_outputs": None}).error is not None, "skipped, not 1"

        @dataclass
        class Two(Evaluator):
            def evaluate(self, ctx):
                return {"warm": True, "tone": EvaluationReason(value="rude", reason="r")}

        two = adapt(Two(), metrics=[Metric(name="warm"), Metric(name="tone")], labels={"rude": 0, "kind": 1})
        assert [(s.name, s.value, s.label) for s in scored([two], RIGHT)] == [
            ("warm", 1.0, None),
            ("tone", 0.0, "rude"),
        ]

    def test_what_a_row_does_not_have_is_refused(self):
        with pytest.raises(InvalidValue, match="latency"):
            resolve_evaluators([MaxDuration(seconds=1)])
        with pytest.raises(InvalidValue, match="spans"):
            resolve_evaluators([HasMatchingSpan(query={"name_equals": "x"})])

    def test_identity(self):
        assert len({digest(e) for e in (Equals("a"), Equals("b"), Same(), Same(fold=True), Later())}) == 5
        assert digest(Equals("a", evaluation_name="n")) == digest(Equals("a"))


@dataclass
class Nan(Evaluator):
    def evaluate(self, ctx):
        return math.nan


def test_one_that_hangs_exits_or_ends_the_loop_harms_no_other():
    stop = threading.Event()

    def hangs(outputs):
        stop.wait(20)

    async def hangs_too(outputs):
        await asyncio.sleep(20)

    def leaves(outputs):
        sys.exit(3)

    async def leaves_too(outputs):
        sys.exit(3)

    given = [adapt(hangs, version="1"), hangs_too, leaves, leaves_too, awaited]
    scores = asyncio.run(score_row(resolve_evaluators(given), **RIGHT, timeout_s=0.5))
    stop.set()
    assert [s.error.kind if s.error else s.value for s in scores] == [
        "timeout",
        "timeout",
        "evaluator",
        "evaluator",
        1.0,
    ]
    assert one(awaited).value == 1.0, "the loop that stays is still there"


# -- what is none ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [3, object(), {"score": 1}, autoevals.Score, EvaluationResult(key="a"), Metric(name="x"), dict, len],
)
def test_what_is_no_evaluator_is_refused_with_what_is(given):
    with pytest.raises(InvalidValue, match="is no evaluator") as caught:
        resolve_evaluators([given])
    assert "pydantic-evals and DeepEval" in str(caught.value)


@pytest.mark.parametrize(
    "function", [lambda output, expected: True, lambda: True, lambda inputs, answer: True]
)
def test_a_function_of_other_arguments_is_refused(function):
    with pytest.raises(InvalidValue, match=r"@steelyard\.evaluator"):
        resolve_evaluators([function])


def test_nothing_foreign_is_imported():
    code = (
        "import sys\n"
        "from steelyard.evals.evaluators import adapt, resolve_evaluators\n"
        "resolve_evaluators([lambda outputs, reference_outputs: True])\n"
        "names = 'autoevals deepeval langchain_core langsmith mlflow openevals pydantic_evals'.split()\n"
        "assert not [n for n in names if n in sys.modules], sorted(sys.modules)\n"
    )
    # A lambda of -c has no source: a version says what it is.
    code = code.replace("[lambda", "[adapt(lambda").replace("True])", "True, version='1')])")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_line_of_each_package_in_the_docs_runs(workspace, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "evaluators.md").read_text(encoding="utf-8")
    (block,) = [b.partition("```")[0] for b in page.split("```python\n")[1:] if "import autoevals" in b]
    (tmp_path / "bring_your_own.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    from bring_your_own import gate

    report = run_gate(gate, workspace())
    (row,) = report.candidate.rows
    assert {s.name: s.value for s in row.scores} == {
        "correct": 1.0,
        "stars": 4.5,
        "same": 1.0,
        "Levenshtein": 1.0,
        "regex_match": 1.0,
        "Contains": 1.0,
        "exact_match": 1.0,
    }, row.scores
