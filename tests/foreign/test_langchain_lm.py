"""LangChain chat models as `lm`: the real langchain-openai against a server on loopback, and replayed."""

import asyncio
import socket

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed, InvalidValue, NotFound, ReplayMiss
from steelyard.core.results import Usage
from steelyard.core.settings import load_settings
from steelyard.lm import LM, OpenAILM, call_scope, open_lm, replaying
from steelyard.lm.langchain_lm import LangChainLM, chat_model
from steelyard.lm.opening import as_lm
from steelyard.testing.chat_server import MALFORMED, Reply, calling, completion, failing
from steelyard.testing.fake_lm import FakeLM

pytestmark = pytest.mark.server

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.fixture
def model(server):
    return ChatOpenAI(model="m", base_url=server.base_url, api_key="sk-canary", max_retries=0, timeout=5)


def ask(*messages, **more):
    given = messages or ({"role": "user", "content": "hi"},)
    return ChatRequest(messages=given, parameters={"temperature": 0, **more.pop("parameters", {})}, **more)


def test_it_is_a_model_like_any_other(model):
    lm = as_lm(model)
    assert isinstance(lm, LM)
    assert as_lm(lm) is lm
    assert (lm.name, lm.concurrency) == ("m", 8)
    lm.close()
    assert lm.complete(ask()).text == "ok"
    with pytest.raises(InvalidValue, match="no language model"):
        as_lm(object())


def test_a_request_reaches_the_wire_as_it_is_and_the_answer_comes_back(server, model):
    lm = LangChainLM(model)
    server.say(
        [
            calling("add", {"x": 1}),
            calling("add", '{"x": '),
            Reply(body=completion('{"a": "b"}')),
            Reply(body=completion('{"a": "', finish_reason="length")),
            Reply(body=completion("cut", finish_reason="content_filter")),
        ]
    )
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call = {"id": "t", "type": "function", "function": {"name": "add", "arguments": '{"x": 2}'}}
    done = lm.complete(
        ask(
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "4", "tool_call_id": "t"},
            tools=(TOOL,),
            parameters={"seed": 7, "max_tokens": 9, "stop": ["x"], "tool_choice": "auto"},
        )
    )
    assert done.text == ""
    assert done.finish_reason == "tool_calls"
    assert done.tool_calls == (
        {"id": "t", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
    )
    assert (done.usage.calls, done.usage.input_tokens, done.usage.output_tokens) == (1, 7, 3)
    assert done.usage.cost_usd is None, "nobody knows the price of m"
    body = server.calls[-1].json
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][1]["content"][1] == image
    assert body["messages"][2]["tool_calls"] == [call]
    assert (body["temperature"], body["seed"], body["stop"]) == (0, 7, ["x"])
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 9
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "auto")
    bad = lm.complete(ask(tools=(TOOL,)))
    assert bad.tool_calls[0]["function"]["arguments"] == '{"x": ', "as the model wrote it"
    assert lm.complete(ask(response_format=FORM)).json() == {"a": "b"}
    assert server.calls[-1].json["response_format"]["json_schema"]["schema"]["required"] == ["a"]
    cut = lm.complete(ask(response_format=FORM))
    assert (cut.text, cut.finish_reason, cut.usage.input_tokens) == ('{"a": "', "length", 7)
    assert lm.complete(ask()).finish_reason == "content_filter"
    assert lm.complete(ask(model="other")).model == "other"
    with pytest.raises(InvalidValue, match="stream"):
        lm.complete(ask(parameters={"stream": True}))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (failing(401), "auth"),
        (failing(400), "bad_request"),
        (failing(404), "bad_request"),
        (MALFORMED["HTML with 200"], "provider"),
        (MALFORMED["truncated JSON"], "provider"),
        (MALFORMED["empty choices"], "provider"),
        (MALFORMED["error with 200"], "provider"),
    ],
)
def test_no_usable_answer_is_a_failure_with_its_kind(server, model, tmp_path, reply, kind):
    server.say([reply])
    with replaying(tmp_path), call_scope("a") as calls:
        with pytest.raises(CallFailed) as caught:
            LangChainLM(model).complete(ask())
        assert caught.value.kind == kind
        assert calls.last_failure.kind == kind
        assert calls.usage.calls == 0


def test_a_busy_provider_is_waited_for(server, model, tmp_path):
    server.say([failing(429, retry_after="0.01"), failing(503, retry_after="0.01")])
    patient = model.model_copy(update={"max_retries": 3})
    with replaying(tmp_path), call_scope("a") as calls:
        assert LangChainLM(patient).complete(ask()).text == "ok"
    assert [f.kind for f in calls.failures] == ["rate_limit", "provider"]
    assert calls.usage.calls == 1


def test_a_hanging_and_a_missing_server(server, model):
    server.say([Reply(delay_s=9)])
    slow = ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0, timeout=0.2)
    with pytest.raises(CallFailed) as caught:
        LangChainLM(slow).complete(ask())
    assert caught.value.kind == "timeout"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        gone = ChatOpenAI(model="m", base_url=url, api_key="k", max_retries=0)
        with pytest.raises(CallFailed) as caught:
            asyncio.run(LangChainLM(gone).acomplete(ask()))
    assert caught.value.kind == "transport"


def test_sync_async_and_forms_are_recorded_and_replayed_without_a_socket(server, model, tmp_path, no_sockets):
    lm = LangChainLM(model)
    server.say(
        [Reply(body=completion("one")), Reply(body=completion("two")), Reply(), calling("add", {"x": 1})]
    )

    def everything():
        return [
            lm.complete(ask()),
            asyncio.run(lm.acomplete(ask())),  # the same request again: a recording of its own
            lm.complete(ask(response_format=FORM)),
            asyncio.run(lm.acomplete(ask(tools=(TOOL,)))),
        ]

    with replaying(tmp_path) as session, call_scope("a") as live:
        first = everything()
    assert session.counts.recorded == 4
    assert [c.text for c in first] == ["one", "two", '{"a": "x"}', ""]
    sent = len(server.calls)
    no_sockets()
    # Another address and another key: neither is in the key of a recording.
    lm = LangChainLM(ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="other", max_retries=0))
    with replaying(tmp_path, "replay"), call_scope("b") as again:
        second = everything()
    assert [(c.text, c.tool_calls, c.finish_reason) for c in second] == [
        (c.text, c.tool_calls, c.finish_reason) for c in first
    ]
    assert [c.usage for c in second] == [c.usage + Usage(replayed=1) for c in first]
    assert again.usage == live.usage + Usage(replayed=4)
    assert len(server.calls) == sent
    with replaying(tmp_path, "replay"), pytest.raises(ReplayMiss), call_scope("b"):
        lm.complete(ask({"role": "user", "content": "never asked"}))
    assert b"sk-canary" not in b"".join(f.read_bytes() for f in tmp_path.rglob("*.rec"))


def test_many_event_loops_share_the_cached_client(server, model):
    lm = LangChainLM(model)

    async def several():
        return await asyncio.gather(*(lm.acomplete(ask()) for _ in range(5)))

    for _ in range(3):  # langchain-openai keeps one client for all of them: "Event loop is closed"
        assert [c.text for c in asyncio.run(several())] == ["ok"] * 5


def test_cancelling_the_caller_cancels_the_call(server, model):
    server.say(Reply(delay_s=3))

    async def impatient():
        async with asyncio.timeout(0.2):
            await LangChainLM(model).acomplete(ask())

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())


def test_the_identity_is_class_and_behaviour_not_keys_hosts_or_patience(model):
    def one(**more):
        given = {"model": "m", "api_key": "k", "base_url": "http://a/v1"} | more
        return LangChainLM(ChatOpenAI(**given)).digest

    base = one()
    assert base == one(api_key="other", base_url="http://b/v1", timeout=3, max_retries=5, tags=["x"])
    assert base == one(name="shown", callbacks=[], verbose=True, organization="o")
    assert len({base, one(model="n"), one(temperature=0), one(seed=3), one(max_tokens=9)}) == 5
    assert LangChainLM(Parrot()).digest != LangChainLM(Parrot(loud=True)).digest != base


def test_names_open_models(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    settings = load_settings(tmp_path, environ={})
    lm = open_lm("langchain:openai:gpt-x", settings)
    assert (lm.name, type(lm.model)) == ("gpt-x", ChatOpenAI)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InvalidValue, match="set the provider's key"):
        open_lm("langchain:openai:gpt-x", settings)
    assert (
        open_lm("langchain:openai:gpt-x", load_settings(tmp_path, environ={}, lm_mode="replay")).digest
        == lm.digest
    )
    own = load_settings(tmp_path, environ={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "k"})
    assert open_lm("langchain:openai:gpt-x", own).model.openai_api_base == "http://127.0.0.1:9/v1"
    with pytest.raises(InvalidValue, match="names no provider"):
        open_lm("langchain:gpt-x", settings)
    with pytest.raises(InvalidValue, match=r"cannot make|not installed"):
        open_lm("langchain:nobody:gpt-x", settings)
    with pytest.raises(NotFound, match="langchain"):
        open_lm("langchian:openai:x", settings)


class Parrot(BaseChatModel):
    """A chat model of one's own, with no HTTP beneath it."""

    loud: bool = False

    @property
    def _llm_type(self):
        return "parrot"

    def _generate(self, messages, stop=None, run_manager: CallbackManagerForLLMRun = None, **kwargs):
        text = messages[-1].text
        calls = []
        if "tools" in kwargs:
            calls = [{"name": kwargs["tools"][0]["function"]["name"], "args": {"a": text}, "id": "1"}]
        message = AIMessage(
            content=text.upper() if self.loud else text,
            tool_calls=calls,
            usage_metadata={"input_tokens": 4, "output_tokens": 2, "total_tokens": 6},
            response_metadata={"stop_reason": "tool_use" if calls else "end_turn", "model": "parrot-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(self, tools, **kwargs):
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(t) for t in tools])


def test_a_model_of_ones_own_is_one_too(tmp_path):
    lm = LangChainLM(Parrot())
    with replaying(tmp_path), call_scope("a") as calls:
        done = asyncio.run(lm.acomplete(ask()))
        assert (done.text, done.finish_reason, done.model) == ("hi", "stop", "parrot-1")
        assert lm.complete(ask(tools=(TOOL,))).tool_calls[0]["function"]["name"] == "add"
        shaped = lm.complete(ask(response_format=FORM))
        assert shaped.json() == {"a": "hi"}
        assert shaped.tool_calls == ()
    # No transport saw these calls, and they count all the same.
    assert (calls.usage.calls, calls.usage.input_tokens, calls.usage.output_tokens) == (3, 12, 6)
    with pytest.raises(InvalidValue, match="names the model"):
        lm.complete(ask(model="other"))


def test_errors_of_other_clients_are_read_by_what_they_carry():
    class Overloaded(Exception):
        status_code = 529

    class Broken(Parrot):
        def _generate(self, *args, **kwargs):
            raise ERRORS.pop(0)

    ERRORS = [Overloaded("busy"), TimeoutError("late"), ConnectionResetError("gone"), KeyError("x")]
    lm = LangChainLM(Broken())
    kinds = []
    for _ in range(3):
        with pytest.raises(CallFailed) as caught:
            lm.complete(ask())
        kinds.append((caught.value.kind, caught.value.retryable))
    assert kinds == [("provider", True), ("timeout", True), ("transport", True)]
    with pytest.raises(KeyError):
        lm.complete(ask())


def test_an_lm_gives_a_chat_model_for_chains(server, model, tmp_path):
    assert chat_model(LangChainLM(model)) is model
    lm = OpenAILM("m", server.base_url, "sk-canary")
    with replaying(tmp_path), call_scope("a") as calls:
        assert chat_model(lm).invoke("hello").content == "ok"
    assert calls.usage.calls == 1
    assert "sk-canary" not in repr(chat_model(lm))
    lm.close()
    with pytest.raises(InvalidValue, match="no chat model"):
        chat_model(FakeLM("x"))
