"""Coverage-guided fuzzing of the same targets, where atheris is installed: not part of the test suite.

python tests/fuzz/atheris_fuzz.py TARGET [-runs=100000] [-max_total_time=60]   (targets: fuzz_targets.TARGETS)
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["steelyard"]):
    sys.path.insert(0, str(Path(__file__).parent))
    from fuzz_targets import TARGETS, one


def main():
    name = sys.argv.pop(1)
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for i, seed in enumerate(target.seeds):
            (corpus / str(i)).write_bytes(seed)
        work = Path(folder) / "work"
        work.mkdir()

        def run(data):
            one(target, data, work)

        atheris.Setup([*sys.argv, str(corpus)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
