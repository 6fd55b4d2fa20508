"""The process that serves a GGUF model: `python -m steelyard.lm.server_process`, started by `lm.server`.

A process of its own, so that a crash or a hang of the engine costs a call and not the run. It ends when the
process that started it ends, however that ended: standard input is a pipe that closes with its owner, and the
parent's id is watched beside it (a fork of the owner may keep the pipe open).
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import Any

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """The exit code; serves until the parent goes away."""
    parser = argparse.ArgumentParser(prog="steelyard.lm.server_process")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--n-ctx", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(argv)
    key = sys.stdin.readline().strip()  # not on the command line, which every user of the machine can read
    for watch in (_watch_pipe, _watch_parent):
        threading.Thread(target=watch, args=(given.parent,), daemon=True).start()

    import importlib

    # Compiled without stubs: every attribute is unknown to a type checker.
    xllamacpp: Any = importlib.import_module("xllamacpp")

    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.hostnames = ["127.0.0.1"]
    params.port = given.port
    params.model_alias = {given.alias}
    params.api_keys = [key]  # no other program of this machine, and no web page, may use the model
    params.n_ctx = given.n_ctx
    params.n_parallel = 1  # concurrent slots change temperature-0 answers
    # The common beginning of a prompt is read once: without this each call of an eval takes several times as
    # long. The price: in rare cases the last bits of the logits depend on the row that went before.
    params.cache_prompt = True
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = given.threads
    params.cpuparams_batch.n_threads = given.threads
    params.ui = False
    params.offline = True
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    while True:
        time.sleep(3600)


def _watch_pipe(_parent: int) -> None:
    while sys.stdin.readline():
        continue
    os._exit(0)  # the engine's own shutdown waits for running generations


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
