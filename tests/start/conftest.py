"""A newcomer's machine: the built wheel in an environment of its own, and nothing of this checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Machine:
    """Runs commands as a newcomer would: the wheel's `steelyard` and `pytest`, no settings of ours."""

    def __init__(self, venv):
        self.bin = venv / "bin"
        self.python = self.bin / "python"

    def environment(self, **more):
        ours = ("STEELYARD_", "MLFLOW_", "OPENAI_", "PYTHON", "VIRTUAL_ENV", "PYTEST_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        path = f"{self.bin}{os.pathsep}{kept['PATH']}"
        return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "NO_COLOR": "1", **more}

    def run(self, *argv, cwd, code=0, **environment):
        done = subprocess.run(
            list(map(str, argv)), cwd=cwd, env=self.environment(**environment), capture_output=True, text=True
        )
        assert done.returncode == code, f"{argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """The wheel, built and installed; what it depends on is taken from the environment of these tests."""
    folder = tmp_path_factory.mktemp("newcomer")
    source = folder / "source"  # a copy: building must leave nothing in the checkout
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run([*pip, "--python", venv / "bin/python", "install", "--no-deps", wheel], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pytest_script = venv / "bin" / "pytest"
    pytest_script.write_text(f"#!{venv}/bin/python\nimport sys\nimport pytest\nsys.exit(pytest.main())\n")
    pytest_script.chmod(0o755)
    return Machine(venv)
