"""Results as a LangSmith experiment: read back with the real client, repeated, broken off, refused."""

import socket

import pytest
from click.testing import CliRunner

from steelyard import Dataset, Example, Gate, InvalidOutput, at_least, evaluator, exact_match
from steelyard.cli.main import cli
from steelyard.core.errors import InvalidValue, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.data import pull_langsmith, push_langsmith, write_jsonl
from steelyard.evals.gate import run_gate
from steelyard.evals.mirror import mirror, run_id
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.store.memory import MemoryStore
from steelyard.testing.langsmith_server import LangSmithServer

pytestmark = pytest.mark.server

DATA = Dataset(
    name="numbers",
    examples=tuple(
        Example(id=f"e{i}", inputs={"x": i}, reference_outputs={"y": i}, split="test") for i in range(60)
    ),
)


def task(inputs):
    if inputs["x"] == 7:
        raise RuntimeError("no answer <secret>")
    if inputs["x"] == 8:
        raise InvalidOutput("not a number", output="eight")
    return {"y": inputs["x"] if inputs["x"] % 10 else -1}


@evaluator
def odd(outputs):
    if outputs["y"] == 9:
        raise ValueError("cannot say")
    return outputs["y"] % 2 == 1


def gate(**fields):
    given = {"task": task, "dataset": DATA, "name": "numbers", "trials": 2, "max_missing": 0.1}
    given |= {"evaluators": [exact_match("y"), odd], "require": [at_least("exact_match", 0.5)]}
    return Gate(**(given | fields))


def workspace(settings, store=None):
    lines = []
    return Workspace(settings, store=store or MemoryStore(), note=lines.append), lines


def bundle_of(settings, report):
    return EvidenceBundle.open(settings.home / "evidence" / report.evidence_id)


def runs_of(client, project):
    return {str(r.id): r for r in client.list_runs(project_name=project)}


@pytest.mark.parametrize("version", ["0.13.0", "0.8.0"])
@pytest.mark.parametrize("multipart", [True, False])
def test_what_langsmith_has_is_what_the_evidence_says(server, settings, client, version, multipart):
    server.version, server.multipart = (
        version,
        multipart,
    )  # an old server takes feedback one by one, runs in batches
    opened, lines = workspace(settings)
    report = run_gate(gate(), opened)
    assert lines[-1].startswith(f"mirrored to LangSmith: numbers-{report.evidence_id}")
    name = f"numbers-{report.evidence_id}"
    project = client.read_project(project_name=name)
    assert project.metadata["verdict"] == report.verdict.outcome == "pass"
    assert project.metadata["sentence"] == report.verdict.sentence
    assert project.metadata["steelyard_evidence"] == report.evidence_id
    assert project.metadata["dataset_digest"] == DATA.digest
    assert project.metadata["steelyard_rows"] == 120
    assert project.end_time is not None
    dataset = client.read_dataset(dataset_name="numbers")
    assert project.reference_dataset_id == dataset.id
    examples = {str(e.id): e for e in client.list_examples(dataset_id=dataset.id)}
    runs = runs_of(client, name)
    rows = bundle_of(settings, report).scores.rows
    assert len(runs) == len(rows) == 120
    feedback = list(client.list_feedback(run_ids=list(runs)))
    by_run = {}
    for given in feedback:
        by_run.setdefault(str(given.run_id), {})[given.key] = given
    for row in rows:
        run = runs[run_id(report.evidence_id, row.example_id, row.trial)]
        example = examples[str(run.reference_example_id)]
        assert example.metadata["steelyard"]["id"] == row.example_id
        assert run.inputs == example.inputs
        given = by_run.get(str(run.id), {})
        if row.failure is not None:
            assert run.error.startswith("task: ")
            assert given == {}
            continue
        assert run.outputs == (row.outputs if isinstance(row.outputs, dict) else {"output": row.outputs})
        assert set(given) == {s.name for s in row.scores}
        for score in row.scores:
            assert given[score.name].score == score.value
            if score.error is not None:
                assert "cannot say" in given[score.name].comment
    verdicts = [f for f in server.state.feedback.values() if f["key"] == "steelyard_verdict"]
    assert [(f["score"], f["value"], f["session_id"]) for f in verdicts] == [(1.0, "pass", str(project.id))]


def test_again_it_adds_nothing_and_what_broke_off_is_completed(server, settings, client):
    opened, lines = workspace(settings.with_(langsmith="off"))
    report = run_gate(gate(), opened)
    assert lines == []
    assert {r.path for r in server.requests} <= {"/info"}  # the test's own client asks that
    bundle = bundle_of(settings, report)
    sent = 0

    def breaks(request):
        nonlocal sent
        sent += request.path == "/runs/multipart"
        return 500 if request.path == "/runs/multipart" and sent > 1 else None

    server.answer = breaks
    with pytest.raises(StoreUnavailable, match="not everything"):
        mirror(bundle, DATA, settings)
    some = runs_of(client, f"numbers-{bundle.id}")
    assert 0 < len(some) < 120
    server.answer = lambda request: None
    assert mirror(bundle, DATA, settings).new
    everything = {k: v.outputs for k, v in runs_of(client, f"numbers-{bundle.id}").items()}
    assert len(everything) == 120
    counts = (len(server.state.runs), len(server.state.feedback), len(server.state.history))
    requests = len(server.requests)
    assert not mirror(bundle, DATA, settings).new
    assert len(server.requests) - requests <= 2
    assert (len(server.state.runs), len(server.state.feedback), len(server.state.history)) == counts
    assert len(list(client.list_projects(name_contains="numbers"))) == 1


def test_the_verdict_is_the_same_whatever_langsmith_does(server, settings, tmp_path_factory):
    quiet, _ = workspace(settings.with_(langsmith="off"))
    wanted = run_gate(gate(), quiet).verdict.to_bytes()

    def closed():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

    cases = {
        "down": settings.with_(langsmith_endpoint=closed()),
        "wrong key": settings.with_(langsmith_api_key="lsv2-canary"),
        "500": settings,
        "odd answers": settings,
    }
    for case, changed in cases.items():
        server.answer = lambda request, case=case: 500 if case == "500" else None
        if case == "odd answers":
            server.handle = lambda request: (200, {"surprise": 1})
        home = tmp_path_factory.mktemp("home")
        opened, lines = workspace(changed.with_(home=home))
        report = run_gate(gate(), opened)
        assert report.verdict.to_bytes() == wanted, case
        assert len(lines) == 1, case
        assert lines[0].startswith("not mirrored to LangSmith: "), case
        assert "\n" not in lines[0], case
        assert "canary" not in lines[0], case


def test_without_a_key_no_socket_is_opened(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    opened, lines = workspace(load_settings(tmp_path, environ={}))
    real = socket.socket.connect

    def connect(self, address):
        assert self.family == socket.AF_UNIX, f"a socket was opened to {address}"
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert run_gate(gate(), opened).verdict.outcome == "pass"
    assert lines == []


def test_the_setting_is_checked(tmp_path):
    with pytest.raises(InvalidValue, match="auto or off"):
        load_settings(tmp_path, environ={"STEELYARD_LANGSMITH": "on"})
    off = load_settings(tmp_path, environ={"STEELYARD_LANGSMITH": "off", "LANGSMITH_API_KEY": "lsv2-canary"})
    assert off.langsmith == "off"
    assert "canary" not in repr(off)


def test_from_the_command_line(server, settings, client, monkeypatch):
    write_jsonl(DATA, settings.datasets / "numbers.jsonl")
    with Workspace(settings.with_(langsmith="off"), store=MemoryStore()) as opened:
        report = run_gate(gate(dataset="numbers", split="test"), opened)
    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("LANGSMITH_API_KEY", server.api_key)
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    for says in ("120 rows", "all 120 rows were there"):
        result = CliRunner().invoke(cli, ["evidence", "mirror", report.evidence_id], catch_exceptions=False)
        assert result.exit_code == 0
        assert says in result.stdout
    assert len(runs_of(client, f"numbers-{report.evidence_id}")) == 120
    write_jsonl(Dataset(name="numbers", examples=DATA.examples[1:]), settings.datasets / "numbers.jsonl")
    with pytest.raises(InvalidValue, match="has changed"):
        CliRunner().invoke(cli, ["evidence", "mirror", report.evidence_id], catch_exceptions=False)


def test_what_others_have_in_langsmith_is_not_touched(server, settings, client):
    made = client.create_dataset("numbers")
    client.create_examples(dataset_id=made.id, examples=[{"inputs": {"q": "theirs"}}])
    opened, lines = workspace(settings)
    assert run_gate(gate(), opened).verdict.outcome == "pass"
    assert lines[0].startswith("not mirrored to LangSmith: LangSmith has a dataset 'numbers'")
    with pytest.raises(InvalidValue, match="somebody else"):
        push_langsmith(DATA, settings)
    assert [e.inputs for e in client.list_examples(dataset_id=made.id)] == [{"q": "theirs"}]
    # A dataset that came from there is referred to, but never put back to what it was.
    client.create_examples(
        dataset_name=client.create_dataset("xs").name,
        examples=[{"inputs": {"x": i}, "reference_outputs": {"y": i}} for i in range(1, 60) if i % 10],
    )
    pulled = pull_langsmith("langsmith:xs", settings)
    first = next(iter(client.list_examples(dataset_name="xs")))
    client.update_example(first.id, inputs={"x": 1}, outputs={"y": "mended there"})
    run_gate(gate(dataset=pulled, evaluators=[exact_match("y")]), opened)
    assert lines[-1].startswith("mirrored to LangSmith")
    assert client.read_example(first.id).outputs == {"y": "mended there"}
    assert len(list(client.list_examples(dataset_name="xs"))) == len(pulled)


# -- the server itself --------------------------------------------------------------------------------
def test_the_server_refuses_what_langsmith_refuses(server, client):
    import uuid

    from langsmith.utils import LangSmithConflictError, LangSmithError, LangSmithNotFoundError

    made = client.create_dataset("d")
    with pytest.raises(LangSmithConflictError):
        client.create_dataset("d")
    with pytest.raises(LangSmithNotFoundError):
        client.create_examples(dataset_id=uuid.uuid4(), examples=[{"inputs": {}}])
    example = client.create_example({"q": 1}, dataset_id=made.id, reference_outputs={"a": 1})
    with pytest.raises(LangSmithConflictError):
        client.create_example({"q": 1}, dataset_id=made.id, example_id=example.id)
    with pytest.raises(LangSmithError):
        client.create_feedback(uuid.uuid4(), "k", score=1, session_id=uuid.uuid4(), stop_after_attempt=1)
    client.update_example(example.id, inputs={"q": 2})
    client.update_dataset_splits(dataset_id=made.id, split_name="hard", example_ids=[example.id])
    assert client.read_example(example.id).inputs == {"q": 2}
    assert client.list_dataset_splits(dataset_id=made.id) == ["base", "hard"]
    client.delete_example(example.id)
    assert list(client.list_examples(dataset_id=made.id)) == []
    client.delete_dataset(dataset_id=made.id)
    assert not client.has_dataset(dataset_name="d")


def test_the_server_keeps_real_traces(server, monkeypatch):
    from langsmith import Client, traceable
    from langsmith.run_helpers import tracing_context

    client = Client(api_url=server.url, api_key=server.api_key)

    @traceable(run_type="tool")
    def inner(x):
        return x + 1

    @traceable
    def outer(x):
        return inner(x) * 2

    with tracing_context(enabled=True, client=client, project_name="traces"):
        assert outer(1) == 4
    client.flush()
    runs = {r["name"]: r for r in server.state.runs.values()}
    assert runs["inner"]["parent_run_id"] == runs["outer"]["id"]
    assert runs["outer"]["outputs"] == {"output": 4}
    assert all(r["end_time"] for r in runs.values())
    client.close(timeout=0)


def test_prompts_pushed_by_the_real_client_are_read_as_data(server, client):
    import json

    from langchain_core.prompts import ChatPromptTemplate

    from steelyard.prompts.foreign import FORMATS

    template = ChatPromptTemplate([("system", "Be {tone}."), ("human", "{q} {{literal}}")])
    client.push_prompt("greet", object=template, commit_tags="prod")
    commit = client.pull_prompt_commit("greet:prod")
    langsmith = FORMATS.get("langsmith")
    prompt = langsmith.read(commit.model_dump_json(by_alias=True), "greet")[0].prompt
    values = {"tone": "kind", "q": "What?"}
    assert prompt.render(**values).to_langchain() == template.invoke(values).to_messages()
    # and back: what we write is a manifest that the real client commits and pulls again
    client.push_prompt("again", object=json.loads(langsmith.write(prompt).text))
    pulled = client.pull_prompt_commit("again")
    assert langsmith.read(json.dumps(pulled.manifest), "again")[0].prompt.digest == prompt.digest


def test_prompts_in_and_out_of_langsmith_from_the_command_line(server, settings, client, monkeypatch):
    from langchain_core.prompts import ChatPromptTemplate

    from steelyard.core.errors import NotFound
    from steelyard.prompts import load_prompt

    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("LANGSMITH_API_KEY", server.api_key)
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    client.push_prompt("greet", object=ChatPromptTemplate([("human", "Hello {name}")]))

    def run(*arguments):
        return CliRunner().invoke(cli, ["prompts", *arguments], catch_exceptions=False)

    assert run("import", "langsmith:greet").exit_code == 0
    assert load_prompt("greet", settings).render(name="N").messages[0]["content"] == "Hello N"
    assert "again" in run("export", "greet", "--to", "langsmith", "-o", "langsmith:again").stdout
    assert run("import", "langsmith:again:latest", "--name", "back").exit_code == 0
    assert load_prompt("back", settings).digest == load_prompt("greet", settings).digest
    with pytest.raises(NotFound):
        run("import", "langsmith:nothing")


def test_two_servers_do_not_meet():
    with LangSmithServer() as one, LangSmithServer() as two:
        assert one.url != two.url
