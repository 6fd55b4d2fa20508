"""The real local model: a schema holds, replay starts no process, a killed server comes back."""

import asyncio
import json
import os
import signal
import time

import pytest

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed, InvalidOutput, ReplayMiss
from steelyard.core.results import Usage
from steelyard.lm import LocalLM, call_scope, replaying

pytestmark = pytest.mark.server

INTENTS = ["billing", "refund", "other"]
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string", "enum": INTENTS}},
    "required": ["intent"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def lm(tmp_path_factory):
    lm = LocalLM("smollm2", n_ctx=1024, home=tmp_path_factory.mktemp("home"))
    yield lm
    lm.close()


def schemed(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


def ask(text, **more):
    parameters = {"temperature": 0, "seed": 7, "max_tokens": 24} | more.pop("parameters", {})
    return ChatRequest(messages=({"role": "user", "content": text},), parameters=parameters, **more)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3, "uniqueItems": True},
        {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]},
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}
        | {"$defs": {"n": {"type": "string", "pattern": "^[0-9]{2}$"}}, "additionalProperties": False},
    ],
)
def test_a_schema_with_rarer_keywords_still_shapes_the_answer(lm, schema):
    done = lm.complete(ask("Give a record.", response_format=schemed(schema), parameters={"max_tokens": 60}))
    value = done.json()
    match schema:
        case {"type": "array"}:
            assert len(value) >= 2
            assert all(type(x) is int for x in value)
        case {"properties": {"day": _}}:
            assert len(value["day"].split("-")) == 3
        case _:
            assert set(value) == {"n"}
            assert value["n"].isdigit()
            assert len(value["n"]) == 2


def gone(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_schema_holds_and_the_answer_is_counted(lm):
    done = lm.complete(ask("I want my money back. Which intent?", response_format=schemed(SCHEMA)))
    assert done.text in [json.dumps({"intent": x}) for x in INTENTS], "no white space beyond json.dumps'"
    assert set(done.json()) == {"intent"}
    assert (done.usage.calls, done.usage.cost_usd, done.usage.replayed) == (1, 0.0, 0)
    assert done.usage.input_tokens > 10
    assert done.usage.output_tokens > 3
    assert done.usage.latency_s > 0


def test_an_answer_cut_off_says_so(lm):
    form = {"type": "json_schema", "json_schema": {"name": "intent", "schema": SCHEMA}}
    done = lm.complete(ask("Which intent?", response_format=form, parameters={"max_tokens": 2}))
    assert done.finish_reason == "length"
    with pytest.raises(InvalidOutput, match="cut off at max_tokens"):
        done.json()


def test_replay_gives_the_same_and_starts_no_process(lm, tmp_path):
    asked = ask("Say hello to Ada.")
    with replaying(tmp_path), call_scope("a") as live:
        first = lm.complete(asked)
    lm.close()
    assert lm.server_pid is None
    for mode in ("auto", "replay"):
        with replaying(tmp_path, mode), call_scope("b") as again:
            second = lm.complete(asked)
        assert (second.text, second.finish_reason) == (first.text, first.finish_reason)
        assert second.usage == first.usage + Usage(replayed=1)
        assert again.usage == live.usage + Usage(replayed=1)
    with replaying(tmp_path, "replay"), pytest.raises(ReplayMiss), call_scope("a"):
        lm.complete(ask("Say hello to Grace."))
    assert lm.server_pid is None


def test_the_task_s_own_openai_code_is_recorded(lm, tmp_path):
    client = lm.openai_client()
    messages = [{"role": "user", "content": "Name a colour."}]

    def whole():
        done = client.chat.completions.create(model="any", messages=messages, temperature=0, max_tokens=6)
        return done.choices[0].message.content

    def streamed():
        with client.chat.completions.create(
            model="any", messages=messages, temperature=0, max_tokens=6, stream=True
        ) as stream:
            return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    with replaying(tmp_path) as session, call_scope("a"):
        texts = [whole(), streamed()]
    assert session.counts.recorded == 2
    assert texts[0] == texts[1]
    lm.close()
    client = lm.openai_client()
    with replaying(tmp_path, "replay"), call_scope("a") as again:
        assert [whole(), streamed()] == texts
    assert again.usage.replayed == 2
    assert lm.server_pid is None


def test_a_killed_server_is_started_by_the_next_call(lm):
    asked = ask("Count to three.")
    before = lm.complete(asked)
    old = lm.server_pid
    os.kill(old, signal.SIGKILL)
    after = asyncio.run(lm.acomplete(asked))
    assert lm.server_pid not in (None, old)
    assert after.text == before.text


def test_a_prompt_longer_than_the_context_is_a_bad_request(lm):
    with pytest.raises(CallFailed) as caught:
        lm.complete(ask("word " * 3000))
    assert caught.value.kind == "bad_request"


def test_close_ends_the_process_and_no_key_is_on_its_command_line(lm):
    lm.complete(ask("Hi"))
    pid = lm.server_pid
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    assert lm._server.address().key not in " ".join(words)
    lm.close()
    assert lm.server_pid is None
    assert gone(pid)
    lm.close()


def test_what_was_recorded_holds_neither_key_nor_port(lm, tmp_path):
    with replaying(tmp_path), call_scope("a"):
        lm.complete(ask("Hi again"))
    (file,) = tmp_path.rglob("*.rec")
    data = file.read_bytes()
    address = lm._server.address()
    assert address.key.encode() not in data
    assert json.dumps(address.port).encode() not in data.partition(b"\n")[2].partition(b"\n")[0]
