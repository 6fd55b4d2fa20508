"""One writer for what a gate found: HTML, terminal, Markdown and JSON, all from the same values."""

from steelyard.report.markdown import to_markdown
from steelyard.report.model import GateReport, SessionReport
from steelyard.report.page import to_html
from steelyard.report.terminal import to_terminal
from steelyard.report.writer import to_json, write_report

__all__ = [
    "GateReport",
    "SessionReport",
    "to_html",
    "to_json",
    "to_markdown",
    "to_terminal",
    "write_report",
]
