import asyncio
import functools
import math
import sys
import threading
import time

import pytest

from steelyard.core.errors import CallFailed, InvalidValue
from steelyard.core.score import Metric, Score
from steelyard.evals.evaluators import evaluator, exact_match, score_row


def row(*evaluators, outputs="out", timeout_s=5.0):
    return asyncio.run(
        score_row(
            evaluators,
            inputs={"q": "x"},
            outputs=outputs,
            reference_outputs="out",
            metadata={"language": "en"},
            timeout_s=timeout_s,
        )
    )


@evaluator
def everything(inputs, outputs, reference_outputs, metadata, trace):
    return (inputs, outputs, reference_outputs, metadata, trace) == (
        {"q": "x"},
        "out",
        "out",
        {"language": "en"},
        None,
    )


@evaluator(name="later", range=None, direction="lower", unit="words")
async def awaited(outputs):
    await asyncio.sleep(0)
    return len(outputs)


def test_sync_and_async_take_what_they_name():
    assert [(s.name, s.value) for s in row(everything, awaited)] == [("everything", 1.0), ("later", 3.0)]
    assert awaited.metrics[0] == Metric(name="later", direction="lower", low=None, high=None, unit="words")
    assert everything({"q": "x"}, "out", "out", {"language": "en"}, None) is True


RETURNED = []


@evaluator
def f():
    return RETURNED[0]


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (True, 1.0),
        (False, 0.0),
        (0.25, 0.25),
        (Score(name="other", value=0.5, label="half"), 0.5),
        ({"f": 1}, 1.0),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        pytest.param(10**400, None, id="10**400"),
        ("yes", None),
        ([1], None),
        ({"g": 1}, None),
        (1.5, None),
        (-0.1, None),
        (object(), None),
    ],
)
def test_what_a_function_returns(returned, value):
    RETURNED[:] = [returned]
    (score,) = row(f)
    assert score.value == value
    assert score.name == "f"
    assert (score.error is None) == (value is not None)
    assert score.error is None or score.error.kind == "evaluator"


def test_numpy_scalars():
    import numpy as np

    (good, bad) = row(
        evaluator(name="a", version="1")(lambda: np.float32(0.5)),
        evaluator(name="b", version="1")(lambda: np.float64("nan")),
    )
    assert good.value == 0.5
    assert bad.error.kind == "evaluator"


def test_labels():
    @evaluator(labels={"good": 1, "bad": 0})
    def verdict(outputs):
        return outputs

    assert [(s.value, s.label) for o in ("good", "bad") for s in row(verdict, outputs=o)] == [
        (1, "good"),
        (0, "bad"),
    ]
    assert row(verdict, outputs="god")[0].error.kind == "evaluator"


def test_several_metrics():
    two = [Metric(name="p"), Metric(name="n", low=None, high=None)]

    @evaluator(metrics=two)
    def both(outputs):
        return outputs

    assert [s.value for s in row(both, outputs={"p": 1, "n": 7})] == [1, 7]
    assert [(s.name, s.value) for s in row(both, outputs={"p": 1})] == [("p", 1), ("n", None)]
    assert [s.value for s in row(both, outputs={"p": 1, "n": 7, "x": 0})] == [None, None]
    assert [s.value for s in row(both, outputs=1)] == [None, None]


def test_one_that_raises_hangs_or_exits_harms_no_other():
    stop = threading.Event()

    @evaluator
    def raises():
        raise KeyError("x")

    @evaluator(version="1")
    def hangs():
        stop.wait(20)

    @evaluator
    async def hangs_too():
        await asyncio.sleep(20)

    @evaluator
    def leaves():
        sys.exit(3)

    @evaluator
    async def leaves_too():
        sys.exit(3)

    @evaluator
    def asks():
        raise CallFailed("rate_limit", "slow down", status=429)

    @evaluator
    def fine():
        return 1

    began = time.perf_counter()
    scores = row(raises, hangs, hangs_too, leaves, leaves_too, asks, fine, exact_match(), timeout_s=0.5)
    stop.set()
    assert time.perf_counter() - began < 20  # what hangs here hangs until it is told to stop
    kinds = [s.error.kind if s.error else s.value for s in scores]
    assert kinds == ["evaluator", "timeout", "timeout", "evaluator", "evaluator", "rate_limit", 1.0, 1.0]


def test_identity():
    def make(limit, **options):
        @evaluator(**options)
        def short(outputs):
            return len(outputs) < limit

        return short

    assert make(3).digest == make(3).digest == make(3, name="renamed").digest
    assert len({make(3).digest, make(4).digest, make(3, version="2").digest, make(3, range=None).digest,
                make(3, direction="lower").digest, make(3, labels={"a": 1}).digest}) == 6  # fmt: skip
    one = evaluator(name="f")(functools.partial(lambda outputs, k: True, k=1))
    two = evaluator(name="f")(functools.partial(lambda outputs, k: True, k=2))
    assert one.digest != two.digest


def test_a_function_that_cannot_be_one_is_refused():
    with pytest.raises(InvalidValue, match="asks for 'output'"):
        evaluator(lambda output: 1)
    with pytest.raises(InvalidValue, match="no function"):
        evaluator(3)
    with pytest.raises(InvalidValue):
        evaluator(metrics=[])(lambda: 1)


def test_a_row_without_evaluators_has_no_scores():
    assert row() == ()
