"""What others see in MLflow of what we store, and what happens when they meddle."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import mlflow
import pytest
from mlflow import MlflowClient

from steelyard.core.canonical import digest
from steelyard.core.errors import Corrupt, InvalidValue, NotFound, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.store.memory import MemoryStore
from steelyard.store.opening import store_uri
from steelyard.testing.store_parts import bundle, evidence_of, fresh, move, run_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return load_settings(tmp_path_factory.mktemp("project"), environ={})


@pytest.fixture
def store(settings):
    store = open_store(settings)
    yield store
    store.close()


@pytest.fixture
def client(store, settings):
    """MLflow as a stranger uses it."""
    return MlflowClient(tracking_uri=store_uri(settings), registry_uri=store_uri(settings))


def test_prompts_are_mlflow_s_prompts(store, client):
    name = f"team/{fresh()}"
    chat = {
        "messages": [{"role": "user", "content": "Hi {{ x }}"}],
        "model": "m",
        "response_format": {"type": "json_object"},
    }
    text = {"template": "Say {{ x }}. \0"}
    for content in (chat, text, {"other": "é" * 120_000}):
        store.register("prompt", name, digest=digest(content), content=content, tags={"git": "abc"})
    there = name.replace("/", "..")
    assert there in [p.name for p in client.search_prompts()]
    first = client.load_prompt(f"prompts:/{there}/1")
    assert first.template == chat["messages"]
    assert first.response_format == chat["response_format"]
    assert first.tags["git"] == "abc"
    assert client.load_prompt(f"prompts:/{there}/2").template == "Say {{ x }}. \N{SYMBOL FOR NULL}"
    assert "cut" in client.load_prompt(f"prompts:/{there}/3").template
    store.move_alias(move(name, None, digest(text), alias="production"))
    assert client.load_prompt(f"prompts:/{there}@production").version == 2


def test_runs_are_mlflow_s_runs(store, client, tmp_path):
    run_id = store.record_run(
        run_of(
            experiment="an experiment",
            status="FAILED",
            params={"long": "p" * 20_000, "k": "v"},
            metrics={"series": [0.25, 0.5], "m%": 1},
            tags={"t": "v"},
            artifacts={"deep/er/b": bundle(tmp_path / "b")},
        )
    )
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name, run.info.end_time - run.info.start_time) == (
        "FAILED",
        "a run",
        60_000,
    )
    assert run.data.params["k"] == "v"
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["long"].endswith("[cut from 20000 characters]")
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "series")] == [(0, 0.25), (1, 0.5)]
    assert run.data.metrics["m_"] == 1
    assert run.data.tags["t"] == "v"
    assert [f.path for f in client.list_artifacts(run_id, "deep/er/b")] == [
        "deep/er/b/rows",
        "deep/er/b/seal.json",
    ]


def test_evidence_half_written_is_not_found(store, client, tmp_path):
    evidence = evidence_of()
    stored = store.add_evidence(evidence, bundle(tmp_path / "b"), run_of())
    client.delete_tag(
        stored.run_id, "steelyard.evidence.complete"
    )  # as a crash before the last write leaves it
    assert store.evidence(name=evidence.name) == []
    with pytest.raises(NotFound):
        store.open_evidence(evidence.id, tmp_path)
    again = store.add_evidence(evidence, tmp_path / "b", run_of())
    assert again.run_id != stored.run_id
    assert store.evidence(name=evidence.name) == [again]


def test_a_run_that_cannot_be_written_is_left_as_failed(store, client, tmp_path):
    experiment = fresh("exp")
    with pytest.raises(InvalidValue, match="leaves the run"):
        store.record_run(run_of(experiment=experiment, artifacts={"../x": bundle(tmp_path / "b")}))
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert run.info.status == "FAILED"


def test_a_deleted_experiment_is_told(store, client):
    experiment = fresh("exp")
    client.delete_experiment(client.create_experiment(experiment))
    with pytest.raises(InvalidValue, match="mlflow experiments restore"):
        store.record_run(run_of(experiment=experiment))


def test_an_alias_set_in_mlflow_moves_nothing_and_is_mended(store, client):
    name, (a, b) = fresh(), (digest("a"), digest("b"))
    for d in (a, b):
        store.register("prompt", name, digest=d, content={"d": d})
    store.move_alias(move(name, None, a))
    client.set_prompt_alias(name, "production", 2)
    client.set_prompt_alias(name, "theirs", 2)
    assert store.aliases("prompt", name) == {"production": a}
    assert client.get_prompt_version_by_alias(name, "production").version == 1
    assert client.get_prompt_version_by_alias(name, "theirs").version == 2
    store.move_alias(move(name, a, None))
    assert dict(store._backend.registry.get_registered_model(name).aliases) == {"theirs": 2}


def test_a_move_that_mlflow_does_not_show_yet_has_taken_effect(store, client, monkeypatch):
    """Two who set one alias's row at one moment: MLflow refuses one of them, whose move is in the ledger."""
    name, a = fresh(), digest("a")
    store.register("prompt", name, digest=a, content={})

    def clash(*_):
        raise mlflow.exceptions.MlflowException("UNIQUE constraint failed: registered_model_aliases")

    with monkeypatch.context() as patch:
        patch.setattr(store._aliases, "_set", clash)
        assert store.move_alias(move(name, None, a)).number == 1
        assert store.aliases("prompt", name) == {"production": a}
    assert store.drift("prompt", name)
    assert store.aliases("prompt", name) == {"production": a}
    assert store.drift("prompt", name) == []


def test_what_was_edited_in_mlflow_is_told(store, client):
    name = fresh()
    store.register("prompt", name, digest=digest("a"), content={"template": "a"})
    client.set_prompt_version_tag(name, "1", "steelyard.content.0", '{"template": "b"}')
    with pytest.raises(Corrupt, match=name):
        store.version("prompt", name, 1)
    store.move_alias(move(other := fresh(), None, _registered(store, other)))
    store.move_alias(move(other, digest("x"), None))
    client.delete_model_version(f"{other}._ledger", "1")
    with pytest.raises(Corrupt, match="line 1 is missing"):
        store.aliases("prompt", other)


def _registered(store, name):
    return store.register("prompt", name, digest=digest("x"), content={}).digest


def test_what_mlflow_s_users_made_is_left_alone(store, client):
    name, model = fresh(), fresh()
    client.register_prompt(name, "theirs {{x}}")
    assert store.versions("prompt", name) == []
    made = store.register("prompt", name, digest=digest("ours"), content={"template": "ours"})
    assert made.number == 2
    assert [v.number for v in store.versions("prompt", name)] == [2]
    assert name in store.names("prompt")
    assert client.load_prompt(f"prompts:/{name}/1").template == "theirs {{x}}"
    client.create_registered_model(model)
    with pytest.raises(InvalidValue, match="model named"):
        store.register("prompt", model, digest=digest("ours"), content={})
    assert store.register("model", model, digest=digest("ours"), content={}).number == 1


def test_a_duplicate_that_a_crash_left_is_hidden(store, client):
    name = fresh()
    first = store.register("prompt", name, digest=digest("a"), content={"template": "a"})
    tags = dict(store._backend.registry.get_model_version(name, "1").tags)
    store._backend.registry.create_model_version(name, "dummy-source", tags=tags)
    assert store.versions("prompt", name) == [first]
    assert store.register("prompt", name, digest=digest("a"), content={"template": "a"}) == first
    store.delete_version("prompt", name, 1)
    assert store.versions("prompt", name) == []


def test_a_deletion_that_died_half_way_is_finished(store, client, monkeypatch):
    name = fresh()
    store.register("prompt", name, digest=digest("a"), content={})
    with monkeypatch.context() as killed:
        killed.setattr(store._versions, "delete", lambda *_: None)
        store.delete_version("prompt", name, 1)
    assert len(store.versions("prompt", name)) == 1
    with pytest.raises(NotFound):
        store.move_alias(move(name, None, digest("a")))
    assert store.versions("prompt", name) == []


def test_the_store_marks_its_format_and_waits_for_no_reader(store, client, settings):
    assert client.get_experiment("0").tags["steelyard.format"] == "1"
    assert client.get_experiment("0").artifact_location.startswith((settings.home / "store").as_uri())
    with closing(sqlite3.connect(settings.home / "store" / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_mlflow_s_own_address_is_not_touched(store):
    assert mlflow.get_tracking_uri() != store.uri
    assert mlflow.get_registry_uri() != store.uri


def test_opening_is_quiet_and_writes_nothing_elsewhere(tmp_path):
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "from steelyard.core.settings import load_settings\n"
        "from steelyard.store import open_store, RunRecord\n"
        "s = open_store(load_settings())\n"
        "s.register('prompt', 'p', digest='sha256:' + '0' * 64, content={})\n"
        "at = '2026-01-31T09:30:00Z'\n"
        "s.record_run(RunRecord(experiment='e', name='n', started=at, ended=at))\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "STEELYARD_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [p.name for p in tmp_path.iterdir()] == [".steelyard"]


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "x.db").write_text("this is no database " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(load_settings(tmp_path, environ={}, tracking_uri=f"sqlite:///{tmp_path / 'x.db'}"))


@pytest.mark.parametrize("uri", ["./mlruns", "file:///x", "http://", "http://h:port"])
def test_addresses_that_are_none_are_told(tmp_path, uri):
    with pytest.raises(InvalidValue, match="tracking_uri"):
        open_store(load_settings(tmp_path, environ={}, tracking_uri=uri))


def test_other_stores(tmp_path):
    assert isinstance(open_store(load_settings(tmp_path, environ={}, tracking_uri="memory:")), MemoryStore)
    with pytest.raises(NotFound, match="memori"):
        open_store(load_settings(tmp_path, environ={}, tracking_uri="memori:"))
