"""Peak memory and time of whole gates by number of rows: rows, evidence, verdict, store in memory.

python bench/runner_memory.py [--rows 25000 50000 100000]

Each size in a process of its own; the task answers at once with 100 characters: all time is Steelyard's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def task(inputs):
    return {"y": inputs["x"], "text": "x" * 100}


def one(n):
    from steelyard import Dataset, Example, Gate, at_least, exact_match, length
    from steelyard.core.settings import load_settings
    from steelyard.evals.gate import run_gate
    from steelyard.evals.workspace import Workspace
    from steelyard.store.memory import MemoryStore

    async def answer(inputs):
        return task(inputs)

    data = Dataset(
        name="d",
        examples=tuple(Example(id=f"e{i:07}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(n)),
    )
    spec = Gate(
        task=answer,
        name="memory",
        dataset=data,
        evaluators=[exact_match("y"), length("text")],
        require=[at_least("exact_match", 0.9)],
        concurrency=50,
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text("[tool.steelyard]\n")
        with Workspace(load_settings(Path(folder), environ={}), store=MemoryStore()) as workspace:
            wall, cpu = time.perf_counter(), time.process_time()
            assert run_gate(spec, workspace).outcome == "pass"
            spent = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps([*spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one)
        return
    for n in args.rows:
        command = [sys.executable, __file__, "--one", str(n)]
        wall, cpu, peak = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        print(f"{n:,} rows: {wall:.1f} s, {cpu / n * 1e6:.0f} CPU us a row, peak {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
