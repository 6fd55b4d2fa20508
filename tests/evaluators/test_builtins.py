import asyncio
import time

import pytest

from steelyard.core.errors import InvalidValue
from steelyard.core.results import Usage
from steelyard.evals.evaluators import (
    Sample,
    contains,
    cost,
    exact_match,
    invalid_output_scores,
    json_schema,
    latency,
    length,
    numeric_close,
    one_of,
    output_tokens,
    regex,
    resolve_evaluators,
)

ERROR = "error"


def value(evaluator, outputs, reference=None, usage=None):
    (score,) = asyncio.run(
        evaluator.evaluate(Sample(outputs=outputs, reference_outputs=reference, usage=usage or Usage()))
    )
    assert score.evaluator_version == evaluator.digest
    return ERROR if score.error else score.value


@pytest.mark.parametrize(
    ("evaluator", "outputs", "reference", "expected"),
    [
        (exact_match(), "a", "a", 1),
        (exact_match(), " a\n", "a", 1),
        (exact_match(strip=False), " a", "a", 0),
        (exact_match(), "A", "a", 0),
        (exact_match(ignore_case=True), "STRASSE", "straße", 1),
        (exact_match("intent"), {"intent": "x", "more": 1}, {"intent": "x"}, 1),
        (exact_match("order.id"), {"order": {"id": 3}}, {"order": {"id": 3.0}}, 1),
        (exact_match("intent", reference="label"), {"intent": "x"}, {"label": "x"}, 1),
        (exact_match(), {"a": 1, "b": [2]}, {"b": [2], "a": 1}, 1),
        (exact_match(), True, 1, 0),
        (exact_match(), "1", 1, 0),
        (exact_match("intent"), {}, {"intent": "x"}, 0),
        (exact_match("intent"), "x", {"intent": "x"}, ERROR),
        (exact_match("intent"), {"intent": "x"}, None, ERROR),
        (exact_match("intent"), {"intent": None}, {"intent": None}, ERROR),
        (exact_match(), None, "x", ERROR),
        (contains("refund", "days"), "a refund in 5 days", None, 1),
        (contains("refund", "days"), "a refund", None, 0),
        (contains("REFUND", ignore_case=True), "a refund", None, 1),
        (contains(field="text", reference="must"), {"text": "a b"}, {"must": ["a", "b"]}, 1),
        (contains(), "a b", "c", 0),
        (contains(), "a b", [], ERROR),
        (contains(), "a b", "", ERROR),
        (contains(), 5, "5", ERROR),
        (regex(r"\d+"), "a 12", None, 1),
        (regex(r"\d+", full=True), "a 12", None, 0),
        (regex("ab", "t", ignore_case=True), {"t": "xABx"}, None, 1),
        (json_schema({"type": "object", "required": ["a"]}), {"a": 1}, None, 1),
        (json_schema({"type": "object", "required": ["a"]}), '{"a": 1}', None, 1),
        (json_schema({"type": "object", "required": ["a"]}), "{}", None, 0),
        (json_schema({"type": "object"}), "{", None, 0),
        (json_schema({"type": "number"}), "NaN", None, 0),
        (json_schema({"type": "number"}), "[" * 100_000, None, 0),
        (json_schema({"enum": ["x"]}, "f"), {"f": '"x"'}, None, 1),
        (json_schema({"$ref": "http://localhost:9/s.json"}), {}, None, ERROR),
        (numeric_close(abs=0.1), 1.05, 1, 1),
        (numeric_close(rel=0.1), 1.05, 1, 1),
        (numeric_close(rel=0.1), -1.2, -1, 0),
        (numeric_close(), 2**53 - 1, 2**53 - 1, 1),
        (numeric_close("n"), {"n": " 12.50 "}, {"n": 12.5}, 1),
        (numeric_close(abs=9), "twelve", 12, 0),
        (numeric_close(abs=9), "1e999", 12, 0),
        (numeric_close(abs=9), "٣", 3, 0),
        (numeric_close(abs=9), True, 1, 0),
        (numeric_close(abs=9), 1, "x", ERROR),
        (one_of(["a", "b"]), " a ", None, 1),
        (one_of(["a", "b"]), "c", None, 0),
        (one_of([1, True], "k"), {"k": 1.0}, None, 1),
        (length(max=3), "abcd", None, 0),
        (length(min=2, max=3), "日本", None, 1),
        (length(unit="words", max=2), "a b\nc", None, 0),
        (length(), "abcd", None, 4),
        (length(), 4, None, ERROR),
    ],
)
def test_known_answers(evaluator, outputs, reference, expected):
    assert value(evaluator, outputs, reference) == expected


def test_usage():
    usage = Usage(calls=2, latency_s=1.5, cost_usd=0.25, output_tokens=7)
    assert [value(e(), None, None, usage) for e in (latency, cost, output_tokens)] == [1.5, 0.25, 7]
    assert value(cost(), None, None, Usage(calls=1, cost_usd=None)) == ERROR
    assert value(latency(), None, None, Usage()) == ERROR
    assert [(m.direction, m.bounded, m.unit) for m in latency().metrics] == [("lower", False, "s")]


def test_default_names():
    made = [exact_match(), contains("x"), regex("x"), json_schema({}), numeric_close(), one_of([1])]
    made += [length(), latency(), cost()]
    names = "exact_match contains matches valid_json close one_of length latency_s cost_usd"
    assert [e.metrics[0].name for e in made] == names.split()


def test_the_digest_is_of_arguments_not_of_the_name():
    assert exact_match("a").digest == exact_match("a", name="other").digest
    others = [
        exact_match("a"),
        exact_match("b"),
        exact_match("a", ignore_case=True),
        contains(field="a"),
        exact_match(),
    ]
    assert len({e.digest for e in others}) == len(others)
    assert length(max=3).digest != length().digest


@pytest.mark.parametrize("hostile", ["a" * 5_000 + "!", "ab" * 2_000 + "!"])
def test_hostile_text_ends_in_a_timeout(hostile):
    evaluator = regex(r"(a|a|b|ab)*(\1a|b)+$|(a+)+b\3$", timeout_s=0.3)
    began = time.process_time()
    (score,) = asyncio.run(evaluator.evaluate(Sample(outputs=hostile)))
    assert time.process_time() - began < 20  # without the limit it would not end in a lifetime
    assert score.error is None or score.error.kind == "timeout"
    assert score.error is not None or score.value == 0


def test_the_textbook_pattern_is_bounded():
    for text in ("a" * 40 + "!", "a" * 100_000 + "!"):
        began = time.process_time()
        value(regex("(a+)+$", timeout_s=0.5), text)
        value(json_schema({"pattern": "(a+)+$"}), {"x": text})
        assert time.process_time() - began < 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: contains(""),
        lambda: regex("("),
        lambda: regex("a", timeout_s=0),
        lambda: json_schema({"type": "objekt"}),
        lambda: numeric_close(rel=-1),
        lambda: numeric_close(abs=float("nan")),
        lambda: one_of([]),
        lambda: one_of("abc"),
        lambda: length(min=3, max=2),
        lambda: length(unit="lines"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make):
    with pytest.raises(InvalidValue):
        make()


def test_an_invalid_output_scores_the_worst():
    from steelyard.evals.evaluators import evaluator

    @evaluator(direction="lower", range=(0, 5))
    def toxicity(outputs):
        return 0

    scores = invalid_output_scores(
        [exact_match(), toxicity, latency(), length()], "not JSON", Usage(calls=1, latency_s=2.0)
    )
    assert [s.value for s in scores] == [0, 5, 2.0, None]
    assert [s.label for s in scores] == ["invalid_output", "invalid_output", None, None]
    assert scores[3].error.kind == "evaluator"


def test_resolving():
    from steelyard.core.errors import NotFound

    assert resolve_evaluators([]) == ()
    (a, b) = resolve_evaluators(["exact_match", latency()])
    assert a.digest == exact_match().digest
    assert b.metrics[0].name == "latency_s"
    with pytest.raises(NotFound, match="did you mean 'exact_match'"):
        resolve_evaluators(["exact_macth"])
    with pytest.raises(InvalidValue, match="needs arguments"):
        resolve_evaluators(["regex"])
    with pytest.raises(InvalidValue, match="two evaluators measure 'exact_match'"):
        resolve_evaluators([exact_match("a"), exact_match("b")])
    with pytest.raises(InvalidValue, match="is no evaluator"):
        resolve_evaluators([exact_match])
    with pytest.raises(InvalidValue, match="is no list"):
        resolve_evaluators("exact_match")
