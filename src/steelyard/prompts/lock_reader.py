"""Reading the lock file strictly: it decides what goes live, so nothing in it is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from steelyard.core.canonical import is_digest
from steelyard.core.errors import SteelyardError
from steelyard.core.ref import check_alias, check_name
from steelyard.prompts.lock import FORMAT, Decision, Lock, LockedAlias, RequiredGate
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.strict_yaml import Document, read_yaml
from steelyard.prompts.template import Where

__all__ = ["read"]

_RESTORE = "Restore the file from git, or write it anew with: steelyard prompts sync"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Gate(_Strict):
    policy: str
    requirements: list[str]


class _Decision(_Strict):
    id: str
    gate: str
    outcome: str
    policy: str
    task: str | None
    lm: str | None
    dataset: str | None
    evaluators: dict[str, str]


class _Alias(_Strict):
    digest: str
    gates: dict[str, _Gate]
    evidence: list[_Decision]


class _File(_Strict):
    format: int
    prompts: dict[str, dict[str, _Alias]]
    versions: dict[str, dict[str, dict[str, Any]]]


def read(path: Path) -> Lock:
    """The lock that a file holds, every content checked against its digest."""
    document = read_yaml(path, scale=20)
    value = document.value
    if not isinstance(value, dict):
        raise document.fault("a lock file must hold keys", do=_RESTORE)
    version = cast("dict[str, Any]", value).get("format")
    if version != FORMAT:
        raise document.fault(
            f"the lock has format {version!r}, this Steelyard reads {FORMAT}",
            do="Update Steelyard, or restore the file from git.",
            where=("format",),
        )
    try:
        model = _File.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where: Where = tuple(first["loc"])
        key = ".".join(map(str, where))
        raise document.fault(f"{key[:120]!r}: {first['msg']}", do=_RESTORE, where=where) from None
    _check(document, model)
    return Lock(
        aliases={
            name: {alias: _alias(locked) for alias, locked in by_alias.items()}
            for name, by_alias in model.prompts.items()
        },
        versions=model.versions,
    )


def _alias(model: _Alias) -> LockedAlias:
    return LockedAlias(
        digest=model.digest,
        gates={
            gate: RequiredGate(policy=rule.policy, requirements=tuple(rule.requirements))
            for gate, rule in model.gates.items()
        },
        evidence=tuple(Decision(**d.model_dump()) for d in model.evidence),
    )


def _check(document: Document, model: _File) -> None:
    """Names, aliases and digests are what they must be, and each alias has its content."""
    for name, by_alias in model.prompts.items():
        for alias, locked in by_alias.items():
            where: Where = ("prompts", name, alias)
            try:
                check_name(name, kind="prompt name")
                check_alias(alias)
            except SteelyardError as error:
                raise document.fault(str(error).rstrip("."), do=_RESTORE, where=where) from None
            digests = [locked.digest, *(g.policy for g in locked.gates.values())]
            for value in digests:
                if not is_digest(value):
                    raise document.fault(f"{value[:80]!r} is no digest", do=_RESTORE, where=where)
            if locked.digest not in model.versions.get(name, {}):
                raise document.fault(f"the content of {name}@{alias} is missing", do=_RESTORE, where=where)
    for name, by_digest in model.versions.items():
        for digest, content in by_digest.items():
            where = ("versions", name, digest)
            try:
                Prompt.from_content(name, content, expect=digest)
            except SteelyardError as error:
                raise document.fault(str(error).rstrip("."), do=_RESTORE, where=where) from None
