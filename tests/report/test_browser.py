"""The report as a person opens it: in a real browser."""

from pathlib import Path

import pytest

from steelyard.report import SessionReport, write_report

pytestmark = pytest.mark.timeout(120)

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned';"
    "document.body.append(Object.assign(document.createElement('b'),{id:'pwned'}))</script>"
    "</p></style></title><b id=pwned>bold</b>" + "W" * 400
)
ATTACK = (
    "<script>document.title='owned'</script><b id=pwned onclick='1'>x</b>"
    "<style>.card{border-radius:77px!important}</style></main>"
)


@pytest.fixture(scope="module")
def page(make_gate, tmp_path_factory) -> Path:
    gates = (
        make_gate(),
        make_gate(lost=40, won=1, invalid=5, failed=2, gate="evals/test_support.py::test_terse"),
        make_gate(lost=5, answer=lambda i, v: HOSTILE, gate="x" * 300, message=HOSTILE, prompt_name=HOSTILE),
    )
    session = SessionReport(gates=gates, created="2026-11-23 21:45 UTC")
    return write_report(session, tmp_path_factory.mktemp("r"))


def test_it_reads_well_and_is_styled(browser, page):
    seen = browser.measure(
        page,
        """{
            text: page.body.innerText,
            title: page.title,
            loads: view.performance.getEntriesByType("resource").map(e => e.name),
            radius: view.getComputedStyle(page.querySelector(".card")).borderRadius,
            pictures: [...page.querySelectorAll("svg.picture")].map(s => s.getBoundingClientRect().width),
        }""",
    )
    for wanted in (
        "1 of 3 gates does not pass",
        "proven worse",
        "What changed against production",
        "My card was charged twice for order",
        "Cost and latency",
        "language=ja",
        "Prompt",
        "Lineage",
    ):
        assert wanted in seen["text"]
    assert seen["title"].startswith("Fail")
    assert [name for name in seen["loads"] if not name.startswith("data:")] == []
    # The style is in force: its hash in the policy is right. And the pictures have a size.
    assert seen["radius"] == "12px"
    assert len(seen["pictures"]) > 3
    assert min(seen["pictures"]) > 200


def test_hostile_data_runs_nothing(browser, page):
    dom = browser.dom(page)
    assert "&lt;b id=pwned&gt;bold" in dom  # the attack is there, as text
    assert browser.measure(
        page, "[page.title, page.querySelectorAll('#pwned, script, img, iframe').length]"
    ) == [
        "Fail · Steelyard report",
        0,
    ]


def test_the_policy_stops_what_would_get_through(browser, page, tmp_path):
    # Even if something got through the escaping, the policy stops it; without the policy it would run.
    text = page.read_text(encoding="utf-8").replace("</main>", ATTACK)
    guarded, open_to_all = tmp_path / "guarded.html", tmp_path / "open.html"
    guarded.write_text(text, encoding="utf-8")
    open_to_all.write_text(text.replace("Content-Security-Policy", "X-Nothing"), encoding="utf-8")
    told = "[page.title, view.getComputedStyle(page.querySelector('.card')).borderRadius]"
    assert browser.measure(guarded, told) == ["Fail · Steelyard report", "12px"]
    assert browser.measure(open_to_all, told) == ["owned", "77px"]


@pytest.mark.parametrize("width", [320, 375, 768])
def test_nothing_sticks_out_on_a_phone(browser, page, width):
    seen = browser.measure(
        page,
        f"""(page.querySelectorAll("details").forEach(d => d.open = true), {{
            width: view.innerWidth,
            scroll: page.documentElement.scrollWidth,
            over: [...page.querySelectorAll("main *")]
                .filter(e => e.getBoundingClientRect().right > {width} + 1)
                .map(e => e.outerHTML.slice(0, 120)),
        }})""",
        width=width,
    )
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["over"] == []


def test_dark_mode_and_paper(browser, page, tmp_path):
    background = "view.getComputedStyle(page.body).backgroundColor"
    assert browser.measure(page, background) == "rgb(246, 246, 243)"
    assert browser.measure(page, background, dark=True) == "rgb(18, 20, 22)"
    assert browser.pdf(page, tmp_path / "page.pdf").startswith(b"%PDF")
    picture = browser.picture(page, tmp_path / "page.png", width=375, height=812)
    assert picture.startswith(b"\x89PNG")
