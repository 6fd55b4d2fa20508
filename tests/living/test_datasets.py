"""The living example's data: sizes, splits, labels, grounding, and nothing shared between splits."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.dataset import Dataset, Example

EVALS = Path(__file__).parents[2] / "evals"
INTENTS = {"billing", "cancel", "delivery", "refund", "technical", "account"}
ANSWER = re.compile(r"[1-9][0-9]{0,3} (hours|days|working days|weeks|months|years|percent|euros|items)")


def load(name: str) -> Dataset:
    lines = (EVALS / "datasets" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return Dataset(name=name, examples=tuple(Example(**json.loads(line)) for line in lines))


@pytest.fixture(scope="module")
def intents() -> Dataset:
    return load("support-intent")


@pytest.fixture(scope="module")
def policy() -> Dataset:
    return load("refund-policy")


def count(dataset: Dataset, split: str, language: str) -> int:
    return sum(e.split == split and e.metadata["language"] == language for e in dataset.examples)


def words(text: Any) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", str(text).lower()))


def near_duplicates(texts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of texts from different splits that share more than 60 % of their words."""
    found: list[tuple[str, str]] = []
    bags = [(text, split, words(text)) for text, split in texts]
    for (a, split_a, bag_a), (b, split_b, bag_b) in combinations(bags, 2):
        if split_a != split_b and len(bag_a & bag_b) > 0.6 * len(bag_a | bag_b):
            found.append((a, b))
    return found


def reference(example: Example, key: str) -> str:
    assert isinstance(example.reference_outputs, dict)
    value = example.reference_outputs[key]
    assert isinstance(value, str)
    return value


def test_support_intent_has_the_promised_sizes(intents: Dataset) -> None:
    assert count(intents, "test", "en") >= 110
    assert count(intents, "test", "ja") >= 8
    assert count(intents, "test", "ja") + count(intents, "reserve", "ja") >= 27
    assert count(intents, "train", "en") >= 140
    assert count(intents, "dev", "en") >= 40
    assert {e.split for e in intents.examples} == {"train", "dev", "test", "reserve"}


def test_support_intent_labels_are_the_six_and_none_is_rare(intents: Dataset) -> None:
    for split in ("train", "dev", "test"):
        labels = Counter(reference(e, "intent") for e in intents.examples if e.split == split)
        assert set(labels) == INTENTS
        assert max(labels.values()) <= 1.5 * min(labels.values())


def test_support_intent_test_rows_stand_alone(intents: Dataset) -> None:
    # The gate's exact binary tests hold for independent rows only, so threads are in the train split.
    assert {e.split for e in intents.examples if e.cluster} == {"train"}


def test_refund_policy_has_the_promised_sizes(policy: Dataset) -> None:
    assert count(policy, "test", "en") + count(policy, "reserve", "en") >= 150
    assert count(policy, "test", "en") >= 80
    assert count(policy, "test", "ja") >= 10
    assert count(policy, "test", "ja") + count(policy, "reserve", "ja") >= 29
    assert count(policy, "dev", "en") >= 28
    assert len({e.cluster for e in policy.examples if e.split == "test"}) >= 40


def test_refund_answers_stand_word_for_word_in_a_clause_of_the_policy(policy: Dataset) -> None:
    text = (EVALS / "datasets" / "refund-policy.md").read_text(encoding="utf-8")
    clauses = dict(re.findall(r"^\*\*(\d+\.\d+)\*\* (.+)$", text, flags=re.MULTILINE))
    assert len(clauses) >= 90
    for example in policy.examples:
        named = example.metadata["clauses"]
        assert isinstance(named, list)
        assert example.cluster == f"clause-{named[0]}"
        shown = str(example.inputs["clause"])
        assert len(shown) == sum(len(clauses[str(n)]) for n in named) + len(named) - 1, example.id
        assert all(clauses[str(n)] in shown for n in named), example.id
        answer = reference(example, "answer")
        if answer != "not stated":
            assert ANSWER.fullmatch(answer), example.id
            assert re.search(rf"\b{re.escape(answer)}\b", clauses[str(named[0])]), example.id


def test_refund_clauses_are_never_shared_between_splits(policy: Dataset) -> None:
    seen: dict[str, set[Any]] = {"dev": set(), "test": set(), "reserve": set()}
    for example in policy.examples:
        assert isinstance(example.metadata["clauses"], list)
        seen[str(example.split)].update(example.metadata["clauses"])
    assert not seen["dev"] & seen["test"]
    assert not seen["dev"] & seen["reserve"]


@pytest.mark.parametrize(("name", "key"), [("support-intent", "message"), ("refund-policy", "question")])
def test_inputs_are_unique_and_splits_share_no_near_duplicates(name: str, key: str) -> None:
    texts = [(str(e.inputs[key]), str(e.split)) for e in load(name).examples]
    assert all(text == text.strip() and text for text, _ in texts)
    assert [t for t, n in Counter(text for text, _ in texts).items() if n > 1] == []
    assert near_duplicates(texts) == []


def test_the_near_duplicate_check_finds_one() -> None:
    pairs = [("Where is my blue parcel now?", "train"), ("where is my parcel now", "test")]
    assert near_duplicates(pairs) == [(pairs[0][0], pairs[1][0])]


def test_japanese_rows_are_japanese_and_english_rows_are_not(intents: Dataset, policy: Dataset) -> None:
    kana = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
    for example in (*intents.examples, *policy.examples):
        text = str(example.inputs.get("message", example.inputs.get("question")))
        assert bool(kana.search(text)) == (example.metadata["language"] == "ja"), example.id
