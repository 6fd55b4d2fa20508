"""`steelyard doctor` on healthy and broken projects, against real servers on loopback."""

import http.server
import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from click.testing import CliRunner

from steelyard.cli import reach
from steelyard.cli.checkup import settings_in_force
from steelyard.cli.doctor import doctor
from steelyard.cli.init import init
from steelyard.core.settings import load_settings, origins


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MLFLOW_TRACKING_URI", "STEELYARD_LM_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert CliRunner().invoke(init, [str(tmp_path), "--local"]).exit_code == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEELYARD_LM_MODE", "replay")  # weights are another test's business
    return tmp_path


def run(*arguments, code=0):
    result = CliRunner().invoke(doctor, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def findings(code=0, *arguments):
    answer = json.loads(run("--json", *arguments, code=code))
    assert answer["ok"] is (code == 0)
    return {(f["part"], f["name"]): f for f in answer["findings"]}


@pytest.fixture
def endpoint():
    """A server that lists one model; its clock and status can be set."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append((self.path, self.headers.get("Authorization")))
            body = json.dumps({"data": [{"id": "tiny"}]}).encode()
            self.send_response_only(self.server.status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + self.server.skew, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.skew, server.asked = 200, timedelta(0), []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_new_project_is_healthy_and_nothing_is_made(project):
    before = sorted(p for p in project.rglob("*"))
    found = findings()
    assert found["installation", "pytest plugin"]["state"] == "ok"
    assert "mlflow" in found["installation", "evals"]["text"]
    assert "made at first use" in found["store", "store"]["text"]
    assert "1 alias in" in found["project", "lock"]["text"]
    assert found["model", "lm"]["state"] == "ok"
    assert before == sorted(p for p in project.rglob("*"))
    assert "0 that will not work" in run()


def test_settings_say_where_they_come_from_and_hide_secrets(project, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:canary@127.0.0.1:1/v1?api_key=canary")
    monkeypatch.setenv("STEELYARD_CONCURRENCY", "3")
    rows = {f.name: f.text for f in settings_in_force(load_settings())}
    assert rows["openai_api_key"] == "***  (OPENAI_API_KEY)"
    assert rows["concurrency"] == "3  (STEELYARD_CONCURRENCY)"
    assert rows["lm"] == "local:smollm2  (pyproject.toml)"
    assert rows["baseline"] == "production  (default)"
    assert {*origins(), "root"} == set(rows)
    assert "canary" not in run("--json")


def test_a_broken_prompt_a_broken_lock_and_a_broken_table_fail(project):
    (project / "prompts" / "bad.yaml").write_text("template: '{{ a.b }}'")
    (project / "prompts" / "steelyard.lock").write_text("format: 1\n")
    found = findings(1)
    assert "bad.yaml:1" in found["project", "prompts"]["text"]
    assert found["project", "lock"]["state"] == "fail"
    (project / "pyproject.toml").write_text("[tool.steelyard]\nlmm = 'x'\n")
    found = findings(1)
    assert "unknown key 'lmm'" in found["settings", "settings"]["text"]


def test_the_endpoint_is_asked_what_it_has_with_the_key_and_for_nothing_else(project, monkeypatch, endpoint):
    monkeypatch.setenv("STEELYARD_LM_MODE", "auto")
    monkeypatch.setenv("STEELYARD_LM", "openai:tiny")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{endpoint.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    found = findings()
    assert found["model", "endpoint"]["text"].endswith("answers, and has tiny")
    assert endpoint.asked == [("/v1/models", "Bearer k1")]
    assert found["clock", "clock"]["state"] == "ok"

    monkeypatch.setenv("STEELYARD_LM", "openai:huge")
    assert "it has tiny" in findings()["model", "endpoint"]["do"]
    endpoint.skew = timedelta(hours=2)
    clock = findings()["clock", "clock"]
    assert clock["state"] == "warn"
    assert "s ahead" in clock["text"]
    for status, state, code in ((401, "fail", 1), (404, "warn", 0), (500, "warn", 0)):
        endpoint.status = status
        assert findings(code)["model", "endpoint"]["state"] == state


def test_no_endpoint_and_no_key_fail_with_what_to_do(project, monkeypatch):
    monkeypatch.setenv("STEELYARD_LM_MODE", "auto")
    monkeypatch.setenv("STEELYARD_LM", "openai:tiny")
    assert findings(1)["model", "endpoint"]["do"].startswith("Set the key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    found = findings(1)
    assert "cannot be reached" in found["model", "endpoint"]["text"]
    monkeypatch.setenv("OPENAI_BASE_URL", "127.0.0.1:9/v1")
    assert "is no address" in findings(1)["model", "endpoint"]["text"]


def test_a_store_that_is_down_fails(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = findings(1)
    assert "127.0.0.1:9" in found["store", "store"]["text"]


def test_missing_weights_fail_unless_only_recordings_count(project, monkeypatch):
    monkeypatch.setenv("STEELYARD_LM", "local:nowhere.gguf")
    assert findings()["model", "lm"]["state"] == "ok"
    monkeypatch.setenv("STEELYARD_LM_MODE", "auto")
    assert findings(1)["model", "weights"]["state"] == "fail"


def test_no_redirect_takes_the_key_elsewhere(endpoint):
    endpoint.status = 302
    clocks = {}
    status, _ = reach._get(
        f"http://127.0.0.1:{endpoint.server_port}/v1/models", {"Authorization": "k"}, clocks
    )
    assert status == 302
    assert len(endpoint.asked) == 1
