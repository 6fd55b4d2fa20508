"""Template attacks: refused when registered, and again when loaded from a store others have written to."""

import json
import time
import tracemalloc

import pytest

from steelyard.core.canonical import digest
from steelyard.core.errors import Corrupt, InvalidFile, InvalidValue
from steelyard.core.settings import load_settings
from steelyard.prompts import Prompt, Variable, load_prompt
from steelyard.prompts.lock import Lock, read_lock, write_lock
from steelyard.prompts.push import push
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

SECRET = "sk-canary-5f1e"


class Client:
    """What an application might hand in by mistake."""

    api_key = SECRET

    def __format__(self, spec):
        return SECRET

    def __str__(self):
        return SECRET

    __repr__ = __str__


REACHING = [
    "{{ o.api_key }}",
    "{{ o.__class__.__init__.__globals__ }}",
    "{{ 0 }}",
    "{{ o[0] }}",
    "{{ o:{o.api_key} }}",
    "{{ o!r }}",
    "{{ o.api_key|upper }}",
    "{{ o() }}",
    "{{ _o }}",
]
SINGLE = [
    "{o.api_key}",
    "{o.__class__.__init__.__globals__}",
    "{0}",
    "{o:{o.api_key}}",
    "%(o)s",
    "${o.api_key}",
]
JINJA = [
    *REACHING[:2],
    "{{ o|attr('api_key') }}",
    "{{ o|format(o) }}",
    "{{ '{0.api_key}'.format(o) }}",
    "{% for x in o.__class__.__mro__ %}{% endfor %}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ o|map(attribute='api_key')|list }}",
    "{{ (o|string).format_map(o) }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% import 'os' as os %}",
    "{{ 'a' * 10**10 }}",
]
PLACES = {
    "text": lambda t: {"messages": [{"role": "user", "content": t}]},
    "part": lambda t: {"messages": [{"role": "user", "content": [{"type": "text", "text": t}]}]},
    "image": lambda t: {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": t}}]}]
    },
    "tool call": lambda t: {
        "messages": [
            {
                "role": "assistant",
                "content": "x",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": t}}],
            }
        ]
    },
    "tool": lambda t: {"tools": [{"type": "function", "function": {"name": "f", "description": t}}]},
    "tool schema": lambda t: {
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {"a": {"description": t}}}},
            }
        ]
    },
    "answer schema": lambda t: {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [t]}}}
    },
}


def content(place, attack, syntax="default"):
    plain = {"role": "user", "content": "{{ o }}"}
    sound = {
        "format": 1, "syntax": syntax, "messages": [plain], "variables": {"o": {"type": "object"}},
        "model": None, "parameters": {}, "tools": [], "response_format": None,
    }  # fmt: skip
    more = PLACES[place](attack)
    if "messages" in more:
        more["messages"] = [plain, *more["messages"]]
    return sound | more


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    return load_settings(tmp_path, environ={})


def test_the_content_of_these_tests_is_sound_but_for_the_attack():
    for place in PLACES:
        for syntax in ("default", "jinja"):
            Prompt.from_content("p", content(place, "harmless {{ o }}", syntax))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("attack", "syntax"), [*((a, "default") for a in REACHING), *((a, "jinja") for a in JINJA)]
)
def test_refused_at_register_and_again_at_load(attack, syntax, place, settings):
    bad = content(place, attack, syntax)
    # At register: from a file.
    (settings.prompts / "p.yaml").write_text(
        json.dumps({k: v for k, v in bad.items() if k != "format" and v})
    )
    store = MemoryStore()
    with pytest.raises((InvalidFile, InvalidValue)) as caught:
        push(settings, store)
    assert store.names("prompt") == []
    assert SECRET not in str(caught.value)
    # At load: somebody wrote it into the store past us, under its right digest.
    known = digest(bad)
    store.register("prompt", "p", digest=known, content=bad)
    store.move_alias(
        LedgerEntry(
            kind="prompt", name="p", alias="production", before=None, after=known, action="bless",
            who="mallory", when="2026-01-01T00:00:00.000Z", evidence=(), reason="",
        )
    )  # fmt: skip
    for ref in ("p@production", "p@1", f"p@{known}"):
        with pytest.raises(InvalidValue) as caught:
            load_prompt(ref, settings, store)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", SINGLE)
def test_single_braces_are_text_everywhere_and_nothing_is_formatted(attack, place):
    prompt = Prompt.from_content("p", content(place, attack))
    request = prompt.render(o={"api_key": SECRET})
    shown = json.dumps([request.messages, request.tools, request.response_format])
    assert json.dumps(attack)[1:-1] in shown
    assert shown.count(SECRET) == 1  # once: where {{ o }} was asked for


@pytest.mark.parametrize("syntax", ["default", "jinja"])
@pytest.mark.parametrize("value", [Client(), {"k": Client()}, [Client()], {"k": {Client(): 1}}])
def test_an_object_is_refused_and_its_text_is_not_in_the_error(value, syntax):
    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "{{ o }} {{ l }}"},),
        variables={"o": Variable(type="object", default={}), "l": Variable(type="list", default=[])},
        syntax=syntax,
    )
    for values in ({"o": value}, {"l": value}):
        with pytest.raises(InvalidValue) as caught:
            prompt.render(**values)
        assert SECRET not in str(caught.value)


def test_a_digest_that_does_not_fit_is_corrupt_and_not_served(settings):
    store = MemoryStore()
    sound = Prompt(name="p", messages=({"role": "user", "content": "x"},))
    store.register("prompt", "p", digest=sound.digest, content=sound.content() | {"model": "another"})
    with pytest.raises(Corrupt):
        load_prompt("p@1", settings, store)
    extra = sound.content() | {"post_load": "import os"}
    store.register("prompt", "q", digest=digest(extra), content=extra)
    with pytest.raises(InvalidValue, match="unknown or missing keys: post_load"):
        load_prompt("q@1", settings, store)


def test_a_lock_with_a_hostile_version_is_refused(settings, tmp_path):
    sound = Prompt(name="p", messages=({"role": "user", "content": "x"},))
    write_lock(settings.lock, Lock(versions={"p": {sound.digest: sound.content()}}))
    bad = content("text", "{{ o.api_key }}")
    text = json.dumps({"format": 1, "prompts": {}, "versions": {"p": {digest(bad): bad}}})
    settings.lock.write_text(text)
    with pytest.raises(ValueError, match="is no variable"):
        read_lock(settings.lock)


EXPENSIVE = {
    "range": ("{% for i in range(1000000000) %}x{% endfor %}", {}),
    "nested loops": (
        "{% for a in l %}{% for b in l %}{% for c in l %}x{% endfor %}{% endfor %}{% endfor %}",
        {},
    ),
    "long output": ("{% for a in l %}{{ s }}{% endfor %}", {"s": "x" * 200_000}),
    "join": ("{{ l|join(s) }}", {"s": "x" * 200_000}),
    "doubling": ("{% set t = s %}" + "{% set t = t|tojson %}" * 40 + "{{ t }}", {"s": '"\\' * 20}),
    "indent": ("{{ s|indent(1000, true) }}", {"s": "\n" * 100_000}),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", EXPENSIVE)
def test_what_would_eat_time_or_memory_is_stopped(case):
    text, values = EXPENSIVE[case]
    values = {"l": list(range(400)), "s": ""} | values
    prompt = Prompt(
        name="p",
        messages=({"role": "user", "content": "{{ s }}{{ l|length }}" + text},),
        variables={"l": Variable(type="list"), "s": Variable(type="str")},
        syntax="jinja",
    )
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(InvalidValue):
            prompt.render(**values)
        assert tracemalloc.get_traced_memory()[1] < 64e6
        assert time.process_time() - began < 20
    finally:
        tracemalloc.stop()
