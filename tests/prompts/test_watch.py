"""Editing with `steelyard prompts watch` running: a real process, real files."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from steelyard.core.settings import load_settings
from steelyard.prompts.watch import Watcher, rendered


def save(root: Path, text: str, name: str = "hi", variables: str = "{x: str}") -> Path:
    file = root / "prompts" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    part = root / f"{name}.part"
    part.write_text(f"description: d\ntemplate: '{text}'\nvariables: {variables}\n")
    part.replace(file)
    return file


def test_a_change_is_told_once_against_the_last_good_version(tmp_path):
    settings = load_settings(tmp_path, environ={})
    save(tmp_path, "one {{ x }}")
    watcher = Watcher(settings)
    assert watcher.changes() == []
    save(tmp_path, "one {{ x }}")
    assert watcher.changes() == []
    file = save(tmp_path, "two {{ x }}")
    (change,) = watcher.changes()
    assert (change.before.messages[0]["content"], change.after.messages[0]["content"]) == (
        "one {{ x }}",
        "two {{ x }}",
    )
    file.write_text("template: [")
    (change,) = watcher.changes()
    assert change.after is None
    assert [a.rule for a in change.advice] == ["error"]
    save(tmp_path, "three {{ x }}")
    (change,) = watcher.changes()
    assert change.before.messages[0]["content"] == "two {{ x }}"
    save(tmp_path, "new {{ y }}", "other", "{y: str}")
    (change,) = watcher.changes()
    assert (change.name, change.before) == ("other", None)
    file.unlink()
    (change,) = watcher.changes()
    assert (change.after, change.advice) == (None, ())
    assert watcher.changes() == []


def test_a_file_whose_name_is_none_does_not_end_it(tmp_path):
    settings = load_settings(tmp_path, environ={})
    save(tmp_path, "one {{ x }}")
    watcher = Watcher(settings)
    save(tmp_path, "two {{ x }}", "my prompt")
    (change,) = watcher.changes()
    assert (change.name, change.after, [a.rule for a in change.advice]) == ("my prompt", None, ["error"])
    assert "no valid prompt name" in change.advice[0].text
    assert watcher.changes() == []


def test_only_wanted_names(tmp_path):
    settings = load_settings(tmp_path, environ={})
    save(tmp_path, "one {{ x }}")
    watcher = Watcher(settings, ("hi",))
    save(tmp_path, "new {{ x }}", "other")
    assert watcher.changes() == []


def test_what_it_renders_to_without_values(tmp_path):
    settings = load_settings(tmp_path, environ={})
    save(
        tmp_path,
        "{{ s }} {{ i }} {{ f }} {{ b }} {{ l }} {{ o }} {{ d }}",
        variables="{s: str, i: int, f: float, b: bool, l: list, o: object, d: {type: int, default: 7}}",
    )
    from steelyard.prompts import load_prompt

    prompt = load_prompt("hi", settings)
    assert rendered(prompt, {"unknown": 1}) == "[user]\n{{ s }} 0 0.5 true [] {} 7\n"
    assert rendered(prompt, {"s": "{{ t }}", "l": ["ü"]}) == '[user]\n{{ t }} 0 0.5 true ["ü"] {} 7\n'


@pytest.fixture
def watching(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    save(tmp_path, "one {{ x }} {{ n }}", variables="{x: str, n: int}")
    argv = [sys.executable, "-m", "steelyard.cli.main", "prompts", "watch", "--set", "x=Ann", "--set", "n=3"]
    process = subprocess.Popen(
        argv, cwd=tmp_path, stdout=-1, stderr=-1, text=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    lines: queue.Queue[str] = queue.Queue()
    thread = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
    thread.start()

    def until(text: str) -> str:
        seen = ""
        end = time.monotonic() + 60
        while text not in seen:
            try:
                seen += lines.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} in {seen!r}") from None
        return seen

    yield process, until
    if process.poll() is None:
        process.kill()
        process.wait()
    thread.join()
    process.stdout.close()
    process.stderr.close()


def test_the_command_tells_each_save_and_ends_quietly(watching, tmp_path):
    process, until = watching
    until("Watching 1 prompt files in prompts")
    save(tmp_path, "two {{ x }} {{ n }}", variables="{x: str, n: int}")
    said = until("two Ann 3")
    assert "── hi  " in said
    assert "[-one-]{+two+}" in said
    assert 'rendered with x="Ann", n="3"' in said
    assert "hi: " in said  # lint
    (tmp_path / "prompts" / "hi.yaml").write_text("template: [")
    said = until("error:")
    assert "hi  cannot be used" in said
    (tmp_path / "prompts" / "hi.yaml").unlink()
    until("hi  is gone")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
