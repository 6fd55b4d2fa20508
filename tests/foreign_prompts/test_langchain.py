"""Round trips with the real langchain-core: what LangChain renders, Steelyard renders, and the other way."""

import json
import os

import pytest
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.prompts.dict import DictPromptTemplate
from langchain_core.prompts.image import ImagePromptTemplate

from steelyard.core.errors import InvalidValue, SteelyardError
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.foreign import FORMATS
from steelyard.prompts.foreign.langchain import from_langchain

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

LANGCHAIN = FORMATS.get("langchain")

ODD = "<b> & \"q\" 'x' {curly} {{double}} {% if %} \\ \n\ttab é 漢 🎉"

TEMPLATES = {
    "braces": (PromptTemplate.from_template("a {b} {{c}} {{{b}}} }}{{ {{{{b}}}}"), {"b": ODD}),
    "roles and parts": (
        ChatPromptTemplate(
            [
                ("system", "You {{x}} {{{{ {name}"),
                (
                    "human",
                    [
                        {"type": "text", "text": "hi {q}"},
                        {"type": "image_url", "image_url": {"url": "https://x/{u}", "detail": "low"}},
                        {"type": "input_audio", "input_audio": {"data": "{d}", "format": "wav"}},
                    ],
                ),
                ("ai", "ok {{}}"),
            ]
        ),
        {"name": ODD, "q": "Q", "u": "1.png", "d": "zz"},
    ),
    "fixed messages": (
        ChatPromptTemplate(
            [
                SystemMessage("fixed {a} {{b}}"),
                AIMessage("", tool_calls=[{"name": "f", "args": {"a": "{x} {{y}}"}, "id": "1"}]),
                ToolMessage("42 {z}", tool_call_id="1"),
                ("human", "{q}"),
            ]
        ),
        {"q": ODD},
    ),
    "partial": (
        ChatPromptTemplate([("human", "{a} {b} {c}")], partial_variables={"b": "B", "c": 3}),
        {"a": ODD},
    ),
    "jinja blocks": (
        ChatPromptTemplate(
            [
                (
                    "system",
                    "You {% if a %}\n  yes {{ b }}\n{% endif %}\n  {% for x in xs -%}\n- {{ x }}\n"
                    "{% endfor %}\n{# note #}\n{% raw %}{{ not }}{% endraw %}\nend\n\n",
                )
            ],
            template_format="jinja2",
        ),
        {"a": True, "b": ODD, "xs": ["1", "<2>"]},
    ),
    "jinja names": (
        ChatPromptTemplate([("system", "You {{ b }} {{ '{{' }}{# c #} {b}\n\n")], template_format="jinja2"),
        {"b": ODD},
    ),
    "mustache": (
        ChatPromptTemplate(
            [("system", "You {{{b}}} {{&c}} {d} \n{{{ b }}} {{b}}")], template_format="mustache"
        ),
        {"b": "plain", "c": "<x>"},
    ),
    "mixed languages": (
        ChatPromptTemplate(
            [
                SystemMessage("fixed {% x %} {{ y }} {# z #}"),
                ("human", "f {a} {{% raw %}}"),
                *ChatPromptTemplate([("human", "{% if c %}C{% endif %}")], template_format="jinja2").messages,
            ]
        ),
        {"a": ODD, "c": True},
    ),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_rendered_alike_in_both_directions(case):
    template, values = TEMPLATES[case]
    theirs = template.invoke(values).to_messages()
    prompt = from_langchain(template, "x").prompt
    assert prompt.render(**values).to_langchain() == theirs
    back = prompt.to_langchain()
    assert isinstance(back, ChatPromptTemplate)
    assert back.invoke(values).to_messages() == theirs
    # As text: LangChain's own reader reads what we write, and we read what its writer writes.
    written = json.loads(LANGCHAIN.write(prompt).text)
    assert load(written, allowed_objects="core", init_validator=None).invoke(values).to_messages() == theirs
    for text in (json.dumps(written), json.dumps(dumpd(template))):
        assert (
            LANGCHAIN.read(text, "x")[0].prompt.render(**values).messages == prompt.render(**values).messages
        )


def test_mustache_escapes_html_and_we_say_so():
    template = ChatPromptTemplate([("human", "{{b}}")], template_format="mustache")
    assert template.invoke({"b": "<"}).to_messages()[0].content == "&lt;"
    imported = from_langchain(template, "x")
    assert imported.prompt.render(b="<").messages[0]["content"] == "<"
    assert any("HTML" in s and "'b'" in s for s in imported.left)


def test_ours_with_everything_reaches_langchain():
    prompt = Prompt(
        name="team/x",
        messages=(
            {"role": "developer", "content": "Be {{ tone }}. {literal} {{ '{{' }}"},
            {"role": "user", "content": [{"type": "text", "text": "{{ n }}: {{ q }}"}]},
        ),
        variables={"tone": Variable(default="kind"), "n": Variable(type="int"), "q": Variable()},
        model="gpt-x",
        parameters={"temperature": 0.0, "max_tokens": 5},
        tools=({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},),
        response_format={"type": "json_object"},
    )
    request = prompt.render(n=3, q=ODD)
    template = prompt.to_langchain()
    assert template.invoke({"n": 3, "q": ODD}).to_messages() == request.to_langchain()
    assert (
        template.invoke({"n": 3, "q": ODD, "tone": "curt"}).to_messages()[0].content
        == "Be curt. {literal} {{"
    )
    assert template.metadata == {"steelyard_prompt": str(prompt)}
    assert (
        prompt.langchain_options()
        == request.options()
        == {k: v for k, v in request.to_openai().items() if k != "messages"}
    )
    # developer stays developer: LangChain's OpenAI model sends that role on
    from langchain_core.messages import convert_to_openai_messages

    assert convert_to_openai_messages(request.to_langchain())[1]["role"] == "user"
    assert request.to_langchain()[0].additional_kwargs == {"__openai_role__": "developer"}


def test_options_reach_the_model_that_langchain_calls():
    pytest.importorskip("langchain_openai")
    from langchain_openai import ChatOpenAI

    tool = {
        "type": "function",
        "function": {"name": "f", "description": "{x} {{ '{{' }}y}}", "parameters": {}},
    }
    prompt = Prompt(
        name="x",
        messages=({"role": "user", "content": "{{ q }}"},),
        variables={"q": Variable()},
        model="gpt-x",
        parameters={"temperature": 0.5},
        tools=(tool,),
    )
    bound = ChatOpenAI(model="gpt-x", api_key="k").bind(**prompt.langchain_options())
    payload = bound.bound._get_request_payload(prompt.render(q="Q").to_langchain(), **bound.kwargs)
    assert payload["temperature"] == 0.5
    assert payload["tools"][0]["function"]["description"] == "{x} {{y}}"
    # and as a sequence in LangSmith's form, back through real LangChain objects
    chain = load(
        json.loads(FORMATS.get("langsmith").write(prompt).text),
        secrets_map={"OPENAI_API_KEY": "k"},
        allowed_objects="all",
    )
    assert from_langchain(chain, "x").prompt.digest == prompt.digest


# -- attacks ------------------------------------------------------------------------------------------
class Holder:
    api_key = "sk-canary-5f3a"

    def __format__(self, spec):
        raise AssertionError("a template was run")


FIELDS = (
    "{o.api_key}",
    "{o.__class__.__init__.__globals__}",
    "{0}",
    "{}",
    "{o[0]}",
    "{name:{o.api_key}}",
    "{name!r:>{w}}",
    "{name:>10}",
    "{name!r}",
)


def _everywhere(field):
    """The field in every place of a manifest that holds a template."""
    text = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "prompts", "prompt", "PromptTemplate"],
        "kwargs": {"template": field},
    }
    image = {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "image", "ImagePromptTemplate"]}
    other = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain_core", "prompts", "dict", "DictPromptTemplate"],
    }
    yield "prompt", text
    for role in ("System", "Human", "AI"):
        yield role, _chat(_message(f"{role}MessagePromptTemplate", {"prompt": text}))
    yield "role", _chat(_message("ChatMessagePromptTemplate", {"prompt": text, "role": "user"}))
    yield "text part", _chat(_message("HumanMessagePromptTemplate", {"prompt": [text]}))
    for key in ("url", "detail"):
        part = {**image, "kwargs": {"template": {"url": "x", key: field}}}
        yield key, _chat(_message("HumanMessagePromptTemplate", {"prompt": [part]}))
    nested = {**other, "kwargs": {"template": {"type": "x", "deep": [{"er": field}]}}}
    yield "nested", _chat(_message("HumanMessagePromptTemplate", {"prompt": [nested]}))


def _message(kind, kwargs):
    return {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "chat", kind], "kwargs": kwargs}


def _chat(*messages):
    kwargs = {"messages": list(messages), "input_variables": ["o", "name"]}
    return _message("ChatPromptTemplate", kwargs)


@pytest.mark.parametrize("field", FIELDS)
def test_fields_that_reach_into_objects_are_refused_at_import(field, monkeypatch):
    """CVE-2025-65106 (attributes, positions) and CVE-2026-40087 (nested format), in every part."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-5f3a")
    places = list(_everywhere(field))
    assert len(places) == 9
    for where, manifest in places:
        for name in ("langchain", "langsmith"):
            text = json.dumps(manifest if name == "langchain" else {"manifest": manifest, "owner": "-"})
            with pytest.raises(InvalidValue) as caught:
                FORMATS.get(name).read(text, "x")
            assert "sk-canary" not in str(caught.value), where
            assert "api_key}" not in str(caught.value).replace("'o.api_key'", ""), where
    with pytest.raises(InvalidValue):
        FORMATS.get("f-string").read(field, "x")


@pytest.mark.parametrize(
    "tag", ["{{ o.api_key }}", "{{ o['k'] }}", "{{ 0 }}", "{{ name:{o.api_key} }}", "{{ o.__class__ }}"]
)
def test_our_own_templates_refuse_them_too_in_messages_and_tool_schemas(tag):
    places = {
        "messages": ({"role": "user", "content": [{"type": "text", "text": tag}]},),
        "tools": ({"type": "function", "function": {"name": "f", "parameters": {"description": tag}}},),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": tag}}},
    }
    for key, value in places.items():
        given = {"messages": ({"role": "user", "content": "hi"},), "variables": {}, key: value}
        with pytest.raises(InvalidValue) as caught:
            Prompt(name="x", **given)
        assert "sk-canary" not in str(caught.value)


def test_a_secret_in_a_manifest_is_data_or_refused_and_never_read(monkeypatch):
    """CVE-2025-68664: the mark of a secret is not resolved."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-5f3a")
    secret = {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
    with pytest.raises(InvalidValue, match="secret"):
        LANGCHAIN.read(json.dumps(secret), "x")
    with pytest.raises(SteelyardError) as caught:
        LANGCHAIN.read(json.dumps(_message("ChatPromptTemplate", {"messages": [secret]})), "x")
    assert "canary" not in str(caught.value)
    with pytest.raises(InvalidValue):
        LANGCHAIN.read(
            json.dumps(_message("ChatPromptTemplate", {"messages": [], "partial_variables": {"a": secret}})),
            "x",
        )
    # In a tool's schema it is data, and stays data through both forms.
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": secret}}}
    prompt = Prompt(name="x", messages=({"role": "user", "content": "hi"},), tools=(tool,))
    text = FORMATS.get("langsmith").write(prompt).text
    assert "canary" not in text
    again = FORMATS.get("langsmith").read(text, "x")[0].prompt
    assert again.digest == prompt.digest
    assert again.tools[0] == tool
    assert os.environ["OPENAI_API_KEY"] not in str(again.render().to_openai())


def test_a_pulled_prompt_is_text_and_schemas_only(monkeypatch):
    """CVE-2026-45134: nothing that a manifest names is looked up, and where to reach a model stays behind."""
    import importlib

    monkeypatch.setattr(
        importlib, "import_module", lambda *a, **k: pytest.fail("a manifest imported something")
    )
    langsmith = FORMATS.get("langsmith")
    model = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
        "kwargs": {
            "model_name": "gpt-x",
            "temperature": 0.1,
            "openai_api_base": "http://evil.example",
            "default_headers": {"x": "y"},
            "openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]},
        },
    }
    text = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "prompts", "prompt", "PromptTemplate"],
        "kwargs": {"template": "hi"},
    }
    sequence = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "runnable", "RunnableSequence"]}
    imported = langsmith.read(json.dumps({**sequence, "kwargs": {"first": text, "last": model}}), "x")[0]
    assert "evil" not in str(imported.prompt.content())
    assert (imported.prompt.model, imported.prompt.parameters) == ("gpt-x", {"temperature": 0.1})
    assert any("openai_api_base" in s for s in imported.left)
    evil = [
        {**text, "id": ["os", "system"]},
        {**text, "id": ["langchain", "llms", "Anything"]},
        {**text, "type": "not_implemented"},
        {**text, "lc": 2},
        {**text, "surprise": 1},
        {**text, "kwargs": {"template": "hi", "surprise": 1}},
        {**text, "kwargs": {"template": "hi", "output_parser": {"lc": 1}}},
        {**sequence, "kwargs": {"first": text, "last": {**model, "kwargs": {"surprise": 1}}}},
        _chat(_message("MessagesPlaceholder", {"variable_name": "history"})),
        _chat(
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "schema", "messages", "SystemMessage"],
                "kwargs": {"content": "x", "surprise": 1},
            }
        ),
        {"manifest": text, "surprise": 1},
    ]
    for manifest in evil:
        with pytest.raises(InvalidValue):
            langsmith.read(json.dumps(manifest), "x")
    for broken in (
        "",
        "[]",
        "{",
        '{"lc": 1, "lc": 1}',
        '{"lc": 1, "id": []}',
        "[" * 5000,
        '{"lc": NaN, "id": [1]}',
    ):
        with pytest.raises(SteelyardError):
            langsmith.read(broken, "x")


def test_what_langchain_cannot_express_is_refused_by_name():
    def refused(what, **given):
        prompt = Prompt(
            **{
                "name": "x",
                "messages": ({"role": "user", "content": "{{ a }}"},),
                "variables": {"a": Variable()},
            }
            | given
        )
        with pytest.raises(InvalidValue, match=what):
            prompt.to_langchain()

    refused("'a'.*list", variables={"a": Variable(type="list")})
    refused("message 1", messages=({"role": "tool", "tool_call_id": "1", "content": "{{ a }}"},))
    refused("message 1", messages=({"role": "user", "name": "n", "content": "{{ a }}"},))
    refused(
        "'url'",
        messages=({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "{{ url }}"}}]},),
        variables={"url": Variable()},
    )
    tools = ({"type": "function", "function": {"name": "f", "description": "{{ a }}", "parameters": {}}},)
    prompt = Prompt(
        name="x", messages=({"role": "user", "content": "hi"},), tools=tools, variables={"a": Variable()}
    )
    with pytest.raises(InvalidValue, match="tools"):
        prompt.langchain_options()
    assert prompt.render(a="A").options()["tools"][0]["function"]["description"] == "A"
    jinja = Prompt(
        name="x",
        syntax="jinja",
        messages=({"role": "user", "content": "{% for x in a %}{{ x }}{% endfor %}"},),
        variables={"a": Variable(type="list")},
    )
    with pytest.raises(InvalidValue, match="Jinja"):
        FORMATS.get("f-string").write(jinja)


def test_templates_that_are_no_data_are_refused():
    with pytest.raises(InvalidValue):
        from_langchain(PromptTemplate.from_template("{a}", partial_variables={"a": lambda: "x"}), "x")
    with pytest.raises(InvalidValue, match="list of messages"):
        from_langchain(ChatPromptTemplate([MessagesPlaceholder("h"), ("human", "{q}")]), "x")
    optional = from_langchain(ChatPromptTemplate([("placeholder", "{h}"), ("human", "{q}")]), "x")
    assert "'h'" in optional.left[0]
    with pytest.raises(InvalidValue, match="section"):
        from_langchain(ChatPromptTemplate([("human", "{{#a}}x{{/a}}")], template_format="mustache"), "x")
    with pytest.raises(InvalidValue, match="attribute"):
        from_langchain(
            ChatPromptTemplate([("human", "{% if a %}{{ a.b }}{% endif %}")], template_format="jinja2"), "x"
        )
    assert DictPromptTemplate
    assert ImagePromptTemplate


def test_structured_prompt():
    from langchain_core.prompts.structured import StructuredPrompt

    schema = {
        "title": "ans",
        "type": "object",
        "properties": {"z": {"type": "string"}, "a": {"type": "string"}},
    }
    template = StructuredPrompt([("human", "{q}")], schema_=schema, method="json_schema", strict=True)
    prompt = from_langchain(template, "x").prompt
    assert prompt.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "ans", "schema": schema, "strict": True},
    }
    assert list(prompt.response_format["json_schema"]["schema"]["properties"]) == ["z", "a"]
