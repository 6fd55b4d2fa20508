"""A whole gate over many rows in a process of its own: what a row costs in memory; the bound at 100,000."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("STEELYARD_FULL") == "1"
SCRIPT = Path(__file__).parents[2] / "bench" / "runner_memory.py"


def peak_mb(rows):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--one", str(rows)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)[2]


@pytest.mark.slow
def test_memory_grows_by_a_few_kilobytes_a_row():
    small, large = (20_000, 100_000) if FULL else (2_000, 12_000)
    few, many = peak_mb(small), peak_mb(large)
    a_row_kb = (many - few) * 1024 / (large - small)
    assert a_row_kb < 6, "100,000 rows would not fit into 1 GB beside everything else"
    if FULL:
        assert many < 1024
