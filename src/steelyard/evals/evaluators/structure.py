"""Built-ins for typed answers: a JSON schema, a number close enough."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from steelyard.core.canonical import JSON, plain
from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.core.score import Metric
from steelyard.evals.evaluators.base import Check, Outcome, Sample
from steelyard.evals.evaluators.fields import ABSENT, as_number, output_at, reference_at, shown

__all__ = ["json_schema", "numeric_close"]

_PATTERN_S = 1.0  # seconds one `pattern` of a schema may search


def json_schema(schema: Mapping[str, JSON], field: str | None = None, *, name: str = "valid_json") -> Check:
    """An evaluator that gives 1 where the output meets a JSON schema (draft 2020-12), else 0.

    An output that is text is read as JSON first. References in the schema reach only the schema itself:
    nothing is fetched. Its `pattern` keywords are bounded in time.

    Args:
        schema: The schema.
        field: Path of the part to check; None for the whole output.
        name: The metric's name.

    Raises:
        InvalidValue: the schema is none. MissingExtra: `jsonschema` is not installed.
    """
    stored = plain(schema)
    validator = _validator(stored)
    from referencing.exceptions import Unresolvable as unresolvable

    def function(sample: Sample) -> Outcome:
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return Outcome(0.0, "absent", f"the output has no field {field!r}")
        if isinstance(found, str):
            try:
                found = json.loads(found, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                return Outcome(0.0, "not_json", str(error)[:500])
        try:
            error = next(iter(validator.iter_errors(found)), None)
        except RecursionError:
            return Outcome(0.0, "invalid", "nested too deeply")
        except unresolvable as error:
            raise InvalidValue(
                f"the schema refers to what is not in it: {error}"[:500], do="Put it under $defs."
            ) from None
        if error is None:
            return Outcome(1.0)
        where = "/".join(map(str, error.absolute_path)) or "the whole"
        return Outcome(0.0, "invalid", f"{where}: {error.message}"[:500])

    return Check(
        kind="json_schema",
        metric=Metric(name=name),
        arguments={"schema": stored, "field": field},
        function=function,
        needs=frozenset({"outputs"}),
    )


def numeric_close(
    field: str | None = None,
    *,
    rel: float = 0.0,
    abs: float = 0.0,
    reference: str | None = None,
    name: str = "close",
) -> Check:
    """An evaluator that gives 1 where |output − reference| ≤ max(rel · |reference|, abs), else 0.

    Text that is a number counts as that number; any other output scores 0, labelled `not_a_number`.

    Args:
        field: Path of the number; None if the output is the number.
        rel: Allowed difference as a share of the reference.
        abs: Allowed difference in the number's own unit.
        reference: Path in the reference outputs, where it differs from `field`.
        name: The metric's name.

    Raises:
        InvalidValue: a tolerance below 0 or not finite.
    """
    for tolerance in (rel, abs):
        if not 0 <= tolerance < float("inf"):
            raise InvalidValue(f"a tolerance of {tolerance}", do="Give a finite number from 0 on.")
    of_reference = field if reference is None else reference

    def function(sample: Sample) -> Outcome:
        given = reference_at(sample.reference_outputs, of_reference)
        wanted = as_number(given)
        if wanted is None:
            raise InvalidValue(f"the reference output {shown(given)} is no number", do="Mend the dataset.")
        found = output_at(sample.outputs, field)
        if found is ABSENT:
            return Outcome(0.0, "absent", f"the output has no field {field!r}")
        value = as_number(found)
        if value is None:
            return Outcome(0.0, "not_a_number", shown(found))
        distance = value - wanted if value > wanted else wanted - value
        if distance <= max(rel * (wanted if wanted > 0 else -wanted), abs):
            return Outcome(1.0)
        return Outcome(0.0, None, f"{value!r} is {distance!r} away from {wanted!r}")

    arguments = {"field": field, "rel": float(rel), "abs": float(abs), "reference": of_reference}
    return Check(kind="numeric_close", metric=Metric(name=name), arguments=arguments, function=function)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _validator(schema: JSON) -> Any:
    try:
        from referencing import Registry
    except ImportError:
        raise MissingExtra("jsonschema", extra="evals", needed_for="the json_schema evaluator") from None
    from jsonschema import SchemaError

    if not isinstance(schema, (dict, bool)):
        raise InvalidValue(f"{shown(schema)} is no JSON schema", do="Give an object.")
    kind = _bounded()
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the whole"
        raise InvalidValue(f"no JSON schema: {where}: {error.message}"[:500], do="Mend the schema.") from None
    except RecursionError:
        raise InvalidValue("the schema is nested too deeply", do="Flatten it.") from None
    return kind(schema, registry=Registry())  # an empty registry: a remote $ref is an error, not a download


@cache
def _bounded() -> Any:
    """Draft 2020-12 whose `pattern` cannot be made to search for ever."""
    import regex
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(validator: Any, source: str, instance: Any, _: Any) -> Iterator[ValidationError]:
        if not validator.is_type(instance, "string"):
            return
        try:
            found = regex.search(source, instance, timeout=_PATTERN_S, concurrent=True)
        except TimeoutError:
            raise TimeoutError(f"the pattern {source!r} found no end within {_PATTERN_S:g} s") from None
        if not found:
            yield ValidationError(f"{instance!r} does not match {source!r}")

    return extend(Draft202012Validator, {"pattern": pattern})
