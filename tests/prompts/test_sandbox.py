"""Jinja, where a prompt asks for it: what works, what is refused, what is stopped."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.errors import InvalidValue
from steelyard.prompts import Prompt, Variable


def jinja(text: str, **values: Any) -> str:
    kinds = {str: "str", int: "int", float: "float", bool: "bool", list: "list", dict: "object"}
    variables = {k: Variable(type=kinds[type(v)]) for k, v in values.items()}
    prompt = Prompt(
        name="p", messages=({"role": "user", "content": text},), variables=variables, syntax="jinja"
    )
    content: str = prompt.render(**values).messages[0]["content"]
    return content


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        (
            "{% for m in xs %}{{ loop.index }}. {{ m['t'] }}\n{% endfor %}",
            {"xs": [{"t": "a"}, {"t": "b"}]},
            "1. a\n2. b\n",
        ),
        ("{% if n > 2 and s is string %}{{ s|upper }}{% else %}no{% endif %}", {"n": 3, "s": "x"}, "X"),
        ("{{ xs|join(', ') }} {{ xs|length }}", {"xs": ["a", 1, True]}, "a, 1, true 3"),
        ("{% for k, v in o|items %}{{ k }}={{ v }};{% endfor %}", {"o": {"a": 1, "b": None}}, "a=1;b=null;"),
        ("{{ o|tojson }}{{ o['a'][0] }}", {"o": {"a": ["é"]}}, '{"a": ["é"]}é'),
        ("{% set t = n + 1 %}{{ t - 3 }} {{ 'a' if t in [4, 5] else 'b' }}", {"n": 3}, "1 a"),
        ("{{ '{{' }}{% raw %}{{ x.y }}{% endraw %}{{ n }}", {"n": 1}, "{{{{ x.y }}1"),
        (
            "{% for i in range(3) %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}{{ n }}",
            {"n": 9},
            "0,1,29",
        ),
        ("{{ s|indent(2, true) }}", {"s": "a\nb"}, "  a\n  b"),
        ("{{ xs|sort|first }}{{ xs|last }}{{ o['x']|default('d') }}", {"xs": [3, 1], "o": {}}, "11d"),
    ],
)
def test_what_it_is_for(text: str, values: dict[str, Any], expected: str) -> None:
    assert jinja(text, **values) == expected


REFUSED = [
    "{{ o.api_key }}",
    "{{ o.__class__.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ o|attr('__class__') }}",
    "{{ o() }}",
    "{{ o['a']() }}",
    "{{ 'a' * 10**10 }}",
    "{{ 2 ** 99999999 }}",
    "{{ o ~ o }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{0.__class__}'.format(o) }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ lipsum(999999) }}",
    "{% set a = [o, o] %}{{ a }}",
    "{% set ns = namespace() %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% for x in o recursive %}{{ loop(o) }}{% endfor %}",
    "{% for x in o %}{{ loop }}{% endfor %}",
    "{% for loop in o %}{{ loop.index }}{% endfor %}",
    "{% set range = o %}",
    "{% filter upper %}x{% endfilter %}",
    "{% set x %}y{% endset %}",
    "{% call o() %}{% endcall %}",
    "{{ o[::2] }}",
    "{{ o|pprint }}",
    "{{ o|map(attribute='x')|list }}",
    "{{ _steelyard_budget }}",
    "{{ o|_steelyard_looped }}",
    "{% if %}",
    "{{ " + "(" * 3000,
    "{% for a in o %}" * 60 + "{% endfor %}" * 60,
]


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_allowed_is_refused_when_it_is_loaded(text: str) -> None:
    with pytest.raises(InvalidValue):
        Prompt(
            name="p",
            messages=({"role": "user", "content": "{{ o }}" + text},),
            variables={"o": Variable(type="object")},
            syntax="jinja",
        )


STOPPED: list[tuple[str, dict[str, Any]]] = [
    ("{% for i in range(10**9) %}x{% endfor %}".replace("10**9", "1000000000"), {}),
    ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", {}),
    ("{% for i in range(90000) %}{{ s }}{% endfor %}", {"s": "x" * 100_000}),
    ("{{ s|tojson }}" + "{% set t = s|tojson %}" + "{% set t = t|tojson %}" * 60 + "{{ t }}", {"s": '"'}),
    ("{% set t = s %}" + "{% set t = t|indent(1000, true) %}" * 60 + "{{ t }}", {"s": "a\n" * 100}),
    ("{{ xs|join(s) }}", {"xs": ["a"] * 10_000, "s": "b" * 10_000}),
    (
        "{% for x in xs %}{% for y in xs %}{% if x == y %}{% endif %}{% endfor %}{% endfor %}",
        {"xs": list(range(400))},
    ),
    ("{{ o['absent'] }}", {"o": {}}),
    ("{{ o['__class__'] }}", {"o": {}}),
    ("{{ o['items'] }}", {"o": {}}),
    ("{{ xs[9] }}", {"xs": [1]}),
    ("{{ xs['append'] }}", {"xs": [1]}),
    ("{{ s + s }}", {"s": "a"}),
    ("{{ n + 1 }}", {"n": 2**53}),
    ("{{ -s }}", {"s": "a"}),
    ("{{ xs|sort }}", {"xs": [1, "a"]}),
    ("{{ xs|first }}", {"xs": []}),
    ("{% for x in n %}{% endfor %}", {"n": 3}),
    ("{% if s < n %}{% endif %}", {"s": "a", "n": 1}),
    ("{{ s|upper|indent(99999) }}", {"s": "a"}),
]


@pytest.mark.parametrize(("text", "values"), STOPPED, ids=range(len(STOPPED)))
def test_what_runs_away_or_fails_is_one_typed_error_in_time(text: str, values: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(InvalidValue):
        jinja(text, **values)
    assert time.process_time() - began < 20  # without limits some would not end at all


def test_the_clock_stops_slow_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steelyard.prompts.jinja_filters.MAX_SECONDS", 0.0)
    with pytest.raises(InvalidValue, match="longer than"):
        jinja("{% for i in range(10) %}{{ i }}{% endfor %}{{ s }}", s="a")


def test_methods_of_a_callers_class_are_out_of_reach() -> None:
    class Text(str):
        def __str__(self) -> str:
            raise AssertionError("called")

    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "{{ s|lower }}{{ s }}"},),
        variables={"s": Variable()},
        syntax="jinja",
    )
    assert prompt.render(s=Text("A")).messages[0]["content"] == "aA"


PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "o",
        ".",
        "__class__",
        "[",
        "]",
        "'a'",
        "(",
        ")",
        "|",
        "upper",
        "for",
        "x",
        "in",
        "range",
        "endfor",
        "if",
        "endif",
        "loop",
        "+",
        "-",
        "*",
        "1",
        "99999999",
        " ",
        "set",
        "=",
        "join",
        "self",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_template_renders_or_is_one_typed_error(text: str) -> None:
    try:
        prompt = Prompt(
            name="p",
            messages=({"role": "user", "content": "{{ o }}" + text},),
            variables={"o": Variable(type="object")},
            syntax="jinja",
        )
        prompt.render(o={"a": [1, "b"]})
    except InvalidValue:
        pass
