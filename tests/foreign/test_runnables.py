"""Chains, graphs and agents as tasks: through the whole gate, live and then from recordings alone."""

import asyncio
import functools
import json
import os
import subprocess
import sys
from typing import TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from steelyard import Dataset, Example, Gate, at_least, exact_match
from steelyard.core.errors import InvalidValue
from steelyard.core.objects import described_object
from steelyard.evals.gate import run_gate
from steelyard.evals.runnable import as_json
from steelyard.evals.task import Task
from steelyard.lm.langchain_lm import chat_model
from steelyard.testing.chat_server import Reply, calling, completion, failing

pytestmark = pytest.mark.server

PROMPT = """\
template: "Which intent? {{ message }}"
variables:
  message: {type: str, description: what the customer wrote}
"""
DATA = Dataset(
    name="intents",
    examples=tuple(
        Example(id=f"e{i}", inputs={"message": f"message {i}"}, reference_outputs={"intent": "billing"})
        for i in range(40)
    ),
)


class Intent(BaseModel):
    intent: str


def echo(call):
    """The server's answer: an intent, as text or in the form that is asked for."""
    return Reply(body=completion('{"intent": "billing"}'), delay_s=0.01)


def llm(server, **more):
    return ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0, temperature=0, **more)


def asked():
    return ChatPromptTemplate.from_messages([("system", "Say an intent."), ("human", "{message}")])


def gate(task, **more):
    base = {"dataset": DATA, "name": "g", "concurrency": 8, "evaluators": [exact_match("intent")]}
    return Gate(task=task, require=[at_least("exact_match", 0.5)], **(base | more))


def lcel(server):
    return asked() | llm(server) | JsonOutputParser()


def structured(server):
    return asked() | llm(server).with_structured_output(Intent, method="json_schema")


def threaded(server):
    # RunnableParallel runs its branches in threads of langchain_core's own.
    both = RunnableParallel(a=asked() | llm(server), b=asked() | llm(server) | StrOutputParser())
    return both | (lambda found: json.loads(found["a"].content) | {"b": found["b"]})


def streamed(server):
    chain = asked() | llm(server, stream_usage=True)

    def collect(inputs):
        return json.loads("".join(c.text for c in chain.stream(inputs)))

    return RunnableLambda(collect)


class State(TypedDict):
    message: str
    intent: str


def graph(server):
    model = llm(server)

    def classify(state):
        return {"intent": json.loads(model.invoke(state["message"]).content)["intent"]}

    drawn = StateGraph(State)
    drawn.add_node("classify", classify)
    drawn.add_edge(START, "classify")
    drawn.add_edge("classify", END)
    return drawn.compile()


@pytest.mark.parametrize("make", [lcel, structured, threaded, streamed, graph])
@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_a_chain_is_a_task_live_and_replayed(server, workspace, no_sockets, make, how):
    server.say(echo)
    if make is streamed:
        server.say('{"intent": "billing"}')
    calls = {threaded: 2}.get(make, 1) * len(DATA)
    chain = make(server)
    task = chain if how == "invoke" else chain.ainvoke
    live = run_gate(gate(task), workspace())
    assert live.outcome == "pass", live.verdict.sentence
    assert len(server.calls) == calls
    usage = [r.usage for r in live.candidate.rows]
    assert sum(u.calls for u in usage) == calls
    assert sum(u.input_tokens for u in usage) == 7 * calls
    no_sockets()
    again = run_gate(gate(task), workspace("replay"))
    assert again.outcome == "pass", [r.failure for r in again.candidate.rows if r.failure][:1]
    outputs = {r.example_id: r.outputs for r in live.candidate.rows}
    assert {r.example_id: r.outputs for r in again.candidate.rows} == outputs
    assert sum(r.usage.replayed for r in again.candidate.rows) == calls
    assert len(server.calls) == calls
    assert again.candidate.identity == live.candidate.identity


@tool
def look_up(order: str) -> str:
    """Where an order is."""
    return f"{order} is on its way"


def test_an_agent_is_a_task_and_its_trajectory_is_its_output(server, workspace, no_sockets):
    def answer(call):
        last = call.json["messages"][-1]
        if last["role"] == "tool":
            return f"Good news: {last['content']}."
        return calling("look_up", {"order": last["content"].split()[-1]})

    server.say(answer)
    examples = tuple(
        Example(id=str(i), inputs={"messages": [{"role": "user", "content": f"where is {i}"}]})
        for i in range(20)
    )

    def said(outputs):
        return outputs["messages"][-1]["content"].endswith("is on its way.")

    from steelyard import evaluator

    agent = create_agent(llm(server), [look_up], system_prompt="Help.")
    spec = gate(
        agent,
        dataset=Dataset(name="orders", examples=examples),
        evaluators=[evaluator(said)],
    )
    spec = Gate(
        **{**{f: getattr(spec, f) for f in spec.__dataclass_fields__}, "require": [at_least("said", 0.6)]}
    )
    before = Task.of(agent).digest
    live = run_gate(spec, workspace())
    assert live.outcome == "pass"
    assert Task.of(agent).digest == before, "having run changes nothing"
    messages = live.candidate.rows[0].outputs["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["tool_calls"][0]["function"]["name"] == "look_up"
    assert len(server.calls) == 40
    no_sockets()
    assert run_gate(spec, workspace("replay")).outcome == "pass"


def test_a_factory_gets_prompt_and_model_and_is_built_once(server, project, workspace):
    (project / "prompts" / "intent.yaml").write_text(PROMPT)
    server.say(echo)
    built = []

    def chain(prompt, lm):
        built.append(1)
        render = RunnableLambda(lambda inputs: list(prompt.render(**inputs).messages))
        return render | chat_model(lm) | JsonOutputParser()

    spec = gate(chain, prompt="intent", lm=llm(server), version="1")
    report = run_gate(spec, workspace())
    assert report.outcome == "pass", report.verdict.sentence
    assert report.candidate.identity.lm_name == "m"
    assert report.candidate.identity.subject is not None
    assert built == [1]
    assert server.calls[0].json["messages"][0]["content"].startswith("Which intent? message")
    wrong = run_gate(gate(lambda prompt: 3, prompt="intent"), workspace())
    assert wrong.outcome == "unmeasurable"
    assert "not a chain" in wrong.candidate.rows[0].failure.message


def test_a_prompt_of_the_registry_becomes_a_chain(server, project, workspace):
    (project / "prompts" / "intent.yaml").write_text(PROMPT)
    server.say(echo)

    def chain(prompt, lm):
        return prompt.to_langchain() | chat_model(lm, max_tokens=32) | JsonOutputParser()

    report = run_gate(gate(chain, prompt="intent", lm=llm(server)), workspace())
    assert report.outcome == "pass", report.verdict.sentence
    asked = server.calls[0].json
    assert asked["messages"][-1]["content"].startswith("Which intent? message")
    assert asked.get("max_tokens", asked.get("max_completion_tokens")) == 32


def test_a_chat_model_given_by_name_answers_tasks(server, workspace, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    server.say(echo)

    def task(inputs, lm):
        from steelyard.core.chat import ChatRequest

        return lm.complete(ChatRequest(messages=({"role": "user", "content": inputs["message"]},))).json()

    report = run_gate(gate(task, lm="langchain:openai:m"), workspace())
    assert report.outcome == "pass"
    assert report.candidate.identity.lm_name == "m"


def test_an_answer_that_no_parser_can_read_is_invalid_output_and_no_error(server, workspace):
    server.say("billing, I think")
    report = run_gate(gate(lcel(server)), workspace())
    assert report.outcome == "fail"
    row = report.candidate.rows[0]
    assert row.failure is None
    assert row.outputs == "billing, I think"
    assert row.score("exact_match").label == "invalid_output"


def test_failed_calls_in_a_chain_keep_their_kind(server, workspace):
    server.say(lambda call: failing(400))
    report = run_gate(gate(lcel(server)), workspace())
    assert report.outcome == "unmeasurable"
    assert {r.failure.kind for r in report.candidate.rows} == {"bad_request"}


def test_outputs_become_json():
    said = AIMessage("hello", id="run-1", usage_metadata=None)
    called = AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "t"}])
    assert as_json(said) == "hello"
    assert as_json(called)["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert as_json({"messages": [HumanMessage("q"), said]}) == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "hello"}]
    }
    assert as_json([Document("text", metadata={"page": 1})]) == [
        {"page_content": "text", "metadata": {"page": 1}}
    ]
    assert as_json(asked().invoke({"message": "m"})) == [
        {"role": "system", "content": "Say an intent."},
        {"role": "user", "content": "m"},
    ]
    assert as_json({"x": Intent(intent="a")}) == {"x": Intent(intent="a")}


# -- identity --------------------------------------------------------------------------------------


def upper(inputs):
    return {"message": inputs["message"].upper()}


def lower(inputs):
    return {"message": inputs["message"].lower()}


@tool
def other_look_up(order: str) -> str:
    """Where an order is."""
    return f"{order} is lost"


def chains(temperature=0.0, pre=upper, system="Say an intent.", tools=(look_up,), schema=Intent, key="k"):
    model = ChatOpenAI(model="m", temperature=temperature, api_key=key, base_url=f"http://{key}/v1")
    prompt = ChatPromptTemplate.from_messages([("system", system), ("human", "{message}")])

    def node(state):
        return {"intent": model.invoke(state["message"]).content}

    drawn = StateGraph(State)
    drawn.add_node("n", node)
    drawn.add_edge(START, "n")
    return {
        "lcel": RunnableLambda(pre) | prompt | model | StrOutputParser(),
        "structured": prompt | model.with_structured_output(schema),
        "tools": prompt | model.bind_tools(list(tools)),
        "retry": (prompt | model).with_retry().with_config(tags=[key], metadata={"k": key}),
        "graph": drawn.compile(checkpointer=InMemorySaver()),
        "agent": create_agent(model, list(tools), system_prompt=system),
        "method": (prompt | model).ainvoke,
    }


def digests(**more):
    return {name: Task.of(chain).digest for name, chain in chains(**more).items()}


class Stricter(BaseModel):
    intent: str
    reason: str


def test_identity_is_the_same_in_another_process_with_another_key_and_host():
    here = digests()
    assert digests(key="other") == here
    code = (
        "import importlib.util, json, sys\n"
        f"spec = importlib.util.spec_from_file_location('there', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['there'] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps(module.digests()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == here


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({"temperature": 0.5}, {"lcel", "structured", "tools", "retry", "graph", "agent", "method"}),
        ({"pre": lower}, {"lcel"}),
        ({"system": "Say another."}, {"lcel", "structured", "tools", "retry", "agent", "method"}),
        ({"schema": Stricter}, {"structured"}),
        ({"tools": (look_up, other_look_up)}, {"tools", "agent"}),
    ],
)
def test_identity_moves_with_what_decides_the_answer(change, moves):
    before, after = digests(), digests(**change)
    assert {k for k in before if before[k] != after[k]} == moves


def test_the_code_of_a_tool_counts():
    one = described_object(look_up)
    assert "is on its way" in json.dumps(one)
    assert described_object(other_look_up) != one


def test_what_has_no_identity_needs_a_version():
    from threading import Lock

    class Opaque:
        __slots__ = ("_c",)

        def __init__(self):
            self._c = memoryview(b"x")

        def __call__(self, inputs):
            return inputs

    chain = RunnableLambda(Opaque().__call__)
    with pytest.raises(InvalidValue, match="version="):
        Task.of(chain)
    assert Task.of(chain, version="1").digest != Task.of(chain, version="2").digest
    with pytest.raises(InvalidValue, match="version="):
        Task.of(functools.partial(lambda lock, inputs: inputs, Lock()))


class Classifier:
    """A callable object: its settings are its identity."""

    def __init__(self, word, api_key="k"):
        self.word, self.api_key = word, api_key

    def __call__(self, inputs):
        return {"intent": self.word}

    async def later(self, inputs):
        await asyncio.sleep(0)
        return {"intent": self.word}


def test_callable_objects_methods_and_partials_are_tasks(workspace):
    assert Task.of(Classifier("a")).digest == Task.of(Classifier("a", api_key="x")).digest
    assert Task.of(Classifier("a")).digest != Task.of(Classifier("b")).digest
    assert Task.of(Classifier("a").later).digest != Task.of(Classifier("b").later).digest
    assert Task.of(Classifier("a").later).is_async
    assert Task.of(functools.partial(Classifier.later, Classifier("a"))).is_async

    def worded(word, inputs):
        return {"intent": word}

    for task in (Classifier("billing"), Classifier("billing").later, functools.partial(worded, "billing")):
        assert run_gate(gate(task), workspace()).outcome == "pass"
    with pytest.raises(InvalidValue, match="no task"):
        Task.of(3)
    with pytest.raises(InvalidValue, match="'text'"):
        Task.of(lambda text: text)
