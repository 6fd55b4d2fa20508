"""What `steelyard doctor` looks at. Each check gives findings and changes nothing."""

from __future__ import annotations

import importlib.metadata as metadata
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from steelyard.core.errors import SteelyardError
from steelyard.core.settings import Settings, origins

__all__ = ["Finding", "State", "files", "installation", "project", "settings_in_force"]

State = Literal["ok", "warn", "fail"]

TESTED = ((3, 11), (3, 13))
"""First and last Python version that the tests are run on."""

_ENABLES = {
    "evals": "evals, gates, the store",
    "local": "a small language model on this machine",
    "langchain": "LangChain models and runnables, LangSmith",
    "huggingface": "Hugging Face datasets",
    "server": "a team's store: PostgreSQL, artifacts on S3",
    "watch": "watching prompt files while you edit",
    "finetune": "fine-tuning",
    "tabular": "tabular models",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: The section it stands in.
        name: What was looked at.
        state: `ok`; `warn`: works, but look at it; `fail`: something will not work.
        text: What was found.
        do: What to do about it; empty if nothing.
    """

    part: str
    name: str
    state: State
    text: str
    do: str = ""


def installation() -> Iterator[Finding]:
    """Python, platform, packages and extras."""
    part = "installation"
    version = sys.version_info[:2]
    first, last = TESTED
    tested = first <= version <= last
    yield Finding(
        part=part,
        name="python",
        state="ok" if tested else "warn",
        text=f"{platform.python_version()} ({sys.executable})",
        do="" if tested else f"Tested are {first[0]}.{first[1]} to {last[0]}.{last[1]}.",
    )
    linux = sys.platform == "linux"
    yield Finding(
        part=part,
        name="platform",
        state="ok" if linux else "warn",
        text=platform.platform(terse=True),
        do="" if linux else "Only Linux is tested; see docs/platforms.md.",
    )
    yield Finding(part=part, name="steelyard", state="ok", text=metadata.version("steelyard"))
    needs = _requirements()
    yield from _packages(part, "base", needs.pop("", []), "prompts and their registry", required=True)
    for extra, requirements in sorted(needs.items(), key=lambda item: list(_ENABLES).index(item[0])):
        yield from _packages(part, extra, requirements, _ENABLES[extra], required=False)
    plugins = [p for p in metadata.entry_points(group="pytest11") if p.name == "steelyard"]
    if _version("pytest") is not None:
        yield Finding(
            part=part,
            name="pytest plugin",
            state="ok" if plugins else "fail",
            text="active" if plugins else "pytest does not know it",
            do="" if plugins else "Install steelyard into the environment that pytest runs in.",
        )


def _requirements() -> dict[str, list[str]]:
    """Requirements by extra; those of the base under the empty name."""
    found: dict[str, list[str]] = {"": []}
    for text in metadata.requires("steelyard") or []:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        name = extra[1] if extra else ""
        if name in _ENABLES or not name:
            found.setdefault(name, []).append(requirement.strip())
    return found


def _packages(
    part: str, extra: str, requirements: list[str], enables: str, *, required: bool
) -> Iterator[Finding]:
    have: dict[str, str] = {}
    missing: list[str] = []
    unfit: list[str] = []
    for requirement in requirements:
        name = re.split(r"[\s<>=!~\[(]", requirement, maxsplit=1)[0]
        version = _version(name)
        if version is None:
            missing.append(name)
        elif _fits(requirement, version):
            have[name] = version
        else:
            unfit.append(f"{requirement} (there is {version})")
    install = "pip install steelyard" if required else f"pip install 'steelyard[{extra}]'"
    shown = ", ".join(f"{n} {v}" for n, v in have.items())
    if unfit:
        yield Finding(
            part=part,
            name=extra,
            state="warn",
            text=f"{enables}: wanted are {', '.join(unfit)}",
            do=f"Bring them to versions that fit: {install}",
        )
    elif not missing:
        yield Finding(part=part, name=extra, state="ok", text=f"{enables}: {shown}")
    else:
        state: State = "fail" if required else "warn" if extra == "evals" else "ok"
        text = f"{enables}: not there ({', '.join(missing)})"
        yield Finding(part=part, name=extra, state=state, text=text, do=f"If you want it: {install}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # comes with pytest and MLflow; without them nothing has a ceiling that bites
        return True
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def settings_in_force(settings: Settings) -> Iterator[Finding]:
    """Every setting, its value, and where it came from; secrets masked."""
    where = origins(settings.root)
    yield Finding(part="settings", name="root", state="ok", text=str(settings.root))
    for field in fields(settings):
        if field.name == "root":
            continue
        value = getattr(settings, field.name)
        if field.name.endswith(("_key", "_token", "_secret", "_password")):
            value = "***" if value else None
        shown = "not set" if value is None or value in ((), {}) else _masked(str(value))
        origin = where.get(field.name, "default")
        yield Finding(part="settings", name=field.name, state="ok", text=f"{shown}  ({origin})")


def _masked(text: str) -> str:
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return re.sub(r"(?i)((?:key|token|secret|password|sig|signature)=)[^&\s]+", r"\1***", text)


def project(settings: Settings) -> Iterator[Finding]:
    """Prompt files, lock and git."""
    from steelyard.prompts.lint import lint
    from steelyard.prompts.lock import lock_of

    part = "project"
    if settings.prompts.is_dir():
        advice = lint(settings)
        bad = [a for a in advice if a.rule == "error"]
        yield Finding(
            part=part,
            name="prompts",
            state="fail" if bad else "ok",
            text=str(bad[0].text) if bad else f"{_count(settings)} in {settings.prompts}",
            do="Mend it; `steelyard prompts lint` shows all." if bad else "",
        )
    else:
        text = f"there is no folder {settings.prompts}"
        yield Finding(part=part, name="prompts", state="warn", text=text, do="Begin with: steelyard init")
    try:
        lock = lock_of(settings)
    except SteelyardError as error:
        yield Finding(part=part, name="lock", state="fail", text=str(error))
    else:
        there = settings.lock.is_file()
        count = sum(map(len, lock.aliases.values()))
        text = (
            f"{count} alias{'' if count == 1 else 'es'} in {settings.lock}"
            if there
            else f"there is no {settings.lock}"
        )
        do = "" if there else "The first `steelyard bless` writes it."
        yield Finding(part=part, name="lock", state="ok" if there else "warn", text=text, do=do)
    yield from _git(part, settings)


def _count(settings: Settings) -> str:
    from steelyard.prompts.files import names

    number = len(names(settings))
    return f"{number} prompt file{'' if number == 1 else 's'}"


def _git(part: str, settings: Settings) -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None:
        do = "Install git: reports and evidence then name the commit."
        yield Finding(part=part, name="git", state="warn", text="not installed", do=do)
        return

    def ask(*arguments: str) -> str | None:
        done = subprocess.run(  # noqa: S603 - the user's own git, arguments as a list
            [git, *arguments], cwd=settings.root, capture_output=True, text=True, timeout=10, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "--short", "HEAD")
    if ask("rev-parse", "--git-dir") is None:
        do = "git init: files in git are the source of prompts and gates."
        yield Finding(part=part, name="git", state="warn", text="this is no git checkout", do=do)
        return
    if ask("check-ignore", "-q", str(settings.home / "store")) is None and _inside(settings):
        yield Finding(
            part=part,
            name="git",
            state="warn",
            text=f"{settings.home} is not ignored",
            do="Add to .gitignore: .steelyard/* and !.steelyard/replay/",
        )
        return
    if settings.lock.is_file() and ask("ls-files", "--error-unmatch", str(settings.lock)) is None:
        do = "Commit it: a clean clone starts from it."
        yield Finding(part=part, name="git", state="warn", text="the lock file is not committed", do=do)
        return
    yield Finding(part=part, name="git", state="ok", text=f"at {commit or 'no commit yet'}")


def _inside(settings: Settings) -> bool:
    return settings.home.is_relative_to(settings.root)


def files(settings: Settings) -> Iterator[Finding]:
    """Whether state can be written, and whether there is room."""
    part = "files"
    folder = next(p for p in (settings.home, *settings.home.absolute().parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            part=part,
            name="home",
            state="fail",
            text=f"{folder} cannot be written: {error.strerror}",
            do="Make it writable, or set STEELYARD_HOME to a folder that is.",
        )
    else:
        note = "" if folder == settings.home else " (made at first use)"
        yield Finding(part=part, name="home", state="ok", text=f"{settings.home} can be written{note}")
    free = shutil.disk_usage(folder).free
    state: State = "fail" if free < 100e6 else "warn" if free < 1e9 else "ok"
    do = "" if state == "ok" else "Make room: a run that cannot write its rows stops."
    yield Finding(part=part, name="disk", state=state, text=f"{free / 1e9:,.1f} GB free", do=do)


def as_row(finding: Finding) -> dict[str, Any]:
    """The finding as a JSON object."""
    return {f.name: getattr(finding, f.name) for f in fields(finding)}
