"""Retries, waits and stops over a real socket, through every client that goes through the recorder."""

import asyncio
import math
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import httpx
import openai
import pytest

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed
from steelyard.lm import failure_of
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.policy import Policy, retry_after
from steelyard.lm.replay import call_scope, replaying
from steelyard.testing.chat_server import ChatServer, Reply, completion, failing, streaming

pytestmark = pytest.mark.server

FAST = Policy(base_s=0.02, longest_s=0.1, patience_s=(0.04, 0.08), ramp_s=0.005)
FULL = bool(os.environ.get("STEELYARD_FULL"))
HI = [{"role": "user", "content": "hi"}]
SOON = {"headers": {"retry-after-ms": "1"}}


def ask(text="hi"):
    return ChatRequest(messages=({"role": "user", "content": text},))


_OPEN = []


@pytest.fixture(autouse=True)
def closed():
    yield
    while _OPEN:
        _OPEN.pop().close()


def model(server, name="m", key="sk-canary-0001", **more):
    more = {"policy": FAST, "timeout_s": 5} | more
    _OPEN.append(OpenAILM(name, server.base_url, key, **more))
    return _OPEN[-1]


def by_lm(url):
    lm = OpenAILM("m", url, "k", policy=FAST)
    try:
        return lm.complete(ask()).text
    finally:
        lm.close()


def by_lm_async(url):
    return asyncio.run(OpenAILM("m", url, "k", policy=FAST).acomplete(ask())).text


def by_openai(url):
    with openai.OpenAI(base_url=url, api_key="k") as client:
        return client.chat.completions.create(model="m", messages=HI).choices[0].message.content


def by_openai_async(url):
    async def work():
        async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
            return (await client.chat.completions.create(model="m", messages=HI)).choices[0].message.content

    return asyncio.run(work())


def by_openai_stream(url):
    with openai.OpenAI(base_url=url, api_key="k") as client:
        stream = client.chat.completions.create(model="m", messages=HI, stream=True)
        return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


def by_langchain(url):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", base_url=url, api_key="k").invoke("hi").content


def by_httpx(url):
    response = httpx.post(f"{url}/chat/completions", json={"model": "m", "messages": HI})
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


CLIENTS = [by_lm, by_lm_async, by_openai, by_openai_async, by_openai_stream, by_langchain, by_httpx]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # langchain-openai keeps its client for the process
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_gets_five_retries_and_no_more(client):
    with ChatServer([failing(s, **SOON) for s in (429, 503, 500, 408, 409)]) as server:
        with call_scope("a") as calls:
            assert client(server.base_url) == "ok"
        assert [c.attempt for c in calls.log] == [1, 2, 3, 4, 5, 6]
        assert [c.status for c in calls.log] == [429, 503, 500, 408, 409, 200]
        assert [c.retry_in_s is None for c in calls.log] == [False] * 5 + [True]
        assert calls.usage.calls == 1
        server.say(failing(500, **SOON))
        with call_scope("a") as calls, pytest.raises(Exception, match="500") as caught:
            client(server.base_url)
        found = failure_of(caught.value)
        assert (found.kind, found.status) == ("provider", 500)
        assert len(server.calls) == 12  # six and six: the client's own retries add nothing
        assert "after 6 attempts" in calls.log[-1].failure.message


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_help_is_not_tried_again(client, status):
    with ChatServer(failing(status, retry_after="0")) as server:
        with call_scope("a") as calls, pytest.raises(Exception, match=str(status)):
            client(server.base_url)
        assert len(server.calls) == len(calls.log) == 1


def test_a_spent_quota_is_not_tried_again():
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    with ChatServer(failing(429, body=body)) as server:
        with pytest.raises(CallFailed, match="quota"):
            model(server).complete(ask())
        assert len(server.calls) == 1


@pytest.mark.parametrize("client", [by_lm, by_openai, by_openai_async, by_httpx])
def test_connections_that_break_are_tried_again_and_their_cause_is_kept(client):
    whole = Reply(body=completion("x"), cut_at=10)
    with ChatServer([whole]) as server, call_scope("a") as calls:
        assert client(server.base_url) == "ok"
        assert [c.failure and c.failure.kind for c in calls.log] == ["transport", None]
    with call_scope("a", timeout_s=2) as calls, pytest.raises(Exception, match=r".") as caught:
        client(server.base_url)  # it is gone
    assert failure_of(caught.value).kind == "transport"
    assert 2 <= len(calls.log) <= 6
    assert "connection" in calls.log[0].failure.message.lower()


def test_an_answer_that_takes_too_long_is_a_timeout_even_when_it_drips():
    drip = streaming("a b c d e f g h i j", drip_s=0.2)
    late = Reply(delay_s=3)
    slow_whole = Reply(body=drip.body, content_type="application/json", drip_s=0.2)
    with ChatServer([late, slow_whole]) as server:
        lm = model(server, timeout_s=0.3, max_retries=1)
        with call_scope("a") as calls, pytest.raises(CallFailed) as caught:
            lm.complete(ask())
        assert caught.value.kind == "timeout"
        assert [c.failure.kind for c in calls.log] == ["timeout", "timeout"]


# -- Retry-After -----------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [1, 3] if FULL else [1])
@pytest.mark.parametrize("form", ["seconds", "date", "ms"])
def test_retry_after_is_honoured_within_ten_per_cent(form, seconds):
    headers = {"ms": {"retry-after-ms": str(1000 * seconds)}, "seconds": {"retry-after": str(seconds)}}
    at = seconds if form == "date" else None
    reply = failing(429, retry_at_s=at, headers=headers.get(form, {}))
    with ChatServer([reply]) as server, call_scope("a") as calls:
        model(server).complete(ask())
        first, second = server.calls
    assert seconds <= calls.log[0].retry_in_s <= 1.1 * seconds
    assert second.at - first.ended >= 0.99 * seconds  # it really waited


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "75"}, 75.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        # A date counts from the server's own clock: ours may be a day off.
        ({"retry-after": "Wed, 21 Oct 2015 07:30:00 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 120.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_forms_of_retry_after(headers, seconds):
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("client", [by_lm, by_lm_async, by_openai, by_httpx])
def test_a_wait_that_does_not_fit_fails_at_once_and_says_so(client):
    with ChatServer(failing(429, retry_after="300")) as server:
        with call_scope("a", timeout_s=20) as calls, pytest.raises(Exception, match="429") as caught:
            client(server.base_url)
        assert len(server.calls) == 1
        assert failure_of(caught.value).kind == "rate_limit"
        assert "asks to wait 300 s and the row has" in calls.last_failure.message
        # The next row does not even ask.
        with call_scope("b", timeout_s=20) as calls, pytest.raises(CallFailed, match="wait") as caught:
            client(server.base_url)
        assert (caught.value.kind, calls.log[-1].source) == ("rate_limit", "refused")
        assert len(server.calls) == 1


def test_waits_longer_than_a_minute_are_waited_for_where_they_fit():
    policy = Policy()
    waits = [policy.wait(1, asked_s=75, throttled=True, left_s=120) for _ in range(200)]
    assert all(75 <= w <= 78.75 for w in waits)
    assert policy.wait(1, asked_s=130, throttled=True, left_s=120) is None
    assert policy.wait(1, asked_s=599, throttled=True, left_s=math.inf) >= 599
    assert policy.wait(1, asked_s=601, throttled=True, left_s=math.inf) is None


def test_waits_of_our_own_have_full_jitter_and_the_last_two_patience():
    policy = Policy()

    def draw(attempt, **more):
        given = {"asked_s": None, "throttled": False, "left_s": math.inf} | more
        return [policy.wait(attempt, **given) for _ in range(2000)]

    for attempt in range(1, 6):
        waits, longest = draw(attempt), min(30, 0.5 * 2 ** (attempt - 1))
        assert min(waits) < 0.05 * longest < 0.95 * longest < max(waits) <= longest
    assert min(draw(4, throttled=True)) >= 20
    assert min(draw(5, throttled=True, asked_s=1)) >= 40
    assert max(draw(5, throttled=True, left_s=30)) <= 18  # never more than the row has
    assert set(draw(6)) == {None}


# -- storms ----------------------------------------------------------------------------------------
def rows(server, count, *, tmp_path, threads=8, row_s=120.0, **more):
    """Run rows in threads as the runner does; their logs, failed rows first."""
    lm = model(server, **more)
    failed, logs = [], []

    def row(n):
        with call_scope(f"row-{n}", timeout_s=row_s) as calls:
            try:
                assert lm.complete(ask(f"question {n}")).text == "ok"
            except CallFailed as error:
                failed.append(error)
        logs.append(calls)

    with replaying(tmp_path), ThreadPoolExecutor(threads) as pool:
        for job in [pool.submit(copy_context().run, row, n) for n in range(count)]:
            job.result()
    return failed, logs


STORM_S = 60.0 if FULL else 1.2


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 24])
@pytest.mark.parametrize("form", ["whole", "short", "date", "none"])
def test_no_row_fails_in_a_storm_of_429(tmp_path, form, count):
    """A minute of refusals (scaled down) that says its length, says too little, or says nothing."""
    scale = STORM_S / 60
    policy = Policy(
        base_s=max(0.5 * scale, 0.1),
        longest_s=30 * scale,
        patience_s=(20 * scale, 40 * scale),
        ramp_s=0.25 * scale,
    )
    until = time.monotonic() + STORM_S

    def script(call):
        left = until - time.monotonic()
        if left <= 0:
            return "ok"
        match form:
            case "whole":
                return failing(429, retry_after=f"{left:.3f}")
            case "short":
                return failing(429, retry_after=f"{scale:.3f}")
            case "date":  # whole seconds
                return failing(429, retry_at_s=left + 1)
            case _:
                return failing(429)

    with ChatServer(script) as server:
        failed, logs = rows(server, count, tmp_path=tmp_path, policy=policy, row_s=max(30, 4 * STORM_S))
        refused = server.statuses.count(429)
    assert failed == []
    assert refused >= 1
    assert all(len(calls.log) <= 6 for calls in logs)
    if form == "whole" and count > 1:
        assert refused <= 3  # nobody ran against the wall that the first ones found


@pytest.mark.slow
def test_random_failures_end_as_answers_or_as_errors_with_their_cause(tmp_path):
    dice, lock = random.Random(7), threading.Lock()
    bad = [failing(500), failing(502), failing(503), failing(504), Reply(delay_s=1.0), "cut"]

    def script(call):
        with lock:
            if dice.random() >= 0.3:
                return "ok"
            reply = dice.choice(bad)
        return Reply(body=completion("x"), cut_at=20) if reply == "cut" else reply

    count = 300 if FULL else 40
    with ChatServer(script) as server:
        failed, logs = rows(server, count, tmp_path=tmp_path, row_s=60, timeout_s=0.5)
        assert len(logs) == count
        assert len(failed) + sum(c.usage.calls for c in logs) == count
        assert {e.kind for e in failed} <= {"provider", "timeout", "transport"}
        assert len(server.calls) <= sum(len(c.log) for c in logs)
        assert 2 <= max(len(c.log) for c in logs) <= 6  # some were tried again
        assert len(server.calls) > count


# -- a refused credential --------------------------------------------------------------------------
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_provider_within_three_calls(tmp_path, status):
    with ChatServer(lambda call: failing(status, delay_s=0.05)) as server:
        failed, logs = rows(server, 30, tmp_path=tmp_path, threads=30, concurrency=30)
        assert len(server.calls) <= 3
        assert [e.kind for e in failed] == ["auth"] * 30
        assert sum(c.log[-1].source == "refused" for c in logs) >= 27
        assert "sk-canary" not in repr([c.log for c in logs])
        # Another key, another run: neither is stopped.
        server.say("ok")
        with replaying(tmp_path / "other"), call_scope("a"):
            assert model(server).complete(ask()).text == "ok"


def test_another_key_at_the_same_provider_goes_on(tmp_path):
    def script(call):
        return "ok" if call.headers["authorization"] == "Bearer good-key" else failing(401)

    with ChatServer(script) as server, replaying(tmp_path), call_scope("a"):
        with pytest.raises(CallFailed) as caught:
            model(server, key="bad-key").complete(ask())
        assert caught.value.kind == "auth"
        assert model(server, key="good-key").complete(ask()).text == "ok"
        with pytest.raises(CallFailed, match="before"):
            model(server, "n", key="bad-key").complete(ask())
        assert server.statuses == [401, 200]


# -- deadlines -------------------------------------------------------------------------------------
def test_the_row_s_time_ends_its_calls_and_its_retries():
    with ChatServer(lambda call: Reply(delay_s=30)) as server:
        lm = model(server, timeout_s=60)
        with call_scope("a", timeout_s=1.5) as calls, pytest.raises(CallFailed) as caught:
            lm.complete(ask())
        assert caught.value.kind == "timeout"
        with pytest.raises(CallFailed, match="time was over"):
            _late(lm)
        assert len(calls.log) == 1
        assert len(server.calls) <= 1  # a busy machine may not even have connected


def _late(lm):
    with call_scope("a", timeout_s=0.001):
        time.sleep(0.01)
        lm.complete(ask())


def test_the_usage_of_an_attempt_that_was_paid_for_is_counted():
    paid = Reply(body=completion(None))  # no content, and yet 10 tokens
    with ChatServer([failing(500, **SOON), paid]) as server:
        with call_scope("a") as calls, pytest.raises(CallFailed, match="neither content"):
            model(server).complete(ask())
        assert (calls.usage.input_tokens, calls.usage.output_tokens, calls.usage.calls) == (7, 3, 0)


def test_outside_of_a_scope_the_same_policy_holds():
    with ChatServer([failing(429, **SOON), failing(503, **SOON)]) as server:
        lm = model(server)
        assert lm.complete(ask()).text == "ok"
        server.say([failing(429, **SOON)])
        assert asyncio.run(lm.acomplete(ask())).text == "ok"
        server.say(streaming("a b c"))
        stream = lm.openai_client().chat.completions.create(model="m", messages=HI, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "a b c"
        assert server.statuses == [429, 503, 200, 429, 200, 200]


@pytest.mark.slow
def test_the_limiter_finds_what_a_provider_bears(tmp_path):
    """Four at once are answered, more are refused; threads and event loops share the limiter."""
    lock, now = threading.Lock(), 0

    def script(call):
        nonlocal now
        with lock:
            now += 1
            crowd = now
        time.sleep(0.01)
        with lock:
            now -= 1
        return "ok" if crowd <= 4 else failing(429, retry_after="0.02")

    async def loop(lm, n):
        async def row(k):
            with call_scope(f"async-{n}-{k}", timeout_s=60):
                return (await lm.acomplete(ask(f"{n}-{k}"))).text

        return await asyncio.gather(*(row(k) for k in range(10)))

    with ChatServer(script) as server, replaying(tmp_path / "t"):
        other = model(server, concurrency=16)
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(copy_context().run, asyncio.run, loop(other, n)) for n in range(4)]
            failed, _ = rows(server, 60, tmp_path=tmp_path / "u", threads=16, concurrency=16)
            answers = [text for job in jobs for text in job.result()]
        assert failed == []
        assert answers == ["ok"] * 40
        assert server.most_at_once <= 16
        refused = server.statuses.count(429)
        assert server.statuses.count(200) == 100
        assert refused < 100  # a client without a limiter is refused 12 of 16 times


def test_calls_of_one_event_loop_share_connections_and_leave_none_behind():
    with ChatServer(Reply(delay_s=0.02)) as server:
        lm = model(server, concurrency=4)

        async def many():
            return await asyncio.gather(*(lm.acomplete(ask(str(n))) for n in range(30)))

        for _ in range(2):
            assert len(asyncio.run(many())) == 30
        assert lm._of_loops == {}
        assert len(server.calls) == 60
        assert len({call.peer for call in server.calls}) <= 16  # not one a call


@pytest.mark.parametrize("fault", ["cancelled", "refused"])
def test_a_call_that_ends_badly_closes_its_client_too(fault):
    with ChatServer(Reply(delay_s=5) if fault == "cancelled" else failing(400)) as server:
        lm = model(server)

        async def work():
            task = asyncio.create_task(lm.acomplete(ask()))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, CallFailed)):
                await task

        asyncio.run(work())
        assert lm._of_loops == {}


def test_a_row_that_holds_a_stream_does_not_wait_for_itself(tmp_path):
    from steelyard.lm import Budget

    script = [streaming("a b c"), "ok", streaming("d e f", drip_s=0.01)]
    with (
        ChatServer(script) as server,
        replaying(tmp_path, budget=(budget := Budget(max_tokens_total=20_000))),
    ):
        lm = model(server, concurrency=1)
        create = lm.openai_client().chat.completions.create
        with call_scope("a", timeout_s=20) as calls:
            stream = create(model="m", messages=HI, stream=True, max_tokens=50)
            next(stream)
            assert lm.complete(ask("meanwhile")).text == "ok"
            assert len(list(stream)) > 1
        assert [c.failure for c in calls.log] == [None, None]
        with call_scope("b", timeout_s=20) as calls:
            forgotten = create(model="m", messages=[*HI, *HI], stream=True, max_tokens=50)
            next(forgotten)
        assert calls.streams == set()
        assert budget.reserved_tokens == 0
        with call_scope("c", timeout_s=20):  # what the forgotten one held is free again
            assert lm.complete(ask("afterwards")).text == "ok"
        forgotten.close()
