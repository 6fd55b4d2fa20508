"""Models by name, what a call costs, and the scripted model for tests."""

import asyncio

import pytest

from steelyard.core.chat import ChatRequest, Completion
from steelyard.core.errors import CallFailed, InvalidFile, InvalidValue, NotFound
from steelyard.core.results import Usage
from steelyard.core.settings import load_settings
from steelyard.lm import LM, LocalLM, OpenAILM, open_lm
from steelyard.lm.cost import price
from steelyard.lm.weights import WeightsMissing, weights_digest
from steelyard.testing.fake_lm import FakeLM

OPENAI = "https://api.openai.com/v1/chat/completions"


@pytest.fixture
def settings(tmp_path):
    return load_settings(tmp_path)


def ask(text="hi", **more):
    return ChatRequest(messages=({"role": "user", "content": text},), **more)


def test_an_unknown_kind_offers_those_there_are(settings):
    with pytest.raises(NotFound, match="openai"):
        open_lm("opnai:gpt-5-mini", settings)


def test_a_missing_or_wrong_file_is_said_when_the_model_is_opened(settings, tmp_path):
    with pytest.raises(WeightsMissing, match=r"none\.gguf"):
        open_lm("local:none.gguf", settings)
    (tmp_path / "text.gguf").write_text("no weights")
    with pytest.raises(InvalidFile, match="no GGUF"):
        open_lm("local:text.gguf", settings)


def test_an_endpoint_needs_a_model_and_a_key(settings, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InvalidValue, match="openai:MODEL"):
        open_lm("openai:", settings)
    with pytest.raises(CallFailed) as caught:
        open_lm("openai:gpt-5-mini", settings).complete(ask())
    assert caught.value.kind == "auth"


def test_identity_is_the_model_and_not_the_address_or_the_key(settings):
    here = open_lm("openai:m", settings.with_(openai_base_url="http://a.test/v1", openai_api_key="x"))
    there = open_lm("openai:m", settings.with_(openai_base_url="http://b.test:81/v1", openai_api_key="y"))
    assert isinstance(here, OpenAILM)
    assert here.digest == there.digest != open_lm("openai:n", settings).digest
    assert isinstance(here, LM)


def test_a_local_model_is_its_weights_and_its_context(settings, tmp_path):
    one, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    one.write_bytes(b"GGUF one")
    other.write_bytes(b"GGUF one")
    assert LocalLM(str(one)).digest == LocalLM(str(other)).digest != LocalLM(str(one), n_ctx=512).digest
    other.write_bytes(b"GGUF two")
    assert LocalLM(str(one)).digest != LocalLM(str(other)).digest
    assert LocalLM(str(one)).concurrency == 1
    assert open_lm("local:one.gguf", settings).server_pid is None  # opening starts nothing


def test_digests_of_weights_are_remembered_and_a_damaged_memory_is_no_harm(tmp_path):
    file, memory = tmp_path / "m.gguf", tmp_path / "home" / "weights.json"
    file.write_bytes(b"GGUF")
    first = weights_digest(file, memory)
    memory.write_text(memory.read_text().replace(first, "sha256:remembered"))
    assert weights_digest(file, memory) == "sha256:remembered"
    memory.write_text("{")
    assert weights_digest(file, memory) == first


@pytest.mark.parametrize(("retries", "word"), [(-1, "max_retries"), (6, "max_retries")])
def test_retries_have_a_limit(retries, word):
    with pytest.raises(InvalidValue, match=word):
        OpenAILM("m", max_retries=retries)


def test_parameters_of_other_servers_go_into_the_body():
    lm = OpenAILM("m", "http://a.test/v1", "k")
    given = lm._arguments(ask(parameters={"top_k": 3, "temperature": 0, "extra_body": {"grammar": "g"}}))
    assert given["extra_body"] == {"grammar": "g", "top_k": 3}
    assert given["temperature"] == 0
    with pytest.raises(InvalidValue, match="extra_body"):
        lm._arguments(ask(parameters={"top_k": 3, "extra_body": "text"}))
    with pytest.raises(InvalidValue, match="stream"):
        lm._arguments(ask(parameters={"stream": True}))


def test_a_known_price_is_linear_and_an_unknown_one_is_unknown():
    known = price("gpt-4o-mini", url=OPENAI, input_tokens=1_000_000, output_tokens=0)
    assert known == pytest.approx(0.15)
    more = price("gpt-4o-mini", url=OPENAI, input_tokens=1_000_000, output_tokens=1_000_000)
    assert more == pytest.approx(0.75)
    cached = price("gpt-4o-mini", url=OPENAI, input_tokens=1_000_000, output_tokens=0, cached_tokens=500_000)
    assert cached < known
    assert price("no-such-model", url=OPENAI, input_tokens=1, output_tokens=1) is None
    assert price("gpt-4o-mini", url="http://127.0.0.1:1/v1", input_tokens=1, output_tokens=1) is None
    assert price(None, url=OPENAI, input_tokens=1, output_tokens=1) is None


def test_the_fake_answers_by_its_script():
    assert isinstance(FakeLM("x"), LM)
    one = FakeLM("same")
    assert [one.complete(ask()).text, asyncio.run(one.acomplete(ask())).text] == ["same", "same"]
    assert one.complete(ask()).usage == Usage(calls=1, input_tokens=10, output_tokens=5, latency_s=0.01)
    assert len(one.requests) == 3

    row = FakeLM(["a", CallFailed("timeout", "slow"), Completion(text="c")])
    assert row.complete(ask()).text == "a"
    with pytest.raises(CallFailed, match="slow"):
        row.complete(ask())
    assert row.complete(ask()).text == "c"
    with pytest.raises(CallFailed, match="only 3 answers"):
        row.complete(ask())

    table = FakeLM({"refund": "R", "bill": "B"})
    assert [table.complete(ask(t)).text for t in ("my bill", "a refund of my bill")] == ["B", "R"]
    with pytest.raises(CallFailed, match="holds nothing"):
        table.complete(ask("weather"))
    assert FakeLM({"": "any"}).complete(ask("weather")).text == "any"
    assert FakeLM(lambda r: r.messages[0]["content"].upper()).complete(ask("echo")).text == "ECHO"
    table.close()
    assert table.closed == 1
    assert FakeLM("x", name="a").digest != FakeLM("x", name="b").digest
