"""Names that want out of their folder are refused before a file is opened."""

import pytest

from steelyard.core.errors import InvalidFile, InvalidValue, NotFound, SteelyardError
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset
from steelyard.evals.spec import Gate
from steelyard.evidence.bundle import EvidenceWriter
from steelyard.lm.key import key_of_call, key_of_request
from steelyard.prompts import load_prompt
from steelyard.prompts.files import read_working
from steelyard.store.memory import MemoryStore

BAD = ["../x", "..\\x", "%2e%2e/x", "a#b", "a\0b", "a" * 300, "", "/etc/passwd", "a/../../x", "a//b", "~/x",
       "-x", ".git/config", "a b", "a\nb", "C:\\x", "$(touch canary)", "é", "a/."]  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    for folder in ("prompts", "evals/datasets", ".steelyard/evidence"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "x.yaml").write_text("template: outside\n")
    (tmp_path / "x.jsonl").write_text('{"inputs": {}}\n')
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    return load_settings(tmp_path, environ={})


ZERO = "sha256:" + "0" * 64
STORE = MemoryStore()
ENTRIES = {
    "prompt file": lambda name, settings: read_working(name, settings),
    "prompt ref": lambda name, settings: load_prompt(name, settings, STORE),
    "prompt ref with alias": lambda name, settings: load_prompt(f"{name}@production", settings, STORE),
    "dataset": lambda name, settings: load_dataset(name, settings),
    "evidence to write": lambda name, settings: EvidenceWriter(settings.home / (name or " "), {}),
    "evidence in the store": lambda name, settings: STORE.open_evidence(name, settings.home / "evidence"),
    "registered name": lambda name, settings: STORE.register("prompt", name, digest=ZERO, content={}),
    "aliases of a name": lambda name, settings: STORE.aliases("prompt", name),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_bad_name_is_refused_and_nothing_is_opened(entry, settings, watching):
    for name in BAD:
        with (
            watching("open", "os.listdir", "os.scandir", "os.mkdir") as seen,
            pytest.raises(SteelyardError) as caught,
        ):
            ENTRIES[entry](name, settings)
        assert isinstance(caught.value, InvalidValue), (name, caught.value)
        ours = [a for e, a in seen if str(settings.root) in str(a[0]) or "passwd" in str(a[0])]
        assert ours == [], name
        assert len(str(caught.value)) < 600


def test_links_that_lead_out_are_refused_unopened(settings, tmp_path_factory, watching):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "p.yaml").write_text("template: secret\n")
    (outside / "d.jsonl").write_text('{"inputs": {"q": "secret"}}\n')
    (settings.prompts / "p.yaml").symlink_to(outside / "p.yaml")
    (settings.prompts / "team").symlink_to(outside)
    (settings.datasets / "d.jsonl").symlink_to(outside / "d.jsonl")
    (settings.datasets / "ring.jsonl").symlink_to(settings.datasets / "ring.jsonl")
    for read in (
        lambda: read_working("p", settings),
        lambda: read_working("team/p", settings),
        lambda: load_dataset("d", settings),
    ):
        with watching("open") as seen, pytest.raises(InvalidValue, match="link that leads out"):
            read()
        assert [a for _, a in seen if str(outside) in str(a[0])] == []
    with pytest.raises((InvalidValue, NotFound, InvalidFile)):
        load_dataset("ring", settings)


def test_a_link_inside_the_project_is_fine(settings):
    (settings.root / "cache").mkdir()
    (settings.root / "cache" / "abc").write_text('{"inputs": {"q": 1}}\n')
    (settings.datasets / "d.jsonl").symlink_to(settings.root / "cache" / "abc")  # as DVC lays data out
    assert load_dataset("d", settings).examples[0].inputs == {"q": 1}


@pytest.mark.parametrize("text", BAD)
def test_a_key_of_a_recording_is_hex_whatever_is_asked(text):
    request = key_of_request(
        method=text,
        target=text,
        content_type="application/json",
        body=text.encode(),
        identity=None,
        host=text,
    )
    for key in (request, key_of_call(request, trial=0, n=0)):
        assert len(key) == 64
        assert set(key) <= set("0123456789abcdef")


@pytest.mark.parametrize("text", BAD)
def test_a_gate_s_name_is_text_and_no_path(text, settings, watching):
    """A gate may be called anything; its evidence and its report lie under ids and names of our own."""
    from steelyard import Dataset, Example, at_least
    from steelyard.evals.gate import run_gate
    from steelyard.evals.workspace import Workspace
    from steelyard.report import write_report

    data = Dataset(name="d", examples=tuple(Example(id=f"e{i}", inputs={"x": i}) for i in range(3)))
    gate = Gate(task=task, name=text, dataset=data, require=[at_least("m", 0.1)], evaluators=[constant])
    with Workspace(settings, store=MemoryStore()) as workspace:
        run_gate(gate, workspace)
        write_report(workspace.session_report(), settings.home / "report")
    made = {p.relative_to(settings.root).parts[0] for p in settings.root.rglob("*")}
    assert made == {"prompts", "evals", ".steelyard", "x.yaml", "x.jsonl", "pyproject.toml"}
    assert {p.name for p in (settings.home / "report").iterdir()} == {
        "index.html",
        "summary.md",
        "verdicts.json",
    }


def task(inputs):
    return inputs["x"]


def _constant():
    from steelyard import evaluator

    @evaluator(name="m")
    def one(outputs):
        return 1.0

    return one


constant = _constant()
