import json
from pathlib import Path

import pytest

from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.settings import Settings, load_settings
from steelyard.data import load_dataset, read_dataset, write_jsonl


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "sets").mkdir()
    return load_settings(tmp_path, environ={}, datasets=tmp_path / "sets")


def write(settings, name, content):
    path = settings.datasets / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GOOD = '{"id": "a", "inputs": {"q": "x"}, "reference_outputs": {"y": 1}, "split": "test"}\n'


def test_by_name_and_by_path_and_in_a_folder(settings):
    path = write(settings, "team/set.jsonl", GOOD)
    by_name, by_path = load_dataset("team/set", settings), load_dataset(path, settings)
    assert by_name.name == "team/set"
    assert by_path.name == "set"
    assert by_name.digest == by_path.digest == load_dataset(str(path), settings).digest
    assert by_name.examples[0].reference_outputs == {"y": 1}


def test_an_unknown_name_offers_the_nearest(settings):
    write(settings, "support-intent.jsonl", GOOD)
    with pytest.raises(NotFound, match="did you mean 'support-intent'"):
        load_dataset("suport-intent", settings)
    with pytest.raises(NotFound, match="no dataset file"):
        load_dataset(settings.datasets / "gone.jsonl", settings)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "", "x\0", "a" * 300, "%2e%2e/x"])
def test_a_name_cannot_leave_the_folder(settings, name):
    with pytest.raises(InvalidValue):
        load_dataset(name, settings)


def test_two_files_of_one_name(settings):
    write(settings, "s.jsonl", GOOD)
    write(settings, "s.csv", "inputs.q\nx\n")
    with pytest.raises(InvalidFile, match=r"also means s\.csv"):
        load_dataset("s", settings)


@pytest.mark.parametrize("word", ["expected", "expected_output", "expectations", "target"])
def test_other_projects_words(settings, word):
    write(settings, "s.jsonl", json.dumps({"input": "hello", word: "bye"}))
    (example,) = load_dataset("s", settings)
    assert example.inputs == {"input": "hello"}
    assert example.reference_outputs == "bye"
    assert example.id.startswith("row-")


def test_a_serialised_object_stays_data(settings):
    row = {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
    write(settings, "s.jsonl", json.dumps({"inputs": row}))
    (example,) = load_dataset("s", settings)
    assert example.inputs == row
    again = read_dataset(write_jsonl(load_dataset("s", settings), settings.root / "copy.jsonl"))
    assert again.examples[0].inputs == row


ROW = '{"inputs": {"q": 1}}'
MISTAKES = {
    "empty": ("", 1, "no example"),
    "blank": ("\n  \n", 1, "no example"),
    "utf16": ("{}".encode("utf-16"), 1, "UTF-16"),
    "latin1": (ROW.encode() + '\n{"inputs": {"q": "Zürich"}}'.encode("latin-1"), 2, "0xfc at column"),
    "nul": (b'{"inputs": \0}', 1, "NUL"),
    "tab in text": ('{"inputs": {"q": "a\tb"}}', 1, r"Write a tab inside text as \\t"),
    "broken": (ROW + '\n{"inputs": ', 2, "no JSON"),
    "single quotes": ("{'inputs': 1}", 1, "double quotes"),
    "list around": ("[\n" + ROW + "\n]", 1, "one object a line"),
    "two on a line": (ROW + ROW, 1, "line of its own"),
    "not an object": (ROW + '\n"text"', 2, "a row is an object"),
    "NaN": ('{"inputs": {"q": NaN}}', 1, "NaN is not JSON"),
    "Infinity": ('{"inputs": {"q": -Infinity}}', 1, "Infinity is not JSON"),
    "1e999": ('{"inputs": {"q": 1e999}}', 1, "too large"),
    "big integer": ('{"inputs": {"q": 9007199254740993}}', 1, "2\\*\\*53"),
    "huge integer": ('{"inputs": {"q": ' + "9" * 10_000 + "}}", 1, "2\\*\\*53"),
    "half a character": ('{"inputs": {"q": "\\ud800"}}', 1, "lone surrogate"),
    "duplicate key": ('{"inputs": {"q": 1, "q": 2}}', 1, "'q' stands twice"),
    "unknown key": ('{"inputs": {}, "metdata": {}}', 1, "Did you mean 'metadata'"),
    "no inputs": ('{"expected": 1}', 1, "has no 'inputs'"),
    "inputs a text": ('{"inputs": "x"}', 1, "not an object"),
    "metadata a list": ('{"inputs": {}, "metadata": []}', 1, "not an object"),
    "split a number": ('{"inputs": {}, "split": 3}', 1, "'split' is 3"),
    "id a list": ('{"id": [], "inputs": {}}', 1, "the id"),
    "id with newline": ('{"id": "a\\nb", "inputs": {}}', 1, "the id"),
    "duplicate id": (GOOD + "\n" + GOOD, 3, "'a' stands in line 1 already"),
    "same without id": (ROW + "\n" + ROW, 2, "same example as in line 1"),
    "mixed forms": (ROW + '\n{"input": {"q": 2}}', 2, "'inputs' in line 1"),
    "both forms": ('{"inputs": {}, "input": {}}', 1, "given twice"),
    "deep": ('{"inputs": {"q": ' + "[" * 300 + "]" * 300 + "}}", 1, "deep"),
    "bottomless": ('{"inputs": {"q": ' + "[" * 100_000 + "]" * 100_000 + "}}", 1, "deep"),
    "10 MB line": (ROW + '\n{"inputs": {"q": "' + "x" * 10_000_000 + '"}}', 2, "longer than"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gives_file_line_what_and_what_to_do(settings, case):
    content, line, what = MISTAKES[case]
    path = write(settings, "s.jsonl", content)
    with pytest.raises(InvalidFile, match=what) as caught:
        load_dataset("s", settings)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert caught.value.do.endswith((".", "?"))
    assert len(str(caught.value)) < 700


def test_a_byte_order_mark_windows_line_ends_and_no_last_break_are_fine(settings):
    write(settings, "s.jsonl", b"\xef\xbb\xbf" + GOOD.strip().encode() + b"\r\n\r\n" + ROW.encode())
    assert len(load_dataset("s", settings)) == 2


def test_integer_ids_become_text_and_order_does_not_matter(settings):
    write(settings, "a.jsonl", '{"id": 1, "inputs": {}}\n{"id": 2, "inputs": {}}')
    write(settings, "b.jsonl", '{"id": 2, "inputs": {}}\n{"id": "1", "inputs": {}}')
    assert load_dataset("a", settings).digest == load_dataset("b", settings).digest


def test_written_datasets_read_back(settings, tmp_path):
    write(
        settings,
        "s.jsonl",
        GOOD + '{"id": "日本", "inputs": {"q": "a\\u2028b"}, "metadata": {"language": "ja"}}',
    )
    dataset = load_dataset("s", settings)
    path = write_jsonl(dataset, tmp_path / "new" / "out.jsonl")
    assert read_dataset(path).digest == dataset.digest
    assert [p.name for p in path.parent.iterdir()] == ["out.jsonl"]


def test_a_failed_write_leaves_the_old_file(settings, tmp_path):
    from steelyard.core.dataset import Dataset, Example

    path = tmp_path / "out.jsonl"
    path.write_text("old")
    bad = Dataset(
        name="b", examples=(Example(id="1", inputs={}), Example(id="2", inputs={"q": float("nan")}))
    )
    with pytest.raises(InvalidValue, match="example '2'"):
        write_jsonl(bad, path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "sets"]


def test_a_conftest_beside_the_data_is_not_imported(settings):
    write(settings, "conftest.py", "raise SystemExit('imported')")
    write(settings, "s.jsonl", GOOD)
    assert len(load_dataset("s", settings)) == 1
