"""Built-ins that compare: exact match, contains, regular expressions, one of a list, length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from steelyard.core.canonical import canonical, plain
from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.core.score import Metric
from steelyard.evals.evaluators.base import Check, Outcome, Sample
from steelyard.evals.evaluators.fields import (
    ABSENT,
    as_text,
    normalised,
    output_at,
    reference_at,
    same,
    shown,
)

__all__ = ["contains", "exact_match", "length", "one_of", "regex"]

_OUTPUTS = frozenset({"outputs"})


def exact_match(
    field: str | None = None,
    *,
    reference: str | None = None,
    ignore_case: bool = False,
    strip: bool = True,
    name: str = "exact_match",
) -> Check:
    """An evaluator that gives 1 where the output equals the reference output, else 0.

    Args:
        field: Path of the part to compare, `"intent"` or `"order.id"`; None for the whole output.
        reference: Path in the reference outputs, where it differs from `field`.
        ignore_case: Compare text without case.
        strip: Leave out blanks around text.
        name: The metric's name.
    """
    of_reference = field if reference is None else reference

    def function(sample: Sample) -> Outcome:
        wanted = reference_at(sample.reference_outputs, of_reference)
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return _absent(field)
        wanted = normalised(wanted, ignore_case=ignore_case, strip=strip)
        if same(normalised(found, ignore_case=ignore_case, strip=strip), wanted):
            return Outcome(1.0)
        return Outcome(0.0, None, f"{shown(found)} is not {shown(wanted)}")

    arguments = {"field": field, "reference": of_reference, "ignore_case": ignore_case, "strip": strip}
    return Check(kind="exact_match", metric=Metric(name=name), arguments=arguments, function=function)


def contains(
    *texts: str,
    field: str | None = None,
    reference: str | None = None,
    ignore_case: bool = False,
    name: str = "contains",
) -> Check:
    """An evaluator that gives 1 where the output holds every one of the texts, else 0.

    Args:
        *texts: What must be in the output. Without any, the example's reference outputs say it: a text, or a
            list of texts that must all be there.
        field: Path of the output's text; None if the output is the text.
        reference: Path in the reference outputs, where it differs from `field`.
        ignore_case: Compare without case.
        name: The metric's name.

    Raises:
        InvalidValue: one of the texts is empty: every output holds it.
    """
    if not all(texts):
        raise InvalidValue("contains('') holds of every output", do="Give the text that must be there.")
    of_reference = field if reference is None else reference

    def function(sample: Sample) -> Outcome:
        wanted = texts or _wanted(reference_at(sample.reference_outputs, of_reference))
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return _absent(field)
        text = as_text(found, "the output")
        text = text.casefold() if ignore_case else text
        missing = [w for w in wanted if (w.casefold() if ignore_case else w) not in text]
        return Outcome(0.0, None, f"lacks {shown(missing)}") if missing else Outcome(1.0)

    arguments = {
        "texts": list(texts),
        "field": field,
        "reference": None if texts else of_reference,
        "ignore_case": ignore_case,
    }
    needs = _OUTPUTS if texts else frozenset({"outputs", "reference_outputs"})
    return Check(
        kind="contains", metric=Metric(name=name), arguments=arguments, function=function, needs=needs
    )


def regex(
    pattern: str,
    field: str | None = None,
    *,
    full: bool = False,
    ignore_case: bool = False,
    timeout_s: float = 1.0,
    name: str = "matches",
) -> Check:
    """An evaluator that gives 1 where the pattern is found in the output, else 0.

    Bounded in time: a pattern such as `(a+)+$` on hostile text ends in an error of kind `timeout`.

    Args:
        pattern: A regular expression of the `regex` package, which knows all that `re` does.
        field: Path of the output's text; None if the output is the text.
        full: The whole text must match.
        ignore_case: Match without case.
        timeout_s: Seconds that one search may take.
        name: The metric's name.

    Raises:
        InvalidValue: the pattern is no regular expression. MissingExtra: `regex` is not installed.
    """
    try:
        import regex as engine
    except ImportError:
        raise MissingExtra("regex", extra="evals", needed_for="the regex evaluator") from None
    if timeout_s <= 0:
        raise InvalidValue(f"timeout_s={timeout_s}", do="Give seconds above 0.")
    try:
        compiled = engine.compile(pattern, engine.IGNORECASE if ignore_case else 0)
    except engine.error as error:
        raise InvalidValue(
            f"{pattern!r} is no regular expression: {error}",
            do="Mend the pattern; a raw string r'...' helps.",
        ) from None
    search: Any = compiled.fullmatch if full else compiled.search

    def function(sample: Sample) -> Outcome:
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return _absent(field)
        text = as_text(found, "the output")
        try:
            match = search(text, timeout=timeout_s, concurrent=True)
        except TimeoutError:
            raise TimeoutError(f"{pattern!r} found no end on this output within {timeout_s:g} s") from None
        return Outcome(1.0) if match else Outcome(0.0, None, f"no match of {pattern!r}")

    arguments = {"pattern": pattern, "field": field, "full": full, "ignore_case": ignore_case}
    return Check(
        kind="regex", metric=Metric(name=name), arguments=arguments, function=function, needs=_OUTPUTS
    )


def one_of(
    values: Sequence[Any], field: str | None = None, *, ignore_case: bool = False, name: str = "one_of"
) -> Check:
    """An evaluator that gives 1 where the output is one of the values, else 0.

    Args:
        values: What is allowed; blanks around text do not count.
        field: Path of the part to look at; None for the whole output.
        ignore_case: Compare text without case.
        name: The metric's name.

    Raises:
        InvalidValue: no values, or a text instead of a list.
    """
    if isinstance(values, str) or not values:
        raise InvalidValue(f"one_of({values!r}) has no list of values", do="Give them: one_of(['a', 'b']).")
    given = sorted(cast("list[Any]", plain(list(values))), key=canonical)
    allowed = [normalised(v, ignore_case=ignore_case, strip=True) for v in given]

    def function(sample: Sample) -> Outcome:
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return _absent(field)
        value = normalised(found, ignore_case=ignore_case, strip=True)
        if any(same(value, a) for a in allowed):
            return Outcome(1.0)
        return Outcome(0.0, None, f"{shown(found)} is none of {shown(given)}")

    arguments = {"values": given, "field": field, "ignore_case": ignore_case}
    return Check(
        kind="one_of", metric=Metric(name=name), arguments=arguments, function=function, needs=_OUTPUTS
    )


def length(
    field: str | None = None,
    *,
    max: int | None = None,
    min: int | None = None,
    unit: Literal["chars", "words"] = "chars",
    name: str = "length",
) -> Check:
    """An evaluator that gives 1 where the output's length is within limits; without limits, the length.

    The length itself is a metric without a range, lower is better.

    Args:
        field: Path of the output's text; None if the output is the text.
        max: Largest allowed length.
        min: Smallest allowed length.
        unit: `"chars"` (code points) or `"words"` (runs of non-blanks).
        name: The metric's name.

    Raises:
        InvalidValue: limits that nothing can meet, or an unknown unit.
    """
    if unit not in ("chars", "words"):
        raise InvalidValue(f"length(unit={unit!r})", do="Use 'chars' or 'words'.")
    if (min is not None and min < 0) or (max is not None and max < (min or 0)):
        raise InvalidValue(f"no length is between min={min} and max={max}", do="Give 0 <= min <= max.")
    limited = min is not None or max is not None

    def function(sample: Sample) -> Outcome:
        found = output_at(sample.outputs, field)
        if found is ABSENT and limited:
            return _absent(field)
        text = as_text("" if found is ABSENT else found, "the output")
        n = len(text) if unit == "chars" else len(text.split())
        if not limited:
            return Outcome(float(n))
        if (min is None or n >= min) and (max is None or n <= max):
            return Outcome(1.0, None, f"{n} {unit}")
        return Outcome(0.0, "too_short" if min is not None and n < min else "too_long", f"{n} {unit}")

    metric = (
        Metric(name=name) if limited else Metric(name=name, direction="lower", low=None, high=None, unit=unit)
    )
    arguments = {"field": field, "max": max, "min": min, "unit": unit}
    return Check(kind="length", metric=metric, arguments=arguments, function=function, needs=_OUTPUTS)


def _absent(field: str | None) -> Outcome:
    return Outcome(0.0, "absent", f"the output has no field {field!r}")


def _wanted(value: Any) -> tuple[str, ...]:
    members: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    texts = tuple(as_text(m, "the reference output") for m in members)
    if not texts or not all(texts):
        raise InvalidValue("the reference output holds no text", do="Say in the dataset what must be there.")
    return texts
