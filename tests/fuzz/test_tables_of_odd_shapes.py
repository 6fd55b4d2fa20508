"""Parquet has types that JSON lacks, and much can be said twice: each is read or refused."""

import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steelyard.core.errors import InvalidFile
from steelyard.data import read_dataset

STRUCT = pa.struct([("q", pa.string())])


def table(**columns):
    return pa.table(columns)


def nested(value, depth):
    kind = pa.int64()
    for _ in range(depth):
        value, kind = [value], pa.list_(kind)
    return pa.array([{"q": value}], pa.struct([("q", kind)]))


ODD = {
    "a column twice": lambda: pa.table(
        [pa.array([{}], STRUCT), pa.array(["a"]), pa.array(["b"])], names=["inputs", "split", "split"]
    ),
    "a dotted column twice": lambda: pa.table([pa.nulls(1), pa.nulls(1)], names=["inputs.q", "inputs.q"]),
    "a struct's field twice": lambda: table(
        inputs=pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["q", "q"])
    ),
    "dates": lambda: table(**{"inputs.q": pa.array([dt.date(2026, 1, 1)])}),
    "a date after 9999": lambda: table(**{"inputs.q": pa.array([10**8], pa.int32()).cast(pa.date32())}),
    "a time before the year 1": lambda: table(**{"inputs.q": pa.array([-(2**62)], pa.timestamp("us"))}),
    "an unknown time zone": lambda: table(**{"inputs.q": pa.array([0], pa.timestamp("us", tz="Not/AZone"))}),
    "a huge duration": lambda: table(**{"inputs.q": pa.array([2**62], pa.duration("s"))}),
    "decimals": lambda: table(**{"inputs.q": pa.array([decimal.Decimal("1.10")])}),
    "binary": lambda: table(**{"inputs.q": pa.array([b"\xff"])}),
    "a map": lambda: table(**{"inputs.q": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}),
    "not a number": lambda: table(**{"inputs.q": pa.array([float("nan")])}),
    "an infinity": lambda: table(inputs=pa.array([{"q": float("inf")}])),
    "an integer beyond 2**53": lambda: table(**{"inputs.q": pa.array([2**62])}),
    "no column": lambda: pa.table({}),
    "no row": lambda: table(**{"inputs.q": pa.array([], pa.string())}),
    "nothing but nulls": lambda: table(**{"inputs.q": pa.nulls(3)}),
    "an empty column name": lambda: pa.table([pa.array(["a"])], names=[""]),
    "nesting": lambda: table(inputs=nested(1, 250)),
}  # fmt: skip
READABLE = {"a map"}


@pytest.mark.parametrize("case", ODD)
def test_parquet(case, tmp_path):
    path = tmp_path / "d.parquet"
    pq.write_table(ODD[case](), path)
    if case in READABLE:
        assert read_dataset(path).examples[0].inputs == {"q": [["a", 1]]}
        return
    with pytest.raises(InvalidFile) as caught:
        read_dataset(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("d.yaml", "examples: []\nexamples:\n  - {inputs: {q: 1}}\n", "'examples' stands twice"),
        ("d.yaml", "- {inputs: {q: 1}, inputs: {q: 2}}\n", "'inputs' stands twice"),
        ("d.yaml", "- inputs: {q: {a: 1, a: 2}}\n", "'a' stands twice"),
        ("d.jsonl", '{"inputs": {"q": {"a": 1, "a": 2}}}\n', "'a' stands twice"),
        ("d.csv", "id,id,inputs.q\n1,2,3\n", "stands twice"),
    ],
)
def test_nothing_is_said_twice(file, text, says, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(InvalidFile, match=says):
        read_dataset(tmp_path / file)
