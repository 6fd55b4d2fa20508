"""Prompts in an application: cached fetch, first fetch with the registry down, rendering; peers and limit.

    python bench/prompt_fetch.py     # where langfuse, langsmith, langchain-core and mlflow are installed

Peers that are not installed are left out. Each is asked for a chat prompt by alias, with its own cache warm.
The backend of Langfuse and LangSmith is a small HTTP server on loopback that answers as theirs does; MLflow
has a SQLite store, and so has ours. Contenders take turns in both directions (ABBA); times are CPU time of
the calling thread for what takes microseconds, wall time for first fetches.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "40"))
BOUND_S = 15.0  # how long a first fetch may take before it is given up
RULES = "Answer briefly and politely, and name the ticket. " * 18
SYSTEM = "You are a support agent of {{company}}. " + RULES
USER = "Customer {{name}} writes:\n{{message}}\nTicket {{ticket}}."
VALUES = {"company": "Acme", "name": "Ann", "message": "Where is my parcel? " * 10, "ticket": "4711"}
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]


# -- the peers' backend -----------------------------------------------------------------------------
class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/prompts/" in self.path:  # Langfuse
            answer = {
                "type": "chat",
                "prompt": [{"type": "chatmessage", **m} for m in MESSAGES],
                "name": "support",
                "version": 1,
                "config": {},
                "labels": ["production"],
                "tags": [],
            }
        elif "/commits/" in self.path:  # LangSmith
            answer = {"commit_hash": "a" * 40, "manifest": manifest(), "examples": []}
        else:
            answer = {}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


def template():
    from langchain_core.prompts import ChatPromptTemplate

    single = [(m["role"], m["content"].replace("{{", "{").replace("}}", "}")) for m in MESSAGES]
    return ChatPromptTemplate.from_messages(single)


def manifest():
    from langchain_core.load import dumpd

    return dumpd(template())


# -- contenders: what fetches the prompt, ready to be rendered ----------------------------------------
def ours(home: Path) -> Callable[[], object]:
    import steelyard

    os.chdir(home)
    return lambda: steelyard.prompt("support@production")


def langfuse(base: str) -> Callable[[], object]:
    from langfuse import Langfuse

    client = Langfuse(public_key="pk", secret_key="sk", base_url=base, tracing_enabled=False)
    return lambda: client.get_prompt("support", label="production", type="chat")


def langsmith(base: str) -> Callable[[], object]:
    from langsmith import Client

    client = Client(api_url=base, api_key="k", auto_batch_tracing=False)
    return lambda: client.pull_prompt("support:production")


def mlflow(uri: str) -> Callable[[], object]:
    import mlflow as package

    package.set_tracking_uri(uri)
    return lambda: package.genai.load_prompt("prompts:/support@production")


# -- measuring --------------------------------------------------------------------------------------
def interleaved(contenders: dict[str, Callable[[], object]], *, target_s: float = 0.004) -> None:
    """Print the median and the quartiles of each, in microseconds a call, and the ratio to the first."""
    counts: dict[str, int] = {}
    for name, call in contenders.items():
        call()
        began = time.thread_time()
        for _ in range(50):
            call()
        counts[name] = max(20, int(50 * target_s / max(time.thread_time() - began, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS):
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            call, count = contenders[name], range(counts[name])
            began = time.thread_time()
            for _ in count:
                call()
            times[name].append(1e6 * (time.thread_time() - began) / counts[name])
    limit = statistics.median(times[next(iter(contenders))])
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"  {name:<34} {middle:10.3f} µs   {low:.3f} to {high:.3f}   {middle / limit:8.1f} ×")


def available(makers: dict[str, Callable[[], Callable[[], object]]]) -> dict[str, Callable[[], object]]:
    out: dict[str, Callable[[], object]] = {}
    for name, make in makers.items():
        try:
            call = make()
            call()
        except ModuleNotFoundError as error:
            print(f"  {name}: not installed ({error.name})")
        else:
            out[name] = call
    return out


def fetch_and_render(folder: Path, base: str, database: str) -> None:
    entries = {"support@production": object()}
    fetched = available(
        {
            "ours": lambda: ours(folder),
            "langfuse": lambda: langfuse(base),
            "langsmith": lambda: langsmith(base),
            "mlflow": lambda: mlflow(database),
        }
    )
    print("cached fetch by alias (CPU of the caller)")
    interleaved({"limit: a dict look-up in a function": lambda: entries.get("support@production"), **fetched})

    print(f"rendering a chat prompt of {sum(len(m['content']) for m in MESSAGES)} characters, two messages")
    import jinja2

    jinja = [(m["role"], jinja2.Template(m["content"])) for m in MESSAGES]
    forms = [(m["role"], m["content"].replace("{{", "{").replace("}}", "}")) for m in MESSAGES]
    calls: dict[str, Callable[[], object]] = {
        "limit: str.format of both texts": lambda: [
            {"role": role, "content": form.format(**VALUES)} for role, form in forms
        ]
    }
    mine = fetched["ours"]()
    calls["ours: render"] = lambda: mine.render(**VALUES)
    calls["ours: render, to_openai"] = lambda: mine.render(**VALUES).to_openai()
    calls["jinja2, compiled templates"] = lambda: [
        {"role": role, "content": t.render(**VALUES)} for role, t in jinja
    ]
    wanted = mine.render(**VALUES).to_openai()["messages"]
    if "langfuse" in fetched:
        theirs = fetched["langfuse"]()
        calls["langfuse: compile"] = lambda: theirs.compile(**VALUES)
        assert [{k: m[k] for k in ("role", "content")} for m in theirs.compile(**VALUES)] == wanted
    if "langsmith" in fetched:
        chat = fetched["langsmith"]()
        calls["langsmith/langchain: format_messages"] = lambda: chat.format_messages(**VALUES)
        assert [m.content for m in chat.format_messages(**VALUES)] == [m["content"] for m in wanted]
    if "mlflow" in fetched:
        version = fetched["mlflow"]()
        calls["mlflow: format"] = lambda: version.format(**VALUES)
        assert version.format(**VALUES) == wanted
    interleaved(calls)


# -- first fetch with the registry down: each in a process of its own -----------------------------------
def first(who: str, where: str) -> None:
    """In a child: import, then time the first fetch."""
    warnings.simplefilter("ignore")
    import logging

    logging.disable(logging.CRITICAL)
    if who == "ours":
        from steelyard.prompts.serve import prompt

        os.chdir(where)

        def call() -> object:
            return prompt("support@production")
    else:
        call = {"langfuse": langfuse, "langsmith": langsmith, "mlflow": mlflow}[who](where)
    began, cpu = time.perf_counter(), time.thread_time()
    try:
        got = f"served {type(call()).__name__}"
    except Exception as error:
        got = f"raises {type(error).__name__}"
    took, cpu = time.perf_counter() - began, time.thread_time() - cpu
    print(f"\n{took} {cpu} {got}", flush=True)
    os._exit(0)


def down(folder: Path, peers: list[str]) -> None:
    print("first fetch in a new process, registry down; imports not counted")
    closed = "http://127.0.0.1:9"
    for who in peers:
        where = str(folder) if who == "ours" else closed
        walls, cpus, said = [], [], ""
        for _ in range(21 if who == "ours" else 3):
            env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_HTTP_")}
            env |= {"MLFLOW_TRACKING_URI": closed, "STEELYARD_TRACKING_URI": closed}
            argv = [sys.executable, __file__, "--first", who, where]
            try:
                done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=BOUND_S + 15)
                wall, cpu, said = done.stdout.strip().splitlines()[-1].split(" ", 2)
            except subprocess.TimeoutExpired:
                walls, said = [BOUND_S], f"blocks (given up after more than {BOUND_S:.0f} s)"
                break
            walls.append(float(wall))
            cpus.append(float(cpu))
        middle = statistics.median(walls)
        cpu_ms = f"{1e3 * statistics.median(cpus):9.2f}" if cpus else "        -"
        spread = f"{1e3 * min(walls):.1f} to {1e3 * max(walls):.1f}"
        print(f"  {who:<12} wall {1e3 * middle:10.1f} ms ({spread})   CPU {cpu_ms} ms   {said}")


def main() -> None:
    if sys.argv[1:2] == ["--first"]:
        return first(*sys.argv[2:4])
    warnings.simplefilter("ignore")
    for name in ("LANGSMITH_TRACING", "LANGFUSE_TRACING_ENABLED"):
        os.environ[name] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import logging

    logging.disable(logging.CRITICAL)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = f"sqlite:///{folder / 'peer.db'}"
        # Ours by our own variable: MLflow's set_tracking_uri sets MLFLOW_TRACKING_URI for everybody.
        os.environ["STEELYARD_TRACKING_URI"] = f"sqlite:///{folder / 'ours.db'}"
        prepare(folder, database)
        fetch_and_render(folder, base, database)
        peers = [w for w in ("ours", "langfuse", "langsmith", "mlflow") if w == "ours" or installed(w)]
        down(folder, peers)
        os.chdir("/")
    server.shutdown()
    return None


def prepare(folder: Path, database: str) -> None:
    """Our prompt served once, so that its copy is on disk; MLflow's prompt registered with MLflow."""
    from steelyard.core.clock import stamp
    from steelyard.core.ref import Ref
    from steelyard.core.settings import load_settings
    from steelyard.prompts import Prompt, Variable
    from steelyard.prompts.copies import Copies, Copy
    from steelyard.prompts.push import register
    from steelyard.store import LedgerEntry, open_store
    from steelyard.store.reading import reader_uri

    (folder / "pyproject.toml").write_text("[tool.steelyard]\nexperiment = 'bench'\n")
    prompt = Prompt(
        name="support",
        messages=tuple(MESSAGES),
        variables={name: Variable() for name in VALUES},
        parameters={"temperature": 0},
    )
    settings = load_settings(folder)
    if installed("mlflow"):
        store = open_store(settings)
        register(prompt, store)
        entry = LedgerEntry(
            kind="prompt",
            name="support",
            alias="production",
            before=None,
            after=prompt.digest,
            action="bless",
            who="bench",
            when=stamp(),
        )
        store.move_alias(entry)
        store.close()
        import mlflow as package

        package.set_tracking_uri(database)
        package.genai.register_prompt("support", template=MESSAGES)
        package.genai.set_prompt_alias("support", alias="production", version=1)
    # The copy that an application of a server that is down now has on its disk.
    down_settings = load_settings(folder, tracking_uri="http://127.0.0.1:9")
    copies = Copies(settings.home / "prompts", reader_uri(down_settings))
    copies.write(Ref.parse("support@production"), Copy(prompt=prompt, number=1, confirmed=time.time()))
    if not installed("mlflow"):  # without a store: pin by a copy for the local one too
        copies = Copies(settings.home / "prompts", reader_uri(settings))
        copies.write(Ref.parse("support@production"), Copy(prompt=prompt, number=1, confirmed=time.time()))


def installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


if __name__ == "__main__":
    main()
