"""promptfoo's assertions as Steelyard's evaluators, where one means the same for every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from steelyard.core.canonical import JSON, canonical
from steelyard.prompts.foreign.build import allowed

__all__ = ["Assertions"]

_KNOWN = (
    "type",
    "value",
    "threshold",
    "weight",
    "metric",
    "provider",
    "transform",
    "config",
    "rubricPrompt",
    "contextTransform",
)
_PER_ROW = {  # the value stands in the row's reference outputs
    "equals": "exact_match(reference='equals')",
    "contains": "contains(reference='contains')",
    "contains-all": "contains(reference='contains')",
    "icontains": "contains(reference='icontains', ignore_case=True)",
    "icontains-all": "contains(reference='icontains', ignore_case=True)",
}
_MODELS = ("llm-", "model-graded", "g-eval", "factuality", "answer-relevance", "context-")
_FIELD = {"contains-all": "contains", "icontains-all": "icontains"}


class Assertions:
    """The assertions of all tests: what goes into the rows, and which evaluators come of them."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._same: dict[tuple[str, bytes], tuple[Any, int]] = {}
        self._said: list[str] = []
        self._tests = 0

    def say(self, sentence: str) -> None:
        """Note what was left behind, once."""
        if sentence not in self._said:
            self._said.append(sentence)

    def of_test(self, given: Sequence[Any], where: str) -> dict[str, JSON]:
        """The reference outputs of a test."""
        self._tests += 1
        reference: dict[str, Any] = {}
        for item in given:
            found = allowed(item, _KNOWN, f"an assertion of {where}")
            kind, value = str(found.get("type")), found.get("value")
            for key in ("transform", "config", "rubricPrompt", "weight", "metric"):
                if found.get(key) is not None:
                    self.say(f"{key!r} of the assertion {kind!r} was left out.")
            if isinstance(value, str) and (value.startswith("file://") or "{{" in value):
                self.say(
                    f"The assertion {kind!r} of {where} takes its value from a file or a variable: left out."
                )
            elif kind in _PER_ROW and value is not None:
                field = _FIELD.get(kind, kind)
                if field == "equals":
                    reference[field] = value
                else:
                    texts = cast("list[Any]", value) if isinstance(value, list) else [value]
                    reference.setdefault(field, []).extend(str(t) for t in texts)
            else:
                fixed = value if value is not None else found.get("threshold")
                key = (kind, canonical(fixed))
                self._same[key] = (fixed, self._same.get(key, (None, 0))[1] + 1)
        self._kinds.update(reference.keys())
        return reference

    def counted(self, rows: int) -> None:
        """Say it where there are no rows at all."""
        if not rows:
            self.say("There are no tests: write a dataset of your own.")

    def evaluators(self, rows: int) -> tuple[list[str], list[str]]:
        """The evaluators as Python source, and what was not carried over."""
        out: list[str] = []
        said = list(self._said)
        for field, n in self._kinds.items():
            if n == self._tests:
                out.append(_PER_ROW[field])
            else:
                said.append(
                    f"Only {n} of {self._tests} tests assert {field!r}: the values are in the rows, but an "
                    "evaluator would miss its reference in the others."
                )
        for (kind, _), (value, n) in self._same.items():
            made = _fixed(kind, value)
            if made is None:
                instead = "a judge(...)" if kind.startswith(_MODELS) else "an @evaluator"
                said.append(
                    f"The assertion {kind!r} has no equivalent and was left out: write it as {instead}."
                )
            elif n < self._tests:
                said.append(f"Only {n} of {self._tests} tests assert {kind!r}: left out; it would be {made}.")
            else:
                out.append(made)
        return out, list(dict.fromkeys(said))


def _fixed(kind: str, value: Any) -> str | None:
    """The evaluator of an assertion that is the same for every row; None where there is none."""
    import re

    if kind == "regex":
        return f"regex({str(value)!r})"
    if kind == "starts-with":
        return f"regex({'^' + re.escape(str(value))!r})"
    if kind == "is-json":
        return f"json_schema({value if isinstance(value, dict) else {}!r})"
    if kind in ("latency", "cost") and not isinstance(value, (int, float, type(None))):
        return None
    if kind == "latency":
        return (
            "latency()"
            if value is None
            else f"latency()  # require at_most('latency_s', {float(value) / 1000:g})"
        )
    if kind == "cost":
        return "cost()" if value is None else f"cost()  # require at_most('cost_usd', {float(value):g})"
    return None
