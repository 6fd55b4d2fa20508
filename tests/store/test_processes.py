"""Many processes on one store, and processes killed at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.core.canonical import digest
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.testing.store_parts import fresh
from steelyard.testing.store_servers import MlflowServer

FULL = os.environ.get("STEELYARD_FULL") == "1"


@pytest.fixture(scope="module")
def crowd():
    """A function from a request to what each worker said."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(**request):
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


def test_first_use_by_many_processes_at_once(crowd, tmp_path):
    """All of them find an empty folder, open the store and register the same content."""
    _first_use(crowd, tmp_path, None)
    kept = [p.name for p in (tmp_path / ".steelyard" / "store").iterdir()]
    assert [k for k in kept if "part" in k or "backup" in k] == []


@pytest.mark.server
def test_first_use_of_an_empty_database_by_many_processes_at_once(crowd, tmp_path, postgres):
    uri = postgres.database()
    _first_use(crowd, tmp_path, uri)
    assert not (tmp_path / ".steelyard").exists()


def _first_use(crowd, home, uri):
    name, count = fresh("team/p"), 32 if FULL else 8
    said = crowd(home=str(home), uri=uri, jobs=[{"do": "register", "name": name}] * count)
    assert said == [["open", said[0][1]]] * count
    store = open_store(load_settings(home, environ={}, tracking_uri=uri))
    assert [v.number for v in store.versions("prompt", name)] == [said[0][1]]
    assert not list(home.glob("**/mlruns"))
    store.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def store(place):
    store = open_store(load_settings(place, environ={}))
    yield store
    store.close()


def test_of_writers_who_all_checked_before_any_wrote_one_wins(crowd, place, store):
    """Each step begins with all of them having seen the alias absent."""
    name = fresh("team/p")
    _race(crowd, store, name, home=str(place))


@pytest.mark.server
def test_the_same_on_postgres(crowd, tmp_path, postgres):
    uri, name = postgres.database(), fresh("team/p")
    store = open_store(load_settings(tmp_path, environ={}, tracking_uri=uri))
    _race(crowd, store, name, home=str(tmp_path), uri=uri)
    store.close()


@pytest.mark.server
def test_the_same_on_a_server(crowd, tmp_path, postgres):
    with MlflowServer(postgres.database(), (tmp_path / "artifacts").as_uri(), tmp_path) as server:
        store, name = open_store(load_settings(tmp_path, environ={}, tracking_uri=server.uri)), fresh("p")
        _race(crowd, store, name, home=str(tmp_path), uri=server.uri)


def _race(crowd, store, name, **where):
    count, steps = 5, 12 if FULL else 3
    digests = [digest(i) for i in range(count)]
    for d in digests:
        store.register("prompt", name, digest=d, content={"d": d})
    jobs = [
        {"do": "race", "name": name, "digest": d, "steps": [None] * steps, "referee": d == digests[0]}
        for d in digests
    ]
    said = crowd(jobs=jobs, **where)
    assert all(len(answers) == 1 + steps for answers in said), said
    history = store.history("prompt", name, "production")
    assert [e.action for e in history] == ["promote", "remove"] * steps
    for step, winner in enumerate(history[::2]):
        answers = [answers[1 + step] for answers in said]
        won = [a for a in answers if isinstance(a, dict)]
        lost = [a for a in answers if isinstance(a, list)]
        assert [w["after"] for w in won] == [winner.after]
        assert lost == [["Conflict", None, winner.after]] * (count - 1)
    assert {v.digest for v in store.versions("prompt", name)} == set(digests)  # nobody's content is lost


def test_of_many_processes_one_wins_each_step(crowd, place, store):
    name, count, rounds = fresh("team/p"), 6, 40 if FULL else 8
    digests = [digest(i) for i in range(count)]
    for d in digests:
        store.register("prompt", name, digest=d, content={"d": d})
    jobs = [{"do": "move", "name": name, "digest": d, "rounds": rounds} for d in digests]
    said = crowd(home=str(place), jobs=jobs)
    won = [x for answers in said for x in answers[1:] if isinstance(x, dict)]
    lost = [x for answers in said for x in answers[1:] if isinstance(x, str)]
    assert set(lost) == {"Conflict"}
    assert len(won) + len(lost) == count * rounds
    history = store.history("prompt", name, "production")
    assert sorted(e["number"] for e in won) == [e.number for e in history] == list(range(1, len(won) + 1))
    assert [e.before for e in history[1:]] == [e.after for e in history[:-1]]


def test_killed_at_any_moment(crowd, place, store):
    """What was acknowledged is there, and what is there is whole."""
    _kill(crowd, place, store, 200 if FULL else 20, None)


@pytest.mark.server
def test_killed_at_any_moment_on_postgres(crowd, tmp_path, postgres):
    uri = postgres.database()
    store = open_store(load_settings(tmp_path, environ={}, tracking_uri=uri))
    _kill(crowd, tmp_path, store, 200 if FULL else 6, uri)
    store.close()


def _kill(crowd, place, store, points, uri):
    rng = random.Random(20260131)
    for point in range(points):
        name = fresh(f"kill-{point}")
        jobs = [{"do": "toil", "name": name}] * 2
        said = crowd(home=str(place), uri=uri, jobs=jobs, kill_after_ms=rng.uniform(1, 900))
        acked = [x for answers in said for x in answers[1:] if isinstance(x, list)]
        crashed = [x for answers in said for x in answers[1:] if isinstance(x, str)]
        assert all("Conflict" in x for x in crashed), crashed  # two of them move one alias
        versions = store.versions("prompt", name)
        history = store.history("prompt", name)
        state = store.aliases("prompt", name)
        assert {n for kind, n in acked if kind == "version"} <= {v.number for v in versions}
        assert {n for kind, n in acked if kind == "move"} <= {e.number for e in history}
        assert [e.before for e in history] == [None, *(e.after for e in history)][: len(history)]
        assert state == ({"production": history[-1].after} if history else {})
        assert all(digest(v.content) == v.digest for v in versions)
        if state:
            # MLflow's own alias is behind for no longer than until the next look.
            standing = store.version("prompt", name, state["production"])
            model = store._backend.registry.get_model_version_by_alias(name, "production")
            assert int(model.version) == standing.number
        found = store.evidence(name=name)
        assert {n for kind, n in acked if kind == "evidence"} <= {e.id for e in found}
        for evidence in found:
            opened = store.open_evidence(evidence.id, place / "opened")
            assert (opened / "rows" / "candidate.jsonl").stat().st_size == len(
                b'{"id": "a\\u0000"}\n\xff\n'
            ) * 100
