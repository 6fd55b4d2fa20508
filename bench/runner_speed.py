"""Seconds for examples × a task that sleeps 20 ms × 3 evaluators at concurrency 50, beside ideal and peers.

python bench/runner_speed.py [--examples 1000] [--rounds 3] [--peers PYTHON] [--mlflow] [--only NAME]

Ideal is examples × 20 ms / 50. Every case has a process of its own, warmed up with 50 examples, in rounds of
changing order; medians of wall time and of CPU time. `steelyard` writes each row durably before the next one
begins; its `gate` cases add evidence, verdict and a store in memory. PYTHON is an interpreter that has
pydantic-evals, langsmith (nothing uploaded), deepeval and inspect_ai; mlflow runs in this one, 200 examples.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SLEEP, CONCURRENCY = 0.02, 50
OURS = ("bare asyncio", "steelyard async", "steelyard sync", "steelyard gate async", "steelyard gate sync")
PEERS = ("pydantic-evals async", "pydantic-evals sync", "langsmith async", "langsmith sync", "deepeval async",
         "inspect_ai async")  # fmt: skip


async def atask(inputs):
    await asyncio.sleep(SLEEP)
    return {"y": inputs["x"]}


def stask(inputs):
    time.sleep(SLEEP)
    return {"y": inputs["x"]}


def bare(n, _kind):
    async def all_():
        limit = asyncio.Semaphore(CONCURRENCY)

        async def one(i):
            async with limit:
                out = await atask({"x": i})
            return out["y"] == i, out["y"] >= 0, 1.0

        return await asyncio.gather(*(one(i) for i in range(n)))

    assert len(asyncio.run(all_())) == n


def _ours(n, kind):
    from steelyard import Dataset, Example, Gate, at_least, evaluator

    @evaluator
    def same(outputs, reference_outputs):
        return outputs["y"] == reference_outputs["y"]

    @evaluator
    def positive(outputs):
        return outputs["y"] >= 0

    @evaluator
    def always(outputs, inputs):
        return 1.0

    data = Dataset(
        name="d",
        examples=tuple(Example(id=f"e{i:06}", inputs={"x": i}, reference_outputs={"y": i}) for i in range(n)),
    )
    return Gate(
        task=atask if kind == "async" else stask,
        name="speed",
        dataset=data,
        evaluators=[same, positive, always],
        require=[at_least("same", 0.5)],
        concurrency=CONCURRENCY,
    )


@contextlib.contextmanager
def _workspace():
    from steelyard.core.settings import load_settings
    from steelyard.evals.workspace import Workspace
    from steelyard.store.memory import MemoryStore

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text("[tool.steelyard]\n")
        with Workspace(load_settings(Path(folder), environ={}), store=MemoryStore()) as workspace:
            yield workspace


def gate(n, kind):
    from steelyard.evals.gate import run_gate

    spec = _ours(n, kind)
    with _workspace() as workspace, _timed():
        assert run_gate(spec, workspace).outcome == "pass"


def rows(n, kind):
    from steelyard.evals.arm import Limits, manifest_of, run_into
    from steelyard.evals.prepared import prepare
    from steelyard.evals.resume import begin

    with _workspace() as workspace:
        prepared = prepare(_ours(n, kind), workspace)
        begun = begin(workspace, manifest_of(prepared, workspace, prepared.identity), decided=True)
        with _timed():
            run_into(prepared, workspace, begun, None, Limits(), "candidate")
        assert len(begun.writer.scores().rows) == n
        begun.writer.close()


def pydantic_evals(n, kind):
    from dataclasses import dataclass

    from pydantic_evals import Case, Dataset
    from pydantic_evals.evaluators import Evaluator

    @dataclass
    class Same(Evaluator):
        def evaluate(self, ctx):
            return ctx.output["y"] == ctx.expected_output["y"]

    @dataclass
    class Positive(Evaluator):
        def evaluate(self, ctx):
            return ctx.output["y"] >= 0

    @dataclass
    class Always(Evaluator):
        def evaluate(self, ctx):
            return 1.0

    cases = [Case(name=f"e{i}", inputs={"x": i}, expected_output={"y": i}) for i in range(n)]
    data = Dataset(name="d", cases=cases, evaluators=[Same(), Positive(), Always()])
    with _timed():
        report = data.evaluate_sync(
            atask if kind == "async" else stask, max_concurrency=CONCURRENCY, progress=False
        )
    assert len(report.cases) == n


def langsmith(n, kind):
    os.environ |= {
        "LANGSMITH_TRACING": "false",
        "LANGSMITH_API_KEY": "none",
        "LANGSMITH_TEST_TRACKING": "false",
    }
    os.environ["LANGSMITH_ENDPOINT"] = "http://127.0.0.1:9"
    import uuid

    from langsmith import Client, aevaluate, evaluate
    from langsmith.schemas import Example

    data = [
        Example(id=uuid.uuid4(), dataset_id=uuid.uuid4(), inputs={"x": i}, outputs={"y": i}) for i in range(n)
    ]

    def same(outputs, reference_outputs):
        return outputs["y"] == reference_outputs["y"]

    def positive(outputs):
        return outputs["y"] >= 0

    def always(outputs):
        return 1.0

    options = {
        "data": data, "evaluators": [same, positive, always], "max_concurrency": CONCURRENCY,
        "upload_results": False, "client": Client(auto_batch_tracing=False),
    }  # fmt: skip
    with _timed():
        if kind == "async":

            async def run():
                found = await aevaluate(atask, **options)
                return [r async for r in found]

            done = asyncio.run(run())
        else:
            done = list(evaluate(stask, **options))
    assert len(done) == n


def deepeval(n, _kind):
    os.environ |= {"DEEPEVAL_TELEMETRY_OPT_OUT": "1", "ERROR_REPORTING": "0"}
    from deepeval import evaluate
    from deepeval.evaluate import AsyncConfig, CacheConfig, DisplayConfig
    from deepeval.metrics import BaseMetric
    from deepeval.test_case import LLMTestCase

    class Metric(BaseMetric):
        threshold = 0.5
        async_mode = True

        def __init__(self, name, sleeps):
            self.name, self.sleeps = name, sleeps

        async def a_measure(self, case, *a, **k):
            if self.sleeps:  # the task: DeepEval itself only scores outputs that are there
                await asyncio.sleep(SLEEP)
            self.score, self.success, self.reason = 1.0, True, ""
            return 1.0

        def measure(self, case, *a, **k):
            return 1.0

        def is_successful(self):
            return True

        @property
        def __name__(self):
            return self.name

    cases = [LLMTestCase(input=str(i), actual_output=str(i), expected_output=str(i)) for i in range(n)]
    with _timed():
        evaluate(
            cases,
            [Metric("same", True), Metric("positive", False), Metric("always", False)],
            async_config=AsyncConfig(max_concurrent=CONCURRENCY, throttle_value=0),
            display_config=DisplayConfig(show_indicator=False, print_results=False),
            cache_config=CacheConfig(write_cache=False),
        )


def inspect_ai(n, _kind):
    os.environ |= {"INSPECT_DISPLAY": "none", "INSPECT_LOG_LEVEL": "error"}
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, mean, scorer
    from inspect_ai.solver import solver

    def made(name):
        @scorer(metrics=[mean()], name=name)
        def one():
            async def score(state, target):
                return Score(value=1.0)

            return score

        return one()

    @solver
    def sleeps():
        async def solve(state, generate):
            await asyncio.sleep(SLEEP)
            state.output.completion = state.input_text
            return state

        return solve

    data = MemoryDataset([Sample(input=str(i), target=str(i), id=i) for i in range(n)])
    task = Task(dataset=data, solver=sleeps(), scorer=[made("same"), made("positive"), made("always")])
    with tempfile.TemporaryDirectory() as folder, _timed():
        (log,) = eval(task, model="mockllm/model", max_samples=CONCURRENCY, log_dir=folder, display="none")
    assert log.status == "success"


def mlflow(n, _kind):
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_GENAI_EVAL_MAX_WORKERS": str(CONCURRENCY)}
    import mlflow
    from mlflow.genai import evaluate, scorer

    @scorer
    def same(outputs, expectations):
        return outputs["y"] == expectations["y"]

    @scorer
    def positive(outputs):
        return outputs["y"] >= 0

    @scorer
    def always(outputs):
        return 1.0

    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("speed")
        data = [{"inputs": {"inputs": {"x": i}}, "expectations": {"y": i}} for i in range(n)]
        with _timed():
            evaluate(data=data, predict_fn=stask, scorers=[same, positive, always])


SPENT: list[tuple[float, float]] = []


@contextlib.contextmanager
def _timed():
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    SPENT.append((time.perf_counter() - wall, time.process_time() - cpu))


CASES = {
    "bare": bare, "steelyard": rows, "gate": gate, "pydantic-evals": pydantic_evals, "langsmith": langsmith,
    "deepeval": deepeval, "inspect_ai": inspect_ai, "mlflow": mlflow,
}  # fmt: skip


def one(name, n):
    """Run one case here and print its figures."""
    words = name.split()
    case, kind = CASES["gate" if "gate" in words else words[0]], words[-1]
    hidden = io.StringIO()
    with contextlib.redirect_stdout(hidden):
        for size in (50, n):
            SPENT.clear()
            with contextlib.nullcontext() if case is not bare else _timed():
                case(size, kind)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps([*SPENT[-1], peak]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--mlflow", action="store_true", help="genai.evaluate too, 200 examples (minutes)")
    parser.add_argument("--only")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.examples)
        return
    names = [*OURS, *(PEERS if args.peers else ()), *(["mlflow sync"] if args.mlflow else ())]
    names = [name for name in names if not args.only or args.only in name]
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for round_ in range(args.rounds):
        for name in names if round_ % 2 == 0 else reversed(names):
            n = min(args.examples, 200) if name.startswith("mlflow") else args.examples
            python = args.peers if name in PEERS else sys.executable
            done = subprocess.run(
                [python, __file__, "--one", name, "--examples", str(n)], capture_output=True, text=True
            )
            if done.returncode:
                print(f"{name}: failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found[name].append([*json.loads(done.stdout.splitlines()[-1]), n])
    for name, runs in found.items():
        if not runs:
            continue
        n = int(runs[0][3])
        ideal = n * SLEEP / CONCURRENCY
        walls = sorted(r[0] for r in runs)
        cpu = statistics.median(r[1] for r in runs)
        print(
            f"{name}: {n:,} examples, {statistics.median(walls) / ideal:.2f} x ideal "
            f"({walls[0] / ideal:.2f} to {walls[-1] / ideal:.2f}), {cpu / n * 1e6:.0f} CPU us an example, "
            f"{max(int(r[2]) for r in runs)} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
