import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steelyard.core.errors import InvalidFile
from steelyard.data import read_dataset


def read(tmp_path: Path, name: str, content: str | bytes):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_dataset(path).examples


def test_dotted_columns(tmp_path):
    (one, two) = read(
        tmp_path,
        "s.csv",
        "id,inputs.q,inputs.ctx,reference_outputs.y,metadata.language,split\n"
        'a,"x, ""quoted""\nand more",,5,en,test\nb,z,c,,,\n',
    )
    assert one.inputs == {"q": 'x, "quoted"\nand more', "ctx": ""}
    assert (one.reference_outputs, one.metadata, one.split) == ({"y": "5"}, {"language": "en"}, "test")
    assert (two.id, two.reference_outputs, two.metadata, two.split) == ("b", None, {}, None)


def test_plain_columns(tmp_path):
    (one,) = read(tmp_path, "s.csv", b"\xef\xbb\xbfquestion,expected\r\nwhy?,because\r\n")
    assert (one.inputs, one.reference_outputs) == ({"question": "why?"}, "because")
    (one,) = read(tmp_path, "t.csv", "input,target\nwhy?,because\n")
    assert (one.inputs, one.reference_outputs) == ({"input": "why?"}, "because")


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("", 1, "no example"),
        ("inputs.q\n", 1, "no example"),
        ("a\tb\n1\t2\n", 1, "tabs"),
        ("a;b\n1;2\n", 1, "semicolons"),
        ("q,expcted\n1,2\n", 1, "Did you mean 'expected'"),
        ("inputs.q,other\n1,2\n", 1, "unknown column 'other'"),
        ("q,\n1,2\n", 1, "unknown column ''"),
        ("q,q\n1,2\n", 1, "stands twice"),
        ("metadata,q\n1,2\n", 1, r"metadata\.NAME"),
        ("q,r\n1,2\n3\n", 3, "1 cells, but the header has 2"),
        ('q,r\n1,"2\n', 2, "no CSV"),
        ('q,r\n1,"2"x\n', 2, "no CSV"),
        ("id,q\n1,2\n\n1,3\n", 4, "'1' stands in line 2"),
        (b"q\nZ\xfcrich\n", 2, "not UTF-8"),
        ("split,expected\ntest,2\n", 2, "has no 'inputs'"),
    ],
)
def test_csv_mistakes(tmp_path, content, line, what):
    with pytest.raises(InvalidFile, match=what) as caught:
        read(tmp_path, "s.csv", content)
    assert caught.value.line == line


def test_yaml(tmp_path):
    (one, two) = read(
        tmp_path,
        "s.yaml",
        "- id: 1\n  inputs: {q: no, n: 3, f: 1.5, d: 2026-01-31, z: null}\n  expected: yes\n"
        "- id: 2\n  inputs:\n    q: |\n      a\n      b\n",
    )
    assert one.inputs == {"q": "no", "n": 3, "f": 1.5, "d": "2026-01-31", "z": None}
    assert one.reference_outputs == "yes"
    assert two.inputs == {"q": "a\nb\n"}
    assert read(tmp_path, "t.yml", "examples:\n- inputs: {q: x}\n")[0].inputs == {"q": "x"}


BOMB = "- &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"- &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("", 1, "no example"),
        ("# nothing\n", 1, "no example"),
        ("- inputs:\n\tq: x\n", 2, "tab"),
        ("- inputs: {q: !!python/object/apply:os.system [x]}\n", 1, "tag"),
        ("- inputs: {q: !x y}\n", 1, "tag"),
        ("- inputs: {q: 1}\n- inputs:\n    q: 1\n    q: 2\n", 4, "'q' stands twice"),
        ("- inputs: {q: 1\n", None, "no YAML"),
        ("a: 1\n", 1, "unknown key 'a'"),
        ("text\n", 1, "not a list"),
        ("- inputs: {1: x}\n", 1, "a key is no text"),
        ("- inputs: {q: 1}\n- input: {q: 2}\n", 2, "two words"),
        ("- {id: a, inputs: {}}\n- {id: a, inputs: {}}\n", 2, "in line 1"),
        ("- inputs: {q: 99999999999999999}\n", 1, "2\\*\\*53"),
        ("- inputs: &a {q: *a}\n", None, "too deep|no YAML"),
        (BOMB, None, "aliases|a row is an object"),
        ("- inputs: {q: 1}\n---\n- 2\n", None, "no YAML"),
    ],
)
def test_yaml_mistakes(tmp_path, content, line, what):
    with pytest.raises(InvalidFile, match=what) as caught:
        read(tmp_path, "s.yaml", content)
    assert line is None or caught.value.line == line


def test_an_alias_bomb_is_capped(tmp_path):
    lines = BOMB.splitlines()
    bomb = "- inputs:\n" + "".join(f"    k{i}: {line[2:]}\n" for i, line in enumerate(lines))
    with pytest.raises(InvalidFile, match="aliases written out"):
        read(tmp_path, "s.yaml", bomb)


def parquet(tmp_path, columns):
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_nested_and_dotted(tmp_path):
    path = parquet(
        tmp_path,
        {
            "id": ["a", "b"],
            "inputs": [{"q": "x"}, {"q": "y"}],
            "expected": [1, None],
            "metadata": [None, {"l": "en"}],
        },
    )
    one, two = read_dataset(path)
    assert (one.inputs, one.reference_outputs, one.metadata) == ({"q": "x"}, 1, {})
    assert two.metadata == {"l": "en"}
    (one, *_) = read_dataset(parquet(tmp_path, {"inputs.q": ["x"], "reference_outputs.y": [2.5]}))
    assert (one.inputs, one.reference_outputs) == ({"q": "x"}, {"y": 2.5})


def test_parquet_mistakes(tmp_path):
    with pytest.raises(InvalidFile, match="row 2: the number nan"):
        read_dataset(parquet(tmp_path, {"inputs.q": [1.0, math.nan]}))
    with pytest.raises(InvalidFile, match="row 2: the id 'a' stands in row 1"):
        read_dataset(parquet(tmp_path, {"id": ["a", "a"], "inputs.q": [1, 2]}))
    with pytest.raises(InvalidFile, match="no example"):
        read_dataset(parquet(tmp_path, {"inputs.q": pa.array([], pa.string())}))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(InvalidFile, match="no Parquet file"):
        read_dataset(tmp_path / "x.parquet")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InvalidFile, match="not a kind of file"):
        read_dataset(tmp_path / "x.json")
