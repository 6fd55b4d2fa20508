"""The limiter: order, limits, pauses; threads and event loops in one line."""

import asyncio
import contextlib
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.clock import monotonic
from steelyard.lm import limiter as limiter_module
from steelyard.lm import line as line_module
from steelyard.lm.limiter import CONTACTS, Limiter, limiter_of

KEY = 1


def known(cap=None, **more):
    """A limiter whose key was confirmed."""
    limiter = Limiter(cap, **more)
    slot = limiter.enter(KEY)
    limiter.confirm(slot)
    limiter.left(slot)
    return limiter


def test_the_limit_starts_at_the_cap_halves_once_a_burst_and_comes_back_slowly():
    limiter = known(16)
    burst = [limiter.enter(KEY) for _ in range(16)]
    assert limiter.enter(KEY, deadline=monotonic() + 0.01) is None  # full
    for slot in burst:
        limiter.throttled(slot)  # all of them were under way together: one decrease
    assert limiter.limit == 8
    limits = []
    for _ in range(60):  # rounds of full load
        slots = [limiter.enter(KEY) for _ in range(int(limiter.limit))]
        assert limiter.enter(KEY, deadline=monotonic()) is None
        for slot in slots:
            limiter.succeeded(slot)
        limits.append(limiter.limit)
    assert limits[:3] == [9, 10, 11]
    assert limits[-1] == 16  # and never above what the user said
    for _ in range(6):
        limiter.throttled(limiter.enter(KEY))
    assert limiter.limit == 1  # never 0


def test_without_a_cap_there_is_no_limit_until_the_provider_asks():
    limiter = known()
    burst = [limiter.enter(KEY) for _ in range(40)]
    limiter.throttled(burst[0])
    assert limiter.limit == 20
    for slot in burst[1:]:
        limiter.left(slot)


def test_a_local_model_keeps_its_one_slot():
    limiter = known(1, adaptive=False)
    for _ in range(20):
        limiter.throttled(limiter.enter(KEY), 9)
        limiter.succeeded(limiter.enter(KEY))
    assert (limiter.limit, limiter.under_way) == (1, 0)


def test_a_key_that_nobody_confirmed_gets_few_calls_at_once():
    limiter = Limiter(50)
    slots = [limiter.enter(KEY) for _ in range(CONTACTS)]
    assert limiter.enter(KEY, deadline=monotonic()) is None
    limiter.confirm(slots[0])
    assert limiter.enter(KEY, deadline=monotonic()) is not None


def test_first_come_first_served_across_threads_and_loops():
    limiter, order, lock = known(1), [], threading.Lock()
    first = limiter.enter(KEY)

    def note(n, slot):
        with lock:
            order.append(n)
        limiter.succeeded(slot)

    def in_thread(n):
        note(n, limiter.enter(KEY))

    def in_loop(n):
        async def work():
            note(n, await limiter.aenter(KEY))

        asyncio.run(work())

    threads = []
    for n in range(12):
        threads.append(threading.Thread(target=in_loop if n % 2 else in_thread, args=(n,)))
        threads[-1].start()
        while limiter.waiting < n + 1:
            time.sleep(0.001)
    limiter.succeeded(first)
    for thread in threads:
        thread.join()
    assert order == list(range(12))
    assert limiter.under_way == 0


def test_a_pause_holds_everybody_and_ends_one_by_one(monkeypatch):
    now = 1000.0
    for module in (limiter_module, line_module):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    limiter = known(8, ramp_s=2.0)
    burst = [limiter.enter(KEY) for _ in range(8)]
    for slot in burst:
        limiter.throttled(slot, 60)

    def let_in():
        slots = []
        while (slot := limiter.enter(KEY, deadline=now)) is not None:
            slots.append(slot)
        return slots

    assert let_in() == []
    now += 59.9
    assert let_in() == []
    now += 0.2
    (first,) = let_in()
    now += 0.9  # half of the ramp at least
    assert let_in() == []
    now += 2.2  # and at most one and a half
    assert len(let_in()) == 1
    limiter.succeeded(first)  # the provider answers again
    assert len(let_in()) == limiter.limit - 1 == 3


def test_a_real_pause_holds_threads_and_loops():
    limiter = known(8, ramp_s=0.01)
    limiter.throttled(limiter.enter(KEY), 0.2)
    began, at = monotonic(), []

    def call(n):
        slot = asyncio.run(limiter.aenter(KEY)) if n % 2 else limiter.enter(KEY)
        at.append(monotonic() - began)
        limiter.succeeded(slot)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(8)))
    assert len(at) == 8
    assert min(at) >= 0.199


def test_waiting_that_is_given_up_leaves_no_trace():
    limiter = known(1)
    held = limiter.enter(KEY)
    assert limiter.enter(KEY, deadline=monotonic() + 0.01) is None

    async def impatient():
        tasks = [asyncio.create_task(limiter.aenter(KEY)) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks[:2]:
            task.cancel()
        limiter.succeeded(held)
        slot = await tasks[2]
        assert await limiter.aenter(KEY, deadline=monotonic() + 0.01) is None
        limiter.succeeded(slot)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(impatient())
    assert (limiter.waiting, limiter.under_way) == (0, 0)


def test_a_task_cancelled_at_the_moment_it_is_let_in_gives_its_slot_back():
    limiter = known(1)

    async def work():
        for _ in range(200):
            held = limiter.enter(KEY)
            task = asyncio.create_task(limiter.aenter(KEY))
            await asyncio.sleep(0)
            limiter.succeeded(held)
            task.cancel()  # the slot is its own by now, and it does not know yet
            with contextlib.suppress(asyncio.CancelledError):
                limiter.succeeded(await task)
            assert limiter.under_way == 0

    asyncio.run(work())


@settings(deadline=None)
@given(st.lists(st.sampled_from(["enter", "succeeded", "throttled", "left"]), max_size=80), st.integers(1, 9))
def test_the_limit_is_never_exceeded_and_never_left_for_ever(actions, cap):
    limiter, slots = known(cap), []
    for action in actions:
        if action == "enter":
            slot = limiter.enter(KEY, deadline=monotonic())
            assert (slot is not None) == (len(slots) < limiter.limit)
            slots += [slot] if slot else []
        elif slots:
            getattr(limiter, action)(slots.pop(0))
        assert limiter.under_way == len(slots)
        assert 1 <= limiter.limit <= cap
    for slot in slots:
        limiter.left(slot)
    assert limiter.enter(KEY, deadline=monotonic() + 1) is not None


def test_many_threads_and_loops_at_once_keep_to_the_limit():
    limiter, now, most, lock = known(5), 0, 0, threading.Lock()

    def inside(change):
        nonlocal now, most
        with lock:
            now += change
            most = max(most, now)

    def threaded(seed):
        dice = random.Random(seed)
        for _ in range(100):
            slot = limiter.enter(KEY)
            inside(1)
            inside(-1)
            (limiter.throttled if dice.random() < 0.1 else limiter.succeeded)(slot)

    async def one():
        for _ in range(20):
            slot = await limiter.aenter(KEY)
            inside(1)
            await asyncio.sleep(0)
            inside(-1)
            limiter.succeeded(slot)

    async def many():
        await asyncio.gather(*(one() for _ in range(20)))

    threads = [threading.Thread(target=threaded, args=(n,)) for n in range(8)]
    threads += [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 1 <= most <= 5
    assert (limiter.under_way, limiter.waiting) == (0, 0)


def test_one_limiter_a_provider_and_the_largest_word_counts():
    a = limiter_of("limiter.test:1", "m", cap=2)
    assert limiter_of("limiter.test:1", "m") is a
    assert limiter_of("limiter.test:1", "m", cap=6) is a
    assert (a.cap, a.limit) == (6, 6)
    assert limiter_of("limiter.test:1", "n", cap=3) is not a
    assert limiter_of("limiter.test:2", "m", cap=3) is not a


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_limiters_of_its_own():
    limiter = limiter_of("fork.test:1", "m", cap=1)
    held = limiter.enter(KEY)
    pid = os.fork()
    if pid == 0:
        mine = limiter_of("fork.test:1", "m", cap=1)
        os._exit(0 if mine.enter(KEY, deadline=monotonic() + 5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    limiter.left(held)
