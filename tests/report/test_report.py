"""What a report says, in each format, of real verdicts."""

import json
from pathlib import Path

import pytest

from steelyard.core.canonical import digest
from steelyard.gates import at_least, decide, not_worse_than
from steelyard.gates.policy import Policy
from steelyard.gates.verdict import Verdict
from steelyard.report import (
    GateReport,
    SessionReport,
    to_html,
    to_json,
    to_markdown,
    to_terminal,
    write_report,
)
from steelyard.report.changes import arm_cost, compare, slice_means, troubles
from steelyard.report.text import cut, display_width, readable
from steelyard.report.worddiff import line_diff, word_diff
from steelyard.report.words import number, seconds, signed


def session(*gates):
    return SessionReport(gates=gates, created="2026-11-23 21:45 UTC")


def test_counting_is_right(make_gate):
    gate = make_gate(lost=9, won=5, invalid=3, failed=2)
    found = compare(gate, "production")
    assert found.compared == 198
    assert found.unpaired == 2
    assert 9 <= len(found.worse) <= 14
    assert len(found.worse) + len(found.better) + len(found.reworded) + found.same == 198
    assert {(t.kind, t.count) for t in troubles(gate)} == {("invalid output", 3), ("error: provider", 2)}
    candidate, production = arm_cost(gate)
    assert (candidate.usage.calls, production.usage.calls) == (195, 200)
    assert candidate.p50 < candidate.p95
    by_name = {s.slice: s for s in slice_means(gate)}
    assert by_name["language=ja"].candidate == pytest.approx(0.6)
    assert by_name["language=ja"].baseline is None


def test_advisory_rows_of_a_baseline_stand_beside_the_candidates(make_gate):
    ja = make_gate().advisory["language=ja"]
    gate = make_gate(advisory={"language=ja": ja, "language=ja (production)": ja})
    rows = [s for s in slice_means(gate) if s.slice.startswith("language=ja")]
    assert [(s.slice, s.baseline) for s in rows] == [("language=ja", pytest.approx(0.6))]


def test_every_format_tells_the_same_outcome(make_gate):
    gates = make_gate(), make_gate(lost=40, won=1), make_gate(n=60, lost=3, won=3)
    assert [g.outcome for g in gates] == ["pass", "fail", "inconclusive"]
    report = session(*gates)
    assert "2 of 3 gates do not pass" in to_html(report)
    terminal = to_terminal(report, colour=False, width=100)
    assert "✓ PASS" in terminal
    assert "✗ FAIL" in terminal
    assert "? INCONCLUSIVE" in terminal
    assert terminal.endswith("3 gates: 1 fail, 1 inconclusive, 1 pass")
    markdown = to_markdown(report)
    assert "❌ Fail" in markdown
    assert "proven worse" in markdown
    assert json.loads(to_json(report))["counts"] == {"fail": 1, "inconclusive": 1, "pass": 1}


def test_nothing_measured_is_never_green():
    empty = session()
    assert empty.outcome == "unmeasurable"
    assert "No gate ran" in to_html(empty)
    assert "No gate ran" in to_markdown(empty)
    assert "No gate ran" in to_terminal(empty, colour=False, width=80)
    policy = Policy(requirements=(at_least("exact_match", 0.5),))
    gate = GateReport(gate="g", verdict=decide(policy, None, {}, reasons=["the dataset is empty."]))
    html = to_html(session(gate))
    assert "Unmeasurable" in html
    assert "The dataset is empty." in html


def test_an_error_beats_a_passing_verdict(make_gate):
    gate = make_gate(error="the evidence could not be written")
    assert gate.outcome == "unmeasurable"
    assert "the evidence could not be written" in to_html(session(gate))
    assert "All 1 gates pass" not in to_html(session(gate))


def test_a_missing_baseline_is_told_with_what_to_do(make_gate):
    gate = make_gate()
    policy = Policy(requirements=(not_worse_than("production", "exact_match", margin=0.05),))
    verdict = decide(policy, gate.candidate, {"production": None})
    text = to_terminal(make_gate(verdict=verdict, baselines={"production": None}), colour=False, width=100)
    assert "UNMEASURABLE" in text
    assert "bless" in text


def test_the_terminal_keeps_its_width_and_colour_is_asked_for(make_gate):
    message = "障害が発生しました " * 30
    gate = make_gate(lost=20, failed=2, message=message, gate="評価::" + "x" * 300)
    for width in (40, 60, 80, 137):
        lines = to_terminal(gate, colour=False, width=width).split("\n")
        assert max(map(display_width, lines)) <= width
        assert not any("\x1b" in line for line in lines)
    assert "\x1b[1;33m" in to_terminal(gate, colour=True, width=80)


def test_the_json_is_the_verdict_and_has_no_clock(make_gate):
    gate = make_gate()
    one = to_json(session(gate))
    two = to_json(SessionReport(gates=(make_gate(seconds=99.0, evidence_id="other"),), created="later"))
    assert one == two
    value = json.loads(one)["gates"][0]
    assert Verdict.from_json(value["verdict"]).digest == gate.verdict.digest == value["verdict_digest"]
    assert digest(value["verdict"]) == value["verdict_digest"]


def test_the_folder_is_written_whole_and_twice(make_gate, tmp_path: Path):
    folder = tmp_path / "deep" / "report"
    page = write_report(session(make_gate()), folder)
    assert page == folder / "index.html"
    first = page.read_text(encoding="utf-8")
    write_report(session(make_gate(lost=40)), folder)
    assert page.read_text(encoding="utf-8") != first
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "summary.md", "verdicts.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(make_gate, tmp_path: Path, monkeypatch):
    page = write_report(session(make_gate()), tmp_path)
    before = page.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("steelyard.core.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(session(make_gate(lost=40)), tmp_path)
    assert page.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_comment_fits_github(make_gate):
    gates = [make_gate(lost=40, gate=f"gate-{i}") for i in range(60)]
    text = to_markdown(session(*gates))
    assert len(text) < 65_536
    assert "more gates are in the HTML report" in text


def test_long_tables_are_limited_with_a_note(make_gate):
    html = to_html(session(make_gate(n=900, lost=300, won=0)))
    assert "not shown; the evidence holds all of them" in html
    assert html.count('<tr class="worse"') == 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.6, "0.600"),
        (-0.02, "−0.020"),
        (0.00012, "0.00012"),
        (1234.5, "1,234"),
        (None, "–"),
        (-10.0, "−10"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_signs_and_durations():
    assert [signed(v) for v in (0.04, -0.04, 0.0, None)] == ["+0.040", "−0.040", "0", "–"]
    assert [seconds(v) for v in (0.82, 1.239, 185.0)] == ["820 ms", "1.24 s", "3 min 05 s"]


def test_word_diff_keeps_both_texts_and_marks_the_difference():
    before, after = "The refund takes 14 days.", "The refund takes up to 30 days."
    left, right = word_diff(before, after)
    assert "".join(t for t, _ in left) == before
    assert "".join(t for t, _ in right) == after
    assert [t.strip() for t, marked in left if marked] == ["14"]
    assert [t.strip() for t, marked in right if marked] == ["up to 30"]
    left, _ = word_diff("返金は十四日かかります", "返金は三十日かかります")
    assert [t for t, marked in left if marked] == ["十四"]


def test_line_diff():
    assert line_diff("a\nb", "a\nb") == []
    kinds = [line.kind for line in line_diff("\n".join("abcdefghij"), "\n".join("abcdefghiX"))]
    assert kinds == ["skipped", "same", "same", "same", "removed", "added"]


def test_readable_and_cut():
    assert readable({"intent": "refund"}) == "refund"
    assert readable({"a": 1, "b": "x"}) == "a: 1\nb: x"
    assert cut("x" * 1_000_000, 10) == ("x" * 10, "… 999,990 more characters not shown")
