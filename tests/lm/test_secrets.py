"""A canary key in every place a key can be: no error, log, recording or foreign host ever sees it."""

import asyncio
import base64
import logging
import traceback

import httpx
import openai
import pytest

from steelyard.core.chat import ChatRequest
from steelyard.core.errors import Corrupt
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.scrub import scrub
from steelyard.lm.tape import Recording
from steelyard.testing.chat_server import ChatServer, Reply, completion, redirecting, streaming

pytestmark = pytest.mark.server

KEY = "canary-key-8f2a77"
USER, PASSWORD = "canary-user", "canary-pass-41c0"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (KEY, PASSWORD, BASIC)
HI = [{"role": "user", "content": "hi"}]


def echo(call):
    """What a careless provider writes into its error: the key as it came, in every form."""
    said = [call.path, call.headers["authorization"]] if "authorization" in call.headers else [call.path]
    said += [call.headers.get("x-api-key", ""), call.headers.get("api-key", "")]
    if BASIC in said[1]:
        said.append(base64.b64decode(BASIC).decode())
    return " ".join(said)


def complete(url):
    lm = OpenAILM("m", url, KEY, max_retries=0)
    try:
        return lm.complete(ChatRequest(messages=tuple(HI))).text
    finally:
        lm.close()


def acomplete(url):
    return asyncio.run(OpenAILM("m", url, KEY, max_retries=0).acomplete(ChatRequest(messages=tuple(HI)))).text


def package(url):
    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        return client.chat.completions.create(model="m", messages=HI).choices[0].message.content


def streamed(url):
    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        return list(client.chat.completions.create(model="m", messages=HI, stream=True))


def by_httpx(url):
    headers = {"x-api-key": KEY, "api-key": PASSWORD}
    with httpx.Client(follow_redirects=True) as client:
        response = client.post(
            f"{url}/chat/completions?api_key={KEY}", json={"messages": HI}, headers=headers
        )
        response.raise_for_status()
        return response.json()["choices"][0]["message"]["content"]


CALLS = [complete, acomplete, package, streamed, by_httpx]


def with_password(url):
    return url.replace("://", f"://{USER}:{PASSWORD}@")


def seen(tmp_path, caplog, *values):
    """Everything that was written or said, as one text."""
    files = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()).decode("utf-8", "replace")
    logs = "".join(r.getMessage() for r in caplog.records if r.name.startswith("steelyard"))
    return files + logs + "".join(repr(v) for v in values)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize("form", ["object", "text"])
def test_a_provider_that_repeats_the_key_does_not_make_us_repeat_it(call, status, form, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "steelyard")

    def script(asked):
        body = (
            {"error": {"message": f"wrong: {echo(asked)}"}} if form == "object" else f"wrong: {echo(asked)}"
        )
        return Reply(status=status, body=body, headers={"x-should-retry": "false"})

    with ChatServer(script) as server:
        for url in (server.base_url, with_password(server.base_url)):
            with replaying(tmp_path) as session, call_scope("a") as calls:
                with pytest.raises(Exception, match=str(status)) as caught:
                    call(url)
                said = "".join(traceback.format_exception(caught.value))
                if call is not by_httpx:  # httpx writes the address, as it was given, into its own error
                    assert not [s for s in SECRETS if s in said]
                everything = seen(tmp_path, caplog, calls.log, session.counts, calls.last_failure)
                assert not [s for s in SECRETS if s in everything]
                assert calls.last_failure.message.startswith(f"status {status}: ")
                assert "wrong: " in calls.last_failure.message


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_repeats_the_key_is_an_answer_and_is_not_recorded(call, tmp_path, caplog):
    reply = streaming(f"my key is {KEY}") if call is streamed else Reply(body=completion(f"my key is {KEY}"))
    with ChatServer(reply) as server, replaying(tmp_path) as session, call_scope("a") as calls:
        call(server.base_url)
        assert (session.counts.recorded, session.counts.unwritten, calls.usage.calls) == (0, 1, 1)
        assert KEY not in seen(tmp_path, caplog, calls.log)
        assert "repeats the key" in caplog.text


def test_a_password_in_the_address_works_and_stays_out_of_every_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)  # httpx logs each address at this level
    with ChatServer() as server, replaying(tmp_path), call_scope("a"):
        assert complete(with_password(server.base_url)) == "ok"
        assert server.calls[0].headers["authorization"] == f"Basic {BASIC}"
    assert "127.0.0.1" in caplog.text
    assert not [s for s in SECRETS if s in caplog.text + seen(tmp_path, caplog)]


def test_a_refused_connection_does_not_tell_the_address_s_password(tmp_path):
    url = with_password("http://127.0.0.1:9/v1")
    for call in CALLS:
        with (
            replaying(tmp_path),
            call_scope("a", timeout_s=0.3) as calls,
            pytest.raises(Exception, match=r"."),
        ):
            call(url)
        assert calls.log
        assert PASSWORD not in repr(calls.log)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_carries_a_model_call_to_another_host(call, status, tmp_path):
    with ChatServer() as inner, ChatServer() as outer:
        outer.say(redirecting(f"{inner.base_url}/chat/completions", status))
        with replaying(tmp_path) as session, call_scope("a") as calls:
            with pytest.raises(Exception, match=str(status)):
                call(outer.base_url)
            assert "is not redirected to http://127.0.0.1:" in calls.last_failure.message
            assert session.counts.recorded == 0
        assert (len(outer.calls), len(inner.calls)) == (1, 0)


@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/x", "//[::1]:1/x", "file:///etc/passwd", "http://[", ""]
)
def test_odd_redirects_lead_nowhere(to, tmp_path):
    with ChatServer(redirecting(to)) as server:
        for call in (complete, package, by_httpx):
            with replaying(tmp_path), call_scope("a") as calls, pytest.raises(Exception, match="307"):
                call(server.base_url)
            assert len(calls.log) == 1


def test_the_same_host_may_move_a_call_of_a_client_that_follows(tmp_path):
    with ChatServer([redirecting("/v2/chat/completions")]) as server, replaying(tmp_path), call_scope("a"):
        assert package(server.base_url) == "ok"
        assert [call.path for call in server.calls] == ["/v1/chat/completions", "/v2/chat/completions"]


def test_a_recording_that_redirects_is_damage(tmp_path):
    with ChatServer() as server:
        with replaying(tmp_path), call_scope("a"):
            complete(server.base_url)
        (file,) = tmp_path.rglob("*.rec")
        good = Recording.from_bytes(file.read_bytes(), key=file.stem)
        for status, headers in ((307, {}), (200, {"location": "http://169.254.169.254/"})):
            forged = Recording(
                key=good.key, status=status, headers=headers, body=b"", usage=good.usage, about=good.about
            )
            file.write_bytes(forged.to_bytes())  # with a sound checksum
            wanted = pytest.raises(Corrupt, match=r"status is 307|header 'location'")
            with replaying(tmp_path, "replay"), wanted, call_scope("a"):
                complete(server.base_url)


def test_what_looks_like_a_key_goes_from_texts_whoever_wrote_them():
    text = "at https://me:hunter2@host/v1 with Bearer abcdefgh12345 and sk-proj-abcdefghij"
    assert scrub(text) == "at https://***@host/v1 with Bearer *** and ***"
    assert scrub("mail me@host.test, the bearer of news") == "mail me@host.test, the bearer of news"
