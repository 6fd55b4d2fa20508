"""Judges of other packages: their model calls are recorded in the row's scope and replayed."""

import json
from dataclasses import replace

import pytest
from autoevals import Factuality, LLMClassifier
from httpx2 import Limits
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI
from openevals import create_async_llm_as_judge, create_llm_as_judge
from openevals.prompts import CORRECTNESS_PROMPT
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_evals.evaluators import LLMJudge

from steelyard import Dataset, Example, Gate, adapt, at_least, evaluator, judge
from steelyard.core.errors import ReplayMiss
from steelyard.evals.evaluators import resolve_evaluators
from steelyard.evals.gate import run_gate
from steelyard.lm import call_scope, replaying
from steelyard.testing.chat_server import Reply, calling, completion, failing
from steelyard.testing.evaluator_contract import scored

pytestmark = pytest.mark.server

DATA = Dataset(
    name="capitals",
    examples=tuple(
        Example(id=f"e{i}", inputs={"q": f"capital {i}?"}, reference_outputs=f"town {i}") for i in range(20)
    ),
)


def answer(inputs):
    return "town " + inputs["q"].split()[1].rstrip("?")


def of_autoevals(url):
    return Factuality(model="m", client=OpenAI(base_url=url, api_key="k", max_retries=0))


def async_client(url):
    # No connection is kept, so that none is open when the client is collected.
    kept = DefaultAsyncHttpxClient(limits=Limits(max_keepalive_connections=0))
    return AsyncOpenAI(base_url=url, api_key="k", max_retries=0, http_client=kept)


def of_autoevals_async(url):
    client = async_client(url)
    return LLMClassifier(
        "right", "Is {{output}} {{expected}}?", {"A": 0, "C": 1}, model="m", use_cot=False, client=client
    )


def of_openevals(url):
    model = ChatOpenAI(model="m", base_url=url, api_key="k", max_retries=0)
    return adapt(
        create_llm_as_judge(prompt=CORRECTNESS_PROMPT, judge=model), direction="higher", name="correct"
    )


def of_openevals_async(url):
    model = ChatOpenAI(model="m", base_url=url, api_key="k", max_retries=0)
    made = create_async_llm_as_judge(prompt=CORRECTNESS_PROMPT, judge=model)
    return adapt(made, direction="higher", name="correct")


def of_openevals_with_a_client(url):
    client = OpenAI(base_url=url, api_key="k", max_retries=0)
    made = create_llm_as_judge(prompt=CORRECTNESS_PROMPT, judge=client, model="m")
    return adapt(made, direction="higher", name="correct")


def of_pydantic_evals(url):
    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=async_client(url)))
    return LLMJudge(rubric="It names a town.", model=model, include_input=True)


def says(call):
    """The verdict in whatever form the judge asks for it."""
    asked = call.json
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if asked.get("tools"):
        function = asked["tools"][0]["function"]
        if function["name"] == "select_choice":
            return calling("select_choice", {"reasons": "r", "choice": "C"})
        wanted = function["parameters"]["properties"]
        known = {"reasoning": "r", "reason": "r", "score": True, "pass": True}
        if "pass" in wanted:
            known["score"] = 1.0
        return calling(function["name"], {k: known[k] for k in wanted})
    if schema:
        known = {
            "reasoning": "r",
            "reason": "r",
            "score": True,
            "pass": True,
            "label": "yes",
            "explanation": "r",
        }
        if "pass" in schema["properties"]:
            known["score"] = 1.0
        return Reply(body=completion(json.dumps({k: known[k] for k in schema["properties"]})))
    return "yes"


JUDGES = [
    of_autoevals,
    of_autoevals_async,
    of_openevals,
    of_openevals_async,
    of_openevals_with_a_client,
    of_pydantic_evals,
]


def spec(evaluator):
    (made,) = resolve_evaluators([evaluator])
    return Gate(
        task=answer,
        dataset=DATA,
        name="g",
        evaluators=[evaluator],
        require=[at_least(made.metrics[0].name, 0.5)],
        concurrency=4,
    )


@pytest.mark.parametrize("make", JUDGES)
def test_a_judge_is_recorded_and_replayed(server, workspace, no_sockets, make):
    server.say(says)
    live = run_gate(spec(make(server.base_url)), workspace())
    assert live.outcome == "pass", (live.verdict.sentence, live.candidate.rows[0].scores)
    assert len(server.calls) == len(DATA)
    assert all(r.usage.calls == 0 for r in live.candidate.rows), "a judge's calls are not the task's"
    assert {r.scores[0].explanation for r in live.candidate.rows} == {"r"}
    sent = len(server.calls)
    # A new judge at another address, a new run with a new event loop, and nothing recorded is missing.
    no_sockets()
    again = run_gate(spec(make("http://127.0.0.1:9/v1")), workspace("replay"))
    assert again.outcome == "pass", again.candidate.rows[0].scores
    assert {r.example_id: r.scores for r in again.candidate.rows} == {
        r.example_id: r.scores for r in live.candidate.rows
    }
    assert again.candidate.identity == live.candidate.identity
    assert len(server.calls) == sent


@pytest.mark.parametrize("make", JUDGES)
def test_a_judge_that_fails_is_an_error_with_its_kind(server, make):
    server.say(lambda call: failing(401))
    evaluators = resolve_evaluators([make(server.base_url)])
    row = {"inputs": {"q": "x"}, "outputs": "town", "reference_outputs": "town"}
    (score,) = scored(evaluators, row)
    assert score.value is None
    if make is of_pydantic_evals:  # its own error for it; the status is in the text
        assert "401" in score.error.message
    else:
        assert score.error.kind == "auth"


@pytest.mark.parametrize("make", JUDGES)
def test_a_judge_that_says_nothing_usable_is_an_error(server, make):
    server.say(lambda call: calling("other", {"x": 1}) if call.json.get("tools") else "no verdict")
    row = {"inputs": {"q": "x"}, "outputs": "town", "reference_outputs": "town"}
    (score,) = scored(resolve_evaluators([make(server.base_url)]), row)
    assert score.value is None
    assert score.error is not None


def test_replay_without_a_recording_is_an_error_and_opens_no_socket(server, tmp_path):
    evaluators = resolve_evaluators([of_autoevals(server.base_url)])
    row = {"inputs": {"q": "x"}, "outputs": "town", "reference_outputs": "town"}
    got = []
    with replaying(tmp_path, "replay"), pytest.raises(ReplayMiss), call_scope("a"):
        got += scored(evaluators, row)
    assert got[0].error.kind == "replay_miss"
    assert server.calls == []


def test_our_judges_take_chat_models_too(server, workspace):
    server.say(says)
    model = ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0)
    report = run_gate(spec(judge("steelyard/correct", lm=model)), workspace())
    assert report.outcome == "pass", report.candidate.rows[0].scores


def test_what_was_never_recorded_fails_its_row_and_not_the_run(server, workspace):
    def honest(inputs):
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": inputs["q"]}])

    def swallows(inputs):
        try:
            honest(inputs)
        except Exception:
            return "town"

    def swallowing(outputs):
        try:
            honest({"q": "x"})
        except Exception:
            return True

    client = OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    for task in (honest, swallows):
        report = run_gate(
            replace(spec(evaluator(version="1")(swallowing)), task=task, version="1"), workspace("replay")
        )
        assert report.outcome == "unmeasurable"
        assert {r.failure.kind for r in report.candidate.rows} == {"replay_miss"}
    for judged in (evaluator(version="1")(swallowing), of_autoevals(server.base_url)):
        report = run_gate(spec(judged), workspace("replay"))
        assert report.outcome == "unmeasurable"
        assert {r.scores[0].error.kind for r in report.candidate.rows} == {"replay_miss"}
    assert len(report.candidate.rows) == len(DATA)
    assert server.calls == []
    client.close()


def test_a_judge_has_a_model_of_its_own_by_name(server, workspace, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    server.say(says)
    named = judge("steelyard/correct", lm="openai:judge")
    assert (named.needs_lm, named.lm.name) == (False, "judge")
    report = run_gate(spec(named), workspace())
    assert report.outcome == "pass", report.candidate.rows[0].scores
    assert {c.json["model"] for c in server.calls} == {"judge"}
