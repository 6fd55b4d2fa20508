"""The contract suite over memory and SQLite."""

from __future__ import annotations

import pytest

from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.store.memory import MemoryStore
from steelyard.testing.store_contract import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def reopen(self, store):
        return lambda: store


@pytest.fixture(scope="module")
def sqlite_settings(tmp_path_factory):
    return load_settings(tmp_path_factory.mktemp("project"), environ={})


class TestSqlite(StoreContract):
    @pytest.fixture
    def store(self, sqlite_settings):
        store = open_store(sqlite_settings)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, sqlite_settings):
        return lambda: open_store(sqlite_settings)
