"""LangChain over the real local model: live once, then from recordings with no process and no socket."""

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from steelyard import Dataset, Example, Gate, at_least, one_of
from steelyard.evals.gate import run_gate
from steelyard.lm import LocalLM
from steelyard.lm.langchain_lm import LangChainLM, chat_model

pytestmark = pytest.mark.server

INTENTS = ["billing", "refund", "other"]
SCHEMA = {
    "title": "answer",
    "type": "object",
    "properties": {"intent": {"type": "string", "enum": INTENTS}},
    "required": ["intent"],
    "additionalProperties": False,
}
MESSAGES = ["I was charged twice.", "I want my money back.", "Where are you?", "The invoice is wrong."]
DATA = Dataset(
    name="intents",
    examples=tuple(Example(id=f"e{i}", inputs={"message": m}) for i, m in enumerate(MESSAGES * 3)),
)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    lm = LocalLM("smollm2", n_ctx=1024, home=tmp_path_factory.mktemp("home"))
    yield lm
    lm.close()


def structured(model):
    prompt = ChatPromptTemplate.from_messages([("system", "Say the intent."), ("human", "{message}")])
    return prompt | model.with_structured_output(SCHEMA, method="json_schema")


def test_a_chain_over_the_local_model_replays_without_it(lm, workspace, no_sockets):
    def chain(lm):
        return structured(chat_model(lm, temperature=0, seed=7, max_tokens=32))

    spec = Gate(
        task=chain,
        dataset=DATA,
        name="g",
        lm=lm,
        evaluators=[one_of(INTENTS, "intent")],
        require=[at_least("one_of", 0.6)],
        version="1",
    )
    live = run_gate(spec, workspace())
    assert live.outcome == "pass", (live.verdict.sentence, live.candidate.rows[0])
    assert sum(r.usage.calls for r in live.candidate.rows) == len(DATA)
    assert live.candidate.rows[0].usage.cost_usd == 0.0, "a local model is free"
    lm.close()
    no_sockets()
    again = run_gate(spec, workspace("replay"))
    assert again.verdict.to_bytes() == live.verdict.to_bytes()
    assert lm.server_pid is None


def test_streaming_tools_and_usage_through_langchain(lm, tmp_path, no_sockets):
    from steelyard.core.chat import ChatRequest
    from steelyard.lm import call_scope, replaying

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def everything():
        model = chat_model(lm)
        said = model.invoke("Name a colour.", temperature=0, max_tokens=6)
        parts = [c.text for c in model.stream("Name a colour.", temperature=0, max_tokens=6)]
        called = model.bind_tools([add]).invoke("What is 2 plus 3?", temperature=0, max_tokens=40)
        request = ChatRequest(
            messages=({"role": "user", "content": "Name a colour."},),
            parameters={"temperature": 0, "max_tokens": 6},
        )
        done = LangChainLM(model).complete(request)
        return said.content, "".join(parts), (called.content, called.tool_calls), done.text

    with replaying(tmp_path) as session, call_scope("a") as live:
        first = everything()
    assert session.counts.recorded == 4
    assert first[0] == first[1] == first[3]
    assert live.usage.input_tokens > 20
    lm.close()
    no_sockets()
    with replaying(tmp_path, "replay"), call_scope("b") as again:
        assert everything() == first
    assert again.usage.replayed == 4
    assert lm.server_pid is None
