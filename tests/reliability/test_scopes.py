"""Fault 13: many threads and tasks at once, some closed early: every call belongs to its own row."""

import asyncio
import os
import random
import threading

import pytest

from steelyard.core.errors import ReplayMiss
from steelyard.core.results import Usage
from steelyard.lm import call_scope, replaying
from steelyard.lm.scope import Call, current

FULL = os.environ.get("STEELYARD_FULL") == "1"
THREADS, TASKS = (1_000, 1_000) if FULL else (150, 400)


def note(n, scope):
    here = current()
    assert here is scope, f"{here and here.example_id} in place of {scope.example_id}"
    here.add(
        Call(asked=f"{scope.example_id}#{n}", source="live", key="", usage=Usage(calls=1, input_tokens=n))
    )


def check(scopes):
    for name, calls, expected in scopes:
        assert calls.example_id == name
        assert [c.asked for c in calls.log] == [f"{name}#{n}" for n in range(expected)]
        assert calls.usage.calls == expected
        assert calls.usage.input_tokens == sum(range(expected))


@pytest.mark.timeout(120)
def test_threads_and_tasks_do_not_hear_each_other(tmp_path):
    scopes, broken, start = [], [], threading.Event()

    def thread(i):
        try:
            start.wait()
            with call_scope(f"thread-{i}", 0) as calls:
                for n in range(i % 7):
                    note(n, calls)
                scopes.append((f"thread-{i}", calls, i % 7))
            assert current() is None
        except BaseException as error:
            broken.append(error)

    async def one(i):
        rng = random.Random(i)
        with call_scope(f"task-{i}", 0) as calls:
            for n in range(i % 5):
                await asyncio.sleep(rng.random() / 1000)
                note(n, calls)
                # A helper task and a helper thread of the row count for the row.
                assert await asyncio.create_task(asked_where()) is calls
                if i % 50 == 0:
                    assert await asyncio.to_thread(current) is calls
            scopes.append((f"task-{i}", calls, i % 5))

    async def asked_where():
        await asyncio.sleep(0)
        return current()

    async def tasks():
        start.set()
        await asyncio.gather(*(one(i) for i in range(TASKS)))
        assert current() is None

    with replaying(tmp_path, "auto"):
        threads = [threading.Thread(target=thread, args=(i,)) for i in range(THREADS)]
        for t in threads:
            t.start()
        asyncio.run(tasks())
        for t in threads:
            t.join(60)
    assert broken == []
    assert len(scopes) == THREADS + TASKS
    check(scopes)


def test_scopes_of_generators_that_are_closed_early_end_with_them():
    def rows(name):
        with call_scope(name, 0) as calls:
            for n in range(100):
                note(n, calls)
                yield calls

    outer = []
    with call_scope("outer", 0) as around:
        for i in range(200):
            made = rows(f"g{i}")
            calls = next(made)
            made.close()
            assert current() is around
            outer.append((f"g{i}", calls, 1))
        note(0, around)
    check([*outer, ("outer", around, 1)])
    assert current() is None


@pytest.mark.timeout(60)
def test_a_cancelled_task_leaves_no_scope_and_a_refusal_stays_in_its_row(tmp_path):
    async def hang(i):
        with call_scope(f"h{i}", 0):
            await asyncio.sleep(60)

    async def refused(i):
        with call_scope(f"r{i}", 0) as calls:
            await asyncio.sleep(0)
            if i % 2:
                calls.refuse(ReplayMiss("x", key="k" * 64, folder=tmp_path), "x", "k")

    async def main():
        hanging = [asyncio.create_task(hang(i)) for i in range(200)]
        await asyncio.sleep(0)
        for task in hanging:
            task.cancel()
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(e, asyncio.CancelledError) for e in ended)
        assert current() is None
        return await asyncio.gather(*(refused(i) for i in range(200)), return_exceptions=True)

    with replaying(tmp_path, "replay"):
        ended = asyncio.run(main())
    assert [isinstance(e, ReplayMiss) for e in ended] == [bool(i % 2) for i in range(200)]
