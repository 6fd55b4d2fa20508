"""docs/team-server.md: its plain processes are run as written, its compose file is read."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from steelyard.core.canonical import digest
from steelyard.core.settings import load_settings
from steelyard.store import open_store
from steelyard.store.check import check
from steelyard.testing.store_parts import fresh, move
from steelyard.testing.store_servers import Server, answers, free_port, postgres_binaries

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "team-server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def _block(word):
    (found,) = [b for b in BLOCKS if word in b]
    return found


@pytest.mark.server
def test_the_plain_processes_run_as_written(bucket, tmp_path):
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    data, account = Path(tempfile.mkdtemp(prefix="steelyard-page-")), {}
    if os.geteuid() == 0:
        account = {"user": pwd.getpwnam("nobody").pw_uid, "extra_groups": []}
        os.chown(data, account["user"], -1)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **bucket.env,
        "PG_BIN": str(binaries),
        "DATA": str(data),
        "PG_PORT": str(free_port()),
        "PORT": str(free_port()),
        "BUCKET": "artifacts",
        "LC_ALL": "C.UTF-8",
    }
    python_path = {k: os.environ[k] for k in ("PYTHONPATH",) if k in os.environ}
    uri = f"http://127.0.0.1:{env['PORT']}"
    shell = ["bash", "-euo", "pipefail", "-c"]
    try:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # its children keep them open
        subprocess.run([*shell, _block("initdb")], check=True, env=env, cwd=data, **quiet, **account)
        argv, ready = [*shell, _block("exec mlflow server")], answers(f"{uri}/health")
        with Server(argv, tmp_path, ready=ready, env=env):
            client = {**env, **python_path, "MLFLOW_TRACKING_URI": uri}
            done = subprocess.run(
                [
                    *shell,
                    _block("store info").replace("steelyard", f"{sys.executable} -m steelyard.cli.main"),
                ],
                check=True,
                env=client,
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            assert f"uri                {uri}" in done.stdout
            assert done.stdout.endswith(f"{uri}: sound\n")
            store, name = open_store(load_settings(tmp_path, environ={}, tracking_uri=uri)), fresh()
            content = {"template": "x"}
            store.register("prompt", name, digest=digest(content), content=content)
            store.move_alias(move(name, None, digest(content), evidence=()))
            assert list(check(store)) == []
    finally:
        stop = [str(binaries / "pg_ctl"), "-D", str(data / "postgres"), "-m", "immediate", "stop"]
        subprocess.run(stop, check=False, capture_output=True, **account)
        shutil.rmtree(data, ignore_errors=True)


def test_the_compose_file_says_what_the_page_says():
    compose = yaml.safe_load((DOCS / "team-server" / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"postgres", "minio", "mlflow"}
    images = [s["image"] for s in services.values() if "image" in s]
    images += re.findall(r"FROM (\S+)", services["mlflow"]["build"]["dockerfile_inline"])
    assert len(images) == 3
    for image in images:
        name, _, tag = image.partition(":")
        assert "." not in name.partition("/")[0]  # a plain name, of no registry host
        assert re.search(r"\d", tag), f"{image} is not pinned"
        assert "latest" not in tag
    for service in services.values():
        assert "healthcheck" in service
    assert {m.partition(":")[0] for s in services.values() for m in s.get("volumes", [])} == set(
        compose["volumes"]
    )
    assert set(services["mlflow"]["depends_on"]) == {"postgres", "minio"}
    assert [p.startswith("127.0.0.1:") for s in services.values() for p in s.get("ports", [])] == [True]
    command = services["mlflow"]["command"][-1]
    ours = _block("exec mlflow server")
    for option in ("--workers 1", "--backend-store-uri", "--artifacts-destination"):
        assert option in command
        assert option in ours
    assert services["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    # What the shell gets compiles: the bucket is made by a line of Python in it.
    compile(re.search(r'python -c "\n(.*?)\n"', command, flags=re.DOTALL)[1], "compose.yaml", "exec")
    for secret in ("POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"):
        assert f"`{secret}`" in PAGE
