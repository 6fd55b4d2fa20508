"""DeepEval's metrics as evaluators. It lies in a folder of its own beside the environment (decision 0512)."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(sys.prefix) / "deepeval"
pytestmark = pytest.mark.skipif(not HOME.is_dir(), reason="no DeepEval here: make .venv/.dev")


@pytest.fixture(scope="module", autouse=True)
def deepeval(tmp_path_factory):
    """DeepEval, importable while this module's tests run, without telemetry, files in a folder of its own."""
    if not HOME.is_dir():
        yield None
        return
    patch = pytest.MonkeyPatch()
    patch.setenv("DEEPEVAL_TELEMETRY_OPT_OUT", "1")
    patch.setenv("DEEPEVAL_DISABLE_DOTENV", "1")
    patch.chdir(tmp_path_factory.mktemp("deepeval"))
    patch.setattr(sys, "path", [*sys.path, str(HOME)])
    asked = []
    look_up = socket.getaddrinfo

    def noted(host, *rest, **more):
        asked.append(host)
        return look_up(host, *rest, **more)

    patch.setattr(socket, "getaddrinfo", noted)
    import deepeval

    yield deepeval
    patch.undo()
    assert set(asked) <= {"127.0.0.1", b"127.0.0.1", "localhost"}, "it phones home"


from steelyard import adapt  # noqa: E402
from steelyard.core.chat import ChatRequest  # noqa: E402
from steelyard.core.errors import InvalidValue  # noqa: E402
from steelyard.evals.evaluators import resolve_evaluators  # noqa: E402
from steelyard.lm import OpenAILM, call_scope, replaying  # noqa: E402
from steelyard.testing.chat_server import ChatServer  # noqa: E402
from steelyard.testing.evaluator_contract import EvaluatorContract, scored  # noqa: E402

RIGHT = {"inputs": {"q": "capital?"}, "outputs": "Paris", "reference_outputs": "Paris"}
WRONG = {**RIGHT, "outputs": "Berlin, I think"}


def one(given, row=RIGHT):
    (score,) = scored(resolve_evaluators([given]), row)
    return score


def digest(given):
    return resolve_evaluators([given])[0].digest


def own(score=None, *, raises=None, skipped=False, error=None, lower=False, word="Paris"):
    """A deterministic metric as users write them."""
    from deepeval.metrics import BaseMetric

    class Own(BaseMetric):
        def __init__(self, word):
            self.threshold, self.word = 0.5, word

        def measure(self, test_case):
            if raises:
                raise raises
            self.skipped, self.error = skipped, error
            self.score = score if score is not None else float(test_case.actual_output == self.word)
            self.reason = f"compared with {self.word}"
            return self.score

        async def a_measure(self, test_case):
            return self.measure(test_case)

        def is_successful(self):
            return self.score <= self.threshold if lower else self.score >= self.threshold

        @property
        def __name__(self):
            return "Own"

    return Own(word)


def exact():
    from deepeval.metrics import ExactMatchMetric

    return ExactMatchMetric()


def pattern():
    from deepeval.metrics import PatternMatchMetric

    return PatternMatchMetric(pattern="Par.s")


class TestDeepEval(EvaluatorContract):
    @pytest.fixture(params=[exact, pattern, own])
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
        class Absent:
            def __repr__(self):
                return "nan"

        return [
            own(raises=ValueError("no")),
            own(skipped=True, score=1.0),
            own(error="the judge is down", score=1.0),
            own(score=float("nan")),
            own(score=7.0),
        ]


def test_the_score_counts_and_not_the_threshold():
    metric = own(score=0.3)
    score = one(metric)
    assert (score.name, score.value, score.explanation) == ("Own", 0.3, "compared with Paris")
    assert metric.score is None, "a row has a metric of its own"
    assert one(exact()).value == 1.0
    assert one(exact(), WRONG).value == 0.0
    assert (
        one(
            adapt(exact(), field="a"), {**RIGHT, "outputs": {"a": "x"}, "reference_outputs": {"a": "x"}}
        ).value
        == 1
    )


def test_the_direction_is_what_its_own_success_says():
    (high,), (low,) = resolve_evaluators([own()]), resolve_evaluators([own(lower=True)])
    assert (high.metrics[0].direction, low.metrics[0].direction) == ("higher", "lower")

    metric = own()
    type(metric).is_successful = lambda self: True
    with pytest.raises(InvalidValue, match="which end is better"):
        resolve_evaluators([metric])


def test_an_example_without_what_it_needs_is_an_error():
    assert one(exact(), {**RIGHT, "reference_outputs": None}).error.kind == "evaluator"


def test_json_correctness_and_lists():
    from deepeval.metrics import JsonCorrectnessMetric
    from pydantic import BaseModel

    class City(BaseModel):
        city: str

    shape = JsonCorrectnessMetric(expected_schema=City, include_reason=False, model=Judge.of(None))
    assert one(shape, {**RIGHT, "outputs": {"city": "Paris"}}).value == 1.0
    assert one(shape, {**RIGHT, "outputs": {"town": "Paris"}}).value == 0.0


def test_conversational_metrics_are_refused():
    from deepeval.metrics import ConversationalGEval
    from deepeval.test_case import MultiTurnParams

    metric = ConversationalGEval(
        name="c", criteria="good", evaluation_params=[MultiTurnParams.CONTENT], model=Judge.of(None)
    )
    with pytest.raises(InvalidValue, match="conversations"):
        resolve_evaluators([metric])


def test_identity_is_code_and_settings():
    assert digest(own()) != digest(own(word="Lyon"))
    assert digest(pattern()) != digest(exact())
    metric = exact()
    metric.score = 0.7
    assert digest(metric) == digest(exact()), "a result is no setting"


class Judge:
    """A DeepEval model over a Steelyard `LM`."""

    @staticmethod
    def of(lm):
        from deepeval.models import DeepEvalBaseLLM

        class OverLM(DeepEvalBaseLLM):
            def __init__(self, lm):
                self.lm = lm

            def load_model(self):
                return self.lm

            def generate(self, prompt, schema=None):
                form = None
                if schema is not None:
                    form = {
                        "type": "json_schema",
                        "json_schema": {"name": "x", "schema": schema.model_json_schema()},
                    }
                done = self.lm.complete(
                    ChatRequest(messages=({"role": "user", "content": prompt},), response_format=form)
                )
                return schema(**json.loads(done.text)) if schema is not None else done.text

            async def a_generate(self, prompt, schema=None):
                return self.generate(prompt, schema)

            def get_model_name(self):
                return "over an LM"

        return OverLM(lm)


@pytest.mark.server
def test_g_eval_over_our_model_is_recorded_and_replayed(tmp_path):
    from deepeval.metrics import GEval
    from deepeval.test_case import SingleTurnParams

    with ChatServer(lambda call: json.dumps({"score": 8, "reason": "good"})) as server:
        lm = OpenAILM("m", server.base_url, "k", max_retries=0)
        metric = GEval(
            name="Polite",
            evaluation_steps=["Is it polite?"],
            evaluation_params=[SingleTurnParams.INPUT, SingleTurnParams.ACTUAL_OUTPUT],
            model=Judge.of(lm),
        )
        with replaying(tmp_path), call_scope("a") as live:
            first = one(metric)
        assert first.error is None, first.error
        assert (first.name, first.value, first.explanation) == ("Polite", 0.8, "good")
        assert live.usage.calls == len(server.calls) == 1
        assert len(server.calls) == 1
        lm.close()
    with replaying(tmp_path, "replay"), call_scope("b") as again:
        assert one(metric) == first
    assert again.usage.replayed == 1


def test_it_changes_no_pytest_session():
    code = (
        "from importlib.metadata import entry_points\n"
        "print([e.value for e in entry_points(group='pytest11')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "steelyard" in done.stdout
    assert "deepeval" not in done.stdout
