"""Data folders are data: pytest imports nothing from them, wherever it is started."""

import os
import subprocess
import sys
import textwrap

import pytest

EVIL = "open({!r}, 'w').write('imported')\n"


@pytest.fixture
def project(tmp_path):
    data = tmp_path / "evals" / "datasets"
    (data / "deep").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.steelyard]\n[tool.pytest.ini_options]\n")
    (data / "d.jsonl").write_text('{"inputs": {"x": 1}}\n')
    for folder in (data, data / "deep"):
        for name in ("conftest.py", "test_evil.py", "__init__.py", "sitecustomize.py"):
            (folder / name).write_text(EVIL.format(str(tmp_path / f"canary-{folder.name}-{name}")))
    (tmp_path / "evals" / "test_it.py").write_text(
        textwrap.dedent("""
            from steelyard.core.settings import load_settings
            from steelyard.data import load_dataset
            def test_it():
                assert len(load_dataset("d", load_settings())) == 1
        """)
    )
    return tmp_path


def run(project, *arguments, cwd=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STEELYARD_", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=cwd or project, capture_output=True, text=True, env=env, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["evals"], ["evals/test_it.py"], ["--import-mode=importlib", "."]])
def test_nothing_in_the_datasets_folder_is_imported(project, arguments):
    done = run(project, *arguments)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert list(project.glob("canary*")) == []


def test_without_the_plugin_pytest_would_have(project):
    run(project, "evals", "-p", "no:steelyard")
    assert list(project.glob("canary*"))


def test_other_people_s_folders_are_left_alone(project):
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    run(project, "evals")
    assert list(project.glob("canary*"))


def test_evals_beside_the_data_are_still_run_where_people_keep_them_together(project):
    (project / "pyproject.toml").write_text(
        '[tool.steelyard]\ndatasets = "evals"\n[tool.pytest.ini_options]\n'
    )
    (project / "evals" / "d.jsonl").write_text('{"inputs": {"x": 1}}\n')
    done = run(project, "evals/test_it.py")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
