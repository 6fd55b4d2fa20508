"""Hugging Face `datasets`: written, saved, loaded and read back to the same digest, with the real library."""

import datasets
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from steelyard.cli.main import cli
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.data import load_dataset
from steelyard.data.huggingface import from_huggingface, save_huggingface, to_huggingface


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    return load_settings(tmp_path, environ={})


REGULAR = Dataset(
    name="d",
    examples=(
        Example(id="1", inputs={"q": "a", "n": 1}, reference_outputs={"a": "x"}, split="train"),
        Example(id="2", inputs={"q": "é", "n": 2}, reference_outputs={"a": "y"}, split="test", cluster="c"),
    ),
)
IRREGULAR = Dataset(
    name="d",
    examples=(
        Example(id="1", inputs={"q": "a"}, reference_outputs="x", split="a b"),
        Example(id="2", inputs={"n": None}, reference_outputs=[1, "a", 1.5], metadata={"k": {}}),
        Example(id="3", inputs={}),
    ),
)


@pytest.mark.parametrize("dataset", [REGULAR, IRREGULAR])
def test_saved_and_loaded_the_digest_is_the_same(dataset, settings):
    save_huggingface(dataset, settings.root / "out")
    back = load_dataset("huggingface:out", settings)
    assert back.digest == dataset.digest
    assert {e.id: e for e in back} == {e.id: e for e in dataset}
    with pytest.raises(InvalidValue, match="not empty"):
        save_huggingface(dataset, settings.root / "out")


def test_regular_rows_are_columns_that_others_can_use(settings):
    made = to_huggingface(REGULAR)
    assert isinstance(made, datasets.DatasetDict)
    assert made["train"][0]["inputs"] == {"q": "a", "n": 1}
    save_huggingface(REGULAR, settings.root / "out")
    assert [e.id for e in load_dataset("huggingface:out#test", settings)] == ["2"]
    with pytest.raises(NotFound, match="'test'"):
        load_dataset("huggingface:out#tset", settings)


def test_a_stranger_s_columns(settings):
    found = datasets.Dataset.from_dict(
        {"question": ["a", "b"], "expected": [1, 0]},
        features=datasets.Features(
            {"question": datasets.Value("string"), "expected": datasets.ClassLabel(names=["no", "yes"])}
        ),
    )
    dataset = from_huggingface(found, "d", split="test")
    assert [(e.inputs, e.reference_outputs, e.split) for e in dataset] == [
        ({"question": "a"}, "yes", "test"),
        ({"question": "b"}, "no", "test"),
    ]
    with pytest.raises(InvalidFile, match="inputs"):
        from_huggingface(datasets.Dataset.from_dict({"inputs.q": ["a"], "colour": ["b"]}), "d")
    with pytest.raises(InvalidFile, match="row 1"):
        from_huggingface(datasets.Dataset.from_dict({"q": [b"\xff"]}), "d")


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("ab.", min_size=1, max_size=2), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text("ab", min_size=1, max_size=2), _json, max_size=2),
            _json,
            st.sampled_from([None, "x", "y z"]),
        ),
        min_size=1,
        max_size=4,
    )
)
@hypothesis_settings(max_examples=20, deadline=None)
def test_any_rows_survive(rows):
    dataset = Dataset(
        name="d",
        examples=tuple(
            Example(id=str(i), inputs=a, reference_outputs=b, split=s) for i, (a, b, s) in enumerate(rows)
        ),
    )
    assert from_huggingface(to_huggingface(dataset), "d").digest == dataset.digest


def test_the_hub_only_at_a_commit(settings, monkeypatch):
    for address in ("huggingface:owner/name", "huggingface:owner/name@main", "huggingface:owner/name@abc123"):
        with pytest.raises(InvalidValue, match="commit"):
            load_dataset(address, settings)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StoreUnavailable, match="owner/name"):
        load_dataset(f"huggingface:owner/name@{'a' * 40}", settings)
    with pytest.raises(NotFound):
        load_dataset("huggingface:nothing", settings)


def test_a_folder_s_code_is_never_run(settings):
    folder = settings.root / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    (folder / "conftest.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InvalidFile):
        load_dataset("huggingface:evil", settings)


def test_from_the_command_line(settings, monkeypatch):
    monkeypatch.chdir(settings.root)
    settings.datasets.mkdir(parents=True)
    (settings.datasets / "d.jsonl").write_text('{"id": "1", "inputs": {"q": "a"}, "split": "test"}\n')
    for arguments in (["export", "d", "huggingface:out"], ["import", "huggingface:out", "--name", "e"]):
        assert CliRunner().invoke(cli, ["data", *arguments], catch_exceptions=False).exit_code == 0
    assert load_dataset("d", settings).digest == load_dataset("e", settings).digest
