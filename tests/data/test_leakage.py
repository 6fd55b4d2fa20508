import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidValue, NotFound
from steelyard.data import near_duplicates, read_dataset
from steelyard.data.leakage import _shingles

OURS = Path(__file__).parents[2] / "evals" / "datasets"


def dataset(train, test):
    rows = [Example(id=f"tr{i}", inputs={"q": t}, split="train") for i, t in enumerate(train)]
    rows += [Example(id=f"te{i}", inputs={"q": t}, split="test") for i, t in enumerate(test)]
    return Dataset(name="d", examples=tuple(rows))


def test_a_changed_comma_or_case_is_found_and_another_text_is_not():
    d = dataset(
        ["Where is my parcel? I ordered it on Monday.", "Cancel it"],
        ["where is my PARCEL, I ordered it on Monday!", "I would like to return these shoes"],
    )
    (found,) = near_duplicates(d)
    assert (found.a, found.b, found.similarity) == ("tr0", "te0", 1.0)


def test_no_pair_is_lost_by_the_index():
    rng = random.Random(5)
    words = ["late", "parcel", "refund", "card", "box", "please", "today", "blue"]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(120)]
    d = dataset(texts[:60], texts[60:])
    for threshold in (0.3, 0.5, 0.7, 1.0):
        want = set()
        for a in d.split("train"):
            for b in d.split("test"):
                x, y = _shingles(a), _shingles(b)
                if len(x & y) / len(x | y) >= threshold:
                    want.add((a.id, b.id))
        assert {(f.a, f.b) for f in near_duplicates(d, threshold=threshold)} == want
        assert want


def test_what_cannot_be_compared_is_refused():
    d = dataset(["x"], ["y"])
    with pytest.raises(NotFound, match="'train'"):
        near_duplicates(d, "trian", "test")
    with pytest.raises(InvalidValue):
        near_duplicates(d, threshold=0)
    with pytest.raises(InvalidValue):
        near_duplicates(d, "test", "test")


@pytest.mark.parametrize("name", ["support-intent", "refund-policy"])
def test_our_own_splits_do_not_leak(name):
    ours = read_dataset(OURS / f"{name}.jsonl")
    # `reserve` was drawn from test: both are held out, and their excerpts may share a neighbouring clause.
    held_out = {"test", "reserve"}
    splits = {e.split for e in ours if e.split}
    for a in splits - held_out:
        for b in splits - {a}:
            assert near_duplicates(ours, a, b, threshold=0.6) == ()


# VmHWM and not ru_maxrss: the latter is inherited from whatever process started this one.
SCRIPT = """
import re, sys, time
from pathlib import Path
from steelyard.data import read_dataset
began = time.perf_counter()
d = read_dataset(Path(sys.argv[1]))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(len(d), peak / len(d), time.perf_counter() - began)
"""


@pytest.mark.slow
def test_a_million_rows_stay_lean(tmp_path):
    full = os.environ.get("STEELYARD_FULL") == "1"
    n = 1_000_000 if full else 100_000
    path = tmp_path / "s.jsonl"
    with path.open("w") as file:
        for i in range(n):
            file.write(
                f'{{"id": "r{i}", "inputs": {{"q": "question no {i}"}}, "reference_outputs": {{"y": "a"}},'
                ' "metadata": {"language": "en"}, "split": "train"}\n'
            )
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True
    ).stdout
    rows, each, _ = map(float, out.split())
    assert rows == n
    assert each < (1073 if full else 1500)  # peak bytes a row, interpreter included: 1 GiB a million
