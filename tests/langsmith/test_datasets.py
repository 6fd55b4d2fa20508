"""Datasets to LangSmith and back, through the real client, against a server that keeps what it got."""

import socket

import pytest
from click.testing import CliRunner

from steelyard.cli.main import cli
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidValue, NotFound, StoreUnavailable
from steelyard.data import load_dataset, read_dataset
from steelyard.data.langsmith import pull_langsmith, push_langsmith

pytestmark = pytest.mark.server

ODD = Dataset(
    name="odd things",
    examples=(
        Example(
            id="a",
            inputs={"q": "é 漢 \u2028 <b>", "n": 1.0},
            reference_outputs="text",
            split="test",
            cluster="c",
        ),
        Example(
            id="b", inputs={}, reference_outputs={"a": [1, None]}, metadata={"language": "de", "k": None}
        ),
        Example(id="c", inputs={"deep": {"x": [{}]}}, reference_outputs={}, split="train"),
        Example(id="d", inputs={"x": None}, reference_outputs=False),
        Example(id="e", inputs={"x": 2**53 - 1}, reference_outputs=[]),
        Example(id="f", inputs={"x": 1}, reference_outputs={"value": 1}),
        Example(id="g", inputs={"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}),
    ),
)


def test_a_round_trip_keeps_the_digest(settings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    assert push_langsmith(ODD, settings).created == len(ODD)
    back = load_dataset("langsmith:odd things", settings)
    assert back.digest == ODD.digest
    assert {e.id: e for e in back} == {e.id: e for e in ODD}  # the look-alike of a secret is data
    again = push_langsmith(back, settings)
    assert (again.created, again.updated, again.deleted) == (0, 0, 0)


def test_many_examples_come_in_pages(settings):
    many = Dataset(name="many", examples=tuple(Example(id=f"{i}", inputs={"i": i}) for i in range(450)))
    push_langsmith(many, settings)
    assert pull_langsmith("langsmith:many", settings).digest == many.digest


def test_versions_tags_and_splits(settings, client):
    push_langsmith(ODD, settings, name="d")
    first = pull_langsmith("langsmith:d", settings)
    client.update_dataset_tag(
        dataset_name="d", as_of=client.read_dataset_version(dataset_name="d", tag="latest").as_of, tag="prod"
    )
    changed = Dataset(
        name="d",
        examples=(
            Example(id="a", inputs={"q": "other"}),  # split, cluster and reference taken away
            *ODD.examples[1:-1],
            Example(id="z", inputs={"q": "new"}, split="dev"),
        ),
    )
    done = push_langsmith(changed, settings)
    assert (done.created, done.updated, done.deleted) == (1, 1, 1)
    assert push_langsmith(changed, settings).updated == 0
    assert pull_langsmith("langsmith:d", settings).digest == changed.digest
    for address in (first.source, "langsmith:d@prod"):
        assert pull_langsmith(address, settings).digest == ODD.digest
    assert [e.id for e in pull_langsmith("langsmith:d@dev", settings)] == ["z"]
    assert [e.id for e in pull_langsmith("langsmith:d@prod@test", settings)] == ["a"]
    with pytest.raises(NotFound, match="prod"):
        pull_langsmith("langsmith:d@prodd", settings)
    with pytest.raises(NotFound, match="'d'"):
        pull_langsmith("langsmith:dd", settings)


def test_examples_made_in_langsmith_are_read_and_keep_their_ids(settings, client):
    made = client.create_dataset("theirs")
    client.create_examples(
        dataset_id=made.id,
        examples=[
            {
                "inputs": {"q": "1"},
                "reference_outputs": {"a": "x"},
                "metadata": {"k": 1},
                "split": ["train", "hard"],
            },
            {"inputs": {"q": "2"}},
        ],
    )
    there = {str(e.id) for e in client.list_examples(dataset_id=made.id)}
    pulled = pull_langsmith("langsmith:theirs", settings)
    assert {e.id for e in pulled} == there
    first = next(e for e in pulled if e.inputs == {"q": "1"})
    assert (first.split, first.metadata) == ("train", {"k": 1, "dataset_split": ["train", "hard"]})
    push_langsmith(pulled, settings)
    assert {str(e.id) for e in client.list_examples(dataset_id=made.id)} == there
    assert pull_langsmith("langsmith:theirs", settings).digest == pulled.digest
    # A copy under another name has ids of its own: LangSmith's are unique over all datasets.
    push_langsmith(pulled, settings, name="copy")
    assert {str(e.id) for e in client.list_examples(dataset_name="copy")}.isdisjoint(there)
    assert pull_langsmith("langsmith:copy", settings).digest == pulled.digest


def test_keeping_what_others_added(settings):
    push_langsmith(ODD, settings, name="d")
    some = Dataset(name="d", examples=ODD.examples[:2])
    assert push_langsmith(some, settings, prune=False).deleted == 0
    assert len(pull_langsmith("langsmith:d", settings)) == len(ODD)


def test_failures_are_one_sentence_without_the_key(settings, server):
    with pytest.raises(InvalidValue, match="LANGSMITH_API_KEY"):
        pull_langsmith("langsmith:d", settings.with_(langsmith_api_key=None))
    with pytest.raises(StoreUnavailable, match="LANGSMITH_API_KEY") as caught:
        pull_langsmith("langsmith:d", settings.with_(langsmith_api_key="lsv2-canary"))
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(settings.with_(langsmith_api_key="lsv2-canary"))
    server.answer = lambda request: 500
    with pytest.raises(StoreUnavailable):
        pull_langsmith("langsmith:d", settings)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(StoreUnavailable, match="LANGSMITH_ENDPOINT") as caught:
        pull_langsmith("langsmith:d", settings.with_(langsmith_endpoint=address))
    assert "\n" not in str(caught.value)


def test_from_the_command_line(settings, server, monkeypatch):
    monkeypatch.chdir(settings.root)
    monkeypatch.setenv("LANGSMITH_API_KEY", server.api_key)
    monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
    settings.datasets.mkdir(parents=True)

    def run(*arguments):
        result = CliRunner().invoke(cli, ["data", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    (settings.datasets / "mine.jsonl").write_text(
        '{"inputs": {"q": "a"}, "expected": "x", "split": "test"}\n'
    )
    assert "1 new" in run("push", "mine")
    assert "0 new, 0 changed, 0 deleted" in run("export", "mine", "langsmith:mine")
    out = run("pull", "mine@test", "--as", "back")
    assert "from langsmith:mine@" in out
    mine, back = (read_dataset(settings.datasets / f"{n}.jsonl") for n in ("mine", "back"))
    assert mine.digest == back.digest
    assert "test 1" in run("list")
    assert '"q": "a"' in run("show", "langsmith:mine")
    with pytest.raises(InvalidValue, match="there already"):
        run("pull", "mine", "--as", "back")
