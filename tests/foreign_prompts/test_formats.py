"""GitHub, MLflow, promptfoo, f-string and our own files; the command line; hostile text."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from steelyard.cli.main import cli
from steelyard.core.errors import InvalidValue, SteelyardError
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.foreign import FORMATS, detect
from steelyard.prompts.foreign.text import read_fstring, write_default, write_fstring
from steelyard.prompts.template import Segment, parse

GITHUB = """\
name: Text Summarizer
description: Summarizes input text
model: openai/gpt-4o-mini
modelParameters:
  temperature: 0.5
  maxTokens: 64
messages:
  - role: system
    content: 'You are a summarizer. JSON looks like {"a": {"b": 1}}.'
  - role: user
    content: |
      Summarize, beginning with "Summary -": {{input}}
      {{n}} words
responseFormat: json_schema
jsonSchema: |-
  {"name": "s", "strict": true, "schema": {"type": "object", "properties": {"z": {}, "a": {}}}}
testData:
  - input: The fox jumped.
    n: 3
    expected: Summary - A fox jumped.
  - input: The dog slept.
    n: 4
    expected: Summary - A dog slept.
evaluators:
  - name: starts
    string: {startsWith: 'Summary -'}
  - name: similar
    uses: github/similarity
"""

PROMPTFOO = """\
description: Support
prompts:
  - 'Answer {{question}} in {{ language }}. {not a variable}'
  - '[{"role": "system", "content": "Be {{tone}}."}, {"role": "user", "content": "{{question}}"}]'
providers: [openai:gpt-4o-mini]
defaultTest:
  vars: {tone: kind, language: [en, de]}
  assert:
    - {type: regex, value: '^[A-Z]'}
    - {type: latency, threshold: 2000}
tests:
  - description: first
    vars: {question: "What?"}
    assert:
      - {type: icontains, value: because}
      - {type: llm-rubric, value: is polite}
  - vars: {question: "Who?"}
    assert:
      - {type: icontains-all, value: [me, you]}
      - {type: equals, value: Me.}
"""


def read(name, text, called="x"):
    return FORMATS.get(name).read(text, called)


def gh_render(text, values):
    """What `gh models` does: each `{{name}}` replaced, values of other types by %v."""
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", str(value))
    return text


def test_github_file_with_test_data():
    (imported,) = read("github", GITHUB)
    prompt = imported.prompt
    values = {"input": "<x> & {y}", "n": 3}
    rendered = [m["content"] for m in prompt.render(**values).messages]
    assert rendered == [
        'You are a summarizer. JSON looks like {"a": {"b": 1}}.',
        gh_render('Summarize, beginning with "Summary -": {{input}}\n{{n}} words\n', values),
    ]
    assert prompt.parameters == {"max_tokens": 64, "temperature": 0.5}
    assert list(prompt.response_format["json_schema"]["schema"]["properties"]) == ["z", "a"]
    assert imported.examples[1] == {
        "inputs": {"input": "The dog slept.", "n": 4},
        "reference_outputs": "Summary - A dog slept.",
    }
    assert imported.evaluators == ("regex('^Summary\\\\ \\\\-', ignore_case=True)",)
    assert "similar" in imported.left[0]
    again = read("github", FORMATS.get("github").write(prompt).text)[
        0
    ].prompt  # without test data all is text
    assert again.render(**values | {"n": "3"}).to_openai() == prompt.render(**values).to_openai()
    for old, new in (
        ("{{input}}", "{{ input }}"),
        ("{{input}}", "{{o.api_key}}"),
        ("maxTokens", "maxTokenz"),
        ("evaluators:", "surprise: 1\nevaluators:"),
        ("role: user", "role: tool"),
        ('{"name": "s"', '{"nam": "s"'),
        ("json_schema\n", "xml\n"),
    ):
        assert old in GITHUB
        with pytest.raises(InvalidValue):
            read("github", GITHUB.replace(old, new))


def test_what_github_cannot_say_is_refused():
    message = {"role": "user", "content": "hi"}
    github = FORMATS.get("github")
    for what, extra in (
        ("tools", {"tools": ({"type": "function", "function": {"name": "f"}},)}),
        ("logit_bias", {"parameters": {"logit_bias": {}}}),
        ("message 1", {"messages": ({"role": "developer", "content": "x"},)}),
        ("message 1", {"messages": ({"role": "user", "content": [{"type": "text", "text": "x"}]},)}),
        ("braces", {"messages": ({"role": "user", "content": "{{ '{{' }}x}}"},)}),
        ("Jinja", {"syntax": "jinja"}),
    ):
        with pytest.raises(InvalidValue, match=what):
            github.write(Prompt(**({"name": "x", "messages": (message,)} | extra)))


@pytest.mark.parametrize(
    "template",
    [
        "Hello {{ name }}, {{name}} {single} {{ not a variable }} {{{name}}} }}",
        [{"role": "system", "content": "Be {{tone}} {"}, {"role": "user", "content": "{{ name }}"}],
        "A {% if flag %}\n  yes {{ name }}\n{% endif %}\n{% for x in xs %}- {{ x }}\n{% endfor %}\n",
    ],
)
def test_mlflow_renders_alike(template):
    pytest.importorskip("mlflow")
    from mlflow.entities.model_registry import PromptVersion

    from steelyard.prompts.foreign.mlflow import from_mlflow, to_mlflow

    version = PromptVersion(
        "p",
        1,
        template,
        response_format={"title": "t", "type": "object", "properties": {"b": {}, "a": {}}},
        model_config={"model_name": "gpt-x", "temperature": 0.5, "stop_sequences": ["#"], "seed": 3},
        commit_message="why",
    )
    prompt = from_mlflow(version, "x").prompt
    values = {"name": "<b> {x} é", "tone": "kind", "flag": True, "xs": ["1", "2"]}
    values = {k: values[k] for k in prompt.variables}
    theirs = version.format(**values)
    theirs = theirs if isinstance(theirs, list) else [{"role": "user", "content": theirs}]
    assert [dict(m) for m in prompt.render(**values).messages] == theirs
    assert prompt.parameters == {"seed": 3, "stop": ["#"], "temperature": 0.5}
    assert prompt.response_format["json_schema"]["name"] == "t"
    made, _ = to_mlflow(prompt)
    again = PromptVersion(made.pop("name"), 1, **made)
    theirs_again = again.format(**values)
    assert (
        theirs_again if isinstance(theirs_again, list) else [{"role": "user", "content": theirs_again}]
    ) == theirs
    text = FORMATS.get("mlflow").write(prompt).text
    assert read("mlflow", text)[0].prompt.digest == from_mlflow(again, "x").prompt.digest == prompt.digest
    assert detect(text).name == "mlflow"


@pytest.mark.parametrize(
    "template", ["{{ o.api_key }}", "{{o.__class__}}", "{% if a %}{{ a.b }}{% endif %}", "{% import x %}"]
)
def test_mlflow_templates_that_reach_into_objects_are_refused(template):
    with pytest.raises(InvalidValue):
        read("mlflow", json.dumps({"template": template}))
    with pytest.raises(InvalidValue):
        read("mlflow", json.dumps({"template": "x", "surprise": 1}))


def test_promptfoo_configuration():
    first, second = read("promptfoo", PROMPTFOO, "support")
    assert (first.prompt.name, second.prompt.name) == ("support-1", "support-2")
    assert (
        first.prompt.render(question="Q", language="en").messages[0]["content"]
        == "Answer Q in en. {not a variable}"
    )
    assert [m["role"] for m in second.prompt.messages] == ["system", "user"]
    assert [e["inputs"] for e in first.examples] == [
        {"tone": "kind", "language": language, "question": q}
        for q in ("What?", "Who?")
        for language in ("en", "de")
    ]
    assert first.examples[2]["reference_outputs"] == {"icontains": ["me", "you"], "equals": "Me."}
    assert first.evaluators == (
        "contains(reference='icontains', ignore_case=True)",
        "regex('^[A-Z]')",
        "latency()  # require at_most('latency_s', 2)",
    )
    said = " ".join(first.left)
    for word in ("providers", "'equals'", "'llm-rubric'"):
        assert word in said
    from steelyard.evals.evaluators import contains, latency, regex

    for source in first.evaluators:
        assert eval(source, {"contains": contains, "regex": regex, "latency": latency}).digest
    for old, new in (
        ("{{ language }}", "{{ language | upper }}"),
        ("{{ language }}", "{{ env.KEY }}"),
        ("'Answer", "'file://x.txt {{question}}"),
        ('"What?"', "file://x.txt"),
        ("providers:", "surprise: 1\nproviders:"),
    ):
        assert old in PROMPTFOO
        with pytest.raises(InvalidValue):
            read("promptfoo", PROMPTFOO.replace(old, new))


def test_own_files_keep_the_digest():
    own = FORMATS.get("steelyard")
    prompt = Prompt(
        name="x",
        description="d",
        messages=(
            {"role": "user", "content": [{"type": "text", "text": "a\nb {{ a }} no\u2028"}]},
            {"role": "assistant", "tool_calls": [{"id": "1"}]},
        ),
        variables={"a": Variable(type="list", default=[1, "no"], description="what")},
        tools=({"type": "function", "function": {"name": "f", "parameters": {"z": {}, "a": {}}}},),
        parameters={"temperature": 0.1},
    )
    again = read("steelyard", own.write(prompt).text)[0].prompt
    assert again.digest == prompt.digest
    assert again.variables["a"].description == "what"


def test_formats_are_told_only_where_it_is_plain():
    assert detect(GITHUB).name == "github"
    assert detect(PROMPTFOO).name == "promptfoo"
    assert detect("messages: [{role: user, content: hi}]\nvariables: {}").name == "steelyard"
    for text in ("Hello {name}", "messages: [{role: user, content: hi}]", "", "{", '{"a": 1}'):
        with pytest.raises(InvalidValue, match="--from"):
            detect(text)


# -- any text -----------------------------------------------------------------------------------------
_names = st.sampled_from(["a", "b2", "c_c"])
_segments = st.lists(
    st.one_of(
        st.builds(Segment, st.text("{}ab %#'\n\"|!:", max_size=6), st.just(False)),
        st.builds(Segment, _names, st.just(True)),
    ),
    max_size=6,
)


def _text(segments):
    return "".join(f"<{s.text}>" if s.variable else s.text for s in segments)


@given(_segments)
@hypothesis_settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back_whatever_the_braces(segments):
    wanted = _text(segments)
    assert _text(parse(write_default(segments))) == wanted
    assert _text(read_fstring(write_fstring(segments), "x")) == wanted
    assert write_fstring(segments).format(a="<a>", b2="<b2>", c_c="<c_c>") == wanted  # as Python itself does
    variables = {s.text: Variable() for s in segments if s.variable}
    if wanted:
        prompt = Prompt(
            name="x", messages=({"role": "user", "content": write_default(segments)},), variables=variables
        )
        assert prompt.render(**{v: f"<{v}>" for v in variables}).messages[0]["content"] == wanted
        for name in ("langchain", "langsmith", "github", "mlflow", "promptfoo", "f-string", "steelyard"):
            try:
                text = FORMATS.get(name).write(prompt).text
            except InvalidValue:
                assert name not in ("langchain", "langsmith", "f-string", "steelyard")
                continue
            assert (
                read(name, text)[0].prompt.render(**{v: f"<{v}>" for v in variables}).messages
                == prompt.render(**{v: f"<{v}>" for v in variables}).messages
            ), name


_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=8),
        st.sampled_from(["{{a}}", "{a.b}", "constructor", "{% x %}"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "lc",
                    "type",
                    "id",
                    "kwargs",
                    "template",
                    "messages",
                    "role",
                    "content",
                    "prompts",
                    "tests",
                    "vars",
                    "assert",
                    "manifest",
                    "prompt",
                    "model_config",
                    "testData",
                ]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@given(_values, st.sampled_from(sorted(FORMATS)))
@hypothesis_settings(max_examples=300, deadline=None)
def test_hostile_files_end_in_one_sentence(value, name):
    try:
        found = read(name, json.dumps(value))
    except SteelyardError:  # anything else is a crash
        return
    for imported in found:
        assert imported.prompt.digest


# -- command line -------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def run(*arguments, text=None):
    result = CliRunner().invoke(cli, ["prompts", *arguments], input=text)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SteelyardError):
        raise result.exception
    return result


def test_import_and_export_from_the_command_line(project):
    Path("sum.prompt.yml").write_text(GITHUB)
    result = run("import", "sum.prompt.yml")
    assert result.exit_code == 0, result.output
    assert "is read as github" in result.stderr
    assert "prompts/sum.yaml" in result.stdout
    assert "2 examples" in result.stdout
    from steelyard.core.settings import load_settings
    from steelyard.data import load_dataset
    from steelyard.prompts import load_prompt

    prompt = load_prompt("sum", load_settings())
    assert len(load_dataset("sum", load_settings())) == 2
    assert isinstance(run("import", "sum.prompt.yml").exception, InvalidValue)  # nothing is written over
    assert run("import", "sum.prompt.yml", "--force").exit_code == 0
    exported = run("export", "sum", "--to", "langchain", "-o", "out.json")
    assert exported.exit_code == 0
    assert (
        run(
            "import", "-", "--from", "langchain", "--name", "team/again", text=Path("out.json").read_text()
        ).exit_code
        == 0
    )
    again = load_prompt("team/again", load_settings())
    values = {"input": "I", "n": 2}
    assert (
        load_prompt("sum", load_settings()).render(**values).to_openai()
        == prompt.render(**values).to_openai()
    )
    assert again.render(input="I", n="2").to_openai() == prompt.render(**values).to_openai()
    assert isinstance(run("import", "-", text="Hello {name}").exception, InvalidValue)
    assert isinstance(run("import", "-", "--name", "y", text="Hello {name}").exception, InvalidValue)
    assert run("import", "-", "--name", "y", "--from", "f-string", text="Hello {name}").exit_code == 0
    for name in ("../x", "/x", "a\0b", "%2e%2e/x", "x#y"):
        assert isinstance(
            run("import", "-", "--name", name, "--from", "f-string", text="hi").exception, SteelyardError
        )
    assert not (project.parent / "x.yaml").exists()


def test_mlflow_registry_in_and_out(project):
    pytest.importorskip("mlflow")
    run("import", "-", "--name", "greet", "--from", "f-string", text="Hello {name}")
    result = run("export", "greet", "--to", "mlflow", "-o", "prompts:/greet-there")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "prompts:/greet-there/1"
    back = run("import", "prompts:/greet-there/1", "--name", "back")
    assert back.exit_code == 0, back.output
    from steelyard.core.settings import load_settings
    from steelyard.prompts import load_prompt

    assert load_prompt("back", load_settings()).digest == load_prompt("greet", load_settings()).digest
    assert isinstance(run("import", "prompts:/nothing/1").exception, SteelyardError)
    assert isinstance(
        run("export", "greet", "--to", "mlflow", "-o", "prompts:/a/b c").exception, SteelyardError
    )
