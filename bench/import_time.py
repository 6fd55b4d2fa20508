"""Wall time of `import steelyard` over bare Python, interleaved, median of the paired differences."""

import statistics
import subprocess
import sys
import time

ROUNDS = 21


def seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    print("statement                       median over bare Python (ms)   quartiles")
    for statement in ("import steelyard", "from steelyard import at_least, load_prompt", "import openai"):
        pairs = [(seconds("pass"), seconds(statement)) for _ in range(ROUNDS)]
        differences = [1000 * (b - a) for a, b in pairs]
        low, middle, high = statistics.quantiles(differences, n=4)
        print(f"{statement:<45} {middle:8.1f}            {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
