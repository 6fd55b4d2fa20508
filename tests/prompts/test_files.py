"""Prompt files: every mistake is one sentence with file and line; paths stay inside; fuzzed bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.settings import Settings, load_settings
from steelyard.prompts import Prompt, load_prompt
from steelyard.prompts.files import names, path_of
from steelyard.prompts.reader import read_prompt

GOOD = """\
description: Sorts a message.
messages:
  - role: system
    content: |
      Classify.
      Labels: {{ labels }}
  - role: user
    content: "{{ message }}"
variables:
  message: {type: str, description: What came in.}
  labels: list
parameters: {temperature: 0, max_tokens: 32, stop: ["x"]}
response_format:
  type: json_schema
  json_schema: {name: a, schema: {enum: [yes, no, on, 2020-01-01]}}
"""


def read(text: str | bytes) -> Prompt:
    return read_prompt("p", Path("p.yaml"), text.encode() if isinstance(text, str) else text)


def test_a_good_file() -> None:
    prompt = read(GOOD)
    assert prompt.description == "Sorts a message."
    assert prompt.variables["message"].description == "What came in."
    assert prompt.render(message="m", labels=["a"]).messages[0]["content"] == 'Classify.\nLabels: ["a"]\n'
    schema = prompt.response_format["json_schema"]["schema"]  # type: ignore[index]
    assert schema["enum"] == ["yes", "no", "on", "2020-01-01"]


def test_template_is_one_user_message() -> None:
    short = read("template: 'Hi {{ x }}'\nvariables: {x: str}")
    long = read("messages:\n- {role: user, content: 'Hi {{ x }}'}\nvariables:\n  x:\n")
    assert short.digest == long.digest


def test_bom_and_windows_line_ends_change_nothing() -> None:
    assert read(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()).digest == read(GOOD).digest


MISTAKES: list[tuple[str, str, int | None, str]] = [
    # replaced, by, line, what is said
    (
        "temperature",
        "temprature",
        12,
        "unknown key 'temprature' under 'parameters'. Did you mean 'temperature'?",
    ),
    ("description: Sorts", "descriptoin: Sorts", 1, "Did you mean 'description'?"),
    ("role: user", "role: usr", 7, "did you mean user?"),
    ("Labels: {{ labels }}", "Labels: {{ labels.x }}", 6, "only one plain name"),
    ("{{ labels }}", "{{ label }}", 6, "the variable 'label' is used but not declared"),
    ("{{ labels }}", "{{ labels", 6, "is not closed"),
    ("{{ labels }}", "none", 11, "declared but nothing uses it"),
    ('    content: "', '\tcontent: "', 8, "a tab stands where"),
    ("max_tokens: 32", "max_tokens: '32'", 12, "must be a whole number"),
    ("max_tokens: 32", "max_tokens: 0", 12, "greater than or equal to 1"),
    ("max_tokens: 32", "max_tokens: true", 12, "must be a whole number"),
    ("temperature: 0", "temperature: .nan", 12, "a finite number"),
    ("temperature: 0", "temperature: 3", 12, "less than or equal to 2"),
    ("type: str", "type: text", 10, "Types are str, int"),
    ("labels: list", "labels: {type: list, default: a}", 11, "the default of variable 'labels' is no list"),
    ("labels: list", "labels: {type: list, required: false}", 11, "not required but has no default"),
    ("labels: list", "labels: {default: 'a', required: true}", 11, "is required and has a default"),
    ("labels: list", "labels: list\n  labels: str", 12, "stands twice (first in line 11)"),
    ("labels: list", "labels: list\n  '2x': str", 12, "is no name of a variable"),
    ("labels: list", "labels: list\n  2: str", 12, "the key '2' is no text"),
    ('["x"]', "!!python/object/apply:os.system [ls]", 12, "the YAML tag '!!python/object/apply:os.system'"),
    ('["x"]', "!env SECRET", 12, "the YAML tag '!env'"),
    ('["x"]', "[1]", 12, "'stop' is neither"),
    ('"{{ message }}"', "{{ message }}", 8, "a key is a list or an object"),
    ('"{{ message }}"', '"{{ message }}', 12, "no YAML"),
    ('"{{ message }}"', "", 8, "has no content"),
    ('"{{ message }}"', "[{text: '{{ message }}'}]", 8, "a part of a message has no 'type'"),
    ("content: |", "contents: |", 4, "Did you mean 'content'?"),
    ("response_format:", "syntax: jinja2\nresponse_format:", 13, "did you mean jinja?"),
    ("response_format:", "template: hi\nresponse_format:", 13, "both 'messages' and 'template'"),
    ("response_format:", "tools: [{}]\nresponse_format:", 13, "'type' is missing under 'tools[0]'"),
    ("{name: a,", "{name: '{{ message.x }}',", 15, "only one plain name"),
    ("{name: a,", "{name: *a,", 15, "found undefined alias"),
    ("description: Sorts a message.", "description: [a]", 1, "'description' is a list, but must be a text"),
]


@pytest.mark.parametrize(("old", "new", "line", "said"), MISTAKES, ids=[m[3][:40] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidFile) as caught:
        read(GOOD.replace(old, new, 1))
    text = str(caught.value)
    assert caught.value.line == line, text
    assert text.startswith(f"p.yaml:{line}: ")
    assert said in text
    assert text.endswith((".", "?", "yaml", "'###']."))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "p.yaml:1: the file is empty"),
        (b"# nothing\n", "p.yaml:1: the file is empty"),
        (b"description: x\ntemplate: caf\xe9\n", "p.yaml:2: byte 0xe9 is not UTF-8"),
        ("template: x".encode("utf-16"), "p.yaml:1: the file is in UTF-16"),
        (b"description: x\ntemplate: " + b"x" * 10_000_000, "p.yaml:2: the file is over 1 MB"),
        (b"- a\n", "must hold keys"),
        (b"template: x\n---\ntemplate: y\n", "p.yaml:2: a second document begins"),
        (b"[" * 5000, "nested too deeply"),
        (b"template: \x00", "U+0000 is not allowed"),
        (b'template: "\\ud800"', "a lone surrogate"),
        (b"template: &x [*x]", "nested too deeply"),
        (BOMB.encode(), "more than 50,000 values"),
        (b"template: 12", "'template' is 12, but must be a text"),
        (b"description: x", "there is no message"),
        (b"messages: []", "there is no message"),
        (b"template: x\nparameters: {seed: 99999999999999999999}", "2**53"),
        (b"template: x\nparameters: {seed: 999999999999999999999999}", "is no usable int"),
    ],
    ids=range(17),
)
def test_a_file_that_is_none(data: bytes, said: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(data)
    assert said in str(caught.value)


LINES = st.lists(
    st.sampled_from([*GOOD.splitlines(), "syntax: jinja", "\t", "- x", "? a", "<<: *a", "a: &a b", "..."]),
    max_size=14,
)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80)
    | LINES.map(lambda rows: "\n".join(rows).encode())
    | st.text(max_size=60).map(lambda t: ("template: " + t).encode("utf-8", "replace"))
)
@example(b"template: '\\U99999999'")
@example(b'template: "\\U99999999"')
@example(b"template: !!int x")
@example(b"template: !!float 1_0")
@example(b"? [a]: b")
@example(b"template: 1__2\nmodel: 0x")
@example(b"%YAML 9.9\n---\ntemplate: x")
@example(b"template: !!null x")
@example(b"template: x\nresponse_format: {type: text, json_schema: {a: .inf}}")
@example(b"template: =")
@example(b"=: x")
@example(b"<<: {template: x}")
def test_any_bytes_are_a_prompt_or_an_invalid_file(data: bytes) -> None:
    try:
        prompt = read(data)
    except InvalidFile:
        return
    assert Prompt.from_content("p", prompt.content(), expect=prompt.digest).digest == prompt.digest


# -- paths ------------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path: Path) -> Settings:
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    (tmp_path / "prompts" / "team").mkdir(parents=True)
    return load_settings(tmp_path, environ={})


def test_names_and_folders(project: Settings) -> None:
    for name in ("b", "team/a", "team/_draft", ".hidden"):
        (project.prompts / f"{name}.yaml").write_text("template: x")
    (project.prompts / "c.yml").write_text("template: c")
    (project.prompts / "steelyard.lock").write_text("")
    assert names(project) == ["b", "c", "team/a"]
    assert load_prompt("team/a", project).name == "team/a"
    assert load_prompt("c@working", project).messages[0]["content"] == "c"
    with pytest.raises(NotFound, match="did you mean 'team/a'"):
        load_prompt("team/aa", project)


@pytest.mark.parametrize(
    "name", ["../secret", "..\\secret", "%2e%2e/secret", "a#b", "a\0", "a" * 300, "/etc/passwd"]
)
def test_names_that_leave_the_folder_are_refused_before_anything_is_opened(
    project: Settings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the file system was touched")

    for method in ("is_file", "open", "resolve", "read_bytes", "exists"):
        monkeypatch.setattr(Path, method, touched)
    with pytest.raises(InvalidValue):
        load_prompt(name, project)


def test_a_link_that_leads_out_is_refused(project: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("template: SECRET")
    (project.prompts / "link.yaml").symlink_to(secret)
    (project.prompts / "folder").symlink_to(tmp_path)
    (project.prompts / "round.yaml").symlink_to(project.prompts / "round.yaml")
    for name in ("link", "folder/secret"):
        with pytest.raises(InvalidValue, match="a link that leads out") as caught:
            path_of(name, project)
        assert "SECRET" not in str(caught.value)
    with pytest.raises((InvalidValue, NotFound)):
        load_prompt("round", project)


def test_importing_prompts_reads_no_parser() -> None:
    import subprocess
    import sys

    heavy = ("yaml", "pydantic", "jinja2", "mlflow")
    code = f"import sys, steelyard.prompts; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
