"""`steelyard prompts …`: the prompt registry from the command line."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from steelyard.core.canonical import short
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.store import LedgerEntry, Store

__all__ = ["prompts"]

_ALIAS = click.option("--alias", default="production", show_default=True, help="The alias to move.")
_REASON = click.option("--reason", help="Why, in words; stands in the ledger.")
_TO = click.option("--to", metavar="VERSION", help="3, sha256:…, an alias, or working.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def prompts() -> None:
    """List, show, compare, check and promote prompts."""


@prompts.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List prompts: working file, versions, aliases."""
    from steelyard.prompts.files import names, read_working

    with _open() as (settings, store):
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
            row["aliases"] = {
                a: {"digest": d, "version": numbers.get(d)} for a, d in store.aliases("prompt", name).items()
            }
            rows.append(row)
    if as_json:
        return _print_json(rows)
    if not rows:
        click.echo(f"There is no prompt yet. Write {settings.prompts}/NAME.yaml.")
        return None
    return _table(
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
@_JSON
def show(ref: str, as_json: bool) -> None:
    """Show a prompt, its versions and aliases, and what a version was measured at.

    REF is NAME (the working file), NAME@3, NAME@production or NAME@sha256:….
    """
    from steelyard.prompts import load_prompt

    wanted = Ref.parse(ref)
    with _open() as (settings, store):
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
        return _print_json(
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
        _table(("variable", "type", "what it is"), described)
        click.echo()
    if versions:
        at = {d: ", ".join(a for a, x in aliases.items() if x == d) for d in aliases.values()}
        _table(
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
    return _table(
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
        with _open() as (settings, store):
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
@click.argument("names", nargs=-1)
def push(names: tuple[str, ...]) -> None:
    """Register working files as versions; all of them if none is named."""
    from steelyard.prompts.push import push as push_files

    with _open() as (settings, store):
        for pushed in push_files(settings, store, names):
            version = pushed.version
            state = "new" if pushed.new else "unchanged"
            click.echo(f"{version.name}@{version.number}  {short(version.digest)}  {state}")


@prompts.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if anything differs.")
def sync(check: bool) -> None:
    """Bring registry, files and lock together."""
    from steelyard.release import sync as sync_all
    from steelyard.release import sync_check

    with _open() as (settings, store):
        if check:
            report = sync_check(store, settings)
            for line in report.lines():
                click.echo(line)
            if report:
                click.echo("Bring them together with: steelyard prompts sync")
                sys.exit(1)
            click.echo("Files, lock and store agree.")
            return
        pushed, moved = sync_all(store, settings)
        for item in pushed:
            if item.new:
                click.echo(f"pushed {item.version.name}@{item.version.number}  {short(item.version.digest)}")
        for difference in moved:
            took = "the store took it over" if difference.ahead == "lock" else "the lock was written anew"
            click.echo(f"{difference}: {took}")
        if not moved and not any(p.new for p in pushed):
            click.echo("Files, lock and store agree.")


@prompts.command()
@click.argument("name")
@_ALIAS
@_TO
@click.option("--force", is_flag=True, help="Move without evidence; needs --reason.")
@_REASON
def promote(name: str, alias: str, to: str | None, force: bool, reason: str | None) -> None:
    """Move an alias to a version that evidence carries; the working file if --to is left out."""
    from steelyard.release import promote as promote_version

    with _open() as (settings, store):
        entry = promote_version(
            store, settings, name, alias=alias, to=_target(name, to), force=force, reason=reason
        )
    _moved(entry, settings)


@prompts.command()
@click.argument("name")
@_ALIAS
@_TO
@_REASON
def rollback(name: str, alias: str, to: str | None, reason: str | None) -> None:
    """Move an alias back to where it stood before, or to a version where it once stood."""
    from steelyard.release import rollback as roll_back

    with _open() as (settings, store):
        entry = roll_back(store, settings, name, alias=alias, to=_target(name, to), reason=reason)
    _moved(entry, settings)


@prompts.command()
@click.argument("name")
@click.argument("gate")
@click.option("--alias", default="production", show_default=True, help="The alias that the gate guards.")
def require(name: str, gate: str, alias: str) -> None:
    """Require GATE for an alias, with the policy of its newest evidence; it stands in the lock file."""
    from steelyard.release import require as require_gate

    with _open() as (settings, store):
        rule = require_gate(store, settings, name, gate, alias=alias)
    click.echo(f"{name}@{alias} is guarded by {gate} (policy {short(rule.policy)}) from now on:")
    for requirement in rule.requirements:
        click.echo(f"  {requirement}")
    click.echo(f"Commit {_shown(settings)}.")


@prompts.command()
@click.argument("name")
@click.option("--alias", help="Only this alias.")
@_JSON
def history(name: str, alias: str | None, as_json: bool) -> None:
    """Show every move of a prompt's aliases: who, when, from, to, why."""
    from steelyard.release import history as moves

    with _open() as (settings, store):
        entries = moves(store, settings, name, alias=alias)
        if not entries and not store.versions("prompt", name):
            raise NotFound("prompt", name, existing=store.names("prompt"), where=store.uri)
    if as_json:
        return _print_json(
            [
                {f: getattr(e, f) for f in e.__dataclass_fields__} | {"evidence": list(e.evidence)}
                for e in entries
            ]
        )
    if not entries:
        click.echo(f"No alias of {name} has moved yet.")
        return None
    return _table(
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


# -- shared -----------------------------------------------------------------------------------------
@contextmanager
def _open() -> Generator[tuple[Settings, Store]]:
    """Settings and store, the lock's aliases taken over."""
    from steelyard.prompts.lock import bootstrap, lock_of
    from steelyard.store import open_store

    settings = load_settings()
    lock = lock_of(settings)  # read first: a damaged lock is told before a store is made
    store = open_store(settings)
    try:
        bootstrap(lock, store)
        yield settings, store
    finally:
        store.close()


def _target(name: str, to: str | None) -> Ref | None:
    """What `--to` means: a selector of this name, or a whole ref."""
    if to is None:
        return None
    return Ref.parse(to if "@" in to else f"{name}@{to}")


def _moved(entry: LedgerEntry, settings: Settings) -> None:
    forced = " (forced)" if entry.forced else ""
    click.echo(f"{entry.name}@{entry.alias}: {short(entry.before)} → {short(entry.after)}{forced}")
    if entry.evidence:
        click.echo(f"evidence {', '.join(entry.evidence)}")
    click.echo(f"Commit {_shown(settings)}.")


def _shown(settings: Settings) -> str:
    try:
        return str(settings.lock.relative_to(settings.root))
    except ValueError:
        return str(settings.lock)


def _pushed(row: dict[str, Any]) -> str:
    return "" if row["working"] is None or row["pushed"] else " (not pushed)"


def _number(alias: dict[str, Any]) -> str:
    return f"{alias['version']} ({short(alias['digest'])})"


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows for people: a rich table on a terminal, aligned columns elsewhere."""
    from steelyard.prompts.diff import visible

    rows = [[visible(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ModuleNotFoundError:
            pass
        else:
            table = Table(*headers, box=None, pad_edge=False)
            for row in rows:
                table.add_row(*(Text(cell) for cell in row))
            Console().print(table)
            return
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    for row in [headers, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
