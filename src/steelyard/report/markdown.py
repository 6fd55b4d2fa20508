"""The Markdown summary for a pull request's comment: a short table, then details to unfold."""

from __future__ import annotations

from steelyard.core.canonical import short
from steelyard.gates.verdict import Outcome
from steelyard.report.changes import Change, answer, compare, lowest, troubles
from steelyard.report.model import GateReport, SessionReport
from steelyard.report.text import cut, markdown_block, markdown_code, markdown_text, readable
from steelyard.report.words import (
    WORDS,
    counts_line,
    creep_lines,
    finding_words,
    guarantee,
    interval,
    level,
    limit_words,
    number,
    plural,
    requirement_words,
    shown,
    versus,
)

__all__ = ["to_markdown"]

_EMOJI: dict[Outcome, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "unmeasurable": "⚪"}
_MOST_EXAMPLES = 5
_CHARACTERS = 500
_NAME = 160
_MOST_GATES = 50
_MOST_DETAILS = 10
_LIMIT = 60_000  # GitHub takes 65,536 characters in a comment


def to_markdown(session: SessionReport) -> str:
    """The summary in GitHub's Markdown, under the 65,536 characters that a comment may have."""
    lines = [f"### {_EMOJI[session.outcome]} {_text(session.title)}: {counts_line(session)}", ""]
    if session.gates:
        lines += [
            "| | gate | requirement | estimate | interval | n | in words |",
            "|---|---|---|---:|---|---:|---|",
        ]
    for gate in session.gates[:_MOST_GATES]:
        lines += _rows(gate)
    if len(session.gates) > _MOST_GATES:
        lines += ["", f"{len(session.gates) - _MOST_GATES} more gates are in the HTML report."]
    text = "\n".join(lines) + "\n"
    # Gates that did not pass are told of first: they are why one reads on.
    ordered = sorted(session.gates, key=lambda g: g.outcome == "pass")
    for i, gate in enumerate(ordered):
        part = "\n".join(_details(gate)) + "\n"
        if i >= _MOST_DETAILS or len(text) + len(part) > _LIMIT:
            text += f"\nDetails of {plural(len(ordered) - i, 'more gate')} are in the HTML report.\n"
            break
        text += part
    return text


def _text(text: str, limit: int = 600) -> str:
    kept, note = cut(text, limit)
    return markdown_text(kept) + (" …" if note else "")


def _rows(gate: GateReport) -> list[str]:
    name = _text(gate.gate, _NAME)
    if not gate.verdict.findings or gate.error is not None:
        why = gate.error or next(iter(gate.verdict.reasons), gate.verdict.sentence)
        return [f"| {_EMOJI[gate.outcome]} {WORDS[gate.outcome]} | {name} | | | | | {_text(why, _NAME)} |"]
    out: list[str] = []
    for finding in gate.verdict.findings:
        difference = finding.requirement.kind == "not_worse"
        named = requirement_words(finding)
        named += f" ({limit_words(finding)})" if difference else ""
        cells = [
            f"{_EMOJI[finding.outcome]} {WORDS[finding.outcome]}",
            name,
            _text(named, _NAME),
            _text(shown(finding, finding.estimate)),
            _text(interval(finding)),
            str(finding.n),
            _text(finding_words(finding)),
        ]
        out.append(f"| {' | '.join(cells)} |")
    return out


def _details(gate: GateReport) -> list[str]:
    verdict = gate.verdict
    head = f"{_EMOJI[gate.outcome]} {_text(gate.gate, _NAME)}: {WORDS[gate.outcome]}"
    lines = [
        "",
        f"<details><summary>{head}</summary>",
        "",
        *([_text(gate.error), ""] if gate.error else []),
        _text(verdict.sentence),
        "",
    ]
    lines += [f"* {_text(r)}" for r in verdict.reasons if r not in verdict.sentence]
    lines += [
        f"* {_EMOJI[f.outcome]} {_text(f.sentence)} {_text(f.advice)}".rstrip() for f in verdict.findings
    ]
    lines += [f"* {_EMOJI[said]} {_text(text)}" for text, said in creep_lines(gate)]
    lines += ["", f"Weighed: {_text(versus(gate))}.", ""]
    for trouble in troubles(gate):
        message = cut(trouble.messages[0][0], _NAME)[0]
        lines.append(
            f"* {plural(trouble.count, 'row')} of {_text(trouble.arm)}, {_text(trouble.kind)}: "
            f"{markdown_code(message)}"
        )
    for alias in gate.baselines:
        lines += _changes(gate, alias)
    if not any(s is not None for s in gate.baselines.values()) and (lost := lowest(gate)):
        lines += ["", f"{plural(len(lost), 'example')} below full marks, the lowest first:", ""]
        for change in lost[:_MOST_EXAMPLES]:
            lines += _example(gate, change)
    if promise := guarantee(verdict):
        lines += ["", f"<sub>{_text(promise)} Intervals are at {level(verdict)}.</sub>"]
    place = [f"verdict {markdown_code(short(verdict.digest))}"]
    place += [f"evidence {markdown_code(cut(gate.evidence_id, 80)[0])}"] if gate.evidence_id else []
    if gate.git_revision:
        dirty = " with uncommitted changes" if gate.git_dirty else ""
        place.append(f"revision {markdown_code(gate.git_revision[:12])}{dirty}")
    return [*lines, "", f"<sub>{', '.join(place)}</sub>", "", "</details>"]


def _changes(gate: GateReport, alias: str) -> list[str]:
    found = compare(gate, alias)
    if found is None or not found.compared:
        return []
    lines = [
        "",
        f"Against {_text(alias)}: **{len(found.worse)} got worse, {len(found.better)} got better**, "
        f"of {plural(found.compared, 'example')}.",
        "",
    ]
    for change in [*found.worse[:_MOST_EXAMPLES], *found.better[:_MOST_EXAMPLES]]:
        lines += _example(gate, change)
    return lines


def _example(gate: GateReport, change: Change) -> list[str]:
    sign = "worse" if change.delta < 0 else "better"
    moved = ", ".join(
        f"{name} {number(b) + ' → ' if b is not None else ''}{number(a)}" for name, b, a in change.values
    )
    body = [("input", readable(gate.inputs[change.example_id]))] if change.example_id in gate.inputs else []
    if gate.references.get(change.example_id) is not None:
        body.append(("reference", readable(gate.references[change.example_id])))
    body += [("before", answer(change.before[0]))] if change.before else []
    body += [("after", answer(change.after[0]))] if change.after else []
    told: list[str] = []
    for label, text in body:
        kept, note = cut(text, _CHARACTERS)
        told.append(f"{label}: {kept}{' ' + note if note else ''}")
    head = f"{markdown_code(cut(change.example_id, _NAME)[0])} {sign}: {_text(moved)}"
    return [f"{head}", "", markdown_block("\n".join(told)), ""]
