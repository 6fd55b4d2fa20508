"""The page on moving: its configuration is imported, and what it shows is what is printed."""

import re
from pathlib import Path

from click.testing import CliRunner

from steelyard.cli.main import cli
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset
from steelyard.prompts import load_prompt

PAGE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")


def test_the_promptfoo_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    config = re.search(r'```yaml title="promptfooconfig.yaml"\n(.*?)```', PAGE, re.DOTALL)[1]
    (tmp_path / "promptfooconfig.yaml").write_text(config)
    command = "prompts import promptfooconfig.yaml --name sorter"
    shown = re.search(rf"\$ steelyard {command}\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    result = CliRunner().invoke(cli, command.split(), catch_exceptions=False)
    printed = [*result.stderr.splitlines()[:1], *result.stdout.splitlines(), *result.stderr.splitlines()[1:]]
    assert len(printed) == len(shown)
    for line, wanted in zip(printed, shown, strict=True):
        assert line.startswith(wanted.partition("…")[0].rstrip(".")), (line, wanted)
    settings = load_settings()
    prompt = load_prompt("sorter", settings)
    for example in load_dataset("sorter", settings):
        assert prompt.render(**example.inputs).messages
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    for block in code:
        exec(block.replace("def sort", "def sort"), names)
    gate = names["gate"]
    assert gate.dataset == "sorter"
    scores = [e.digest for e in gate.evaluators]
    assert len(scores) == 2
