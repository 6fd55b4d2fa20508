"""`steelyard prompts …`: the prompt registry from the command line; here is what only looks."""

from __future__ import annotations

import sys
from typing import Any

import click

from steelyard.cli import prompt_formats, prompt_moves
from steelyard.cli.prompt_output import AS_JSON, opened, print_json, print_table
from steelyard.cli.prompt_watch import watch
from steelyard.core.canonical import short
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import load_settings

__all__ = ["prompts"]


@click.group()
def prompts() -> None:
    """List, show, compare, check and promote prompts."""


@prompts.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """List prompts: working file, versions, aliases."""
    from steelyard.prompts.files import names, read_working

    with opened() as (settings, store):
        from steelyard.release.environments import in_order  # here: a missing store is told before a lock is

        files = names(settings)
        rows: list[dict[str, Any]] = []
        for name in sorted({*files, *store.names("prompt")}):
            versions = store.versions("prompt", name)
            numbers = {v.digest: v.number for v in versions}
            row: dict[str, Any] = {"name": name, "versions": len(versions), "working": None}
            if name in files:
                try:
                    working = read_working(name, settings)
                    row["working"] = working.digest
                    row["pushed"] = working.digest in numbers
                except InvalidFile as error:
                    row["error"] = str(error)
            at = store.aliases("prompt", name)
            row["aliases"] = {
                a: {"digest": at.get(a), "version": numbers.get(at.get(a, ""))}
                for a in in_order({*at, *settings.environments}, settings.environments)
            }
            rows.append(row)
    if as_json:
        return print_json(rows)
    if not rows:
        click.echo(f"There is no prompt yet. Write {settings.prompts}/NAME.yaml.")
        return None
    return print_table(
        ("prompt", "working file", "versions", "aliases"),
        [
            (
                r["name"],
                "unusable" if "error" in r else f"{short(r['working'])}{_pushed(r)}",
                str(r["versions"]),
                ", ".join(f"{a} → {_number(x)}" for a, x in r["aliases"].items()) or "-",
            )
            for r in rows
        ],
    )


@prompts.command()
@click.argument("ref")
@AS_JSON
def show(ref: str, as_json: bool) -> None:
    """Show a prompt, its versions and aliases, and what a version was measured at.

    REF is NAME (the working file), NAME@3, NAME@production or NAME@sha256:….
    """
    from steelyard.prompts import load_prompt

    wanted = Ref.parse(ref)
    with opened() as (settings, store):
        try:
            prompt = load_prompt(wanted, settings, store)
        except NotFound:
            known = store.versions("prompt", wanted.name)
            if not (wanted.is_working and known):
                raise
            prompt = load_prompt(Ref(name=wanted.name, digest=known[-1].digest), settings, store)
        versions = store.versions("prompt", wanted.name)
        aliases = store.aliases("prompt", wanted.name)
        evidence = store.evidence(name=wanted.name, subject=prompt.digest)
    if as_json:
        return print_json(
            {
                "name": prompt.name,
                "digest": prompt.digest,
                "description": prompt.description,
                "content": prompt.content(),
                "versions": [
                    {"number": v.number, "digest": v.digest, "created": v.created} for v in versions
                ],
                "aliases": aliases,
                "evidence": [
                    {k: getattr(e, k) for k in ("id", "gate", "outcome", "created", "run_id")}
                    | {"metrics": dict(e.metrics)}
                    for e in evidence
                ],
            }
        )
    from steelyard.prompts.diff import visible

    click.echo(f"{prompt.name}  {prompt.digest}")
    if prompt.description:
        click.echo(visible(prompt.description))
    click.echo("\n" + visible(prompt.to_text()))
    described = [(k, v.type, v.description) for k, v in prompt.variables.items() if v.description]
    if described:
        print_table(("variable", "type", "what it is"), described)
        click.echo()
    if versions:
        at = {d: ", ".join(a for a, x in aliases.items() if x == d) for d in aliases.values()}
        print_table(
            ("version", "digest", "created", "aliases"),
            [
                (
                    f"{v.number}{' *' if v.digest == prompt.digest else ''}",
                    short(v.digest),
                    v.created,
                    at.get(v.digest, "-"),
                )
                for v in versions
            ],
        )
    else:
        click.echo(f"No version is registered yet: steelyard prompts push {prompt.name}")
    click.echo()
    if not evidence:
        click.echo(f"Nothing was measured yet of {short(prompt.digest)}: steelyard gate")
        return None
    return print_table(
        ("gate", "verdict", "metrics", "when", "run"),
        [
            (
                e.gate,
                e.outcome,
                ", ".join(f"{k} {x:.4g}" for k, x in e.metrics.items()),
                e.created,
                e.run_id or "-",
            )
            for e in evidence
        ],
    )


@prompts.command()
@click.argument("before")
@click.argument("after", required=False)
@click.option(
    "--colour/--no-colour", "coloured", default=None, help="Colour the words; a terminal's default."
)
def diff(before: str, after: str | None, coloured: bool | None) -> None:
    """Compare two versions word by word. AFTER is the working file if left out."""
    from steelyard.prompts import load_prompt
    from steelyard.prompts.diff import colour, diff_prompts, plain_text

    first = Ref.parse(before)
    second = Ref.parse(after) if after else Ref(name=first.name)
    if second == first:
        raise InvalidValue(
            f"{before!r} is compared with itself", do=f"Name two versions, such as {first.name}@production."
        )
    if first.is_working and second.is_working:
        settings = load_settings()
        one, two = load_prompt(first, settings), load_prompt(second, settings)
    else:
        with opened() as (settings, store):
            one, two = load_prompt(first, settings, store), load_prompt(second, settings, store)
    if one.digest == two.digest:
        click.echo(f"{first} and {second} are the same ({short(one.digest)}).")
        return
    use_colour = sys.stdout.isatty() if coloured is None else coloured
    pieces = diff_prompts(one, two)
    click.echo(f"{first} ({short(one.digest)}) → {second} ({short(two.digest)})\n")
    click.echo(colour(pieces) if use_colour else plain_text(pieces), nl=False, color=use_colour)


@prompts.command()
@click.argument("names", nargs=-1)
def lint(names: tuple[str, ...]) -> None:
    """Check prompt files; exit code 1 if one cannot be used, advice alone is 0."""
    from steelyard.prompts.files import names as all_names
    from steelyard.prompts.lint import lint as lint_files

    settings = load_settings()
    found = lint_files(settings, names)
    for advice in found:
        click.echo(str(advice))
    count = len(names or all_names(settings))
    errors = sum(a.rule == "error" for a in found)
    click.echo(f"{count} prompt files, {errors} unusable, {len(found) - errors} pieces of advice")
    if errors:
        sys.exit(1)


@prompts.command()
@click.argument("name")
@click.option("--alias", help="Only this alias.")
@AS_JSON
def history(name: str, alias: str | None, as_json: bool) -> None:
    """Show every move of a prompt's aliases: who, when, from, to, why."""
    with opened() as (settings, store):
        from steelyard.release import history as moves  # here: a missing store is told before a lock is

        entries = moves(store, settings, name, alias=alias)
        if not entries and not store.versions("prompt", name):
            raise NotFound("prompt", name, existing=store.names("prompt"), where=store.uri)
    if as_json:
        return print_json(
            [
                {f: getattr(e, f) for f in e.__dataclass_fields__} | {"evidence": list(e.evidence)}
                for e in entries
            ]
        )
    if not entries:
        click.echo(f"No alias of {name} has moved yet.")
        return None
    return print_table(
        ("#", "alias", "action", "from", "to", "verdict", "who", "when", "evidence", "reason"),
        [
            (
                str(e.number),
                e.alias,
                e.action + (" (forced)" if e.forced else ""),
                short(e.before),
                short(e.after),
                e.verdict or "-",
                e.who,
                e.when,
                ", ".join(e.evidence) or "-",
                e.reason or "-",
            )
            for e in entries
        ],
    )


def _pushed(row: dict[str, Any]) -> str:
    return "" if row["working"] is None or row["pushed"] else " (not pushed)"


def _number(alias: dict[str, Any]) -> str:
    return "-" if alias["digest"] is None else f"{alias['version']} ({short(alias['digest'])})"


for _name in prompt_moves.__all__:
    prompts.add_command(getattr(prompt_moves, _name))
prompts.add_command(watch)
prompts.add_command(prompt_formats.import_)
prompts.add_command(prompt_formats.export)
