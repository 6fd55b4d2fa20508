"""Caps of a run: reserved before, settled after, never exceeded by what nobody asked for."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed, InvalidValue
from steelyard.core.results import Usage
from steelyard.lm import Budget
from steelyard.lm.asking import DEFAULT_OUTPUT_TOKENS, most_input_tokens, read_request
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.replay import call_scope, replaying
from steelyard.testing.chat_server import ChatServer, Reply, completion, failing, streaming

CHAT = "/v1/chat/completions"
OPENAI = "https://api.openai.com/v1"


def ask(text="hi", **parameters):
    return ChatRequest(messages=({"role": "user", "content": text},), parameters=parameters)


def test_a_call_is_refused_when_it_may_exceed_the_cap_and_not_before():
    budget = Budget(max_tokens_total=100)
    one = budget.reserve(60, 0.0)
    assert budget.reserved_tokens == 60
    budget.settle(one, 30)
    assert budget.tokens == 30
    budget.settle(budget.reserve(70, 0.0), 70)
    with pytest.raises(CallFailed, match="max_tokens_total = 100") as caught:
        budget.reserve(1, 0.0)
    assert caught.value.kind == "budget"
    assert "100 tokens are spent" in budget.refused


def test_unknown_usage_counts_as_its_estimate():
    budget = Budget(max_tokens_total=100, max_cost_usd=1.0)
    budget.settle(budget.reserve(60, 0.4), None, None)
    assert (budget.tokens, budget.usd) == (60, 0.4)


def test_who_only_lacks_what_others_reserved_waits_for_them():
    budget, got = Budget(max_tokens_total=100), []
    first = budget.reserve(80, 0.0)
    thread = threading.Thread(target=lambda: got.append(budget.reserve(50, 0.0)))
    thread.start()
    while not budget.waiting:
        pass
    with pytest.raises(CallFailed, match="held by other calls") as caught:
        budget.reserve(50, 0.0, deadline=0.0)
    assert caught.value.kind == "timeout"
    budget.settle(first, 20)
    thread.join(5)
    assert got[0].tokens == 50
    budget.settle(got[0], 50)

    async def also():
        held = await budget.areserve(30, 0.0)
        waiting = asyncio.create_task(budget.areserve(25, 0.0))
        await asyncio.sleep(0.01)
        budget.settle(held, 0)
        return await waiting

    assert asyncio.run(also()).tokens == 25


def test_who_holds_a_reservation_is_refused_instead_of_waiting_for_himself():
    budget, got = Budget(max_tokens_total=100), []
    mine = budget.reserve(60, 0.0)
    other = threading.Thread(target=lambda: got.append(budget.reserve(50, 0.0)))
    other.start()
    while not budget.waiting:
        pass
    with pytest.raises(CallFailed) as caught:
        budget.reserve(50, 0.0, patient=False)
    assert caught.value.kind == "budget"
    second = budget.reserve(30, 0.0, patient=False)  # it fits, and the one in line waits for what I hold
    budget.settle(mine, 10)
    budget.settle(second, 10)
    other.join(5)
    assert got[0].tokens == 50


def test_a_resumed_run_carries_on():
    budget = Budget(
        max_tokens_total=100, max_cost_usd=1, spent=Usage(input_tokens=50, output_tokens=45, cost_usd=0.5)
    )
    with pytest.raises(CallFailed, match="95 tokens are spent"):
        budget.reserve(6, 0.0)
    assert budget.sentence() == "95 of 100 tokens, $0.5 of $1"
    with pytest.raises(InvalidValue, match="unknown"):
        Budget(max_cost_usd=1, spent=Usage(cost_usd=None))


@pytest.mark.parametrize("cap", [0, -1, float("inf"), float("nan")])
def test_a_cap_is_a_number_above_nothing(cap):
    with pytest.raises(InvalidValue, match="max_cost_usd"):
        Budget(max_cost_usd=cap)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=60), st.integers(1, 400))
def test_what_is_spent_exceeds_the_cap_by_no_more_than_the_estimates_were_wrong(calls, cap):
    budget, error, open_ = Budget(max_tokens_total=cap), 0, []
    for estimate, used in calls:
        try:
            open_.append((budget.reserve(estimate, 0.0, patient=False), used))
            error += max(0, used - estimate)
        except CallFailed:
            pass
        if len(open_) > 3:
            budget.settle(open_[0][0], open_[0][1])
            open_.pop(0)
        assert budget.tokens + budget.reserved_tokens <= cap + error
    for reservation, used in open_:
        budget.settle(reservation, used)
    assert budget.tokens <= cap + error
    assert budget.reserved_tokens == 0


@settings(deadline=None)
@given(st.text())
def test_the_bytes_of_a_request_bound_its_tokens(text):
    body = b'{"messages":[{"role":"user","content":"' + text.encode("utf-8", "replace")
    assert most_input_tokens(body) >= len(text)


def test_inline_data_is_no_text_and_a_missing_maximum_has_a_default():
    picture = b'{"messages":[{"content":"' + b"look " * 1000 + b"data:image/png;base64," + b"A" * 10**6
    assert 5_000 < most_input_tokens(picture + b'"}]}') < 20_000
    assert read_request(CHAT, b'{"model":"m"}').output_tokens == DEFAULT_OUTPUT_TOKENS
    assert read_request(CHAT, b'{"model":"m","max_tokens":7,"n":3}').output_tokens == 21
    assert read_request("/v1/embeddings", b'{"model":"m"}').output_tokens == 0
    assert read_request(CHAT, b"[").model == read_request(CHAT, b"[1]").model == ""


@pytest.mark.server
def test_many_calls_at_once_stay_below_the_cap_and_nothing_goes_out_after_it(tmp_path):
    with ChatServer() as server:
        lm = OpenAILM("m", server.base_url, "k", concurrency=8)
        budget, kinds = Budget(max_tokens_total=1_000), []

        def row(n):
            with call_scope(str(n), timeout_s=60):
                try:
                    lm.complete(ask(f"question {n}", max_tokens=50))
                except CallFailed as error:
                    kinds.append(error.kind)

        with replaying(tmp_path, budget=budget), ThreadPoolExecutor(8) as pool:
            for job in [pool.submit(copy_context().run, row, n) for n in range(150)]:
                job.result()
        lm.close()
        assert budget.tokens == 10 * len(server.calls) <= 1_000  # 10 tokens an answer
        assert len(server.calls) == 150 - len(kinds) >= 85  # the last estimate, about 130, did not fit
        assert set(kinds) == {"budget"}
    with replaying(tmp_path, "replay", budget=Budget(max_tokens_total=1)), call_scope("0", timeout_s=60):
        lm.complete(ask("question 0", max_tokens=50))  # recorded answers cost nothing


@pytest.mark.server
def test_failures_streams_and_unknown_usage_are_settled(tmp_path):
    script = [
        failing(500, headers={"retry-after-ms": "1"}),
        "ok",
        Reply(body=completion("ok", usage=None)),
        Reply(body=completion(None)),
        streaming("a b c"),
        streaming("a b c", cut_at=200),
    ]
    with ChatServer(script) as server, replaying(tmp_path, budget=(budget := Budget(max_tokens_total=10**6))):
        lm = OpenAILM("m", server.base_url, "k", max_retries=1)

        def spends(call, *, raises=False):
            before = budget.tokens
            with call_scope("a"):
                try:
                    call()
                    raised = False
                except Exception:
                    raised = True
            assert raised == raises
            assert budget.reserved_tokens == 0
            return budget.tokens - before

        def whole():
            lm.complete(ask(str(len(server.calls)), max_tokens=100))

        def stream(stop=False):
            create = lm.openai_client().chat.completions.create
            messages = [{"role": "user", "content": f"{len(server.calls)}"}]
            for _ in create(model="m", messages=messages, max_tokens=100, stream=True):
                if stop:
                    return

        assert spends(whole) == 10
        assert spends(whole) > 100  # the provider did not say: the estimate
        assert spends(whole, raises=True) == 10
        assert spends(stream) == 10
        assert spends(stream, raises=True) > 100
        server.say(streaming("a b c", drip_s=0.01))
        assert spends(lambda: stream(stop=True)) > 100  # forgotten in the middle
        lm.close()


@pytest.mark.server
def test_a_dollar_cap_needs_a_price(tmp_path):
    with ChatServer() as server, replaying(tmp_path, budget=Budget(max_cost_usd=1.0)), call_scope("a"):
        lm = OpenAILM("nobody-knows-me", server.base_url, "k")
        with pytest.raises(CallFailed, match="price of the model 'nobody-knows-me'") as caught:
            lm.complete(ask())
        lm.close()
        assert caught.value.kind == "budget"
        assert server.calls == []


def test_a_dollar_cap_is_checked_before_the_socket(tmp_path):
    budget = Budget(max_cost_usd=0.001)
    lm = OpenAILM("gpt-4o", OPENAI, "k", max_retries=0)
    with replaying(tmp_path, budget=budget), call_scope("a") as calls:
        with pytest.raises(CallFailed, match="this call may cost") as caught:
            lm.complete(ask(max_tokens=10_000))
        assert caught.value.kind == "budget"
        assert calls.log[0].source == "refused"
        with pytest.raises(CallFailed) as caught:
            asyncio.run(lm.acomplete(ask(max_tokens=10_000)))
        assert caught.value.kind == "budget"
    lm.close()
