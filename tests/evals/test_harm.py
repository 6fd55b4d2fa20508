"""Tasks and evaluators that hang, exit, or hand over odd values harm their own row and nothing else."""

import asyncio
import json
import math
import sys
import threading

import pytest

from steelyard import Dataset, Example, Gate, at_least, evaluator
from steelyard.core.canonical import canonical
from steelyard.core.errors import InvalidValue
from steelyard.core.settings import load_settings
from steelyard.evals.gate import run_gate
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.evidence.rowlog import RowLog, read_rows
from steelyard.store.memory import MemoryStore

N = 12
BAD = 5
LIMIT = 1.5
"""Seconds; long enough for everything that does not hang, however busy the machine is."""
DATA = Dataset(name="n", examples=tuple(Example(id=f"e{i:02}", inputs={"x": i}) for i in range(N)))
FOREVER = threading.Event()
"""Never set: a wait for it hangs."""


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n")
    with Workspace(load_settings(tmp_path, environ={}), store=MemoryStore()) as workspace:
        yield workspace


def rows_of(workspace, task, evaluators, **fields):
    fields = {"timeout_s": LIMIT, "concurrency": 3, **fields}
    floor = at_least(evaluators[0].metrics[0].name, 0.1)
    spec = Gate(
        task=task, name="g", version="1", dataset=DATA, evaluators=evaluators, require=[floor], **fields
    )
    report = run_gate(spec, workspace)
    bundle = EvidenceBundle.open(workspace.evidence_folder / report.evidence_id)
    bundle.verify()
    return {r.example_id: r for r in bundle.scores.rows}


@evaluator
def fine(outputs):
    return True


def echo(inputs):
    return inputs["x"]


async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if FOREVER.is_set():
                raise


def hangs(x):
    FOREVER.wait(3600)


def exits(x):
    sys.exit(3)


def raises(x):
    raise KeyError("label")


async def hangs_async(x):
    await asyncio.sleep(3600)


async def swallows_async(x):
    await swallow()


async def exits_async(x):
    sys.exit(3)


async def raises_async(x):
    raise KeyError("label")


HARM = {
    hangs: ("timeout", f"{LIMIT} s"),
    exits: (None, "exit"),
    raises: (None, "KeyError: 'label'"),
    hangs_async: ("timeout", f"{LIMIT} s"),
    swallows_async: ("timeout", f"{LIMIT} s"),
    exits_async: (None, "exit"),
    raises_async: (None, "KeyError: 'label'"),
}


@pytest.mark.parametrize("harm", HARM, ids=lambda f: f.__name__)
def test_a_task_that_does_harm_fails_its_own_row(workspace, harm):
    if asyncio.iscoroutinefunction(harm):

        async def task(inputs):
            return await harm(inputs["x"]) if inputs["x"] == BAD else inputs["x"]

    else:

        def task(inputs):
            return harm(inputs["x"]) if inputs["x"] == BAD else inputs["x"]

    rows = rows_of(workspace, task, [fine])
    assert len(rows) == N
    bad = rows.pop(f"e{BAD:02}")
    kind, text = HARM[harm]
    assert bad.failure.kind == (kind or "task")
    assert text in bad.failure.message
    assert all(r.score("fine").value == 1.0 for r in rows.values())


@pytest.mark.parametrize("harm", HARM, ids=lambda f: f.__name__)
def test_an_evaluator_that_does_harm_fails_its_own_score(workspace, harm):
    if asyncio.iscoroutinefunction(harm):

        @evaluator(name="harmful", version="1")
        async def harmful(outputs):
            return await harm(outputs) if outputs == BAD else True

    else:

        @evaluator(name="harmful", version="1")
        def harmful(outputs):
            return harm(outputs) if outputs == BAD else True

    rows = rows_of(workspace, echo, [fine, harmful])
    kind, text = HARM[harm]
    for name, row in rows.items():
        assert row.score("fine").value == 1.0
        score = row.score("harmful")
        if name == f"e{BAD:02}":
            assert score.error.kind == (kind or "evaluator")
            assert text in score.error.message
        else:
            assert score.value == 1.0


def test_hanging_evaluators_on_every_row_take_no_others_with_them(workspace):
    """More hang than there are lanes for functions that are over at once."""

    @evaluator(version="1")
    def hang(outputs):
        FOREVER.wait(3600)

    rows = rows_of(workspace, echo, [hang, fine], concurrency=12)
    assert all(
        r.score("fine").value == 1.0 and r.score("hang").error.kind == "timeout" for r in rows.values()
    )


# -- odd values -------------------------------------------------------------------------------------


def deep(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


def cyclic():
    value = {}
    value["self"] = value
    return value


REFUSED = {
    "depth 10,000": lambda: deep(10_000),
    "a cycle": cyclic,
    "a lone surrogate": lambda: "a\ud800b",
    "a lone surrogate as a key": lambda: {"\udfff": 1},
    "NaN": lambda: {"v": math.nan},
    "infinity": lambda: [math.inf],
    "2**53": lambda: 2**53,
    "a set of objects": lambda: {object()},
}
KEPT = {
    "NUL": lambda: "a\x00b",
    "U+2028 and a noncharacter": lambda: "\u2028\uffff\U0010ffff",
    "depth 150": lambda: deep(150),
    "an empty key": lambda: {"": {"": []}},
    "negative zero and the smallest double": lambda: [5e-324, 1.7976931348623157e308, 0.1],
    "carriage returns": lambda: "a\r\nb\rc",
}


@pytest.mark.parametrize("what", [*REFUSED, *KEPT])
def test_an_odd_output_is_kept_exactly_or_refused_by_name(workspace, what):
    make = {**REFUSED, **KEPT}[what]

    def task(inputs):
        return make() if inputs["x"] == BAD else inputs["x"]

    rows = rows_of(workspace, task, [fine])
    bad = rows.pop(f"e{BAD:02}")
    if what in KEPT:
        assert bad.outputs == make()
        assert bad.failure is None
    else:
        assert bad.failure.kind == "task"
        assert "InvalidValue" in bad.failure.message
    assert all(r.failure is None for r in rows.values())


GIVEN = []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, 2.0, "yes"])
def test_a_score_that_is_no_number_in_its_range_is_an_error(workspace, value):
    GIVEN[:] = [value]

    @evaluator(name="odd", version="1")
    def odd(outputs):
        return GIVEN[0] if outputs == BAD else 1.0

    rows = rows_of(workspace, echo, [odd])
    assert rows[f"e{BAD:02}"].score("odd").error.kind == "evaluator"
    assert sum(r.score("odd").value == 1.0 for r in rows.values()) == N - 1


def test_an_error_text_with_a_lone_surrogate_is_kept_readable(workspace):
    def task(inputs):
        raise ValueError("bad \ud800 text") if inputs["x"] == BAD else KeyError("x")

    rows = rows_of(workspace, task, [fine])
    assert "bad ? text" in rows[f"e{BAD:02}"].failure.message


@pytest.mark.slow
def test_a_string_of_100_mb_makes_the_round_trip(tmp_path):
    text = "é\x00\n" * (100 * 2**20 // 4)
    log = RowLog(tmp_path / "rows.log")
    log.append({"text": text})
    log.append({"after": 1})
    log.close()
    first, second = read_rows(tmp_path / "rows.log")
    assert first == {"text": text}
    assert second == {"after": 1}
    with pytest.raises(InvalidValue):
        canonical(text + "\ud800")


def test_canonical_json_reads_back_as_what_it_was():
    for make in KEPT.values():
        assert json.loads(canonical(make())) == make()
