"""The gate from end to end on a store in memory: real files, real evidence, tasks of plain code."""

import asyncio
import json
import re

import pytest

from steelyard import (
    Dataset,
    Example,
    Gate,
    InvalidOutput,
    at_least,
    at_most,
    evaluator,
    exact_match,
    not_worse_than,
    numeric_close,
)
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.settings import load_settings
from steelyard.evals.gate import prepare, run_gate, run_only
from steelyard.evals.weigh import weigh
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.gates import Policy
from steelyard.prompts import load_prompt
from steelyard.store import LedgerEntry
from steelyard.store.memory import MemoryStore

PROMPT = """\
description: Skill says how many of ten examples the task gets right.
template: "skill={skill} {{{{ x }}}}"
variables:
  x: {{type: int, description: the question}}
"""


def task(inputs, prompt):
    """Right on as many of ten examples as the prompt's skill says."""
    text = prompt.render(x=inputs["x"]).messages[-1]["content"]
    skill = int(text.split("skill=")[1].split()[0])
    return {"y": inputs["x"] if inputs["x"] % 10 < skill else -1}


def examples(n=200, **fields):
    return tuple(
        Example(id=f"e{i:04}", inputs={"x": i}, reference_outputs={"y": i}, **fields) for i in range(n)
    )


DATA = Dataset(name="numbers", examples=examples())
ALL_X = Dataset(name="a", examples=examples(metadata={"all": "x"}))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    (tmp_path / "prompts").mkdir()
    return tmp_path


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def workspace(project, store):
    with Workspace(load_settings(project, environ={}), store=store) as workspace:
        yield workspace


def write_prompt(project, skill):
    (project / "prompts" / "count.yaml").write_text(PROMPT.format(skill=skill))


def spec(**fields):
    base = {
        "task": task,
        "name": "count",
        "dataset": DATA,
        "prompt": "count",
        "evaluators": [exact_match("y")],
        "require": [not_worse_than("production", "exact_match", margin=0.05)],
    }
    return Gate(**{**base, **fields})


def go_live(workspace, evidence=()):
    """What `promote` does to the store, without its rules."""
    prompt = load_prompt("count", workspace.settings)
    workspace.store.register("prompt", "count", digest=prompt.digest, content=prompt.content())
    before = workspace.store.aliases("prompt", "count").get("production")
    workspace.store.move_alias(
        LedgerEntry(
            kind="prompt", name="count", alias="production", before=before, after=prompt.digest,
            action="promote", who="test", when="2026-01-01T00:00:00.000Z", evidence=evidence,
        )
    )  # fmt: skip
    return prompt.digest


def make_baseline(project, workspace, skill):
    write_prompt(project, skill)
    report = run_gate(spec(require=[at_least("exact_match", 0.1)]), workspace)
    assert report.outcome == "pass"
    return go_live(workspace, (report.evidence_id,))


# -- the four verdicts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "outcome"), [(5, 7, "pass"), (7, 5, "fail")])
def test_a_better_prompt_passes_and_a_worse_one_fails(project, workspace, old, new, outcome):
    make_baseline(project, workspace, old)
    write_prompt(project, new)
    report = run_gate(spec(), workspace)
    assert report.outcome == outcome
    finding = report.verdict.findings[0]
    assert finding.candidate == pytest.approx(new / 10)
    assert finding.baseline == pytest.approx(old / 10)
    assert report.baseline_source["production"].startswith("stored evidence")


def test_an_identical_candidate_passes_but_floors_count(project, workspace):
    make_baseline(project, workspace, 5)
    report = run_gate(spec(), workspace)
    assert report.outcome == "pass"
    assert report.verdict.findings[0].method == "identical"
    floors = spec(
        require=[not_worse_than("production", "exact_match", margin=0.05), at_least("exact_match", 0.9)]
    )
    assert run_gate(floors, workspace).outcome == "fail"


def test_few_examples_are_inconclusive(project, workspace):
    write_prompt(project, 7)
    small = Dataset(name="small", examples=examples(20))
    report = run_gate(spec(dataset=small, require=[at_least("exact_match", 0.65)]), workspace)
    assert report.outcome == "inconclusive"
    assert report.verdict.findings[0].more_examples


def test_without_a_baseline_it_tells_how_to_bless_one(project, workspace):
    write_prompt(project, 5)
    report = run_gate(spec(), workspace)
    assert report.outcome == "unmeasurable"
    assert "steelyard bless" in report.verdict.sentence
    assert report.candidate is not None
    assert len(report.candidate.rows) == len(DATA)


def test_floors_are_judged_though_the_baseline_is_missing(project, workspace):
    write_prompt(project, 3)
    require = [at_least("exact_match", 0.9), not_worse_than("production", "exact_match", margin=0.05)]
    report = run_gate(spec(require=require), workspace)
    floor, comparison = report.verdict.findings
    assert (floor.outcome, comparison.outcome) == ("fail", "unmeasurable")
    assert "Nothing is 'production' yet" in comparison.sentence
    bundle = EvidenceBundle.open(workspace.evidence_folder / report.evidence_id)
    assert weigh(bundle).to_bytes() == report.verdict.to_bytes()


def test_a_misspelt_baseline_is_named(project, workspace):
    make_baseline(project, workspace, 5)
    report = run_gate(spec(require=[not_worse_than("prodction", "exact_match", margin=0.05)]), workspace)
    assert report.outcome == "unmeasurable"
    assert "Did you mean 'production'?" in report.verdict.sentence


LABELS = Dataset(
    name="a",
    examples=[Example(id=f"e{i}", inputs={"x": i}, reference_outputs={"label": i}) for i in range(9)],
)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"require": [at_least("exact_mach", 0.5)]}, "Did you mean 'exact_match'?"),
        ({"require": [at_least("exact_match", 50)]}, "Did you mean 0.5?"),
        ({"require": [not_worse_than("production", "exact_match", margin=5)]}, "Did you mean 0.05?"),
        ({"evaluators": [exact_match("labl")], "dataset": LABELS}, "Did you mean 'label'?"),
        ({"evaluators": [numeric_close("x.y")], "dataset": LABELS}, "They hold label."),
    ],
)
def test_what_can_never_be_measured_is_refused_before_anything_is_run(project, workspace, fields, says):
    write_prompt(project, 5)
    ran = []

    def counted(inputs, prompt):
        ran.append(inputs)
        return task(inputs, prompt)

    report = run_gate(spec(task=counted, **fields), workspace)
    assert report.outcome == "unmeasurable"
    assert says in report.verdict.sentence
    assert not ran


# -- where the baseline's rows come from -----------------------------------------------------------


def test_a_baseline_without_stored_outputs_runs_anew_with_the_same_code_only(project, workspace, store):
    make_baseline(project, workspace, 5)
    write_prompt(project, 7)
    other = Dataset(name="other", examples=examples(150))
    report = run_gate(spec(dataset=other), workspace)
    assert report.outcome == "pass"
    assert report.baseline_source["production"].startswith("run anew")
    # a second time its rows are stored
    assert run_gate(spec(dataset=other), workspace).baseline_source["production"].startswith("stored")


def test_changed_task_code_is_never_called_the_baseline(project, workspace):
    make_baseline(project, workspace, 5)
    write_prompt(project, 7)

    def new_code(inputs, prompt):
        return task(inputs, prompt)

    other = Dataset(name="other", examples=examples(150))
    report = run_gate(spec(task=new_code, dataset=other), workspace)
    assert report.outcome == "unmeasurable"
    assert "the task's code is not the code it went live with" in report.verdict.sentence
    # on the dataset whose outputs are stored it can be compared
    assert run_gate(spec(task=new_code), workspace).outcome == "pass"


def test_a_changed_dataset_or_evaluator_does_not_reuse_rows(project, workspace):
    make_baseline(project, workspace, 5)
    write_prompt(project, 7)
    changed = Dataset(name="numbers", examples=(*examples(199), Example(id="new", inputs={"x": 1})))
    assert run_gate(spec(dataset=changed), workspace).baseline_source["production"].startswith("run anew")
    looser = [exact_match("y", ignore_case=True)]
    assert run_gate(spec(evaluators=looser), workspace).baseline_source["production"].startswith("run anew")


# -- no vacuous green ------------------------------------------------------------------------------


@evaluator
def gives_nothing(outputs):
    return None


@evaluator
def gives_nan(outputs):
    return float("nan")


@evaluator
def raises(outputs):
    raise RuntimeError("boom")


@evaluator
def exits(outputs):
    raise SystemExit(3)


def broken(inputs):
    raise ConnectionError("no route to anywhere")


def exiting(inputs):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dataset": Dataset(name="none", examples=())}, "empty"),
        ({"evaluators": []}, "no evaluator"),
        ({"require": []}, "no requirement"),
        ({"evaluators": [gives_nothing], "require": [at_least("gives_nothing", 0)]}, "gives_nothing"),
        ({"evaluators": [gives_nan], "require": [at_least("gives_nan", 0)]}, "gives_nan"),
        ({"evaluators": [raises], "require": [at_least("raises", 0)]}, "raises"),
        ({"evaluators": [exits], "require": [at_least("exits", 0)]}, "exits"),
        ({"task": broken, "require": [at_least("exact_match", 0)]}, "exact_match"),
        ({"task": exiting, "require": [at_least("exact_match", 0)]}, "exact_match"),
        ({"require": [at_least("exact_mach", 0)]}, "exact_match"),
        ({"require": [at_most("exact_match", 1), at_least("nothing", 0)]}, "nothing"),
        ({"report_only": {"all": "x"}, "dataset": ALL_X}, "report_only"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_never_passes_and_says_why(project, workspace, fields, says):
    write_prompt(project, 9)
    report = run_gate(spec(**{"require": [at_least("exact_match", 0.1)], **fields}), workspace)
    assert report.outcome == "unmeasurable"
    words = report.verdict.sentence + " ".join(f.sentence + f.advice for f in report.verdict.findings)
    assert says in words


def test_an_evaluator_that_is_always_silent_is_not_green_even_if_nothing_demands_it(project, workspace):
    write_prompt(project, 9)
    fields = {"evaluators": [exact_match("y"), gives_nothing], "require": [at_least("exact_match", 0.1)]}
    report = run_gate(spec(**fields), workspace)
    assert report.outcome == "unmeasurable"
    assert "gives_nothing" in report.verdict.sentence


def test_a_few_errors_count_against_the_candidate_and_many_make_it_unmeasurable(project, workspace):
    def flaky(share):
        def task(inputs):
            if inputs["x"] % 100 < share:
                raise KeyError("no such thing")
            return {"y": inputs["x"]}

        return task

    floor = [at_least("exact_match", 0.9)]
    two = run_gate(spec(task=flaky(2), prompt=None, require=floor), workspace)
    assert two.outcome == "pass"
    assert two.verdict.findings[0].missing == 4
    three = run_gate(spec(task=flaky(3), prompt=None, require=floor), workspace)
    assert three.outcome == "unmeasurable"
    kinds = {r.failure.kind for r in three.candidate.rows if r.failure}
    assert kinds == {"task"}
    message = next(r.failure.message for r in three.candidate.rows if r.failure)
    assert re.fullmatch(r"KeyError: 'no such thing' \(.*test_gate.py:\d+ in task\)", message)


def test_invalid_output_scores_worst_and_is_no_error(project, workspace):
    def sloppy(inputs):
        if inputs["x"] % 4 == 0:
            raise InvalidOutput("not JSON", output="{")
        return {"y": inputs["x"]}

    report = run_gate(spec(task=sloppy, prompt=None, require=[at_least("exact_match", 0.5)]), workspace)
    finding = report.verdict.findings[0]
    assert (finding.candidate, finding.invalid, finding.missing) == (0.75, 50, 0)
    row = next(r for r in report.candidate.rows if r.invalid_output)
    assert (row.outputs, row.scores[0].label) == ("{", "invalid_output")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"prompt": "cuont"}, NotFound, "did you mean 'count'"),
        ({"prompt": "count@production"}, NotFound, "production"),
        ({"dataset": "numbres"}, NotFound, "numbres"),
        ({"evaluators": ["exact_mach"]}, NotFound, "exact_match"),
        ({"evaluators": [exact_match("y"), exact_match("y")]}, InvalidValue, "exact_match"),
        ({"evaluators": [len]}, InvalidValue, "len"),
        ({"task": lambda question: 1}, InvalidValue, "question"),
        (
            {"split": "tset", "dataset": Dataset(name="a", examples=examples(split="test"))},
            NotFound,
            "'test'",
        ),
    ],
)
def test_what_a_person_must_mend_is_one_sentence(project, workspace, fields, error, says):
    write_prompt(project, 5)
    with pytest.raises(error, match=says) as caught:
        run_gate(spec(**fields), workspace)
    assert "\n" not in str(caught.value)
    assert workspace.reports == []


def test_a_broken_prompt_file_names_the_line(project, workspace):
    (project / "prompts" / "count.yaml").write_text("description: x\ntemplat: y\n")
    with pytest.raises(InvalidFile, match=r"count\.yaml:2: .*templat"):
        prepare(spec(), workspace)


# -- evidence --------------------------------------------------------------------------------------


def test_the_verdict_is_a_pure_function_of_the_bundle(project, workspace):
    make_baseline(project, workspace, 5)
    write_prompt(project, 7)
    report = run_gate(spec(), workspace)
    bundle = EvidenceBundle.open(workspace.evidence_folder / report.evidence_id)
    bundle.verify()
    assert weigh(bundle).to_bytes() == bundle.verdict_bytes == report.verdict.to_bytes()
    stated = json.loads(bundle.verdict_bytes)
    assert report.evidence_id not in json.dumps(stated)


def test_another_policy_after_the_run_is_unmeasurable(project, workspace):
    write_prompt(project, 7)
    report = run_gate(spec(require=[at_least("exact_match", 0.9)]), workspace)
    assert report.outcome == "fail"
    bundle = EvidenceBundle.open(workspace.evidence_folder / report.evidence_id)
    lowered = weigh(bundle, Policy(requirements=(at_least("exact_match", 0.1),)))
    assert lowered.outcome == "unmeasurable"


NOISE = {"shift": 0}


def moody(inputs, prompt):
    out = task(inputs, prompt)
    return out if inputs["x"] != NOISE["shift"] else {"y": -2}


def test_the_same_values_are_the_same_look_and_new_ones_the_next(project, workspace):
    make_baseline(project, workspace, 5)
    write_prompt(project, 7)
    looks = []
    for shift in (0, 0, 1, 0):
        NOISE["shift"] = shift
        looks.append(run_gate(spec(task=moody), workspace).verdict.look)
    assert looks == [1, 1, 2, 1]


def test_rows_that_are_only_reported_do_not_count(project, workspace):
    write_prompt(project, 9)
    mixed = Dataset(
        name="mixed",
        examples=examples(100)
        + tuple(
            Example(id=f"ja{i}", inputs={"x": i}, reference_outputs={"y": -5}, metadata={"language": "ja"})
            for i in range(30)
        ),
    )
    floor = [at_least("exact_match", 0.8)]
    report = run_gate(spec(dataset=mixed, require=floor, report_only={"language": "ja"}), workspace)
    assert report.outcome == "pass"
    assert report.verdict.findings[0].n == 100
    assert len(report.advisory["language=ja"].rows) == 30
    assert run_gate(spec(dataset=mixed, require=floor), workspace).outcome != "pass"


def test_async_tasks_trials_and_concurrency(project, workspace):
    running = {"now": 0, "most": 0}

    async def slow(inputs):
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        await asyncio.sleep(0.001)
        running["now"] -= 1
        return {"y": inputs["x"]}

    small = Dataset(name="small", examples=examples(40))
    report = run_gate(
        spec(task=slow, version="1", prompt=None, dataset=small, trials=3, concurrency=10,
             require=[at_least("exact_match", 0.8)]),
        workspace,
    )  # fmt: skip
    assert report.outcome == "pass"
    assert len(report.candidate.rows) == 120
    assert report.verdict.findings[0].n == 40
    assert running["most"] == 10


def test_a_hanging_task_times_out_and_the_rest_goes_on(project, workspace):
    import threading

    never = threading.Event()

    def sometimes(inputs):
        if inputs["x"] == 3:
            never.wait()
        return {"y": inputs["x"]}

    report = run_gate(
        spec(task=sometimes, version="1", prompt=None, timeout_s=0.3, require=[at_least("exact_match", 0.9)]),
        workspace,
    )
    never.set()
    failed = [r for r in report.candidate.rows if r.failure]
    assert [(r.example_id, r.failure.kind) for r in failed] == [("e0003", "timeout")]
    assert report.outcome == "pass"


def test_a_gate_runs_inside_a_running_event_loop(project, workspace):
    write_prompt(project, 9)

    async def notebook():
        return run_gate(spec(require=[at_least("exact_match", 0.8)]), workspace)

    assert asyncio.run(notebook()).outcome == "pass"


def test_a_run_without_a_gate_is_recorded(project, workspace, store):
    write_prompt(project, 5)
    bundle = run_only(spec(), workspace)
    assert len(bundle.scores.rows) == 200
    assert [e.outcome for e in store.evidence(name="count")] == ["recorded"]


@evaluator(direction="lower", range=None)
def size(outputs):
    return len(str(outputs["y"]))


def test_metrics_without_a_range(project, workspace):
    write_prompt(project, 5)
    report = run_gate(spec(evaluators=[exact_match("y"), size], require=[at_most("size", 3.0)]), workspace)
    assert report.outcome == "pass"
