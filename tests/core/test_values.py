import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.plugins import Registry
from steelyard.core.ref import Ref, check_alias, check_name
from steelyard.core.results import Identity, Row, Scores, Usage
from steelyard.core.score import Failure, Metric, Score
from steelyard.core.settings import load_settings

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "text", ["a@3", "team/a.b-c@production", f"a@{DIGEST}", "a@sha256:abcdef", "a@working"]
)
def test_refs_read_and_write(text):
    assert str(Ref.parse(text)) == text
    assert str(Ref.parse(str(Ref.parse(text)))) == text


def test_a_bare_name_is_the_working_file():
    assert Ref.parse("a").is_working
    assert Ref.parse(f"a@{DIGEST}").is_exact
    assert not Ref.parse("a@sha256:abcdef").is_exact


@pytest.mark.parametrize(
    "text",
    ["", "@3", "a@", "a@0", "a@-1", "a@latest", "a@Production", "a@sha256:xyz", "../x", "a/../b", "/a",
     "a//b", "a\\b", "%2e%2e/x", "a#b", "a\0b", "x" * 300, "a@٣"],
)  # fmt: skip
def test_unsafe_or_senseless_refs_are_refused(text):
    with pytest.raises(InvalidValue):
        Ref.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_ref_or_one_clear_error(text):
    try:
        ref = Ref.parse(text)
    except InvalidValue as error:
        said = str(error)
        ref = None
    else:
        said = ""
    assert "\n" not in said
    assert ref is None or ".." not in ref.name.split("/")


def test_names_and_aliases():
    assert check_name("a/b") == "a/b"
    for alias in ("working", "latest", "3", "Prod", ""):
        with pytest.raises(InvalidValue):
            check_alias(alias)


def example(i, **fields):
    return Example(id=str(i), inputs={"x": i}, **fields)


def test_a_dataset_is_its_content_not_its_order():
    rows = tuple(example(i) for i in range(3))
    assert Dataset(name="a", examples=rows).digest == Dataset(name="b", examples=rows[::-1]).digest
    assert Dataset(name="a", examples=rows).digest != Dataset(name="a", examples=rows[:2]).digest


def test_duplicate_ids_are_refused_by_name():
    with pytest.raises(InvalidValue, match="'1'"):
        Dataset(name="a", examples=(example(1), example(1)))


def test_an_unknown_split_names_those_that_exist():
    data = Dataset(name="a", examples=(example(1, split="train"), example(2, split="test")))
    assert [e.id for e in data.split("test")] == ["2"]
    with pytest.raises(NotFound, match="did you mean 'test'"):
        data.split("tset")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_is_finite(value):
    with pytest.raises(InvalidValue):
        Score(name="m", value=value)


def test_a_score_is_a_value_or_an_error():
    failure = Failure(kind="task", message="x")
    for fields in ({}, {"value": 1.0, "error": failure}):
        with pytest.raises(InvalidValue):
            Score(name="m", **fields)
    with pytest.raises(InvalidValue):
        Failure(kind="whatever", message="x")
    with pytest.raises(InvalidValue):
        Metric(name="m", low=1.0, high=1.0)


def test_rows_round_trip():
    row = Row(
        example_id="1",
        trial=2,
        cluster="c",
        slices={"language": "ja"},
        outputs={"a": [1, None]},
        scores=(
            Score(name="m", value=0.5, label="x"),
            Score(name="n", error=Failure(kind="judge", message="?")),
        ),
        usage=Usage(calls=1, input_tokens=3, cost_usd=None),
        seconds=0.25,
    )
    assert Row.from_json(row.to_json()) == row
    failed = Row(example_id="1", failure=Failure(kind="provider", message="boom", status=500))
    assert Row.from_json(failed.to_json()) == failed


def test_usage_adds_and_an_unknown_price_stays_unknown():
    assert (Usage(calls=1, cost_usd=0.5) + Usage(calls=2, cost_usd=0.25)).cost_usd == 0.75
    assert (Usage(cost_usd=0.5) + Usage(cost_usd=None)).cost_usd is None


def identity(**fields):
    base = {"task": "sha256:t", "dataset": "sha256:d", "dataset_name": "d", "evaluators": {}, "metrics": ()}
    return Identity(**{**base, **fields})


def test_identities_round_trip_and_tell_candidate_from_yardstick():
    one = identity(evaluators={"m": "sha256:e"}, metrics=(Metric(name="m"),))
    assert Identity.from_json(one.to_json()) == one
    assert one.candidate != identity(task="sha256:other").candidate
    assert one.yardstick != identity(trials=2).yardstick
    assert one.yardstick == identity(task="x", evaluators={"m": "sha256:e"}, dataset_name="other").yardstick


def test_scores_hold_planned_rows_once():
    row = Row(example_id="1")
    with pytest.raises(InvalidValue, match="two rows"):
        Scores(identity=identity(), planned=(("1", 0),), rows=(row, row))
    with pytest.raises(InvalidValue, match="not planned"):
        Scores(identity=identity(), planned=(), rows=(row,))


def test_the_digest_of_values_leaves_clocks_out():
    def scores(**fields):
        return Scores(identity=identity(), planned=(("1", 0),), rows=(Row(example_id="1", **fields),))

    assert scores(seconds=1.0).digest_of_values() == scores(seconds=2.0).digest_of_values()
    assert scores(outputs="a").digest_of_values() != scores(outputs="b").digest_of_values()


# -- settings --------------------------------------------------------------------------------------


def test_settings_precedence(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.steelyard]\nexperiment = "file"\nlm = "openai:x"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert load_settings(inner, environ={}).experiment == "file"
    env = {"MLFLOW_EXPERIMENT_NAME": "field", "OPENAI_API_KEY": "sk-secret"}
    settings = load_settings(inner, environ=env)
    assert (settings.experiment, settings.root) == ("field", tmp_path)
    assert "sk-secret" not in repr(settings)
    assert load_settings(inner, environ=env | {"STEELYARD_EXPERIMENT": "own"}).experiment == "own"
    assert load_settings(inner, environ=env, experiment="argument").experiment == "argument"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[tool.steelyard]\nprompt = "p"\n', r"pyproject.toml:2: .*'prompt'.*Did you mean 'prompts'"),
        ("[tool.steelyard]\nlm = 3\n", r":2: .*wrong type"),
        ("[tool.steelyard]\nconcurrency = true\n", r":2: .*wrong type"),
        ("[tool.steelyard\n", r"pyproject.toml:1: not readable as TOML: Expected"),
        ("[tool.steelyard]\nlm = 'a\n", r"pyproject.toml:2: not readable as TOML"),
        ("[tool.ruff]\n[tool.steelyrd]\nlm = 'a'\n", r":2: .*Did you mean \[tool.steelyard\]"),
    ],
)
def test_a_wrong_setting_names_file_line_and_remedy(tmp_path, text, says):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InvalidFile, match=says):
        load_settings(tmp_path, environ={})


def test_settings_that_are_not_utf_8_name_the_line(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.steelyard]\nlm = 'caf\xe9'\n")
    with pytest.raises(InvalidFile, match=r"pyproject.toml:2: not UTF-8 text"):
        load_settings(tmp_path, environ={})


def test_wrong_values_from_the_environment(tmp_path):
    with pytest.raises(InvalidValue, match="STEELYARD_CONCURRENCY"):
        load_settings(tmp_path, environ={"STEELYARD_CONCURRENCY": "many"})
    with pytest.raises(InvalidValue, match="auto or live or replay"):
        load_settings(tmp_path, environ={"STEELYARD_LM_MODE": "repaly"})


def test_the_registry_of_plugins_names_collisions_and_typos():
    registry: Registry[int] = Registry("thing", "steelyard.test_nothing")
    registry.add("one", lambda: 1)
    assert registry.get("one") == 1
    assert list(registry) == ["one"]
    with pytest.raises(InvalidValue, match="twice"):
        registry.add("one", lambda: 2)
    with pytest.raises(NotFound, match="did you mean 'one'"):
        registry.get("oen")


HEAVY = ("mlflow", "openai", "langchain", "torch", "pandas", "numpy", "pydantic", "yaml", "click", "scipy")


@pytest.mark.parametrize("module", ["steelyard", "steelyard.core.settings", "steelyard.pytest_plugin"])
def test_importing_pulls_in_nothing_heavy(module):
    code = f"import sys, {module}; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_every_public_name_loads():
    import steelyard

    for name in steelyard.__all__:
        assert getattr(steelyard, name) is not None
    with pytest.raises(AttributeError, match="nothing_here"):
        steelyard.nothing_here  # noqa: B018
