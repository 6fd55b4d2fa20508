"""The prompt as a value: identity, rendering, attacks on templates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.errors import Corrupt, InvalidValue
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.template import parse, to_text

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LITERAL = TEXT.filter(lambda t: "{{" not in t)
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def one(content: Any, variables: dict[str, Variable] | None = None, **more: Any) -> Prompt:
    return Prompt(
        name="p", messages=({"role": "user", "content": content},), variables=variables or {}, **more
    )


# -- identity ---------------------------------------------------------------------------------------
def test_identity_is_what_changes_the_answer_and_nothing_else() -> None:
    base = one("Hi {{ x }}", {"x": Variable(description="a")}, description="d")
    assert base.digest == one("Hi {{ x }}", {"x": Variable(description="b")}, description="e").digest
    assert base.digest == Prompt(name="other/name", messages=base.messages, variables=base.variables).digest
    others = [
        one("Hi  {{ x }}", {"x": Variable()}),
        one("Hi {{ x }}", {"x": Variable(type="int")}),
        one("Hi {{ x }}", {"x": Variable(default="d")}),
        one("Hi {{ x }}", {"x": Variable()}, model="m"),
        one("Hi {{ x }}", {"x": Variable()}, parameters={"temperature": 0}),
        one("Hi {{ x }}", {"x": Variable()}, tools=({"type": "function", "function": {"name": "f"}},)),
        one("Hi {{ x }}", {"x": Variable()}, response_format={"type": "json_object"}),
        one("Hi {{ x }}", {"x": Variable()}, syntax="jinja"),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == len(others) + 1


def test_a_default_of_none_is_a_default() -> None:
    with pytest.raises(InvalidValue, match="the default of variable 'x' is no str"):
        one("{{ x }}", {"x": Variable(default=None)})


def test_content_round_trips_and_is_verified() -> None:
    prompt = one("{{ x }}", {"x": Variable(type="list", default=[1])}, parameters={"stop": ["a"]})
    stored = json.loads(json.dumps(prompt.content()))
    assert Prompt.from_content("p", stored, expect=prompt.digest).content() == prompt.content()
    stored["messages"][0]["content"] = "{{ x }}!"
    with pytest.raises(Corrupt, match="its content is not sha256:"):
        Prompt.from_content("p", stored, expect=prompt.digest)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"lc": 1},
        {"messages": "x"},
        {"messages": [{"role": "user", "content": "{{ o.api_key }}"}]},
        {"variables": {"x": "str"}},
        {"variables": None},
        {"messages": [{"role": "root", "content": "x"}]},
    ],
)
def test_stored_content_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Prompt.from_content("p", one("x").content() | change)


def test_what_was_handed_in_can_be_changed_later_without_changing_the_prompt() -> None:
    message = {"role": "user", "content": "a"}
    prompt = Prompt(name="p", messages=(message,))
    before = prompt.digest
    message["content"] = "b"
    request = prompt.render()
    request.messages[0]["content"] = "c"  # type: ignore[index]  # what a rude caller does
    assert prompt.content()["messages"] == [{"role": "user", "content": "a"}]
    assert prompt.render().messages[0]["content"] == "a"
    assert prompt.digest == before


def test_the_order_of_fields_counts_where_models_see_it_and_survives_a_store_that_sorts() -> None:
    def asking(*fields: str) -> Prompt:
        schema = {"type": "object", "properties": {f: {"type": "string"} for f in fields}}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        form = {"type": "json_schema", "json_schema": {"name": "a/b~c", "schema": {"x/y": schema}}}
        return one("x", tools=(tool,), response_format=form, parameters={"extra_body": {"s": schema, "a": 1}})

    reason_first, label_first = asking("reason", "label"), asking("label", "reason")
    assert reason_first.digest != label_first.digest
    assert one("x", parameters={"seed": 1, "n": 2}).digest == one("x", parameters={"n": 2, "seed": 1}).digest
    for prompt in (reason_first, label_first):
        stored = json.loads(json.dumps(prompt.content(), sort_keys=True))
        back = Prompt.from_content("p", stored, expect=prompt.digest)
        assert json.dumps(back.render().to_openai()) == json.dumps(prompt.render().to_openai())
    stored = json.loads(json.dumps(reason_first.content()))
    stored["order"] = {k: [*v, "more"] for k, v in stored["order"].items()}
    with pytest.raises(InvalidValue, match="order of keys"):
        Prompt.from_content("p", stored)


# -- rendering --------------------------------------------------------------------------------------
@given(st.lists(st.tuples(LITERAL, NAMES), min_size=1, max_size=4), st.data())
def test_rendering_puts_values_between_the_literals(
    pieces: list[tuple[str, str]], data: st.DataObject
) -> None:
    # '{' before '{{' would open another tag one character earlier
    pieces = [(literal.rstrip("{"), name) for literal, name in pieces]
    values = {name: data.draw(TEXT) for _, name in pieces}
    source = "".join(f"{literal}{{{{ {name} }}}}" for literal, name in pieces)
    prompt = one(source, {name: Variable() for name in values})
    expected = "".join(literal + values[name] for literal, name in pieces)
    assert prompt.render(**values).messages[0]["content"] == expected


@given(TEXT)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    for text in (value, "{{ x }}" + value, "{% for %}{{ y }}"):
        assert one("{{ x }}", {"x": Variable()}).render(x=text).messages[0]["content"] == text
        assert one("{{ x }}", {"x": Variable()}, syntax="jinja").render(x=text).messages[0]["content"] == text


@given(JSONS)
def test_other_values_go_in_as_json_that_reads_back(value: Any) -> None:
    wrapped = [value]
    text = one("{{ x }}", {"x": Variable(type="list")}).render(x=wrapped).messages[0]["content"]
    assert json.loads(text) == wrapped
    jinja = one("{{ x }}", {"x": Variable(type="list")}, syntax="jinja").render(x=wrapped)
    assert jinja.messages[0]["content"] == text == to_text(wrapped)


@given(TEXT)
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        segments = parse(text)
    except InvalidValue:
        assert "{{" in text
    else:
        assert "{{" in text or "".join(s.text for s in segments) == text


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("str", ["", "a"], [1, None, b"a"]),
        ("int", [0, -3], [True, 1.0, "1"]),
        ("float", [1, 1.5], [True, "1", float("nan"), float("inf")]),
        ("bool", [True, False], [0, "true"]),
        ("list", [[], (1, 2)], ["a", {"a": 1}]),
        ("object", [{}, {"a": [1]}], [[], "a"]),
    ],
)
def test_types(kind: str, good: list[Any], bad: list[Any]) -> None:
    prompt = one("{{ x }}", {"x": Variable(type=kind)})
    for value in good:
        assert prompt.render(x=value).messages
    for value in bad:
        with pytest.raises(InvalidValue, match=f"variable 'x' of prompt 'p' is {kind}, not"):
            prompt.render(x=value)


def test_missing_and_unknown_variables_are_errors() -> None:
    prompt = one("{{ message }} {{ n }}", {"message": Variable(), "n": Variable(type="int", default=2)})
    assert prompt.render(message="m").messages[0]["content"] == "m 2"
    with pytest.raises(InvalidValue, match="lacks a value for its variable 'message'"):
        prompt.render()
    with pytest.raises(InvalidValue, match="did you mean 'message'"):
        prompt.render(mesage="m")


def test_every_part_is_filled_and_nothing_else() -> None:
    prompt = Prompt(
        name="p",
        messages=(
            {
                "role": "system",
                "content": [
                    {"type": "text", "text": "{{ a }}"},
                    {"type": "image_url", "image_url": {"url": "{{ b }}"}},
                ],
            },
            {"role": "user", "content": 'JSON {"k": {"l": 1}} and {{ \'{{\' }}x}}'},
        ),
        variables={"a": Variable(), "b": Variable()},
        tools=({"type": "function", "function": {"name": "f", "description": "{{ a }}"}},),
        response_format={"type": "json_schema", "json_schema": {"description": "{{ b }}"}},
    )
    request = prompt.render(a="A", b="B")
    assert request.messages[0]["content"][0]["text"] == "A"
    assert request.messages[0]["content"][1]["image_url"]["url"] == "B"
    assert request.messages[1]["content"] == 'JSON {"k": {"l": 1}} and {{x}}'
    assert request.tools[0]["function"]["description"] == "A"
    assert request.response_format == {"type": "json_schema", "json_schema": {"description": "B"}}
    assert request.prompt == f"p@{prompt.digest}"


# -- attacks ----------------------------------------------------------------------------------------
ATTACKS = [
    "{{ o.api_key }}",
    "{{ o.__class__.__init__.__globals__ }}",
    "{{ 0 }}",
    "{{ o[0] }}",
    "{{ o!r }}",
    "{{ o:{o.api_key} }}",
    "{{ o | upper }}",
    "{{ o() }}",
    "{{ _o }}",
    "{{}}",
    "{{ {{ o }} }}",
    "{{ o",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", ["text", "part", "tool", "format", "key"])
def test_a_template_that_reaches_into_values_is_refused_everywhere(attack: str, place: str) -> None:
    plain: dict[str, Any] = {"role": "user", "content": "{{ o }}"}
    more: dict[str, Any] = {
        "text": {"messages": ({"role": "user", "content": "{{ o }}" + attack},)},
        "part": {"messages": (plain, {"role": "user", "content": [{"type": "x", "y": {"z": [attack]}}]})},
        "tool": {"messages": (plain,), "tools": ({"type": "function", "function": {"d": attack}},)},
        "format": {
            "messages": (plain,),
            "response_format": {"type": "json_schema", "json_schema": {"a": attack}},
        },
        "key": {"messages": (plain,), "tools": ({"type": "function", "function": {attack: 1}},)},
    }[place]
    with pytest.raises(InvalidValue):
        Prompt(name="p", variables={"o": Variable(type="object")}, **more)


def test_single_braces_are_text_and_show_no_secret() -> None:
    class Key:
        api_key = "SECRET"

    prompt = one("{o.api_key} {o:{o.api_key}} {{ o }}", {"o": Variable(type="object")})
    assert prompt.render(o={"k": 1}).messages[0]["content"] == '{o.api_key} {o:{o.api_key}} {"k": 1}'
    with pytest.raises(InvalidValue) as caught:
        prompt.render(o=Key())
    assert "SECRET" not in str(caught.value)
    with pytest.raises(InvalidValue) as caught:
        prompt.render(o={"k": Key()})
    assert "SECRET" not in str(caught.value)


def test_a_row_that_looks_like_a_serialised_secret_stays_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "SECRET")
    row = {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
    text = one("{{ o }}", {"o": Variable(type="object")}).render(o=row).messages[0]["content"]
    assert json.loads(text) == row


@pytest.mark.parametrize(
    "name", ["../x", "..\\x", "%2e%2e/x", "a#b", "a\0b", "a" * 300, "", "/etc/passwd", ".git/x"]
)
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="is no valid prompt name"):
        Prompt(name=name, messages=({"role": "user", "content": "x"},))
