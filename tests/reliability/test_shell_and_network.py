"""No name reaches a shell, and no address that stands in data is ever asked."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.cli.main import cli
from steelyard.core.errors import SteelyardError
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset, read_dataset, write_jsonl
from steelyard.evals.evaluators import judge
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace, git_state
from steelyard.lm import open_lm
from steelyard.lm.weights import find_weights
from steelyard.prompts import Prompt, load_prompt
from steelyard.report import write_report
from steelyard.store import ui_command
from steelyard.store.memory import MemoryStore
from steelyard.testing.fake_lm import FakeLM

FORMS = ["$(touch {})", "`touch {}`", "; touch {};", "| touch {}", "&& touch {}", "\n touch {}\n",
         "-oProxy=$(touch {})", "--upload-pack=touch {}", "'; touch {}; '", "x$IFS$(touch {})"]  # fmt: skip


@pytest.fixture
def canary(tmp_path):
    yield (path := tmp_path / "canary")
    assert not path.exists()


@pytest.mark.parametrize("form", FORMS)
def test_fields_reach_programs_as_one_argument_or_not_at_all(form, canary, tmp_path, watching):
    text = form.format(canary)
    folder = tmp_path / "work"
    (folder / "evals" / "datasets").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(folder, environ={}).with_(experiment=text, baseline="production")
    data = Dataset(
        name=text,
        examples=tuple(
            Example(id=f"e{i}", inputs={"x": text}, metadata={text: text}, split=text, cluster=text)
            for i in range(30)
        ),
    )
    calls = {
        "prompt": lambda: load_prompt(text, settings, MemoryStore()),
        "dataset": lambda: load_dataset(text, settings),
        "weights": lambda: find_weights(text),
        "model": lambda: open_lm(f"local:{text}", settings),
        "kind": lambda: open_lm(text, settings),
    }
    with watching("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") as seen:
        for call in calls.values():
            with pytest.raises(SteelyardError):
                call()
        git_state(tmp_path / "absent" / text.replace("/", "_").replace("\n", " ")[:100])
        ran = ui_command(settings.with_(tracking_uri=f"sqlite:///{text}"), port=1)
        gate = Gate(task=echo, name=text, dataset=data, evaluators=[long], require=[at_least("m", 0.1)])
        with Workspace(settings, store=MemoryStore()) as workspace:
            run_gate(gate, workspace)
            write_report(workspace.session_report(), folder / "report")
    assert isinstance(ran, list)  # an argv, which no shell reads
    for event, arguments in seen:
        assert event == "subprocess.Popen", event
        assert arguments[1][0] == "git", arguments
        assert not any("touch" in a for a in arguments[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "fetch", "TEXT"], ["prompts", "show", "TEXT"], ["prompts", "diff", "TEXT", "TEXT"],
        ["prompts", "history", "TEXT"], ["evidence", "show", "TEXT"], ["evidence", "verify", "TEXT"],
        ["gate", "evals", "-k", "TEXT"],
    ],
)  # fmt: skip
def test_arguments_of_the_command_line(arguments, canary, tmp_path, monkeypatch, watching):
    (tmp_path / "evals").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("steelyard.store.open_store", lambda *_a, **_k: MemoryStore())
    with watching("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") as seen:
        CliRunner().invoke(cli, [a.replace("TEXT", f"$(touch {canary})") for a in arguments])
    assert [a for _, a in seen if "touch" in str(a)] == []


def test_this_watch_sees_a_shell(watching, canary):
    with watching("subprocess.Popen", "os.system") as seen:
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert seen


ADDRESSES = [
    "http://127.0.0.1:1/x", "http://169.254.169.254/latest/meta-data/", "https://evil.example/x.png",
    "file:///etc/passwd", "gopher://127.0.0.1:25/", "//evil.example/x", "s3://bucket/x", "hf://datasets/x",
    "postgresql://evil.example/x", "http://[::1]:1/",
]  # fmt: skip


@evaluator(name="m")
def long(outputs):
    return 1.0


def echo(inputs):
    return inputs["x"]


def show(inputs, prompt):
    return prompt.render(u=inputs["x"]).messages[0]["content"][0]["image_url"]["url"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_in_data_is_never_asked(address, tmp_path, watching):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "p.yaml").write_text(
        f"description: {address}\nmodel: {address!r}\nmessages:\n- role: user\n  content:\n"
        "  - {type: image_url, image_url: {url: '{{ u }}'}}\nvariables: {u: str}\n"
        f"parameters: {{extra_body: {{url: {address!r}, $ref: {address!r}}}}}\n"
    )
    settings = load_settings(tmp_path, environ={})
    data = Dataset(
        name="d",
        examples=tuple(
            Example(id=f"e{i}", inputs={"x": address, "url": address}, reference_outputs={"$ref": address},
                    metadata={"source": address})
            for i in range(30)
        ),
    )  # fmt: skip
    grounded = judge("steelyard/grounded").bind(FakeLM('{"explanation": "' + address + '", "label": "yes"}'))
    with watching("socket.connect", "socket.getaddrinfo", "open") as seen:
        again = read_dataset(write_jsonl(data, tmp_path / "d.jsonl"))
        gate = Gate(
            task=show, name="g", prompt="p", dataset=again, evaluators=[long, grounded],
            require=[at_least("m", 0.1)],
        )  # fmt: skip
        with Workspace(settings, store=MemoryStore()) as workspace:
            report = run_gate(gate, workspace)
            assert report.outcome == "pass"
            write_report(workspace.session_report(), tmp_path / "report")
        for text in (address, f"p@{address}"):
            with pytest.raises(SteelyardError):
                load_prompt(text, settings, MemoryStore())
        with pytest.raises(SteelyardError):
            load_dataset(address, settings)
        Prompt(name="q", messages=({"role": "user", "content": address},))
    asked = [a for e, a in seen if e != "open"]
    # asyncio wakes its loop over a socket pair that is connected already; nothing else may connect.
    assert asked == []
    assert [a for e, a in seen if e == "open" and ("passwd" in str(a[0]) or "evil" in str(a[0]))] == []
