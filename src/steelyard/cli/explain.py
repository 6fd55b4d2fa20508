"""`steelyard explain`: the page on errors, offline, a section at a time."""

from __future__ import annotations

import re
from importlib.resources import files

import click

from steelyard.core.errors import NotFound, SteelyardError

__all__ = ["explain", "sections", "topic_of"]

_HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
_END = re.compile(r"[.:;](?=\s|$)")
_PARTS = ("Kinds of failure", "Verdicts")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def sections() -> dict[str, str]:
    """Heading to text, in the page's order."""
    page = (files("steelyard") / "templates" / "errors.md").read_text("utf-8")
    found = list(_HEADING.finditer(page))
    ends = [m.start() for m in found[1:]] + [len(page)]
    return {m[2]: page[m.end() : end].strip() for m, end in zip(found, ends, strict=True)}


def topic_of(error: SteelyardError) -> str:
    """What to ask `steelyard explain` for: `not-found` for a `NotFound` and for its subclasses."""
    kind = getattr(error, "kind", None)
    known = {plain(name) for name in sections()}
    if type(error).__name__ == "CallFailed" and plain(str(kind)) in known:
        return str(kind).replace("_", "-")
    own = next(c.__name__ for c in type(error).__mro__ if plain(c.__name__) in known)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", own).lower()


def plain(word: str) -> str:
    """The word as it is compared: `NotFound`, `not-found` and `not_found` are one."""
    return re.sub(r"[\s_-]", "", word).lower()


@click.command()
@click.argument("topic", required=False)
def explain(topic: str | None) -> None:
    """Explain an error, a kind of failure or a verdict; list them if TOPIC is left out.

    TOPIC is a class (NotFound or not-found), a kind (rate_limit) or a verdict (unmeasurable).
    """
    known = sections()
    if topic is None:
        click.secho("Errors", bold=True)
        for name, text in known.items():
            if name in _PARTS:
                click.secho(f"\n{name}", bold=True)
            else:
                first = _LINK.sub(r"\1", _END.split(text, maxsplit=1)[0]).replace("`", "")
                click.echo(f"  {name:<17} {' '.join(first.split())}")
        return
    names = {plain(name): name for name in known}
    name = names.get(plain(topic))
    if name is None:
        raise NotFound("topic", topic, existing=known, do="`steelyard explain` lists all.")
    click.secho(name, bold=True)
    click.echo(_LINK.sub(r"\1", known[name]).replace("`", ""))
    click.echo(f"\nAll errors: docs/errors.md#{name.lower().replace(' ', '-')}")
