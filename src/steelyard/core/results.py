"""What a run leaves: rows, and the identity of what was run. All candidates end here, in `Scores`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steelyard.core.canonical import JSON, digest, digest_of_list
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Failure, Metric, Score

__all__ = ["Identity", "Row", "Scores", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a row consumed, summed over its model calls (those of evaluators apart).

    Attributes:
        calls: Completed model calls.
        input_tokens: Prompt tokens.
        output_tokens: Completion tokens.
        cost_usd: US dollars; None where a price is unknown.
        latency_s: Seconds spent waiting for the model, as measured when the call was live.
        replayed: How many of the calls came from recordings.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    latency_s: float = 0.0
    replayed: int = 0

    def __add__(self, other: Usage) -> Usage:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            latency_s=self.latency_s + other.latency_s,
            replayed=self.replayed + other.replayed,
        )

    def to_json(self) -> dict[str, JSON]:
        """The usage as a JSON object."""
        return {f: getattr(self, f) for f in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Usage:
        """The usage that `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of one example: exactly one of outputs, invalid output, or failure.

    Attributes:
        example_id: The example.
        trial: 0-based repetition.
        cluster: The example's cluster; None means it stands alone.
        slices: Metadata that rows may be grouped by, as text.
        outputs: What the task returned; with `invalid_output`, the unusable answer.
        invalid_output: Why a completed answer is unusable; it scores the worst value, label `invalid_output`.
        failure: Why there is no answer; such a row has no scores and counts as missing.
        scores: One a metric, in the order of the evaluators.
        usage: What it consumed.
        seconds: Wall seconds of the task, waiting included.
    """

    example_id: str
    trial: int = 0
    cluster: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict[str, str])
    outputs: JSON = None
    invalid_output: str | None = None
    failure: Failure | None = None
    scores: tuple[Score, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Example and trial: what makes a row unique in a run."""
        return self.example_id, self.trial

    def score(self, metric: str) -> Score | None:
        """The score of a metric, or None where the row has none."""
        return next((s for s in self.scores if s.name == metric), None)

    def to_json(self) -> dict[str, JSON]:
        """The row as a JSON object, empty fields left out."""
        out: dict[str, JSON] = {"example_id": self.example_id, "trial": self.trial}
        if self.cluster is not None:
            out["cluster"] = self.cluster
        if self.slices:
            out["slices"] = dict(self.slices)
        if self.outputs is not None:
            out["outputs"] = self.outputs
        if self.invalid_output is not None:
            out["invalid_output"] = self.invalid_output
        if self.failure is not None:
            out["failure"] = self.failure.to_json()
        out["scores"] = [s.to_json() for s in self.scores]
        out["usage"] = self.usage.to_json()
        out["seconds"] = self.seconds
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Row:
        """The row that `to_json` wrote."""
        failure = value.get("failure")
        return cls(
            example_id=value["example_id"],
            trial=value["trial"],
            cluster=value.get("cluster"),
            slices=value.get("slices", {}),
            outputs=value.get("outputs"),
            invalid_output=value.get("invalid_output"),
            failure=Failure.from_json(failure) if failure else None,
            scores=tuple(Score.from_json(s) for s in value["scores"]),
            usage=Usage.from_json(value["usage"]),
            seconds=value["seconds"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that decides what a run measures, by digest.

    Attributes:
        kind: `"prompt"`, `"model"` or `"adapter"`: what the candidate is a version of.
        name: Its name; None where the task uses none.
        subject: Digest of the version; None where the task uses none.
        task: Digest of the task's code.
        lm: Digest of the language model; None where the task uses none.
        lm_name: The model's name, for people; not compared.
        dataset: Digest of the examples that were planned.
        dataset_name: For people; not compared.
        evaluators: Digest of the evaluator behind each metric.
        metrics: The metrics, in the order of the evaluators.
        trials: Repetitions of each example.
    """

    kind: str = "prompt"
    name: str | None = None
    subject: str | None = None
    task: str
    lm: str | None = None
    lm_name: str | None = None
    dataset: str
    dataset_name: str
    evaluators: Mapping[str, str]
    metrics: tuple[Metric, ...]
    trials: int = 1

    @property
    def candidate(self) -> str:
        """Digest of (subject, task, lm): what is weighed."""
        return digest([self.subject, self.task, self.lm])

    @property
    def yardstick(self) -> str:
        """Digest of (dataset, evaluators, trials): what it is weighed with."""
        return digest([self.dataset, dict(self.evaluators), self.trials])

    def to_json(self) -> dict[str, JSON]:
        """The identity as a JSON object."""
        out: dict[str, Any] = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return out | {
            "evaluators": dict(self.evaluators),
            "metrics": [m.to_json() for m in self.metrics],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Identity:
        """The identity that `to_json` wrote."""
        fields: dict[str, Any] = {**value}
        fields["metrics"] = tuple(Metric.from_json(m) for m in value["metrics"])
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All rows of one run of one candidate, as a gate weighs them.

    Attributes:
        identity: What was run.
        planned: The (example id, trial) pairs that were to be run; a planned pair without a row is missing.
        rows: At most one row a planned pair, in any order.

    Raises:
        InvalidValue: two rows for one pair, or a row that was not planned.
    """

    identity: Identity
    planned: tuple[tuple[str, int], ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        keys = [r.key for r in self.rows]
        if len(set(keys)) < len(keys):
            raise InvalidValue(
                "a run holds two rows for one example and trial",
                do="The evidence is damaged: run again.",
            )
        if stray := set(keys) - set(self.planned):
            raise InvalidValue(
                f"a run holds rows that were not planned: {sorted(stray)[:3]}",
                do="The evidence is damaged: run again.",
            )

    def digest_of_values(self) -> str:
        """Digest of what was measured (outputs, scores, failures' kinds), without clocks, costs or identity.

        Two runs with the same digest are the same look at the data.
        """
        return digest_of_list(
            [
                *r.key,
                r.outputs,
                r.invalid_output,
                r.failure.kind if r.failure else None,
                [[s.name, s.value, s.label, s.error.kind if s.error else None] for s in r.scores],
            ]
            for r in sorted(self.rows, key=lambda r: r.key)
        )
