"""Loads everything once, then forks a process for each run that is asked for, to be killed from outside.

python storm_child.py ADDRESS     a line with a folder in, a line with a pid out; then its exit status
"""

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.evidence.rowlog import RowLog, frame
from steelyard.store.memory import MemoryStore

N = 60
ADDRESS = sys.argv[1]
DATA = Dataset(name="n", examples=tuple(Example(id=f"e{i:02}", inputs={"x": i}) for i in range(N)))


def task(inputs):
    with urllib.request.urlopen(f"{ADDRESS}/{inputs['x']}") as reply:
        return {"y": int(reply.read()), "pad": "é" * (inputs["x"] * 37 % 400)}


@evaluator
def right(outputs):
    return outputs["y"] % 3 != 0


GATE = Gate(
    task=task, name="storm", version="1", dataset=DATA, evaluators=[right], require=[at_least("right", 0.4)],
    concurrency=4,
)  # fmt: skip


def run(folder):
    acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    append = RowLog.append

    def acknowledged(self, value):
        append(self, value)
        os.write(acks, hashlib.sha256(frame(value)).hexdigest().encode() + b"\n")

    RowLog.append = acknowledged
    with Workspace(load_settings(folder, environ={}), store=MemoryStore()) as workspace:
        report = run_gate(GATE, workspace)
    (folder / "done").write_text(f"{report.evidence_id} {report.outcome}")


def main():
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                run(Path(line.strip()))
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


main()
