"""What a press of the tab key costs: CPU time of a completion beside `python -c pass` and `import click`.

Median of 15 interleaved runs each, user and system time of the process.
"""

import os
import resource
import statistics
import subprocess
import sys

ASKS = {
    "steelyard <tab>": ("steelyard ", "1"),
    "steelyard prompts show sup<tab>": ("steelyard prompts show sup", "3"),
    "steelyard prompts show support-intent@<tab>": ("steelyard prompts show support-intent@", "3"),
    "steelyard gate --prompt sup<tab>": ("steelyard gate --prompt sup", "3"),
    "steelyard evidence show 2<tab>": ("steelyard evidence show 2", "3"),
}
RUNS = 15


def cpu(argv, environment):
    """Seconds of CPU that a process took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    cases = {"python -c pass": ([sys.executable, "-c", "pass"], os.environ)}
    cases["import click"] = ([sys.executable, "-c", "import click"], os.environ)
    for name, (words, at) in ASKS.items():
        asked = {"COMP_WORDS": words, "COMP_CWORD": at, "_STEELYARD_COMPLETE": "bash_complete"}
        command = [sys.executable, "-c", "from steelyard.cli.main import main; main()"]
        cases[name] = (command, {**os.environ, **asked})
    times = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, (argv, environment) in cases.items():
            times[name].append(cpu(argv, environment))
    for name, found in times.items():
        low, _, high = statistics.quantiles(found, n=4)
        print(f"{name:<46} {statistics.median(found) * 1e3:6.1f} ms  [{low * 1e3:.1f}, {high * 1e3:.1f}]")


if __name__ == "__main__":
    main()
