"""Replies that are no completion: a typed error each, through every way to call, and never a recording."""

import asyncio
import gzip
import zlib

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import CallFailed
from steelyard.lm import failure_of
from steelyard.lm.body import BodyRefused, Decoder, decode
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.wire import read_reply
from steelyard.testing.chat_server import MALFORMED, ChatServer, Reply, calling, completion, streaming

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


def complete(url):
    lm = OpenAILM("m", url, "k", timeout_s=20)
    try:
        return lm.complete(ChatRequest(messages=tuple(HI)))
    finally:
        lm.close()


def acomplete(url):
    return asyncio.run(OpenAILM("m", url, "k", timeout_s=20).acomplete(ChatRequest(messages=tuple(HI))))


def package(url, **more):
    with openai.OpenAI(base_url=url, api_key="k") as client:
        made = client.chat.completions.create(model="m", messages=HI, **more)
        return list(made) if more.get("stream") else made


def package_async(url, **more):
    async def work():
        async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
            made = await client.chat.completions.create(model="m", messages=HI, **more)
            return [c async for c in made] if more.get("stream") else made

    return asyncio.run(work())


def streamed(url):
    return package(url, stream=True)


def streamed_async(url):
    return package_async(url, stream=True)


def langchain(url):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", base_url=url, api_key="k").invoke("hi")


@pytest.fixture(scope="module")
def server():
    with ChatServer() as server:
        yield server


def fails(server, call, tmp_path, *, scoped=True):
    """The failure that a call ends with; asserts that it is one, and that nothing was recorded."""
    asked = len(server.calls)
    with replaying(tmp_path) as session, call_scope("a") as calls:
        with pytest.raises(Exception, match=r".") as caught:
            call(server.base_url)
        assert session.counts.recorded == 0
    assert calls.usage.calls == 0
    assert len(server.calls) == asked + 1  # a reply that cannot be read may have been paid for: no retry
    found = failure_of(caught.value)
    assert found is not None, caught.value
    assert calls.last_failure.kind == found.kind == "provider"
    return found


@pytest.mark.server
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", [complete, acomplete, package, package_async, langchain])
def test_every_malformed_reply_is_a_typed_error_in_a_scope(server, call, tmp_path):
    for name, reply in MALFORMED.items():
        server.say(reply)
        assert fails(server, call, tmp_path / "t").message, name


@pytest.mark.server
def test_every_malformed_reply_is_a_typed_error_outside_of_one_too(server):
    for reply in MALFORMED.values():
        server.say(reply)
        for call in (complete, acomplete):
            with pytest.raises(CallFailed) as caught:
                call(server.base_url)
            assert caught.value.kind == "provider"


STREAMS = {
    "cut between events": streaming("a b c", done=False).body.rpartition("data: ")[0].rpartition("data: ")[0],
    "an event that is no JSON": 'data: {"choices": [\n\ndata: [DONE]\n\n',
    "an event that is a list": "data: []\n\ndata: [DONE]\n\n",
    "an error inside": 'data: {"error": {"message": "overloaded"}}\n\ndata: [DONE]\n\n',
    "nothing but its end": "data: [DONE]\n\n",
    "nothing": "",
    "a page": "<html>busy</html>",
    "no content": 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    "content is a number": 'data: {"choices":[{"index":0,"delta":{"content":0}}]}\n\ndata: [DONE]\n\n',
    "tool arguments are no JSON": (
        'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":'
        '{"name":"f","arguments":"{\\"x\\""}}]},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    ),
    "NaN": 'data: {"choices":[{"index":0,"delta":{"content":"x"},"logprobs":NaN}]}\n\ndata: [DONE]\n\n',
    "negative usage": streaming("a", usage={"prompt_tokens": -1}).body,
}


@pytest.mark.server
@pytest.mark.parametrize("call", [streamed, streamed_async])
@pytest.mark.parametrize("name", STREAMS)
def test_every_malformed_stream_is_a_typed_error(server, call, name, tmp_path):
    server.say(Reply(body=STREAMS[name], content_type="text/event-stream"))
    fails(server, call, tmp_path)


@pytest.mark.server
def test_a_stream_cut_at_any_byte_is_an_error_or_the_whole_answer(server, tmp_path):
    whole = streaming("some words")
    raw = whole.body.encode()
    lm = OpenAILM("m", server.base_url, "k")
    create = lm.openai_client().chat.completions.create
    for at in range(0, len(raw) + 1, 13):
        server.say(Reply(body=raw, content_type="text/event-stream", cut_at=at if at < len(raw) else None))
        with replaying(tmp_path / str(at)) as session, call_scope("a") as calls:
            try:
                said = [c for c in create(model="m", messages=HI, stream=True) if c.choices]
            except openai.OpenAIError:
                assert calls.last_failure.kind in ("provider", "transport")
                assert session.counts.recorded == 0
            else:
                assert "".join(c.choices[0].delta.content or "" for c in said) == "some words"
    lm.close()


@pytest.mark.server
def test_bodies_are_bounded(server, tmp_path, monkeypatch):
    from steelyard.lm import body, stopwatch

    for module in (body, stopwatch):
        monkeypatch.setattr(module, "MAX_BODY", 2**20)
    bomb = gzip.compress(b"\0" * 40 * 2**20)
    assert len(bomb) < 2**17
    packed = {"content-encoding": "gzip"}
    server.say(Reply(body=completion("x" * 2**20)))
    assert "larger than 1 MB" in fails(server, complete, tmp_path).message
    server.say(Reply(body="{" * 10 * 2**20))
    assert "larger than 1 MB" in fails(server, package, tmp_path).message
    server.say(Reply(body=bomb, headers=packed))
    for call in (complete, acomplete, package, package_async):
        assert "larger than" in fails(server, call, tmp_path).message
    server.say(Reply(body=bomb, headers=packed, content_type="text/event-stream"))
    for call in (streamed, streamed_async):
        assert "larger than" in fails(server, call, tmp_path).message
    server.say(Reply(body=b"", headers={"content-encoding": "br"}))
    assert "'br'" in fails(server, complete, tmp_path).message
    assert server.calls[-1].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.server
def test_ten_megabytes_that_are_a_completion_are_one(server):
    server.say(Reply(body=completion("x" * 10 * 2**20)))
    assert len(complete(server.base_url).text) == 10 * 2**20


@pytest.mark.server
def test_what_is_unusual_and_right_still_passes(server, tmp_path):
    unusual = [
        calling("f", ""),  # how many servers write "no arguments"
        calling("f", {"x": [1, None]}),
        Reply(body=completion(None, finish_reason="length", message={"content": None})),
        Reply(body=completion(None, finish_reason="content_filter", message={"content": None})),
        Reply(body=completion(None, message={"content": None, "refusal": "no"})),
        Reply(body=completion("x", usage=None)),
        Reply(body=completion("x", usage={"prompt_tokens": 7.0, "completion_tokens": None})),
        Reply(body=completion('he said "usage" and "usage"')),
        Reply(body=completion("x"), content_type="application/json; charset=utf-8"),
        Reply(
            body=gzip.compress(b'{"choices":[{"message":{"content":"x"}}]}'),
            headers={"content-encoding": "gzip"},
        ),
        Reply(body=b"\xef\xbb\xbf" + b'{"choices":[{"message":{"content":"x"}}]}'),
    ]
    for n, reply in enumerate(unusual):
        server.say(reply)
        for mode in ("auto", "replay"):
            with replaying(tmp_path / str(n), mode), call_scope("a") as calls:
                assert complete(server.base_url) is not None
                assert calls.usage.calls == 1


@settings(deadline=None)
@given(
    st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.sampled_from([CHAT, "/v1/messages"])
)
def test_reading_any_bytes_gives_a_reply_or_its_problem(raw, path):
    for kind in ("application/json", "text/event-stream", ""):
        reply = read_reply(path, kind, raw)
        assert reply.input_tokens >= 0
        if path == CHAT:
            assert reply.problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "tool_calls", "function", "prompt_tokens"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_reading_any_json_never_raises_and_a_reply_without_problem_has_a_message(value):
    import json

    raw = json.dumps(value).encode()
    reply = read_reply(CHAT, "application/json", raw)
    assert reply.output_tokens >= 0 <= reply.cached_tokens
    if reply.problem is None:
        assert all(isinstance(c["message"], dict) for c in reply.data["choices"])
    read_reply(CHAT, "text/event-stream", b"data: " + raw + b"\n\n")


@settings(deadline=None)
@given(
    st.binary(max_size=2000),
    st.lists(st.integers(1, 50), min_size=1),
    st.sampled_from(["gzip", "deflate", "raw"]),
)
def test_bodies_decode_in_any_pieces(data, sizes, encoding):
    packer = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda d: zlib.compress(d)[2:-4]}[
        encoding
    ]
    packed, made, n = packer(data), b"", 0
    decoder = Decoder("deflate" if encoding == "raw" else encoding, most=4000)
    while packed:
        size = sizes[n % len(sizes)] + (encoding == "raw") * 50
        made += decoder.feed(packed[:size])
        packed, n = packed[size:], n + 1
    decoder.end()
    assert made == data


def test_decoding_is_bounded_and_says_what_is_wrong():
    with pytest.raises(BodyRefused, match="larger"):
        decode(gzip.compress(b"\0" * 10**7), "gzip", most=10**6)
    with pytest.raises(BodyRefused, match="no gzip"):
        decode(b"plain", "gzip")
    with pytest.raises(BodyRefused, match="too early"):
        decode(gzip.compress(b"x" * 100)[:-3], "gzip")
    with pytest.raises(BodyRefused, match="zstd"):
        decode(b"", "zstd")
