"""A crowd of processes for the store tests: imports MLflow once, then forks workers that each open a store.

The job `race` holds every worker between looking where an alias stands and appending its move, until all of
them are there: whoever does not check again when it reads its line back would think that it won.

Reads one JSON object a line: {"home", "jobs": [[...], ...], "kill_after_ms"}; answers one JSON object a line
with what the workers printed. It opens no store itself, so a fork inherits no connection.
"""

# ruff: noqa: E402, F401  # MLflow is imported early on purpose, and after its warnings are off

import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import warnings

warnings.simplefilter("ignore")
import filelock
import mlflow
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store

from steelyard.core.canonical import digest
from steelyard.core.errors import SteelyardError
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.testing.store_parts import bundle, evidence_of, move, run_of


def work(request, job, out, go, barrier):
    store = open_store(load_settings(Path(request["home"]), environ={}, tracking_uri=request.get("uri")))
    os.write(out, b'"open"\n')
    os.read(go, 1)  # all workers begin at once

    def say(value):
        os.write(out, json.dumps(value).encode() + b"\n")

    name = job["name"]
    if job["do"] == "register":
        content = {"template": "raced " * 5000}
        say(store.register("prompt", name, digest=digest(content), content=content).number)
    if job["do"] == "move":
        before = None
        for _ in range(job["rounds"]):
            try:
                say(asdict(store.move_alias(move(name, before, job["digest"], action="promote"))))
            except SteelyardError as error:
                say(type(error).__name__)
            time.sleep(0.001)
            before = store.aliases("prompt", name)["production"]
    if job["do"] == "race":
        append = store._aliases._append

        def held(*arguments):
            barrier.wait(60)
            return append(*arguments)

        store._aliases._append = held
        for before in job["steps"]:
            try:
                say(asdict(store.move_alias(move(name, before, job["digest"], action="promote"))))
            except SteelyardError as error:
                say([type(error).__name__, getattr(error, "expected", 0), getattr(error, "actual", 0)])
            barrier.wait(60)
            # All go on from one place: the referee puts the alias back to where the next step begins.
            if job["referee"]:
                store._aliases._append = append
                at = store.aliases("prompt", name)["production"]
                store.move_alias(move(name, at, None))
                store._aliases._append = held
            barrier.wait(60)
    if job["do"] == "toil":  # until killed
        folder = bundle(Path(request["home"]) / f"bundle-{os.getpid()}")
        for i in range(10_000):
            content = {"template": f"{os.getpid()} {i}"}
            version = store.register("prompt", name, digest=digest(content), content=content)
            say(["version", version.number])
            before = store.aliases("prompt", name).get("production")
            say(["move", store.move_alias(move(name, before, version.digest, action="promote")).number])
            say(["evidence", store.add_evidence(evidence_of(name=name), folder, run_of()).id])


def main():
    for line in sys.stdin:
        request = json.loads(line)
        workers = []
        barrier = multiprocessing.Barrier(len(request["jobs"]))
        os.environ.update(request.get("env", {}))
        for job in request["jobs"]:
            read, out = os.pipe()
            go_read, go = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(read)
                # The others' too: a pipe that a later fork still held would begin only when that one ends.
                for other in (go, *(g for _, _, g in workers)):
                    os.close(other)
                status = 1
                try:
                    work(request, job, out, go_read, barrier)
                    status = 0
                except BaseException as error:
                    os.write(out, json.dumps(f"CRASH {error!r}"[:900]).encode() + b"\n")
                finally:
                    os._exit(status)
            os.close(out)
            os.close(go_read)
            workers.append((pid, os.fdopen(read), go))
        said = [[pipe.readline()] for _, pipe, _ in workers]
        for _, _, go in workers:
            os.close(go)
        if (kill_after := request.get("kill_after_ms")) is not None:
            time.sleep(kill_after / 1000)
            for pid, _, _ in workers:
                os.kill(pid, signal.SIGKILL)
        for (_, pipe, _), lines in zip(workers, said, strict=True):
            lines += pipe.read().splitlines()
        for pid, _, _ in workers:
            os.waitpid(pid, 0)
        # A line that the kill cut off was not said.
        answers = [[json.loads(x) for x in lines if x.strip() and _whole(x)] for lines in said]
        print(json.dumps(answers), flush=True)


def _whole(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
