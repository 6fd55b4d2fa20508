"""Reports made from real verdicts over rows of an intent classifier, and a headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.canonical import digest
from steelyard.core.results import Identity, Row, Scores, Usage
from steelyard.core.score import Failure, Metric, Score
from steelyard.gates import at_least, decide, not_worse_than
from steelyard.gates.policy import Policy
from steelyard.report import GateReport

INTENTS = ("billing", "delivery", "refund", "cancel", "technical", "account")
MESSAGES = (
    "My card was charged twice for order {i}, can you return one of the payments?",
    "Where is parcel {i}? The tracking has not moved since Tuesday.",
    "The blender from order {i} arrived broken. I would like my money back, please.",
    "Please stop my subscription {i} before it renews next month.",
    "The app closes by itself whenever I open page {i}.",
    "I cannot log in since the change of my e-mail address, ticket {i}.",
)


def rows_of(
    values: list[float], *, seed: int, cost: float, answer: Callable[[int, float], Any] | None = None
):
    rng = random.Random(seed)
    rows = []
    for i, value in enumerate(values):
        right = INTENTS[i % 6]
        output = (
            answer(i, value)
            if answer
            else {
                "intent": right if value == 1 else INTENTS[(i + 1) % 6],
                "why": f"The customer writes about {right}, so order {i} goes to that team.",
            }
        )
        rows.append(
            Row(
                example_id=f"ex-{i:04d}",
                slices={"language": "en", "channel": ("mail", "chat")[i % 2]},
                outputs=output,
                scores=(
                    Score(
                        name="exact_match",
                        value=value,
                        label=output.get("intent") if isinstance(output, dict) else None,
                    ),
                ),
                usage=Usage(
                    calls=1,
                    input_tokens=180 + rng.randrange(60),
                    output_tokens=14 + rng.randrange(12),
                    cost_usd=cost * rng.uniform(0.8, 1.2),
                    latency_s=rng.lognormvariate(-0.5, 0.4),
                    replayed=1,
                ),
            )
        )
    return rows


def identity(subject: str, **changes: Any) -> Identity:
    values: dict[str, Any] = {
        "name": "support-intent",
        "subject": digest(subject),
        "task": digest("task"),
        "lm": digest("lm"),
        "lm_name": "smollm2-135m-instruct",
        "dataset": digest("data"),
        "dataset_name": "support-intent",
        "evaluators": {"exact_match": digest("exact")},
        "metrics": (Metric(name="exact_match"),),
    }
    return Identity(**(values | changes))


def scores(rows: list[Row], who: Identity, planned: int | None = None) -> Scores:
    keys = tuple((f"ex-{i:04d}", 0) for i in range(planned or len(rows)))
    return Scores(identity=who, planned=keys, rows=tuple(rows))


@pytest.fixture(scope="session")
def make_gate() -> Callable[..., GateReport]:
    """A gate decided by the real rule: `lost` examples turn wrong, `won` turn right, of `n`."""

    def make(
        n: int = 200,
        lost: int = 4,
        won: int = 12,
        *,
        gate: str = "evals/test_support.py::test_intent",
        floor: float = 0.6,
        invalid: int = 0,
        failed: int = 0,
        answer: Callable[[int, float], Any] | None = None,
        message: str = "HTTP 503 from the provider after 5 tries",
        **changes: Any,
    ) -> GateReport:
        rng = random.Random(7)
        old = [1.0 if rng.random() < 0.72 else 0.0 for _ in range(n)]
        new = list(old)
        for i in [i for i in range(n) if old[i] == 1][:lost]:
            new[i] = 0.0
        for i in [i for i in range(n) if old[i] == 0][:won]:
            new[i] = 1.0
        before = rows_of(old, seed=1, cost=0.00021)
        after = rows_of(new, seed=2, cost=0.00017, answer=answer)
        for i in range(n - invalid, n):
            after[i] = Row(
                example_id=f"ex-{i:04d}",
                outputs="I am happy to help!",
                invalid_output="not one of the labels",
                scores=(Score(name="exact_match", value=0.0, label="invalid_output"),),
            )
        for i in range(n - invalid - failed, n - invalid):
            after[i] = Row(
                example_id=f"ex-{i:04d}", failure=Failure(kind="provider", message=message, status=503)
            )
        policy = Policy(
            requirements=(
                at_least("exact_match", floor),
                not_worse_than("production", "exact_match", margin=0.05),
            )
        )
        candidate, production = scores(after, identity("v4")), scores(before, identity("v3"))
        japanese = scores(rows_of([1, 0, 1, 1, 0, 1, 0, 0, 1, 1], seed=5, cost=0.0002), identity("v4"))
        values: dict[str, Any] = {
            "gate": gate,
            "verdict": decide(policy, candidate, {"production": production}),
            "candidate": candidate,
            "baselines": {"production": production},
            "inputs": {f"ex-{i:04d}": {"message": MESSAGES[i % 6].format(i=4000 + i)} for i in range(n)},
            "references": {f"ex-{i:04d}": {"intent": INTENTS[i % 6]} for i in range(n)},
            "evidence_id": "20261123T214500-3f9c",
            "baseline_source": {"production": "stored evidence 20261120T090000-77aa"},
            "prompt_name": "support-intent",
            "prompt_texts": {
                "production": "You sort messages of customers.\nAnswer with one of the labels.\n\n{{ message }}\n",
                "candidate": "You sort messages of customers by what they want done.\nAnswer with exactly one of the labels.\n"
                "If two fit, take the one that costs the customer money.\n\n{{ message }}\n",
            },
            "git_revision": "3f1c0a9be4d2b6a7c8e9f00112233445566778899"[:40],
            "git_dirty": True,
            "replay_counts": {"hit": 400, "live": 0},
            "seconds": 12.4,
            "advisory": {"language=ja": japanese},
            "plan_sentence": "Before the run: an unchanged candidate passes with probability 0.70; a loss of 0.07 is found with probability 0.80.",
        }
        return GateReport(**(values | changes))

    return make


@dataclass
class Page:
    """An open page: evaluates expressions, takes pictures, and remembers every request made."""

    send: Callable[..., dict[str, Any]]
    events: list[dict[str, Any]]

    def evaluate(self, expression: str) -> Any:
        out = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in out, out
        return out["result"].get("value")

    def requests(self) -> list[str]:
        return [
            e["params"]["request"]["url"]
            for e in self.events
            if e.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the browser logged: violations of the policy, failed loads, errors."""
        logged = [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return logged + [
            str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"
        ]


class Browser:
    """Chromium over its debugging pipe: no port, no library."""

    def __init__(self, binary: str, profile: Path) -> None:
        to_child, ours_out = os.pipe()
        ours_in, from_child = os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        # The browser reads commands from descriptor 3 and answers on 4; dash knows no two-digit ones.
        launch = (
            "import os, sys; a, b = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2])); "
            "os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        command = [
            sys.executable,
            "-c",
            launch,
            str(to_child),
            str(from_child),
            binary,
            *flags,
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_child)
        os.close(from_child)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._number, self._rest, self._events = 0, b"", []

    def _call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        self._out.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        self._out.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._in.read1(1 << 16)
            assert part, "Chromium went away"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(
        self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False, media: str = "screen"
    ) -> Page:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def send(method: str, **params: Any) -> dict[str, Any]:
            return self._call(method, session, **params)

        for domain in ("Page", "Runtime", "Network", "Log"):
            send(f"{domain}.enable")
        send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        send("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._events.clear()
        send("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self._events):
            self._events.append(self._read())
        return Page(send=send, events=list(self._events))

    def close(self) -> None:
        try:
            self._call("Browser.close")
        finally:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._out.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._in.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium on this machine: the report cannot be opened (apt-get install chromium)")
    profile = Path(tempfile.mkdtemp(prefix="steelyard-chromium-"))
    opened = Browser(binary, profile)
    yield opened
    opened.close()
    shutil.rmtree(profile, ignore_errors=True)
