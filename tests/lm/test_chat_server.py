"""The scriptable server does what its script says, as a client sees it."""

import http.client
import json
import threading

import openai
import pytest

from steelyard.testing.chat_server import ChatServer, Reply, calling, failing, redirecting, streaming

pytestmark = pytest.mark.server
HI = [{"role": "user", "content": "hi"}]


def post(server, body=None):
    host, _, _ = server.base_url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("POST", "/v1/chat/completions", body=json.dumps(body or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_statuses_headers_and_order():
    with ChatServer([failing(429, retry_after="2"), failing(503, retry_at_s=60), "hello"]) as server:
        first, second, third, fourth = (post(server) for _ in range(4))
        assert server.statuses == [429, 503, 200, 200]
    assert first[1]["retry-after"] == "2"
    assert second[1]["retry-after"].endswith("GMT")
    assert json.loads(third[2])["choices"][0]["message"]["content"] == "hello"
    assert json.loads(fourth[2])["choices"][0]["message"]["content"] == "ok"


def test_the_openai_package_reads_answers_streams_tools_and_schemas():
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}, "n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with ChatServer() as server, openai.OpenAI(base_url=server.base_url, api_key="k") as client:
        create = client.chat.completions.create
        stream = create(model="m", messages=HI, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "ok"
        said = create(model="m", messages=HI, response_format=wanted).choices[0].message.content
        assert json.loads(said) == {"label": "a", "n": 0}
        server.say(calling("f", {"x": 1}))
        (call,) = create(model="m", messages=HI).choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"x": 1}
        assert server.calls[0].json["stream"] is True
        assert server.calls[0].headers["authorization"] == "Bearer k"


def test_a_body_cut_at_a_byte_arrives_so_far_and_no_further():
    with ChatServer([Reply(body="0123456789", cut_at=4), redirecting("http://x.test/")]) as server:
        with pytest.raises(http.client.IncompleteRead) as caught:
            post(server)
        assert caught.value.partial == b"0123"
        assert post(server)[1]["location"] == "http://x.test/"


def test_a_function_sees_the_call_and_calls_at_once_are_counted():
    both = threading.Barrier(2)

    def script(call):
        both.wait(5)
        return streaming("a b", drip_s=0.001) if call.json["stream"] else "whole"

    with ChatServer(script) as server:
        threads = [threading.Thread(target=post, args=(server, {"stream": s})) for s in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.most_at_once == 2
        assert sorted(call.n for call in server.calls) == [0, 1]
