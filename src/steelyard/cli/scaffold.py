"""The files of a new project, and writing them beside what is there already."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from steelyard.core.errors import InvalidFile, InvalidValue
from steelyard.core.files import SHARED, write_atomically

__all__ = ["EMPTY_LOCK", "Kind", "Written", "project_files", "recordings", "scaffold"]

Kind = Literal["local", "recorded", "endpoint"]
"""Who answers: the model of this machine, only its recorded answers, or an OpenAI-compatible endpoint."""

_TEMPLATES = files("steelyard") / "templates"
_LOCK = "prompts/steelyard.lock"
EMPTY_LOCK = """\
# The aliases of this project's prompts. Written by steelyard (promote, rollback, bless, sync);
# review it like code, do not edit it by hand. `steelyard prompts sync --check` compares it with the store.
format: 1
prompts: {}
versions: {}
"""
_IGNORED = """\
# Steelyard's local state. Recorded answers are committed: CI replays them and needs no model.
.steelyard/*
!.steelyard/replay/
.steelyard/replay/quarantine/
__pycache__/
"""
_ATTRIBUTES = """\
# Checksummed: no line ending may be changed.
.steelyard/replay/** -text linguist-generated
"""
_SECRETS = """\
OPENAI_BASE_URL: ${{ vars.OPENAI_BASE_URL }}
      OPENAI_API_KEY: ${{ secrets.OPENAI_API_KEY }}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one file.

    Attributes:
        path: The file, from the project's folder.
        what: `wrote`, `unchanged`, `kept` (it differs and was left alone), `replaced`, `added to`.
        note: What a person should know or do, or None.
    """

    path: str
    what: Literal["wrote", "unchanged", "kept", "replaced", "added to"]
    note: str | None = None


def project_files(kind: Kind, *, bare: bool = False) -> dict[str, bytes]:
    """The files of a new project by their path, but for what is merged into files that exist.

    Args:
        kind: Who answers.
        bare: Leave the example out: only a lock without aliases and the workflow.
    """
    template = _TEMPLATES / "project"
    test = (template / "evals" / "test_review_sentiment.py.tmpl").read_text("utf-8")
    workflow = (template / ".github" / "workflows" / "evals.yml").read_text("utf-8")
    lock = (template / "prompts" / "steelyard.lock").read_text("utf-8")
    if bare or kind == "endpoint":
        lock = EMPTY_LOCK  # nothing was measured there yet, so nothing is in production
    if kind == "endpoint":
        later = "once this passes: [GOOD_ENOUGH, NOT_WORSE], then `steelyard bless evals/`"
        test = test.replace("[GOOD_ENOUGH, NOT_WORSE],", f"[GOOD_ENOUGH],  # {later}")
    mode = _SECRETS if kind == "endpoint" else "STEELYARD_LM_MODE: replay # commit .steelyard/replay/"
    texts = {
        "prompts/review-sentiment.yaml": (template / "prompts/review-sentiment.yaml").read_text("utf-8"),
        "evals/datasets/reviews.jsonl": (template / "evals/datasets/reviews.jsonl").read_text("utf-8"),
        "evals/test_review_sentiment.py": test,
        _LOCK: lock,
        ".github/workflows/evals.yml": workflow.replace("@ENV@", mode),
    }
    example = ("prompts/review-sentiment.yaml", "evals/")
    return {path: text.encode() for path, text in texts.items() if not (bare and path.startswith(example))}


def scaffold(
    folder: Path,
    kind: Kind,
    *,
    model: str | None = None,
    base_url: str | None = None,
    bare: bool = False,
    force: bool = False,
) -> list[Written]:
    """What became of each file. All is checked before the first is written.

    Args:
        folder: The project's folder; made if it is not there.
        kind: Who answers.
        model: Name of the endpoint's model.
        base_url: Its address; None leaves it to `OPENAI_BASE_URL`.
        bare: Leave the example out.
        force: Replace files that differ. `pyproject.toml` and `.gitignore` are only ever added to, and a lock
            file is never touched: it says what is in production.

    Raises:
        InvalidValue: the folder is a file. InvalidFile: `pyproject.toml` cannot be read or added to.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidValue(f"{str(folder)!r} is a file", do="Name a folder, or leave it out for this one.")
    project = folder / "pyproject.toml"
    table = _table("local" if bare and kind == "recorded" else kind, model, base_url)
    merged, note = _merged(project, table)
    done: list[Written] = []
    _write(project, merged, done, folder, note=note)
    for path, data in project_files(kind, bare=bare).items():
        target = folder / path
        old = target.read_bytes() if target.is_file() else None
        if old is None or old == data or (force and path != _LOCK):
            _write(target, data, done, folder)
        else:
            done.append(Written(path=path, what="kept", note=_why_kept(path)))
    for path, lines in ((".gitignore", _IGNORED), (".gitattributes", _ATTRIBUTES)):
        target = folder / path
        _write(target, _with_lines(target, lines), done, folder, note=_hidden(target))
    if bare:
        (folder / "evals" / "datasets").mkdir(parents=True, exist_ok=True)
    elif kind != "endpoint":
        done.append(_recordings(folder))
    return done


def _table(kind: Kind, model: str | None, base_url: str | None) -> str:
    lines = ["[tool.steelyard]"]
    if kind == "endpoint":
        lines.append(f"lm = {json.dumps(f'openai:{model}')}")
        if base_url is not None:
            lines.append(f"openai_base_url = {json.dumps(base_url)}")
        else:
            lines.append("# The endpoint is OPENAI_BASE_URL (ending in /v1), its key OPENAI_API_KEY.")
    else:
        lines.append(
            'lm = "local:smollm2"  # what the lock was measured with; another model is another candidate'
        )
    if kind == "recorded":
        lines.append('lm_mode = "replay"  # only recorded answers; take this line out once a model is there')
    return "\n".join(lines) + "\n"


def _merged(project: Path, table: str) -> tuple[bytes, str | None]:
    """`pyproject.toml` with the table at its end; as it is if it has one."""
    if not project.is_file():
        return table.encode(), None
    data = project.read_bytes()
    try:
        tool = _parsed(data).get("tool", {})
        if "steelyard" in tool:
            return data, "it has [tool.steelyard] already"
        newline = "\r\n" if b"\r\n" in data else "\n"
        text = data.decode("utf-8").rstrip("\r\n")
        text = (text + newline * 2 if text else "") + table.replace("\n", newline)
        added = text.encode()
        if _parsed(added) != {**_parsed(data), "tool": {**tool, **_parsed(table.encode())["tool"]}}:
            raise tomllib.TOMLDecodeError("the table cannot stand at the end of this file")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(
            project, f"[tool.steelyard] cannot be added: {error}", do="Mend the file; nothing was written."
        ) from None
    return added, None


def _parsed(data: bytes) -> dict[str, Any]:
    return tomllib.loads(data.decode("utf-8").replace("\r\n", "\n"))


def _with_lines(path: Path, wanted: str) -> bytes:
    """The file with those of the lines at its end that it does not have."""
    if not path.is_file():
        return wanted.encode()
    data = path.read_bytes()
    have = {line.strip() for line in data.decode("utf-8", "replace").splitlines()}
    missing = [line for line in wanted.splitlines() if line not in have]
    if not [line for line in missing if not line.startswith("#")]:
        return data
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    gap = b"" if not data or data.endswith(b"\n") else newline
    return data + gap + b"".join(line.encode() + newline for line in missing)


def _hidden(path: Path) -> str | None:
    """A note if the whole of `.steelyard` is ignored, so that git never looks inside."""
    if path.name != ".gitignore" or not path.is_file():
        return None
    lines = {line.strip().rstrip("/") for line in path.read_text("utf-8", "replace").splitlines()}
    if lines & {".steelyard", "/.steelyard", "**/.steelyard"}:
        return "take its line '.steelyard/' out: it hides .steelyard/replay/, which CI needs"
    return None


def _write(path: Path, data: bytes, done: list[Written], folder: Path, *, note: str | None = None) -> None:
    shown = path.relative_to(folder).as_posix()
    old = path.read_bytes() if path.is_file() else None
    if old == data:
        done.append(Written(path=shown, what="unchanged", note=note))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data, mode=SHARED)
    what = "wrote" if old is None else "added to" if data.startswith(old.rstrip()) else "replaced"
    done.append(Written(path=shown, what=what, note=note))


def _why_kept(path: str) -> str:
    return "it says what is in production" if path == _LOCK else "it differs; --force replaces it"


def _recordings(folder: Path) -> Written:
    """Lay the recorded answers of the real local model where replay looks for them."""
    from steelyard.lm.tape import Tape

    tape = Tape(folder / ".steelyard" / "replay")
    new = 0
    for recording in recordings():
        if not tape.path(recording.key).is_file():
            tape.put(recording)
            new += 1
    note = f"{new} recorded answers of SmolLM2-135M" if new else None
    return Written(path=".steelyard/replay/", what="wrote" if new else "unchanged", note=note)


def recordings() -> Iterator[Any]:
    """The recorded answers to the scaffold's prompt and dataset (`steelyard.lm.tape.Recording`)."""
    from steelyard.core.results import Usage
    from steelyard.lm.tape import Recording

    for line in (_TEMPLATES / "answers.jsonl").read_text("utf-8").splitlines():
        row: Mapping[str, Any] = json.loads(line)
        yield Recording(
            key=row["key"],
            status=row["status"],
            headers=row["headers"],
            body=row["body"].encode(),
            usage=Usage.from_json(row["usage"]),
            about=row["about"],
        )
