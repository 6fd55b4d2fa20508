"""Makes what `steelyard init` ships anew from the real local model: its recorded answers and the lock.

    python tests/cli/record_scaffold.py

Needed after a change of the scaffold's prompt, dataset, task or gate, of the local model's identity or of the
key of a recording; `test_init.py` fails then. Takes about a minute.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from steelyard.cli.scaffold import EMPTY_LOCK, scaffold
from steelyard.lm.tape import Recording

TEMPLATES = Path(__file__).parents[2] / "src" / "steelyard" / "templates"


def main() -> None:
    answers, lock = TEMPLATES / "answers.jsonl", TEMPLATES / "project" / "prompts" / "steelyard.lock"
    answers.write_text("")
    lock.write_text(EMPTY_LOCK)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        scaffold(root, "local")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("STEELYARD_", "MLFLOW_"))}
        command = [sys.executable, "-m", "steelyard.cli.main", "bless", "evals/"]
        subprocess.run(command, cwd=root, check=True, env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"})
        lock.write_bytes((root / "prompts" / "steelyard.lock").read_bytes())
        lines = []
        for file in sorted((root / ".steelyard" / "replay").rglob("*.rec")):
            recording = Recording.from_bytes(file.read_bytes(), key=file.stem)
            row = {
                "key": recording.key,
                "status": recording.status,
                "headers": dict(recording.headers),
                "body": recording.body.decode(),
                "usage": recording.usage.to_json() if recording.usage else None,
                "about": dict(recording.about),
            }
            lines.append(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n")
    answers.write_text("".join(lines))
    print(f"{len(lines)} answers, {answers.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
