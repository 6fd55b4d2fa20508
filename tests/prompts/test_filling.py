"""The quick way of filling in gives what the plain way gives, and hands out nothing that is shared."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.canonical import plain
from steelyard.core.errors import InvalidValue
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.template import parse

TYPES = {
    "a": ("str", st.text(max_size=5)),
    "b": ("int", st.integers(-(2**53), 2**53)),
    "c": ("float", st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)),
    "d": ("bool", st.booleans()),
    "e": ("list", st.lists(st.text(max_size=2) | st.integers(-9, 9), max_size=3)),
    "f": ("object", st.dictionaries(st.text(max_size=2), st.none() | st.text(max_size=2), max_size=2)),
}
PIECES = st.sampled_from(
    [
        *(f"{{{{ {name} }}}}" for name in TYPES),
        "{{a}}",
        "{{ '{{' }}",
        "%",
        "%s",
        "%%",
        "%(a)s",
        "{ ",
        " }",
        " text ",
        "ü\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


def slowly(value: Any, values: dict[str, Any]) -> Any:
    """The plain way."""
    if isinstance(value, str):
        shown = {
            k: v if isinstance(v, str) else json.dumps(plain(v), ensure_ascii=False)
            for k, v in values.items()
        }
        return "".join(shown[s.text] if s.variable else s.text for s in parse(value))
    if isinstance(value, dict):
        return {k: slowly(v, values) for k, v in value.items()}
    return [slowly(v, values) for v in value] if isinstance(value, list) else value


def containers(value: Any) -> list[Any]:
    inner = (
        list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    )
    return [value for _ in [0] if isinstance(value, (dict, list))] + [c for v in inner for c in containers(v)]


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=3),
    tree=TREES,
    values=st.fixed_dictionaries({k: s for k, (_, s) in TYPES.items()}),
)
def test_quick_and_plain_agree_and_nothing_is_shared(texts, tree, values):
    everything = "".join(f"{{{{ {k} }}}}" for k in TYPES)  # so that all are used
    prompt = Prompt(
        name="p",
        messages=(
            {"role": "system", "content": everything},
            *({"role": "user", "content": t} for t in texts),
        ),
        variables={k: Variable(type=t) for k, (t, _) in TYPES.items()},
        parameters={"stop": ["a", "b"], "extra_body": {"deep": {"er": [1]}}},
        tools=({"type": "function", "function": {"name": "f", "parameters": {"tree": tree}}},),
        response_format={
            "type": "json_schema",
            "json_schema": {"tree": tree, "fixed": {"list": [1, {"a": 2}]}},
        },
    )
    one, two = prompt.render(**values), prompt.render(**values)
    wanted = {
        "messages": [slowly(m, values) for m in prompt.messages],
        "tools": [slowly(t, values) for t in prompt.tools],
        "response_format": slowly(prompt.response_format, values),
        **prompt.parameters,
    }
    assert one.to_openai() == two.to_openai() == wanted
    assert json.dumps(one.to_openai()["tools"]) == json.dumps(wanted["tools"])  # in the same order
    parts = [(r.messages, r.tools, r.response_format, r.parameters) for r in (one, two)]
    ids = [
        {id(c) for c in containers(p)}
        for p in (*parts, (prompt.messages, prompt.tools, prompt.response_format, prompt.parameters))
    ]
    assert not any((ids[0] & ids[1], ids[0] & ids[2], ids[1] & ids[2]))


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    RED = "red"


class Odd(str):
    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize("syntax", ["default", "jinja"])
def test_text_of_a_class_of_the_caller_s_is_its_text(syntax):
    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "<{{ x }}>"},),
        variables={"x": Variable()},
        syntax=syntax,
    )
    for value, wanted in ((Colour.RED, "<red>"), (Odd("its text"), "<its text>")):
        made = prompt.render(x=value).messages[0]["content"]
        assert (made, type(made)) == (wanted, str)


def test_what_is_filled_in_is_never_a_format():
    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "100% of {{ x }} %s %(x)s"},),
        variables={"x": Variable()},
    )
    assert (
        prompt.render(x="%s %(y)s %d {{ z }}").messages[0]["content"]
        == "100% of %s %(y)s %d {{ z }} %s %(x)s"
    )


def test_every_check_is_kept():
    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "{{ x }}{{ n }}{{ f }}{{ d }}"},),
        variables={
            "x": Variable(),
            "n": Variable(type="int"),
            "f": Variable(type="float"),
            "d": Variable(default="dd"),
        },
    )
    good = {"x": "a", "n": 1, "f": 0.5}
    assert prompt.render(**good).messages[0]["content"] == "a10.5dd"
    for change, words in (
        ({"x": 1}, "is str, not int"),
        ({"n": True}, "is int, not bool"),
        ({"n": 1.0}, "is int, not float"),
        ({"f": float("nan")}, "is float, not float nan"),
        ({"f": float("inf")}, "is float, not float inf"),
        ({"f": True}, "is float, not bool"),
        ({"d": None}, "is str, not NoneType"),
        ({"z": "1"}, "has no variable 'z'"),
    ):
        with pytest.raises(InvalidValue, match=words):
            prompt.render(**{**good, **change})
    with pytest.raises(InvalidValue, match="lacks a value for its variable 'n'"):
        prompt.render(x="a", f=1)


def test_an_openai_client_takes_it_as_it_is():
    """`create(**request.to_openai())`, and `messages` and `parameters` by themselves."""
    import httpx2
    import openai

    sent: list[dict[str, Any]] = []

    def answer(request):
        sent.append(json.loads(request.content))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        return httpx2.Response(
            200,
            json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]},
        )

    prompt = Prompt(
        name="p",
        messages=({"role": "system", "content": "be kind"}, {"role": "user", "content": "{{ x }}"}),
        variables={"x": Variable()},
        parameters={"temperature": 0, "max_tokens": 5},
        response_format={"type": "json_object"},
    )
    client = openai.OpenAI(
        api_key="k", base_url="http://x/v1", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    request = prompt.render(x="hello")
    client.chat.completions.create(model="m", **request.to_openai())
    client.chat.completions.create(model="m", messages=request.messages, **request.parameters)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    plain_ = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 5}
    assert sent == [plain_ | {"response_format": {"type": "json_object"}}, plain_]
    client.close()
