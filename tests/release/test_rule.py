"""The rule of promotion against every way evidence can fall short."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steelyard.release.rule import newest, weigh_evidence
from steelyard.store import EvidenceInfo

NOW, NEW, OLD = "sha256:now", "sha256:new", "sha256:old"
IDS = count()


def evidence(**changes: Any) -> EvidenceInfo:
    base = EvidenceInfo(
        id=f"e{next(IDS)}",
        digest="x",
        gate="g",
        kind="prompt",
        name="p",
        subject=NEW,
        candidate="c",
        yardstick="y",
        values="v",
        outcome="pass",
        policy="P",
        baselines={"production": NOW},
        metrics={},
        created="2026-01-01T00:00:00.000Z",
    )
    return replace(base, **changes)


def weigh(*found: EvidenceInfo, required: dict[str, str] | None = None) -> tuple[str, ...]:
    required = {"g": "P"} if required is None else required
    return weigh_evidence(NEW, alias="production", current=NOW, required=required, evidence=found).missing


def test_passing_evidence_carries() -> None:
    standing = weigh_evidence(
        NEW, alias="production", current=NOW, required={"g": "P"}, evidence=[e := evidence()]
    )
    assert (standing.carried, standing.missing) == ((e,), ())


def test_each_way_to_fall_short_is_named() -> None:
    assert "has not decided" in weigh()[0]
    assert "has not decided" in weigh(evidence(subject=OLD))[0]
    assert "has not decided" in weigh(evidence(gate="h"))[0]
    assert "has not decided" in weigh(evidence(outcome="recorded"))[0]
    assert "is required" in weigh(evidence(policy="Q"))[0]
    assert "compared with" in weigh(evidence(baselines={"production": OLD}))[0]
    assert "compared with" in weigh(evidence(baselines={"production": None}))[0]
    for outcome in ("fail", "inconclusive", "unmeasurable"):
        assert f"is {outcome}" in weigh(evidence(outcome=outcome))[0]
    assert "no gate is required" in weigh(evidence(), required={})[0]
    assert "no required gate compares" in weigh(evidence(baselines={}))[0]
    assert "no required gate compares" in weigh(evidence(baselines={"staging": NOW}))[0]


def test_the_newest_verdict_decides() -> None:
    early, late = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"
    failed, passed = evidence(outcome="fail", created=late), evidence(created=early)
    assert "is fail" in weigh(passed, failed)[0]
    assert "is fail" in weigh(failed, passed)[0]  # whatever the order they come in
    assert weigh(replace(failed, created=early), replace(passed, created=late)) == ()
    assert weigh(passed, evidence(outcome="recorded", created=late)) == ()
    assert weigh(passed, evidence(outcome="fail", created=late, subject=OLD)) == ()
    # an older pass under the required policy does not count once another policy decided
    assert "is required" in weigh(passed, evidence(policy="Q", created=late))[0]


def test_every_required_gate_needs_its_own() -> None:
    both = {"g": "P", "h": "H"}
    assert "gate 'h' has not decided" in weigh(evidence(), required=both)[0]
    assert weigh(evidence(), evidence(gate="h", policy="H", baselines={}), required=both) == ()
    assert weigh(evidence(), evidence(gate="other", outcome="fail")) == ()


ONE = st.builds(
    evidence,
    gate=st.sampled_from("gh"),
    subject=st.sampled_from([NEW, OLD, None]),
    outcome=st.sampled_from(["pass", "fail", "inconclusive", "unmeasurable", "recorded"]),
    policy=st.sampled_from("PQ"),
    baselines=st.sampled_from([{}, {"production": NOW}, {"production": OLD}, {"production": None}]),
    created=st.sampled_from(["2026-01-01", "2026-01-02", "2026-01-03"]),
)


@given(st.lists(ONE, max_size=8), st.dictionaries(st.sampled_from("gh"), st.sampled_from("PQ")))
def test_what_is_carried_meets_every_demand(found: list[EvidenceInfo], required: dict[str, str]) -> None:
    standing = weigh_evidence(NEW, alias="production", current=NOW, required=required, evidence=found)
    if standing.missing:
        return
    assert required
    assert {e.gate: e.policy for e in standing.carried} == required
    for one in standing.carried:
        assert (one.subject, one.outcome) == (NEW, "pass")
        assert one.baselines.get("production", NOW) == NOW
        later = [e for e in found if (e.gate, e.subject) == (one.gate, NEW) and e.created > one.created]
        assert all(e.outcome == "recorded" for e in later)
    assert any(e.baselines.get("production") == NOW for e in standing.carried)
    assert newest([], "g") is None
