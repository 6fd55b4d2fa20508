"""What happened to the rows, in HTML: better and worse, errors, cost, slices, the prompt's diff."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.core.canonical import JSON
from steelyard.report.changes import (
    Change,
    answer,
    arm_cost,
    compare,
    lowest,
    slice_means,
    troubles,
)
from steelyard.report.markup import Child, Markup, el
from steelyard.report.model import GateReport
from steelyard.report.pictures import change_bar, latency_picture
from steelyard.report.text import as_fields, as_text, cut, one_line
from steelyard.report.worddiff import Span, line_diff, word_diff
from steelyard.report.words import number, plural, seconds, signed, usd

__all__ = ["changed", "cost", "prompt_diff", "slices", "trouble"]

_CARDS = 6
_CARD_CHARACTERS = 1500
_CELL_CHARACTERS = 240
_TABLE_ROWS = 200
_DIFF_LINES = 400
_PROMPT_CHARACTERS = 60_000


def changed(gate: GateReport, alias: str | None) -> Markup | None:
    """What got worse and better against a baseline; with None, the candidate's lowest examples."""
    if alias is None:
        return _lowest(gate)
    found = compare(gate, alias)
    if found is None or not found.compared:
        return None
    worse, better = found.worse, found.better
    notes = [plural(found.compared, "example") + " compared on " + ", ".join(found.metrics)]
    if found.reworded:
        notes.append(f"{len(found.reworded):,} answered differently with the same scores")
    if found.unpaired:
        notes.append(f"{found.unpaired:,} without a score in one of the arms")
    rows = [*worse, *better, *found.reworded]
    return el(
        "section",
        el("h3", "What changed against ", el("em", alias)),
        el(
            "div",
            _count(len(worse), "got worse", "worse"),
            _count(found.compared - len(worse) - len(better), "same scores", "still"),
            _count(len(better), "got better", "better"),
            cls="counts",
        ),
        change_bar(found),
        el("p", "; ".join(notes) + ".", cls="hint"),
        _cards(gate, "Got worse", worse, alias, is_open=True),
        _cards(gate, "Got better", better, alias, is_open=not worse),
        _table(gate, rows, alias),
        cls="changes",
    )


def _lowest(gate: GateReport) -> Markup | None:
    lost = lowest(gate)
    if not lost:
        return None
    return el(
        "section",
        el("h3", "Examples below full marks"),
        el("p", f"{plural(len(lost), 'example')}, the lowest first.", cls="hint"),
        _cards(gate, "Lowest", lost, None, is_open=True),
        _table(gate, lost, None),
        cls="changes",
    )


def _count(count: int, word: str, cls: str) -> Markup:
    return el("p", el("b", f"{count:,}"), el("span", word), cls=cls)


def _cards(
    gate: GateReport, title: str, changes: Sequence[Change], alias: str | None, *, is_open: bool
) -> Markup | None:
    if not changes:
        return None
    more = len(changes) - _CARDS
    return el(
        "details",
        el("summary", el("h4", title), el("span", plural(len(changes), "example"), cls="hint")),
        [_card(gate, change, alias) for change in changes[:_CARDS]],
        el("p", f"{plural(more, 'more example')} in the table below.", cls="hint") if more > 0 else None,
        open="" if is_open else None,
        cls="cards",
    )


def _card(gate: GateReport, change: Change, alias: str | None) -> Markup:
    reference = gate.references.get(change.example_id)
    given = gate.inputs.get(change.example_id)
    # With trials, those that differ are the ones to look at.
    before, after = _telling_pair(change)
    left, right = word_diff(before, after) if change.before and change.after else ([], [(after, False)])
    return el(
        "div",
        el("p", el("code", change.example_id), _moves(change), cls="exhead"),
        _block("Input", given) if given is not None else None,
        _block("Reference", reference) if reference is not None else None,
        el(
            "div",
            _side(alias or "baseline", left, "del") if change.before else None,
            _side("candidate", right, "ins"),
            cls="sides",
        ),
        cls="example",
    )


def _telling_pair(change: Change) -> tuple[str, str]:
    before = [answer(r)[: _CARD_CHARACTERS * 4] for r in change.before] or [""]
    after = [answer(r)[: _CARD_CHARACTERS * 4] for r in change.after] or [""]
    pairs = [(b, a) for b, a in zip(before, after, strict=False) if b != a]
    if not pairs and [r.outputs for r in change.before] != [r.outputs for r in change.after]:
        # They differ in what the readable form leaves out, such as text against an object.
        before, after = ([as_text(r.outputs) for r in rows] or [""] for rows in (change.before, change.after))
    b, a = pairs[0] if pairs else (before[0], after[0])
    return _short(b, _CARD_CHARACTERS), _short(a, _CARD_CHARACTERS)


def _short(text: str, limit: int) -> str:
    kept, note = cut(text, limit)
    return f"{kept}\n{note}" if note else kept


def _moves(change: Change) -> Child:
    shown: list[Markup] = []
    for metric, before, after in change.values:
        moved = before is not None and after is not None and before != after
        text = (
            f"{metric} {number(before)} → {number(after)}"
            if before is not None
            else f"{metric} {number(after)}"
        )
        shown.append(el("span", text, cls="move moved" if moved else "move"))
    return shown


def _block(title: str, value: JSON) -> Markup:
    fields = as_fields(value)
    named: list[Child] = []
    for name, text in fields[:20]:
        label = el("span", name, cls="field") if name and len(fields) > 1 else None
        named.append(el("div", label, _short(text, _CARD_CHARACTERS), cls="text"))
    if len(fields) > 20:
        named.append(el("p", f"{len(fields) - 20} more fields not shown", cls="hint"))
    return el("div", el("h5", title), named, cls="block")


def _side(title: str, spans: Sequence[Span], tag: str) -> Markup:
    return el("div", el("h5", title), el("div", _spans(spans, tag), cls="text"), cls=f"side {tag}")


def _spans(spans: Sequence[Span], tag: str) -> Child:
    return [el(tag, text) if marked else text for text, marked in spans]


def _table(gate: GateReport, changes: Sequence[Change], alias: str | None) -> Markup | None:
    if not changes:
        return None
    heads = ["Example", "Scores", "Input", *([alias] if alias else []), "Candidate"]
    rows: list[Markup] = []
    for change in changes[:_TABLE_ROWS]:
        before, after = _telling_pair(change)
        given = " · ".join(text for _, text in as_fields(gate.inputs.get(change.example_id, "")))
        cells: list[Child] = [el("code", change.example_id), _moves(change), _cell(given)]
        cells += [_cell(before)] if alias else []
        cells.append(_cell(after))
        named = zip(heads, cells, strict=True)
        side = "worse" if change.delta < 0 else "better" if change.delta > 0 else "still"
        rows.append(el("tr", [el("td", el("span", h, cls="th"), c) for h, c in named], cls=side))
    more = len(changes) - len(rows)
    return el(
        "details",
        el(
            "summary",
            el("h4", "All changed rows" if alias else "All of them"),
            el("span", plural(len(changes), "row"), cls="hint"),
        ),
        el(
            "table",
            el("thead", el("tr", [el("th", h, scope="col") for h in heads])),
            el("tbody", rows),
            cls="rows",
        ),
        el("p", f"{plural(more, 'more row')} not shown; the evidence holds all of them.", cls="hint")
        if more > 0
        else None,
    )


def _cell(text: str) -> Markup:
    # In quotation marks, so that a cell copied into a spreadsheet never starts with "=".
    kept, note = cut(one_line(text[: _CELL_CHARACTERS * 4]), _CELL_CHARACTERS)
    return el("span", f"“{kept}{'…' if note else ''}”", cls="cell")


def _name(text: str) -> str:
    # A name is shown bare unless a spreadsheet would take the copied cell for a formula.
    return f"“{text}”" if text.lstrip()[:1] in {"=", "+", "-", "@"} else text


def trouble(gate: GateReport) -> Markup | None:
    """Errors by kind, invalid outputs and rows that never came; None where all is well."""
    found = troubles(gate)
    if not found:
        return None
    items = [
        el(
            "li",
            el("p", el("b", plural(t.count, "row")), f" of {t.arm}: {t.kind}"),
            el(
                "ul",
                [
                    el("li", el("code", _short(one_line(m[:2000]), 300)), f" ×{n}" if n > 1 else None)
                    for m, n in t.messages
                ],
            ),
        )
        for t in found
    ]
    return el(
        "section",
        el("h3", "Errors and invalid outputs"),
        el(
            "p",
            "An error is never a score: such rows count as missing. An invalid output is an answer "
            "that cannot be used, and scores the worst value.",
            cls="hint",
        ),
        el("ul", items, cls="troubles"),
    )


def cost(gate: GateReport) -> Markup | None:
    """Tokens, cost and latency of the arms; None where no model was called."""
    arms = [a for a in arm_cost(gate) if a.usage.calls]
    if not arms:
        return None
    lines: list[tuple[str, list[str]]] = [
        ("Model calls", [f"{a.usage.calls:,}" for a in arms]),
        ("from recordings", [f"{a.usage.replayed:,}" for a in arms]),
        ("Input tokens", [f"{a.usage.input_tokens:,}" for a in arms]),
        ("Output tokens", [f"{a.usage.output_tokens:,}" for a in arms]),
        ("Cost", [usd(a.usage.cost_usd) for a in arms]),
        ("Latency p50", [seconds(a.p50) for a in arms]),
        ("Latency p95", [seconds(a.p95) for a in arms]),
    ]
    table = el(
        "table",
        el("thead", el("tr", el("th", ""), [el("th", a.arm, scope="col") for a in arms])),
        el("tbody", [el("tr", el("th", k, scope="row"), [el("td", v) for v in vs]) for k, vs in lines]),
        cls="numbers",
    )
    return el(
        "section",
        el("h3", "Cost and latency"),
        el("div", table, el("div", latency_picture(arms), cls="plot"), cls="twocol"),
        el("p", "Latency is what it was when the call was live, replayed or not.", cls="hint"),
    )


def slices(gate: GateReport) -> Markup | None:
    """Means by slice, reported and not gated; None without slices."""
    found = slice_means(gate)
    if not found:
        return None
    paired = any(s.baseline is not None for s in found)
    heads = ["Slice", "Metric", "Examples", "Candidate", *(["Baseline", "Difference"] if paired else [])]
    rows: list[Markup] = []
    for s in found:
        cells = [_name(s.slice), _name(s.metric), f"{s.n:,}", number(s.candidate)]
        if paired:
            moved = signed(s.candidate - s.baseline) if s.baseline is not None else "–"
            cells += [number(s.baseline), moved]
        rows.append(
            el("tr", [el("td", el("span", h, cls="th"), c) for h, c in zip(heads, cells, strict=True)])
        )
    return el(
        "section",
        el("h3", "Slices"),
        el(
            "p",
            "Reported, not gated: a slice is small and there are many, so none of them decides.",
            cls="hint",
        ),
        el(
            "table",
            el("thead", el("tr", [el("th", h, scope="col") for h in heads])),
            el("tbody", rows),
            cls="slices",
        ),
    )


def prompt_diff(gate: GateReport) -> Markup | None:
    """The candidate's prompt against each baseline's; None where there are no two texts."""
    new = gate.prompt_texts.get("candidate")
    blocks: list[Markup] = []
    for alias, old in gate.prompt_texts.items():
        if new is None or alias == "candidate":
            continue
        lines = line_diff(old[:_PROMPT_CHARACTERS], new[:_PROMPT_CHARACTERS])
        if old == new:
            blocks.append(el("p", f"The prompt is the same as {alias}’s.", cls="hint"))
            continue
        sign = {"removed": "−", "added": "+", "same": " ", "skipped": "⋯"}
        shown = [
            el(
                "div",
                el("span", sign[line.kind], cls="sign"),
                el("span", _spans(line.spans, "del" if line.kind == "removed" else "ins"), cls="text"),
                cls=f"diffline {line.kind}",
            )
            for line in lines[:_DIFF_LINES]
        ]
        more = len(lines) - len(shown)
        blocks.append(el("div", shown, cls="diff"))
        blocks += [el("p", f"{plural(more, 'more line')} not shown.", cls="hint")] if more > 0 else []
        if max(len(old), len(new)) > _PROMPT_CHARACTERS:
            kept = f"Only the first {_PROMPT_CHARACTERS:,} characters of each prompt are compared."
            blocks.append(el("p", kept, cls="hint"))
    if not blocks:
        return None
    return el(
        "section",
        el(
            "details",
            el(
                "summary",
                el("h3", "Prompt"),
                el("span", f"{gate.prompt_name or 'the prompt'}, what was edited", cls="hint"),
            ),
            blocks,
            open="",
        ),
        cls="fold",
    )
