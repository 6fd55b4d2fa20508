"""The report as a person opens it: in a real browser."""

from pathlib import Path

import pytest

from steelyard.report import SessionReport, write_report

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def page(make_gate, tmp_path_factory) -> Path:
    hostile = "<img src=https://evil.example/x.png><script>document.title='owned'</script>" + "W" * 400
    gates = (
        make_gate(),
        make_gate(lost=40, won=1, invalid=5, failed=2, gate="evals/test_support.py::test_terse"),
        make_gate(lost=5, answer=lambda i, v: hostile, gate="x" * 300, message=hostile),
    )
    return write_report(
        SessionReport(gates=gates, created="2026-11-23 21:45 UTC"), tmp_path_factory.mktemp("r")
    )


def test_it_reads_well_and_loads_nothing(browser, page):
    opened = browser.open(page)
    text = opened.evaluate("document.body.innerText")
    for wanted in (
        "2 of 3 gates do not pass",
        "proven worse",
        "What changed against production",
        "My card was charged twice for order",
        "Cost and latency",
        "language=ja",
        "Prompt",
        "Lineage",
    ):
        assert wanted in text
    assert opened.requests() == [page.as_uri()]
    assert opened.complaints() == []
    assert opened.evaluate("document.title").startswith("Fail")
    assert opened.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
    # The style is in force (its hash in the policy is right), and the pictures have a size.
    assert opened.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") == "12px"
    assert opened.evaluate(
        "Math.min(...[...document.querySelectorAll('svg.picture')].map(s => s.getBoundingClientRect().width)) > 200"
    )


def test_the_policy_of_the_page_stops_scripts_and_loads(browser, page, tmp_path):
    # Even if something got through the escaping, the policy stops it.
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    broken.write_text(
        text.replace(
            "</main>", "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'></main>"
        ),
        encoding="utf-8",
    )
    opened = browser.open(broken)
    assert opened.evaluate("document.title") != "owned"
    assert len(opened.complaints()) >= 2


@pytest.mark.parametrize("width", [320, 375, 768])
def test_nothing_sticks_out_on_a_phone(browser, page, width):
    opened = browser.open(page, width=width, height=800)
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    over = f"[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 120))"
    assert opened.evaluate(over) == []


def test_dark_mode_and_paper(browser, page):
    background = "getComputedStyle(document.body).backgroundColor"
    assert browser.open(page).evaluate(background) == "rgb(246, 246, 243)"
    assert browser.open(page, dark=True).evaluate(background) == "rgb(18, 20, 22)"
    assert browser.open(page, dark=True, media="print").evaluate(background) == "rgb(255, 255, 255)"
    pdf = browser.open(page).send("Page.printToPDF", printBackground=True)["data"]
    assert pdf.startswith("JVBER")  # "%PDF" in base64
