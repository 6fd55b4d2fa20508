"""Stores of other releases: newer ones are refused, older ones migrated and kept."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision

from steelyard.cli.main import main
from steelyard.core.canonical import digest
from steelyard.core.errors import InvalidValue, StoreUnavailable
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.store.schema import current_revision
from steelyard.store.state import migrate
from steelyard.testing.store_parts import fresh, move
from steelyard.testing.store_servers import database_uri

LATEST = _get_latest_schema_revision()


def _filled(settings):
    store, name = open_store(settings), fresh("team/p")
    store.register("prompt", name, digest=digest("a"), content={})
    store.move_alias(move(name, None, digest("a")))
    store.close()
    return name


def _age(uri, steps=1):
    """Bring the tables back by some steps, as an older release of MLflow made them; the revision then."""
    from alembic import command
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    config = _get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, f"-{steps}")
    engine.dispose()
    return current_revision(uri)


def _older(uri):
    for steps in (1, 2, 3):  # some steps of MLflow's know no way back
        with contextlib.suppress(NotImplementedError):
            revision = _age(uri, steps)
            if revision != LATEST:
                return revision
    return pytest.skip("MLflow's last migrations cannot be undone")


@pytest.fixture
def sqlite(tmp_path, empty_sqlite):
    settings = empty_sqlite(tmp_path)
    return settings, settings.home / "store" / "mlflow.db", _filled(settings)


def test_an_older_sqlite_store_is_migrated_after_a_backup(sqlite):
    settings, file, name = sqlite
    older = _older(f"sqlite:///{file}")
    before = file.read_bytes()
    store = open_store(settings)
    assert store.aliases("prompt", name) == {"production": digest("a")}
    store.close()
    assert current_revision(f"sqlite:///{file}") == LATEST
    (copy,) = file.parent.glob("*.backup")
    assert older in copy.name
    assert current_revision(f"sqlite:///{copy}") == older
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM model_versions").fetchone() == (2,)
    assert len(before) > 0
    open_store(settings).close()
    assert list(file.parent.glob("*.backup")) == [copy]  # once


def test_a_newer_schema_is_refused_with_both_versions(sqlite, monkeypatch, capsys):
    settings, file, _ = sqlite
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()
    for call in (open_store, migrate):
        with pytest.raises(StoreUnavailable, match="ffffffffffff") as told:
            call(settings)
        assert LATEST in str(told.value)
    assert list(file.parent.glob("*.backup")) == []
    monkeypatch.setenv("STEELYARD_TRACKING_URI", f"sqlite:///{file}")
    with pytest.raises(SystemExit) as left:
        main(["store", "info"])
    assert left.value.code == 2
    assert "ffffffffffff" in capsys.readouterr().err


@pytest.mark.parametrize("tag", ["2", "1.5", "0", "newest"])
def test_another_layout_is_refused_with_both_versions(sqlite, tag):
    settings, file, _ = sqlite
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "UPDATE experiment_tags SET value = ? WHERE key = 'steelyard.format' AND experiment_id = 0",
            (tag,),
        )
        connection.commit()
    with pytest.raises(StoreUnavailable, match="layout '1'") as told:
        open_store(settings)
    assert f"layout {tag!r}" in str(told.value)
    assert "Install" in str(told.value)


def test_a_first_start_that_was_killed_leaves_no_half_store(tmp_path):
    settings = load_settings(tmp_path, environ={})
    folder = settings.home / "store"
    folder.mkdir(parents=True)
    (folder / ".mlflow.db.99999.part").write_bytes(b"half a database")
    name = _filled(settings)
    assert open_store(settings).aliases("prompt", name)
    assert [p for p in folder.iterdir() if "part" in p.name] == []


@pytest.mark.server
def test_an_older_postgres_waits_for_someone_to_say_so(postgres, tmp_path, monkeypatch, capsys):
    uri = postgres.database()
    settings = load_settings(tmp_path, environ={}, tracking_uri=uri)
    name = _filled(settings)
    older = _older(database_uri(uri))
    with pytest.raises(StoreUnavailable, match="steelyard store migrate") as told:
        open_store(settings)
    assert older in str(told.value)
    assert LATEST in str(told.value)
    assert current_revision(database_uri(uri)) == older
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEELYARD_TRACKING_URI", uri)
    main_ok(["store", "migrate"])
    assert f"schema {older} → {LATEST}" in capsys.readouterr().out
    main_ok(["store", "migrate"])
    assert "already" in capsys.readouterr().out
    assert open_store(settings).aliases("prompt", name) == {"production": digest("a")}


@pytest.mark.server
def test_a_newer_postgres_is_refused(postgres, tmp_path):
    uri = postgres.database()
    settings = load_settings(tmp_path, environ={}, tracking_uri=uri)
    _filled(settings)
    postgres.sql("UPDATE alembic_version SET version_num = 'ffffffffffff'", Path(uri).name)
    with pytest.raises(StoreUnavailable, match=f"ffffffffffff.*{LATEST}"):
        open_store(settings)


def test_a_server_migrates_its_own(tmp_path):
    with pytest.raises(InvalidValue, match="where its server runs"):
        migrate(load_settings(tmp_path, environ={}, tracking_uri="http://127.0.0.1:1"))


def main_ok(arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
