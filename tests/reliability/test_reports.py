"""Text from data in JUnit files and in pytest's own output, as CI reads them. HTML, Markdown and the terminal
report are tried in tests/report/test_hostile.py, the HTML in a real browser too."""

import os
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET

import pytest

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "cdata": "]]><testcase name='forged'/><![CDATA[",
    "entity": "&xxe; %xxe; <!ENTITY xxe SYSTEM 'file:///etc/passwd'>",
    "attribute": '" status="passed" x="',
    "formula": '=HYPERLINK("https://evil.example","x")',
    "ansi": "\x1b[2J\x1b]8;;https://evil.example\x07x\x1b]8;;\x07",
    "workflow": "\n::error file=a.py,line=1::forged\n::set-output name=x::y\n##[error]forged\n##vso[task.x]y",
    "control": "\x00\x01\x0b\x7f\x9b31m\ufffe\ud800",
}
OURS = {
    "testsuites",
    "testsuite",
    "testcase",
    "properties",
    "property",
    "failure",
    "error",
    "system-out",
    "system-err",
}
EVAL = """
    import pytest
    from steelyard import Dataset, Example, InvalidOutput, at_least, evaluator, not_worse_than
    from steelyard.core.score import Score

    @pytest.mark.parametrize("i", range({n}))
    def test_it(steelyard, i):
        text = {texts!r}[i]
        name = text.encode("utf-8", "replace").decode()

        @evaluator(name=name, version="1")
        def measured(outputs, inputs):
            return Score(name=name, value=float(inputs["i"] % 2), label=text, explanation=text)

        def task(inputs):
            if inputs["i"] == 3:
                raise ValueError(text)
            if inputs["i"] == 5:
                raise InvalidOutput(text, text)
            return name

        rows = tuple(
            Example(id=f"e{{i}}", inputs={{"i": i, "x": name}}, metadata={{"m": name}}, cluster=name + str(i))
            for i in range(60)
        )
        steelyard.gate(
            task, version="1", name=name, dataset=Dataset(name=name, examples=rows), evaluators=[measured],
            max_missing=0.2, require=[at_least(name, 0.9), not_worse_than("production", name, margin=0.1)],
        )
"""


@pytest.mark.timeout(300)
def test_junit_is_well_formed_and_pytest_s_output_is_inert(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n[tool.pytest.ini_options]\n")
    texts = list(HOSTILE.values())
    (tmp_path / "test_it.py").write_text(textwrap.dedent(EVAL).format(texts=texts, n=len(texts)))
    drop = ("STEELYARD_", "PYTEST", "MLFLOW_TRACKING")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop)} | {"GITHUB_ACTIONS": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--junit-xml=j.xml", "-p", "no:cacheprovider", "--color=no"],
        cwd=tmp_path, capture_output=True, env=env, timeout=280,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 1, said
    assert f"{len(texts)} failed" in said
    for sign in ("\x1b", "\x07", "\x9b", "\x00"):
        assert sign not in said, said[max(0, said.index(sign) - 200) :]
    assert not re.search(r"^\s*(::|##\[|##vso)", said, re.MULTILINE), said
    root = ET.fromstring((tmp_path / "j.xml").read_bytes())
    assert {e.tag for e in root.iter()} <= OURS
    assert [e.get("name") for e in root.iter("testcase")] == [f"test_it[{i}]" for i in range(len(texts))]
    (suite,) = root.iter("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == (str(len(texts)), str(len(texts)))
    report = (tmp_path / ".steelyard" / "report" / "index.html").read_text()
    assert "Content-Security-Policy" in report
    assert "<script" not in report
