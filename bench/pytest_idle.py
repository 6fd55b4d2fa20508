"""What an idle plugin costs a project without evals: milliseconds a session, microseconds an item.

python bench/pytest_idle.py [--pairs 15] [--items 1000]

Plain pytest without any plugin of others beside the same with ours, interleaved, the order changing in every
pair: medians of the paired differences of CPU time and of wall time, with the middle half.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def session(folder, *options):
    """(wall, CPU) seconds of one pytest session."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paired(folder, pairs, unit, scale):
    found = ([], [])
    for i in range(pairs):
        arms = {"with": ("-p", "steelyard.pytest_plugin"), "without": ()}
        order = list(arms) if i % 2 == 0 else list(reversed(arms))
        took = {name: session(folder, *arms[name]) for name in order}
        for values, which in zip(found, (0, 1), strict=True):
            values.append((took["with"][which] - took["without"][which]) * scale)
    for values, name in zip(found, ("wall", "CPU"), strict=True):
        low, _, high = statistics.quantiles(values, n=4)
        print(f"  {name}: {statistics.median(values):+.1f} {unit} ({low:+.1f} to {high:+.1f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--items", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        test = folder / "test_one.py"
        test.write_text("def test_it():\n    pass\n")
        session(folder)
        print(f"one test, {args.pairs} pairs: what the plugin adds to a session")
        paired(folder, args.pairs, "ms", 1e3)
        lines = [
            "import pytest",
            f"@pytest.mark.parametrize('i', range({args.items}))",
            "def test_it(i):",
            "    pass",
        ]
        test.write_text("\n".join(lines) + "\n")
        print(f"{args.items:,} tests, {args.pairs} pairs: what it adds to an item, its start included")
        paired(folder, args.pairs, "us", 1e6 / args.items)


if __name__ == "__main__":
    main()
