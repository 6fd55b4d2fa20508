"""Fault 12: fork while work goes on (gunicorn, multiprocessing): the child ends, the parent loses nothing."""

import os
import signal
import threading
import time

import pytest

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.chat import ChatRequest
from steelyard.core.results import Row
from steelyard.core.score import Score
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.evidence.rowlog import RowLog, read_rows
from steelyard.lm import call_scope, replaying
from steelyard.lm.scope import current
from steelyard.prompts import Prompt, Variable
from steelyard.store.memory import MemoryStore
from steelyard.testing.fake_lm import FakeLM

FORKS = 1_000 if os.environ.get("STEELYARD_FULL") == "1" else 50
SECONDS = 30  # a child that is not done then is deadlocked


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # 3.12 warns of what is tried here
]


@evaluator(name="m")
def fine(outputs):
    return 1.0


def task(inputs, lm):
    return lm.complete(ChatRequest(messages=({"role": "user", "content": str(inputs["i"])},))).text


def forked(work):
    """The exit code of a child that did some work: 0 where it went well, -9 where it hung and was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


@pytest.mark.timeout(600)
def test_children_of_a_busy_parent_end_and_take_nothing_with_them(tmp_path):
    """Threads of the parent hold our locks at random moments while it forks."""
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    settings = load_settings(tmp_path, environ={})
    store, lm = MemoryStore(), FakeLM("ok")
    prompt = Prompt(
        name="p", messages=({"role": "user", "content": "{{ a }}{% if a %}x{% endif %}"},),
        variables={"a": Variable()}, syntax="jinja",
    )  # fmt: skip
    log, stop, written, broken = RowLog(tmp_path / "rows.log"), threading.Event(), [], []
    data = Dataset(name="d", examples=tuple(Example(id=f"e{i}", inputs={"i": i}) for i in range(4)))

    def busy(n):
        i = 0
        try:
            while not stop.is_set():
                i += 1
                row = Row(example_id=f"{n}-{i}", scores=(Score(name="m", value=1.0),))
                log.append(row.to_json())
                written.append(row.example_id)
                store.register("prompt", f"p{n}", digest=prompt.digest, content=prompt.content())
                with call_scope(f"{n}-{i}", 0) as calls:
                    assert prompt.render(a="x").messages[0]["content"] == "xx"
                    assert current() is calls
                time.sleep(0.001)
        except BaseException as error:
            broken.append(error)

    def child():
        # A child works with its own store and workspace; the parent's values (prompts, settings) serve.
        assert prompt.render(a="x").messages[0]["content"] == "xx"
        with Workspace(
            settings.with_(home=tmp_path / f"child-{os.getpid()}"), store=MemoryStore(), lm=lm
        ) as own:
            gate = Gate(task=task, name="g", dataset=data, evaluators=[fine], require=[at_least("m", 0.01)])
            assert run_gate(gate, own).outcome == "pass"
            assert len(lm.requests) >= 4

    with replaying(tmp_path / "replay", "auto"), Workspace(settings, store=store, lm=lm) as workspace:
        assert workspace.lock is None
        threads = [threading.Thread(target=busy, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            codes = [forked(child if i % 10 == 0 else lambda: prompt.render(a="y")) for i in range(FORKS)]
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
    log.close()
    assert broken == []
    assert codes == [0] * FORKS
    # Nothing of the parent's rows was lost, written twice, or added by a child.
    assert sorted(r["example_id"] for r in read_rows(tmp_path / "rows.log")) == sorted(written)


@pytest.mark.timeout(300)
def test_a_child_forked_inside_a_call_scope_does_not_add_to_the_parent_s_calls(tmp_path):
    lm = FakeLM("ok")
    for _ in range(min(FORKS, 100)):
        with replaying(tmp_path, "auto") as session, call_scope("a", 0) as calls:
            lm.complete(ChatRequest(messages=({"role": "user", "content": "x"},)))
            before = (len(calls.log), session.counts.live)

            def work():
                lm.complete(ChatRequest(messages=({"role": "user", "content": "x"},)))
                with call_scope("child", 0) as own:
                    assert current() is own

            assert forked(work) == 0
            assert (len(calls.log), session.counts.live) == before
