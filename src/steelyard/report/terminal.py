"""The summary in a terminal: aligned, never wider than asked, colour only where the caller wants it."""

from __future__ import annotations

import textwrap

from steelyard.gates.verdict import Finding, Outcome
from steelyard.report.changes import Change, answer, compare, lowest, troubles
from steelyard.report.model import GateReport, SessionReport
from steelyard.report.text import cut, display_width, fit, no_commands, one_line, readable
from steelyard.report.words import (
    ICONS,
    WORDS,
    counts_line,
    creep_lines,
    finding_words,
    inequality,
    interval,
    number,
    plural,
    seconds,
    shown,
    versus,
)

__all__ = ["to_terminal"]

_COLOURS: dict[Outcome, str] = {"pass": "32", "fail": "31", "inconclusive": "33", "unmeasurable": "35"}
_MOST_CHANGES = 2
_NARROWEST = 40
_MOST_OF_A_MESSAGE = 400
_MOST_WRAPPED = 1200  # characters of one reason; the page has more of it


def to_terminal(report: GateReport | SessionReport, *, colour: bool, width: int) -> str:
    """The report as text without a final newline.

    Args:
        report: A gate, or a session of them.
        colour: Whether to use ANSI colours; the caller knows whether it writes to a terminal.
        width: Columns to use; below 40 counts as 40.
    """
    pen = _Pen(colour=colour, width=max(width, _NARROWEST))
    if isinstance(report, GateReport):
        lines = _gate(report, pen)
    else:
        lines = [line for gate in report.gates for line in [*_gate(gate, pen), ""]]
        lines.append(pen.paint(counts_line(report), _COLOURS[report.outcome], bold=True))
    return no_commands("\n".join(line.rstrip() for line in lines))


class _Pen:
    """Fits and paints text."""

    def __init__(self, *, colour: bool, width: int) -> None:
        self.colour, self.width = colour, width

    def paint(self, text: str, code: str, *, bold: bool = False) -> str:
        """The text, cut to the width, in a colour."""
        line = _keep_indent(text, self.width)
        return f"\x1b[{'1;' if bold else ''}{code}m{line}\x1b[0m" if self.colour else line

    def wrapped(self, text: str, indent: str) -> list[str]:
        """The text over as many lines as it needs, each indented."""
        room = self.width - len(indent)
        # Wide characters count two: wrap by the worst case when there are any.
        kept, note = cut(text, _MOST_WRAPPED)
        line = one_line(f"{kept} {note}" if note else kept)
        per_column = max(display_width(line) / max(len(line), 1), 1)
        return [indent + part for part in textwrap.wrap(line, max(int(room / per_column), 10))]


def _keep_indent(text: str, width: int) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return " " * indent + fit(text, width - indent)


def _gate(gate: GateReport, pen: _Pen) -> list[str]:
    outcome = gate.outcome
    word = f"{ICONS[outcome]} {WORDS[outcome].upper()}"
    head = f"{word}  {gate.gate}"
    lines = [pen.paint(head, _COLOURS[outcome], bold=True)]
    context = versus(gate)
    identity = gate.verdict.candidate
    if identity is not None:
        context += f" on {identity.dataset_name}"
    if gate.seconds:
        context += f", {seconds(gate.seconds)}"
    lines += [pen.paint(line, "2") for line in pen.wrapped(context, "  ")]
    reasons = [*([gate.error] if gate.error else []), *gate.verdict.reasons]
    for reason in reasons:
        lines += pen.wrapped(reason, "    ")
    if not gate.verdict.findings and not reasons:
        lines += pen.wrapped(gate.verdict.sentence, "    ")
    lines += _findings(gate, pen)
    for text, said in creep_lines(gate):
        code = _COLOURS["fail"] if said == "fail" else "2"
        lines += [pen.paint(line, code) for line in pen.wrapped(text, "  ")]
    lines += _troubles(gate, pen)
    lines += _changes(gate, pen)
    return lines


def _findings(gate: GateReport, pen: _Pen) -> list[str]:
    rows = [_cells(f) for f in gate.verdict.findings]
    if not rows:
        return []
    widths = [max(display_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    # Where all of it does not fit, the words move to a line of their own; then the requirement is cut.
    narrow = 2 + sum(widths) + 2 * (len(widths) - 1) > pen.width
    if narrow:
        widths = widths[:-1]
        spare = pen.width - 2 - sum(widths) - 2 * (len(widths) - 1)
        widths[0] = max(widths[0] + min(spare, 0), 18)
    lines: list[str] = []
    for row, finding in zip(rows, gate.verdict.findings, strict=True):
        cells = [
            _pad(cell, w, right=i in (1, 3)) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append(_row(cells, finding.outcome, pen))
        if narrow:
            lines.append(pen.paint(f"      {row[-1]}", _COLOURS[finding.outcome]))
        if finding.outcome != "pass":
            lines += pen.wrapped(finding.sentence, "      ")
            if finding.advice and finding.advice not in finding.sentence:
                lines += pen.wrapped(finding.advice, "      ")
    return lines


def _row(cells: list[str], outcome: Outcome, pen: _Pen) -> str:
    text = "  " + "  ".join(cells)
    used = 0
    kept = ""
    for character in text:  # cut by columns, blanks between the cells kept
        used += display_width(character)
        if used > pen.width:
            kept = kept[:-1] + "…"
            break
        kept += character
    return f"\x1b[{_COLOURS[outcome]}m{kept}\x1b[0m" if pen.colour else kept


def _cells(finding: Finding) -> tuple[str, str, str, str, str]:
    estimate = shown(finding, finding.estimate)
    name = f"{ICONS[finding.outcome]} {inequality(finding)}"
    return one_line(name), estimate, interval(finding), _n(finding), finding_words(finding)


def _n(finding: Finding) -> str:
    return f"n={finding.n}" + (f" ({finding.missing} missing)" if finding.missing else "")


def _pad(text: str, width: int, *, right: bool) -> str:
    shown = fit(text, width)
    blanks = " " * (width - display_width(shown))
    return blanks + shown if right else shown + blanks


def _troubles(gate: GateReport, pen: _Pen) -> list[str]:
    lines: list[str] = []
    if gate.verdict.reasons and (gate.candidate is None or not gate.candidate.rows):
        return lines  # nothing was run, and the reasons say why
    for trouble in troubles(gate):
        message, _ = cut(trouble.messages[0][0], _MOST_OF_A_MESSAGE)
        text = f"! {plural(trouble.count, 'row')} of {trouble.arm}: {trouble.kind}: {message}"
        lines += [pen.paint(line, "33") for line in pen.wrapped(text, "  ")]
    return lines


def _changes(gate: GateReport, pen: _Pen) -> list[str]:
    lines: list[str] = []
    for alias in gate.baselines:
        comparison = compare(gate, alias)
        if comparison is None or not (comparison.worse or comparison.better):
            continue
        counts = f"{len(comparison.worse)} got worse, {len(comparison.better)} got better"
        of = plural(comparison.compared, "example")
        lines.append(_keep_indent(f"  Against {alias}: {counts}, of {of}", pen.width))
        for sign, changes, code in (("−", comparison.worse, "31"), ("+", comparison.better, "32")):
            for change in changes[:_MOST_CHANGES]:
                lines += _example(change, sign, code, gate, pen)
            if len(changes) > _MOST_CHANGES:
                lines.append(
                    pen.paint(f"    {sign} … {len(changes) - _MOST_CHANGES} more in the report", "2")
                )
    if not any(s is not None for s in gate.baselines.values()):
        lost = lowest(gate)
        if lost:
            lines.append(f"  {plural(len(lost), 'example')} below full marks, the lowest first")
        for change in lost[:_MOST_CHANGES]:
            lines += _example(change, "−", "31", gate, pen)
    return lines


def _example(change: Change, sign: str, code: str, gate: GateReport, pen: _Pen) -> list[str]:
    moved = ", ".join(
        f"{name} {number(b) + ' → ' if b is not None else ''}{number(a)}"
        for name, b, a in change.values
        if a != b
    )
    lines = [pen.paint(f"    {sign} {change.example_id}  {moved}", code)]
    given = gate.inputs.get(change.example_id)
    told = [("in", readable(given))] if given is not None else []
    reference = gate.references.get(change.example_id)
    if reference is not None:
        told.append(("wanted", readable(reference)))
    told += [("was", answer(change.before[0]))] if change.before else []
    told += [("now", answer(change.after[0]))] if change.after else []
    room = pen.width - 13
    return lines + [no_commands(f"      {label:<6} {fit(text, room)}") for label, text in told]
