"""Reports made from real verdicts over rows of an intent classifier, and a headless Chromium."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
                "production": "You sort messages of customers.\n"
                "Answer with one of the labels.\n\n{{ message }}\n",
                "candidate": "You sort messages of customers by what they want done.\n"
                "Answer with exactly one of the labels.\n"
                "If two fit, take the one that costs the customer money.\n\n{{ message }}\n",
            },
            "git_revision": "3f1c0a9be4d2b6a7c8e9f00112233445566778899"[:40],
            "git_dirty": True,
            "replay_counts": {"hit": 400, "live": 0},
            "seconds": 12.4,
            "advisory": {"language=ja": japanese},
            "plan_sentence": "Before the run: an unchanged candidate passes with probability 0.70; "
            "a loss of 0.07 is found with probability 0.80.",
        }
        return GateReport(**(values | changes))

    return make


_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
)


class Browser:
    """A headless Chromium, started anew for each page."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary, self._folder = binary, folder

    def _run(self, page: Path, *flags: str) -> str:
        profile = self._folder / "profile"
        command = [self._binary, *_FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        return done.stdout.decode("utf-8", errors="replace")

    def dom(self, page: Path, *flags: str) -> str:
        """The page's document after it has loaded and everything that runs in it has run."""
        return self._run(page, "--dump-dom", *flags)

    def picture(self, page: Path, to: Path, *, width: int, height: int, dark: bool = False) -> bytes:
        flags = ["--force-dark-mode"] if dark else []
        self._run(page, f"--screenshot={to}", f"--window-size={width},{height}", *flags)
        return to.read_bytes()

    def pdf(self, page: Path, to: Path) -> bytes:
        self._run(page, f"--print-to-pdf={to}")
        return to.read_bytes()

    def measure(self, page: Path, expression: str, *, width: int = 1200, dark: bool = False) -> Any:
        """The value of a JavaScript expression over `page` (its document) and `view` (its window).

        The report runs no script, so it is framed by a page that does and that may look into it.
        """
        wrapper = self._folder / "wrapper.html"
        wrapper.write_text(
            f"""<!doctype html><meta charset=utf-8><body>
<iframe id=f src="{page.as_uri()}" style="border:0;width:{width}px;height:800px"></iframe><script>
document.getElementById("f").addEventListener("load", (event) => {{
  const view = event.target.contentWindow, page = event.target.contentDocument;
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = encodeURIComponent(JSON.stringify({expression}));
  document.body.append(out);
}});
</script>""",
            encoding="utf-8",
        )
        flags = ["--allow-file-access-from-files", "--window-size=1400,900"]
        text = self.dom(wrapper, *flags, *(["--force-dark-mode"] if dark else []))
        found = re.search(r'<pre id="measured">([^<]*)</pre>', text)
        assert found is not None, text[-2000:]
        return json.loads(unquote(found.group(1)))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium on this machine: the report cannot be opened (apt-get install chromium)")
    return Browser(binary, tmp_path_factory.mktemp("chromium"))
