"""The tutorial, run as a newcomer would: its blocks in order, in an empty folder, with the built wheel.

- A block with `title="path"` is a file; a `bash` block is run; a `text` block is what was printed last, where
  `…` stands for anything.
- `<!-- not run: why -->` before a block leaves it out, `<!-- ends with 1 -->`: it fails, as it should.

The endpoint is the real local model behind llama.cpp's own OpenAI-compatible server.
"""

import fnmatch
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from steelyard.lm.weights import WeightsMissing, find_weights

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
TITLE = re.compile(r'title="([^"]+)"')
ENDS = re.compile(r"<!-- ends with (\d+) -->")

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1800)]


def blocks(page):
    """(language, title or None, text, exit code or None where it is not run), in order."""
    before = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            before = token.content
        elif token.type == "fence":
            title = TITLE.search(token.info)
            ends = ENDS.search(before)
            code = None if "<!-- not run" in before else int(ends[1]) if ends else 0
            yield token.info.split()[0], title and title[1], token.content, code
            before = ""
        elif token.type not in ("paragraph_open", "inline", "paragraph_close"):
            before = ""


@pytest.fixture
def endpoint(tmp_path):
    """(base address, key) of the local model; one thread, because the machine of a test is shared."""
    try:
        weights = find_weights("smollm2")
    except WeightsMissing as missing:
        pytest.skip(str(missing))
    pytest.importorskip("xllamacpp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = secrets.token_urlsafe(16)
    options = {"model": weights, "port": port, "alias": "smollm2-135m", "n-ctx": 2048, "threads": 1}
    argv = [sys.executable, "-m", "steelyard.lm.server_process"]
    for name, value in {**options, "parent": os.getpid()}.items():
        argv += [f"--{name}", str(value)]
    log = (tmp_path / "endpoint.log").open("wb")
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)
    server.stdin.write(key.encode() + b"\n")
    server.stdin.flush()
    try:
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "endpoint.log").read_text(errors="replace")[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", key
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        log.close()


class Shell:
    """One bash a block; folder and environment are carried over, as in a terminal that stays open."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment
        self.state = folder.parent / "state"

    def run(self, script, code):
        ending = f'code=$?; pwd > "{self.state}"; env -0 >> "{self.state}"; exit $code'
        done = subprocess.run(
            ["bash", "-c", f"trap '{ending}' EXIT\nset -eo pipefail\n{script}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, f"$ {script}\nended with {done.returncode}, not {code}\n{output}"
        where, _, values = self.state.read_text().partition("\n")
        self.folder = Path(where)
        self.environment = dict(v.split("=", 1) for v in values.split("\0") if "=" in v)
        return output


def test_the_tutorial_works_as_it_is_written(machine, endpoint, tmp_path):
    base_url, key = endpoint
    (tmp_path / "empty").mkdir()
    shell = Shell(
        tmp_path / "empty",
        machine.environment(
            OPENAI_BASE_URL=base_url,
            OPENAI_API_KEY=key,
            MODEL="smollm2-135m",
            HOME=str(tmp_path),
            STEELYARD_CONCURRENCY="1",  # one slot answers; in one order its answers are the same each time
        ),
    )
    (tmp_path / ".gitconfig").write_text("[user]\nname = n\nemail = n@example.org\n")
    ran, output = 0, ""
    for language, title, text, code in blocks(PAGE):
        if code is None:
            continue
        if title is not None:
            file = shell.folder / title
            assert file.parent.is_dir(), f"the tutorial writes {title} before its folder is there"
            file.write_text(text)
        elif language == "bash":
            output = shell.run(text, code)
            ran += 1
        elif language == "text":
            said = [" ".join(line.split()) for line in output.splitlines()]
            for line in text.splitlines():
                pattern = "*".join(map(literal, " ".join(line.split()).split("…")))
                assert fnmatch.filter(said, f"*{pattern}*"), f"not printed: {line!r}\n{output}"
    assert ran == 7
    lock = (shell.folder / "prompts" / "steelyard.lock").read_text()
    assert "feedback:" in lock


def literal(text):
    """The text with what a pattern would read as a sign put between brackets."""
    return re.sub(r"([*?[])", r"[\1]", text)
