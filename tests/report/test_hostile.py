"""Text from data never acts: not in a browser, a terminal, a CI log or a pull request's comment."""

import html
import re
from html.parser import HTMLParser

import pytest

from steelyard.report import GateReport, SessionReport, to_html, to_json, to_markdown, to_terminal

ATTACKS = {
    "script": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "image": '<img src="https://evil.example/x.png">![x](https://evil.example/x.png)',
    "formula": '=HYPERLINK("https://evil.example","click")',
    "ansi": "\x1b[2J\x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "workflow": "\n::error file=app.py,line=1::forged\n##[error]forged\n"
    "##vso[task.setvariable]x\n##teamcity[x]",
    "table": "| x | ✅ Pass | forged |\n|---|---|\n\n# ✅ All gates pass\n</details></pre><details open>",
    "mention": "@team please merge, fixes #1, www.evil.example @octocat",
    "backslash": "\\| \\` ``` `code` \\",
    "nul": "\x00\x01\x7f\x9b31m",
    "surrogate": "\ud800 \udfff",
    "bidi": "\u202egnp.exe \u2066 \u200b \ufeff",
    "style": "</style></title><style>*{display:none}</style>",
}


def hostile(make_gate, text: str) -> SessionReport:
    gate = make_gate(lost=8, invalid=1, failed=1, answer=lambda i, v: text, message=text)
    ids = {k: {text: text, "message": text} for k in gate.inputs}
    return SessionReport(
        gates=(
            GateReport(
                gate=text,
                verdict=gate.verdict,
                candidate=gate.candidate,
                baselines=gate.baselines,
                inputs=ids,
                references=dict.fromkeys(ids, text),
                evidence_id=text,
                baseline_source={"production": text},
                prompt_name=text,
                prompt_texts={"candidate": text + "a", "production": text},
                git_revision=text,
                advisory={text: gate.candidate},
                plan_sentence=text,
                error=text,
            ),
        ),
        created=text,
        title=text,
    )


ELEMENTS = re.compile(r"<\s*/?\s*([a-zA-Z0-9]+)")


class Elements(HTMLParser):
    """Every element a parser finds in a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


FORBIDDEN = {"script", "img", "image", "iframe", "object", "embed", "form", "base", "input", "audio", "video"}
ADDRESSES = ("href", "src", "srcset", "action", "formaction", "data", "poster", "xlink:href", "background")


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_html_has_only_our_elements(make_gate, text):
    page = to_html(hostile(make_gate, text))
    page.encode("utf-8")
    found = Elements(page).found
    assert len(found) > 100
    assert not {tag for tag, _ in found} & FORBIDDEN
    assert [tag for tag, _ in found].count("style") == 1
    assert not [a for _, a in found if "style" in a or any(name.startswith("on") for name in a)]
    # One link: the icon, whose picture is in the page.
    assert [a["rel"] for tag, a in found if tag == "link"] == ["icon"]
    addresses = {a[name] for _, a in found for name in ADDRESSES if name in a}
    assert all(address.startswith(("#", "data:image/svg+xml,")) for address in addresses)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff]", page)


def test_the_parser_of_these_tests_sees_an_attack():
    found = Elements("<p title='a' onclick='x()'><script src='//evil.example'></script>").found
    assert found == [("p", {"title": "a", "onclick": "x()"}), ("script", {"src": "//evil.example"})]


def test_a_cell_never_starts_as_a_formula(make_gate):
    page = to_html(hostile(make_gate, ATTACKS["formula"]))
    cells = re.findall(r"<td>.*?</td>", page)
    texts = [html.unescape(re.sub(r'<span class="th">.*?</span>|<[^>]+>', "", c)) for c in cells]
    assert any("HYPERLINK" in t for t in texts)
    assert not any(t.startswith("=") for t in texts)


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("colour", [False, True])
def test_terminal_output_is_inert(make_gate, text, colour):
    out = to_terminal(hostile(make_gate, text), colour=colour, width=100)
    out.encode("utf-8")
    plain = re.sub(r"\x1b\[[0-9;]+m", "", out)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", plain)
    assert not re.search(r"(?m)^\s*::", plain)
    assert not re.search(r"##\w*\[", plain)


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_markdown_cannot_be_forged(make_gate, text):
    out = to_markdown(hostile(make_gate, text))
    out.encode("utf-8")
    ours = {"details", "summary", "code", "pre", "sub"}
    assert {m.lower() for m in ELEMENTS.findall(out)} <= ours
    assert out.count("<details>") == out.count("</details>") == 1
    assert out.count("<pre>") == out.count("</pre>")
    assert "](" not in out
    assert "![" not in out
    assert not re.search(r"@\w", html.unescape(out))
    assert not re.search(r"#\d", html.unescape(out).replace("&#", ""))
    assert "://" not in out
    assert not re.search(r"(?m)^\s*::", out)
    outside = re.sub(r"(?s)<pre>.*?</pre>", "", out)
    assert len(re.findall(r"(?m)^#", outside)) == 1
    # One table of seven columns: every row of it has eight bars.
    assert {line.count("|") for line in outside.split("\n") if "|" in line} == {8}


@pytest.mark.parametrize("text", ["\ud800", "\x00", "x" * 3_000_000])
def test_odd_and_huge_text_neither_crashes_nor_floods(make_gate, text):
    report = hostile(make_gate, text)
    assert len(to_markdown(report)) < 65_536
    assert len(to_terminal(report, colour=False, width=100)) < 40_000
    to_json(report)
    assert len(to_html(SessionReport(gates=(make_gate(lost=8, answer=lambda i, v: text),)))) < 600_000
    assert len(to_html(report)) < 2_000_000
