"""`[tool.steelyard]` of a `pyproject.toml`: found, read, and every mistake named with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from steelyard.core.errors import InvalidFile, closest, did_you_mean

__all__ = ["LISTS", "PATHS", "PLAIN", "find_root", "line_of", "read_table"]

PATHS = {
    "prompts": "prompts",
    "evals": "evals",
    "datasets": "evals/datasets",
    "home": ".steelyard",
    "lock": "prompts/steelyard.lock",
}
PLAIN: dict[str, type | tuple[type, ...]] = {
    "tracking_uri": str,
    "artifact_uri": str,
    "experiment": str,
    "lm": str,
    "lm_mode": str,
    "openai_base_url": str,
    "baseline": str,
    "anchor": str,
    "on_inconclusive": str,
    "concurrency": int,
    "row_timeout_s": (int, float),
    "prompts_from": str,
    "prompt_ttl_s": (int, float),
    "run_timeout_s": (int, float),
    "on_incomplete": str,
    "max_tokens_total": int,
    "max_cost_usd": (int, float),
    "langsmith": str,
    "langsmith_endpoint": str,
    "retention": dict,
}
LISTS = ("environments",)  # texts in a list; in the environment split by commas


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` whose `pyproject.toml` has `[tool.steelyard]`, else `start`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and b"[tool.steelyard" in file.read_bytes():
            return folder
    return here


def read_table(file: Path) -> dict[str, Any]:
    """The table as TOML has it, every key known and of its type; empty where there is no file.

    Raises:
        InvalidFile: it cannot be read, or has an unknown key or a value of another type.
    """
    if not file.is_file():
        return {}
    import tomllib  # some ms, and an application often has no such file

    lines: list[str] = []
    try:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        tools = tomllib.loads(text).get("tool", {})
    except RecursionError:
        raise InvalidFile(file, "nested too deeply", do="Flatten it.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidFile(file, "not UTF-8 text", do="Save the file as UTF-8.", line=line) from None
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")  # "line 3, column 8)" or "end of document)"
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else len(lines)
        raise InvalidFile(file, f"not readable as TOML: {what}", do="Mend the line.", line=line) from None
    table = tools.get("steelyard", {}) if isinstance(tools, dict) else None
    if not isinstance(table, dict):
        do = "Write [tool.steelyard] on a line of its own, and the settings below."
        raise InvalidFile(file, "[tool.steelyard] is no table", do=do)
    if "steelyard" not in tools and (misspelt := closest("steelyard", tools, cutoff=0.85)):
        raise InvalidFile(
            file,
            f"[tool.{misspelt}] is read by nobody",
            do="Did you mean [tool.steelyard]?",
            line=_line_of_table(lines, misspelt),
        )
    for key, value in cast("dict[str, Any]", table).items():
        wanted = str if key in PATHS else list if key in LISTS else PLAIN.get(key)
        if wanted is None:
            known = [*PATHS, *PLAIN, *LISTS]
            raise InvalidFile(
                file,
                f"[tool.steelyard] has the unknown key {key[:80]!r}",
                do=did_you_mean(key, known, f"Known keys: {', '.join(known)}."),
                line=line_of(lines, key),
            )
        texts = not isinstance(value, list) or all(isinstance(v, str) for v in cast("list[Any]", value))
        if not isinstance(value, wanted) or isinstance(value, bool) or not texts:
            raise InvalidFile(
                file,
                f"[tool.steelyard] {key} = {value!r} has the wrong type",
                do="Give a text in quotes."
                if wanted is str
                else 'Give a list of texts: ["dev", "production"].'
                if wanted is list
                else "Write a table: { evidence_days = 90 }."
                if wanted is dict
                else "Give a number.",
                line=line_of(lines, key),
            )
    return table


def _line_of_table(lines: Sequence[str], name: str) -> int | None:
    return next((i for i, text in enumerate(lines, 1) if text.strip().startswith(f"[tool.{name}")), None)


def line_of(lines: Sequence[str], key: str) -> int | None:
    """The 1-based line where a key of `[tool.steelyard]` is set, or None."""
    inside = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("["):
            inside = text.startswith("[tool.steelyard")
        elif inside and text.partition("=")[0].strip().strip("\"'") == key:
            return number
    return None
