"""autoevals scorers: classes and objects. A score of None is a skipped row."""

from __future__ import annotations

import inspect
from typing import Any, cast

from steelyard.evals.evaluators.foreign.identity import identified
from steelyard.evals.evaluators.foreign.part import Part, Reading, Seen

__all__ = ["part_of"]


def part_of(value: Any, version: str | None) -> Part | None:
    """The scorer, or None for anything else of the package. By its own contract 0 is worst and 1 best."""
    if not hasattr(value, "eval") or not hasattr(value, "eval_async"):
        return None
    # autoevals' own users hand over the class.
    scorer: Any = cast("Any", value)() if inspect.isclass(value) else value
    bound: Any = scorer._partial_args() if hasattr(scorer, "_partial_args") else {}
    client = getattr(scorer, "client", None)
    is_async = type(client).__name__.startswith("Async") or getattr(client, "is_async", False) is True

    def call(seen: Seen) -> Any:
        score = scorer.eval_async if is_async else scorer.eval
        return score(seen.outputs, seen.reference, input=seen.inputs)

    identity = identified(scorer, "autoevals", version, leave_out=("name",))
    if bound:
        from steelyard.core.objects import described_object

        identity["bound"] = described_object(bound, version)
    return Part(
        package="autoevals",
        name=str(scorer._name()) if hasattr(scorer, "_name") else type(scorer).__name__,
        call=call,
        read=_read,
        identity=identity,
        is_async=is_async,
        direction="higher",
        low=0.0,
        high=1.0,
        gives="number",
    )


def _read(returned: Any) -> tuple[Reading, ...]:
    if not hasattr(returned, "score") or not hasattr(returned, "metadata"):
        return (Reading(error=f"it returned a {type(returned).__name__}, no Score"),)
    about: dict[str, Any] = dict(returned.metadata or {})
    wrong = getattr(returned, "error", None)
    choice, why = about.get("choice"), about.get("rationale")
    return (
        Reading(
            value=returned.score,
            label=choice if isinstance(choice, str) else None,
            explanation=why if isinstance(why, str) else None,
            error=f"{type(wrong).__name__}: {wrong}"
            if isinstance(wrong, Exception)
            else wrong and str(wrong),
        ),
    )
