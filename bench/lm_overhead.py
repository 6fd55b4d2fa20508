"""What the model-call path adds to one call: recorder, limiter, budget and retries, without a socket.

`exchange` is what every request of a scope goes through; here it gets a `send` with a canned response. CPU
time of this process, alternating with a bare `send`, medians.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import httpx2

from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.transport import exchange

ROUNDS, CALLS = 15, 400
ANSWER = json.dumps(
    {
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "x" * 1000}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 250, "completion_tokens": 250},
    }
).encode()
HEADERS = {"content-type": "application/json", "content-length": str(len(ANSWER))}


def request(n):
    body = {"model": "m", "messages": [{"role": "user", "content": "y" * 1000}], "seed": n}
    return httpx2.Request("POST", "http://127.0.0.1:9/v1/chat/completions", json=body)


def send(_):
    return httpx2.Response(200, headers=HEADERS, stream=httpx2.ByteStream(ANSWER))


def timed(function, requests):
    since = time.process_time_ns()
    for one in requests:
        function(one).read()
    return (time.process_time_ns() - since) / len(requests) / 1000


def extras():
    """Budget and limiter alone, where this version has them."""
    try:
        from steelyard.lm.budget import Budget
        from steelyard.lm.limiter import Limiter
    except ImportError:
        return {}
    limiter, budget, n = Limiter(cap=8), Budget(max_tokens_total=10**12), 20_000

    def slots():
        for _ in range(n):
            limiter.succeeded(limiter.enter(1))

    def reservations():
        for _ in range(n):
            budget.settle(budget.reserve(100, 0.0), 50, 0.0)

    out = {}
    for name, function in (("limiter, enter and leave", slots), ("budget, reserve and settle", reservations)):
        since = time.process_time_ns()
        function()
        out[name] = (time.process_time_ns() - since) / n / 1000
    return out


def main():
    figures = {"bare": [], "live, no session": [], "live, recorded": [], "from a recording": []}
    for _ in range(ROUNDS):
        asked = [request(n) for n in range(CALLS)]
        figures["bare"].append(timed(send, asked))
        with call_scope("a"):
            figures["live, no session"].append(timed(lambda r: exchange(httpx2, send, r), asked))
        with tempfile.TemporaryDirectory() as folder, replaying(Path(folder)):
            with call_scope("a"):
                figures["live, recorded"].append(timed(lambda r: exchange(httpx2, send, r), asked))
            with call_scope("a"):
                figures["from a recording"].append(timed(lambda r: exchange(httpx2, send, r), asked))
    bare = statistics.median(figures["bare"])
    for name, values in figures.items():
        low, mid, high = statistics.quantiles(values, n=4)
        print(f"{name:28} {mid:8.1f} us/call  [{low:.1f}, {high:.1f}]  added {mid - bare:8.1f}")
    for name, value in extras().items():
        print(f"{name:28} {value:8.2f} us/call")


if __name__ == "__main__":
    main()
