"""The change since the anchor: small losses add up, and the report shows the sum beside a passing verdict."""

from __future__ import annotations

from html import unescape

import pytest

from steelyard import Dataset, Example, Gate, at_least, exact_match, not_worse_than
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.weigh import weigh
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.prompts import load_prompt
from steelyard.report.markdown import to_markdown
from steelyard.report.model import SessionReport
from steelyard.report.page import to_html
from steelyard.report.terminal import to_terminal
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

PROMPT = "description: d\ntemplate: 'skill={skill} {{{{ x }}}}'\nvariables: {{x: int}}\n"
DATA = Dataset(
    name="numbers",
    examples=tuple(Example(id=f"e{i:04}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(500)),
)


def task(inputs, prompt):
    """Right on as many of a hundred examples as the prompt's skill says."""
    skill = int(prompt.render(x=inputs["x"]).messages[-1]["content"].split("skill=")[1].split()[0])
    return {"y": inputs["x"] if inputs["x"] % 100 < skill else -1}


def spec(*, data=DATA, require=None):
    return Gate(
        task=task,
        name="count",
        dataset=data,
        prompt="count",
        evaluators=[exact_match("y")],
        require=require or [not_worse_than("production", "exact_match", margin=0.05)],
    )


class Project:
    def __init__(self, root, store):
        self.root, self.store = root, store
        (root / "pyproject.toml").write_text("[tool.steelyard]\n")
        (root / "prompts").mkdir()
        self.settings = load_settings(root, environ={})

    def gate(self, skill, **fields):
        (self.root / "prompts" / "count.yaml").write_text(PROMPT.format(skill=skill))
        with Workspace(self.settings, store=self.store) as workspace:
            return run_gate(spec(**fields), workspace)

    def set(self, alias, evidence=()):
        prompt = load_prompt("count", self.settings)
        self.store.register("prompt", "count", digest=prompt.digest, content=prompt.content())
        before = self.store.aliases("prompt", "count").get(alias)
        entry = LedgerEntry(
            kind="prompt",
            name="count",
            alias=alias,
            before=before,
            after=prompt.digest,
            action="promote",
            who="test",
            when="2026-01-01T00:00:00.000Z",
            evidence=evidence,
        )
        self.store.move_alias(entry)
        return prompt.digest


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path, MemoryStore())


def live(project, skill, *aliases):
    report = project.gate(skill, require=[at_least("exact_match", 0.1)])
    for alias in aliases:
        digest = project.set(alias, (report.evidence_id,))
    return digest


def test_each_step_is_within_the_margin_and_the_sum_is_not(project):
    digest = live(project, 90, "production", "anchor")
    said = []
    for skill in (88, 86, 84):
        report = project.gate(skill)
        assert report.outcome == "pass"  # two points lost, five are tolerated
        said.append(report)
        project.set("production", (report.evidence_id,))
    assert [r.creep.findings[0].outcome for r in said] == ["pass", "fail", "fail"]
    last = said[-1]
    (finding,) = last.creep.findings
    assert finding.estimate == pytest.approx(-0.06)
    assert finding.low < -0.06 < finding.high < 0
    assert (last.creep.alias, last.creep.subject) == ("anchor", digest)
    short = digest[7:19]
    session = SessionReport(gates=(last,))
    line = f"Since anchor ({short}): exact_match −0.06"
    for text in (to_terminal(last, colour=False, width=160), to_markdown(session), to_html(session)):
        assert line in unescape(text)
        assert "proven worse" in text
    assert "Creep" in to_html(session)
    assert "\x1b[31m  Since anchor" in to_terminal(last, colour=True, width=200)
    assert "\x1b[2m  Since anchor" in to_terminal(said[0], colour=True, width=200)
    # It is no part of the verdict, which follows from the evidence alone, byte for byte.
    bundle = EvidenceBundle.open(project.settings.home / "evidence" / last.evidence_id)
    assert weigh(bundle).to_bytes() == last.verdict.to_bytes()
    assert "anchor" not in last.verdict.baselines


def test_the_anchor_itself_is_unchanged_since(project):
    live(project, 90, "production", "anchor")
    live(project, 91, "production")
    report = project.gate(90)
    assert report.creep.findings[0].method == "identical"
    assert "unchanged" in to_terminal(report, colour=False, width=160)


def test_without_an_anchor_nothing_is_said(project):
    live(project, 90, "production")
    report = project.gate(90)
    assert report.creep is None
    assert "Since" not in to_terminal(report, colour=False, width=160)
    assert "Creep" not in to_html(SessionReport(gates=(report,)))


def test_no_run_is_paid_for_it(project):
    live(project, 90, "anchor")
    live(project, 91, "production")
    other = Dataset(name="others", examples=DATA.examples[:300])
    live_on_other = project.gate(92, data=other)
    assert live_on_other.creep.reason.startswith("count@anchor")
    assert "no stored outputs" in to_terminal(live_on_other, colour=False, width=300)
    assert live_on_other.outcome == "pass"


def test_another_name_for_the_anchor(project):
    live(project, 90, "q3")
    live(project, 91, "production")
    project.settings = project.settings.with_(anchor="q3")
    report = project.gate(91)
    assert report.creep.alias == "q3"
    assert report.creep.findings[0].estimate == pytest.approx(0.01)


def test_a_gate_that_compares_with_the_anchor_anyway_says_it_once(project):
    live(project, 90, "production", "anchor")
    report = project.gate(
        91,
        require=[
            not_worse_than("production", "exact_match", margin=0.05),
            not_worse_than("anchor", "exact_match", margin=0.05),
        ],
    )
    assert report.creep is None
    assert len(report.verdict.findings) == 2
