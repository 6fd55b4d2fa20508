"""`steelyard init`: merges into what is there, overwrites nothing unasked, says what it did."""

import json
import linecache
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from steelyard.cli import init as init_module
from steelyard.cli.bless import bless_gate
from steelyard.cli.gates import gate
from steelyard.cli.init import init
from steelyard.cli.scaffold import project_files, recordings, scaffold
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset
from steelyard.evals.gate import run_gate
from steelyard.evals.spec import Gate
from steelyard.evals.workspace import Workspace
from steelyard.prompts.lock import read_lock
from steelyard.store.memory import MemoryStore
from steelyard.testing.chat_server import ChatServer


def run(*arguments):
    result = CliRunner().invoke(init, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def gate_of(folder):
    """The scaffolded test's gate, caught by a fixture that only looks."""
    module = {}
    source = folder / "evals" / "test_review_sentiment.py"
    exec(compile(source.read_text(), source, "exec"), module)
    caught = []

    class Fixture:
        def gate(self, task, **spec):
            caught.append(Gate(task=task, name="review_sentiment", **spec))

    module["test_review_sentiment"](Fixture())
    return caught[0]


def test_the_scaffold_passes_from_its_recordings_alone(tmp_path):
    run(tmp_path, "--local")
    settings = load_settings(tmp_path, environ={}, lm_mode="replay")
    with Workspace(settings, store=MemoryStore()) as workspace:
        linecache.checkcache()
        report = run_gate(gate_of(tmp_path), workspace)
    assert report.outcome == "pass", report.verdict.sentence
    assert report.baseline_source == {"production": "identical"}  # the shipped lock is of this very scaffold
    assert report.replay_counts == {"hit": 60, "live": 0}


def test_without_a_local_model_only_recorded_answers_count(tmp_path, monkeypatch):
    monkeypatch.setattr(init_module, "find_spec", lambda name: None if name == "xllamacpp" else object())
    assert "No local model is installed" in run(tmp_path)
    settings = load_settings(tmp_path, environ={})
    assert (settings.lm, settings.lm_mode) == ("local:smollm2", "replay")
    linecache.checkcache()
    with Workspace(settings, store=MemoryStore()) as workspace:
        assert run_gate(gate_of(tmp_path), workspace).outcome == "pass"


def test_shipped_answers_are_of_a_model_and_all_are_needed():
    found = list(recordings())
    assert len({r.key for r in found}) == len(found) == 60
    assert all(b"sentiment" in r.body and r.usage.output_tokens > 0 for r in found)


def test_a_second_run_changes_nothing(tmp_path):
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert "wrote" not in run(tmp_path, "--local").replace("unchanged", "")
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_nothing_is_overwritten_unasked(tmp_path):
    mine = {"prompts/review-sentiment.yaml": "mine", "evals/test_review_sentiment.py": "mine too"}
    mine["prompts/steelyard.lock"] = "# mine as well\n"
    for path, text in mine.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    output = run(tmp_path)
    assert output.count("kept") == 3
    for path, text in mine.items():
        assert (tmp_path / path).read_text() == text
    output = run(tmp_path, "--force")
    assert output.count("replaced") == 2
    assert (tmp_path / "prompts/steelyard.lock").read_text() == "# mine as well\n"
    assert (tmp_path / "prompts/review-sentiment.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "shop"\nversion = "1"',
        '[project]\r\nname = "shop" # ours\r\n\r\n[tool.ruff]\r\nline-length = 99\r\n',
        '[[tool.x.list]]\na = 1\n\n[tool.pytest.ini_options]\naddopts = "-q"\n\n\n',
        "# only a comment, with ünïcode\n",
        "",
    ],
)
def test_pyproject_is_added_to_and_nothing_else_in_it_changes(tmp_path, text):
    file = tmp_path / "pyproject.toml"
    file.write_bytes(text.encode())
    run(tmp_path, "--endpoint", "--model", "m1", "--base-url", "http://127.0.0.1:1/v1")
    data = file.read_bytes()
    assert data.startswith(text.rstrip("\r\n").encode())
    if "\r\n" in text:
        assert data.count(b"\n") == data.count(b"\r\n")
    before, after = tomllib.loads(text), tomllib.loads(data.decode())
    assert after["tool"].pop("steelyard") == {"lm": "openai:m1", "openai_base_url": "http://127.0.0.1:1/v1"}
    if not after["tool"]:
        after.pop("tool")
    assert after == before
    settings = load_settings(tmp_path, environ={})
    assert (settings.lm, settings.openai_base_url) == ("openai:m1", "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    "text", ['[tool.steelyard]\nlm = "openai:x"\n', '[tool]\nsteelyard = {lm = "openai:x"}\n']
)
def test_a_table_that_is_there_stays(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert "it has [tool.steelyard] already" in run(tmp_path)
    assert (tmp_path / "pyproject.toml").read_text() == text


@pytest.mark.parametrize("text", ["[tool", "tool = {x = 1}\n", "a = 1\x00", b"\xff\xfe"])
def test_a_pyproject_that_cannot_be_added_to_is_refused_before_anything_is_written(tmp_path, text):
    (tmp_path / "pyproject.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidFile, match="nothing was written"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["pyproject.toml"]


def test_gitignore_is_added_to(tmp_path):
    (tmp_path / ".gitignore").write_text(".venv/\n__pycache__/")
    run(tmp_path)
    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[:2] == [".venv/", "__pycache__/"]
    assert lines.count("__pycache__/") == 1
    assert "!.steelyard/replay/" in lines
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".gitignore").write_text(".steelyard/\n")
    assert "take its line '.steelyard/' out" in run(tmp_path / "other")


def test_an_endpoint_begins_without_production(tmp_path):
    output = run(tmp_path, "--endpoint", "--model", "m1")
    assert not read_lock(tmp_path / "prompts/steelyard.lock").aliases
    assert not (tmp_path / ".steelyard").exists()  # nobody has answered yet
    gate = gate_of(tmp_path)
    assert [str(r) for r in gate.require] == ["exact_match ≥ 0.8"]
    assert "steelyard bless evals/" in (tmp_path / "evals/test_review_sentiment.py").read_text()
    assert output.count("\n  1. ") == output.count("\n  3. ") == 1


def test_an_endpoint_in_the_environment_is_pointed_at_and_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    output = run(tmp_path)
    assert "--endpoint --model NAME" in output
    assert "canary" not in output
    assert load_settings(tmp_path).lm == "local:smollm2"


def test_without_evals_the_gate_says_how_to_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="steelyard init"):
        CliRunner().invoke(gate, [], catch_exceptions=False)


def test_bare_leaves_the_example_out(tmp_path):
    output = run(tmp_path, "--bare", "--endpoint", "--model", "m1")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".gitattributes", ".github", ".gitignore", "evals", "prompts", "pyproject.toml"
    ]  # fmt: skip
    assert [p.name for p in (tmp_path / "prompts").iterdir()] == ["steelyard.lock"]
    assert "write prompts/NAME.yaml" in output


@pytest.mark.server
def test_an_endpoint_s_first_runs_go_as_the_scaffold_says(tmp_path):
    """Floor first; then the comparison with production, blessed once; each answer is paid for once."""
    labels = {}

    def answer(call):
        return json.dumps({"sentiment": labels[call.json["messages"][-1]["content"]]})

    with ChatServer(answer) as server:
        run(tmp_path, "--endpoint", "--model", "m1", "--base-url", server.base_url)
        settings = load_settings(tmp_path, environ={"OPENAI_API_KEY": "k"})
        labels |= {
            e.inputs["review"]: e.reference_outputs["sentiment"] for e in load_dataset("reviews", settings)
        }
        test = tmp_path / "evals" / "test_review_sentiment.py"
        store = MemoryStore()
        with Workspace(settings, store=store) as workspace:
            assert run_gate(gate_of(tmp_path), workspace).outcome == "pass"
        assert len(server.calls) == 60
        assert {c.json["model"] for c in server.calls} == {"m1"}

        test.write_text(re.sub(r"\[GOOD_ENOUGH\],.*", "[GOOD_ENOUGH, NOT_WORSE],", test.read_text()))
        linecache.checkcache()
        with Workspace(settings, store=store) as workspace:
            before = run_gate(gate_of(tmp_path), workspace)
            assert before.outcome == "unmeasurable"
            assert "steelyard bless evals/" in before.verdict.sentence
            bless_gate(gate_of(tmp_path), workspace)
        assert read_lock(settings.lock).alias("review-sentiment", "production") is not None
        with Workspace(settings, store=store) as workspace:
            after = run_gate(gate_of(tmp_path), workspace)
        assert after.outcome == "pass"
        assert after.baseline_source == {"production": "identical"}
        assert len(server.calls) == 60


@pytest.mark.parametrize(
    "arguments",
    [
        ("--endpoint",),
        ("--model", "m"),
        ("--base-url", "http://x/v1"),
        ("--endpoint", "--model", "m", "--base-url", "x/v1"),
        ("--endpoint", "--model", "m", "--base-url", "https://user:secret@host/v1"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, arguments):
    with pytest.raises(InvalidValue) as caught:
        run(tmp_path, *arguments)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(InvalidValue, match="is a file"):
        run(tmp_path / "x")


@pytest.mark.parametrize("kind", ["local", "recorded", "endpoint"])
def test_the_workflow_is_yaml_and_does_what_it_says(kind):
    text = project_files(kind)[".github/workflows/evals.yml"].decode()
    workflow = yaml.safe_load(text)
    job = workflow["jobs"]["evals"]
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    for needed in ("steelyard prompts sync --check", "pytest evals/", "summary.md"):
        assert needed in commands
    assert any("upload-artifact" in step.get("uses", "") for step in job["steps"])
    keys = set(job["env"]) - {"MLFLOW_DISABLE_TELEMETRY"}
    assert keys == ({"OPENAI_BASE_URL", "OPENAI_API_KEY"} if kind == "endpoint" else {"STEELYARD_LM_MODE"})
    # Untrusted text of a pull request (title, branch) reaches no shell.
    assert "github.event.pull_request.title" not in text
    assert "head_ref" not in commands


def test_the_dataset_is_balanced_and_distinct(tmp_path):
    scaffold(tmp_path, "endpoint", model="m")
    dataset = load_dataset("reviews", load_settings(tmp_path, environ={}))
    labels = [e.reference_outputs["sentiment"] for e in dataset]
    assert labels.count("positive") == labels.count("negative") == 30
    assert len({e.inputs["review"] for e in dataset}) == 60


def test_names_of_files_are_what_the_architecture_says(tmp_path: Path):
    paths = {w.path for w in scaffold(tmp_path, "local")}
    assert {"prompts/steelyard.lock", "evals/datasets/reviews.jsonl", ".gitignore"} <= paths
