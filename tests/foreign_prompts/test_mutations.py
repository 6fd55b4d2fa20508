"""Files of every format with parts torn out or swapped: a prompt or one sentence, never a crash."""

import copy
import json
import os
import random
import warnings

import pytest
import yaml
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate

from steelyard.core.errors import SteelyardError
from steelyard.prompts.foreign import FORMATS

ROUNDS = 4000 if os.environ.get("STEELYARD_FULL") else 200
JUNK = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "x",
        "{",
        "{{",
        "{a.b}",
        "{{ a.b }}",
        "{% x %}",
        "{% if a %}",
        "\ud800",
        "a" * 3000,
    ),
    *([], {}, [None], [[]], {"a": 1}, {"lc": 1}, 10**30, ["a"], {"type": "text"}, {"role": "user"}, "tool"),
    *({"__lc_escaped__": 1}, {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}),
]


def seeds():
    from langchain_core.prompts.structured import StructuredPrompt
    from langchain_openai import ChatOpenAI

    parts = [
        {"type": "text", "text": "hi {q}"},
        {"type": "image_url", "image_url": {"url": "{u}"}},
        {"type": "a", "b": {"c": "{d}"}},
    ]
    call = AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}])
    messages = [
        SystemMessage("x"),
        call,
        ToolMessage("1", tool_call_id="1"),
        ("human", parts),
        ("placeholder", "{h}"),
    ]
    chat = ChatPromptTemplate(messages, partial_variables={"d": "D"})
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [
            chat,
            chat | ChatOpenAI(model="m", api_key="k", temperature=0.1).bind_tools([tool]),
            StructuredPrompt([("human", "{q}")], schema_={"title": "a", "type": "object"}),
            ChatPromptTemplate([("human", "{% for x in xs %}{{x}}{% endfor %}")], template_format="jinja2"),
            ChatPromptTemplate([("human", "{{a}} {{{b}}}")], template_format="mustache"),
        ]
        manifests = [json.loads(json.dumps(dumpd(m))) for m in made]
    yield from (("langchain", m) for m in manifests)
    yield from (
        ("langsmith", {"manifest": m, "commit_hash": "x", "owner": "-", "examples": []}) for m in manifests
    )
    template = [{"role": "user", "content": "{{ a }} {% if b %}x{% endif %}"}]
    config = {"model_name": "m", "temperature": 1, "stop_sequences": ["a"]}
    yield "mlflow", {"template": template, "response_format": {"type": "object"}, "model_config": config}
    row = {"input": "a", "expected": "b"}
    github = {
        "messages": [{"role": "user", "content": "{{input}}"}],
        "modelParameters": {"topP": 1},
        "testData": [row],
    }
    yield (
        "github",
        github | {"evaluators": [{"name": "x", "string": {"contains": "a"}}], "responseFormat": "text"},
    )
    yield (
        "promptfoo",
        yaml.safe_load(
            "{prompts: ['{{ a }}'], defaultTest: {vars: {a: [1, 2]}, assert: [{type: latency}]}, "
            "tests: [{vars: {a: x}, assert: [{type: equals, value: y}]}], providers: [x]}"
        ),
    )


def paths(value, path=()):
    yield path
    members = value.items() if isinstance(value, dict) else ()
    members = enumerate(value) if isinstance(value, list) else members
    for key, member in members:
        yield from paths(member, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new == "tear out":
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


@pytest.mark.parametrize("seed", range(3))
def test_torn_files(seed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    random_ = random.Random(seed)
    known = list(seeds())
    read, refused = 0, []
    for _ in range(ROUNDS):
        name, value = random_.choice(known)
        for _ in range(random_.choice([1, 1, 1, 2, 3])):
            value = changed(value, random_.choice(list(paths(value))), random_.choice([*JUNK, "tear out"]))
        try:
            found = FORMATS.get(name).read(json.dumps(value), "x")
        except SteelyardError as error:
            refused.append(str(error))
            continue
        for imported in found:
            read += 1
            assert "sk-canary" not in json.dumps(imported.prompt.content())
            for other in FORMATS:
                try:
                    text = FORMATS.get(other).write(imported.prompt).text
                except SteelyardError:
                    continue
                assert "sk-canary" not in text
    assert read > ROUNDS // 10  # not everything is refused
    assert refused
    assert not any("sk-canary" in sentence for sentence in refused)
