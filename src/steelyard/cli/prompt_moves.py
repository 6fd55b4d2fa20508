"""`steelyard prompts push | sync | promote | rollback | require`: what changes the registry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from steelyard.cli.prompt_output import opened
from steelyard.core.canonical import short
from steelyard.core.errors import InvalidValue
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings

if TYPE_CHECKING:
    from steelyard.store import LedgerEntry

__all__ = ["promote", "push", "require", "rollback", "sync"]

_ALIAS = click.option("--alias", default="production", show_default=True, help="The alias to move.")
_REASON = click.option("--reason", help="Why, in words; stands in the ledger.")
_TO = click.option("--to", metavar="VERSION", help="3, sha256:…, an alias, or working.")


@click.command()
@click.argument("names", nargs=-1)
def push(names: tuple[str, ...]) -> None:
    """Register working files as versions; all of them if none is named."""
    from steelyard.prompts.push import push as push_files

    with opened() as (settings, store):
        for pushed in push_files(settings, store, names):
            version = pushed.version
            state = "new" if pushed.new else "unchanged"
            click.echo(f"{version.name}@{version.number}  {short(version.digest)}  {state}")


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if anything differs.")
def sync(check: bool) -> None:
    """Bring registry, files and lock together."""
    from steelyard.release import sync as sync_all
    from steelyard.release import sync_check

    with opened() as (settings, store):
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


@click.command()
@click.argument("name")
@click.option("--alias", help="The alias to move.  [default: production]")
@click.option("--from", "source", metavar="ALIAS", help="Promote the version that this alias stands at.")
@click.option(
    "--to",
    metavar="VERSION",
    help="The version: 3, sha256:…, an alias, or working. With --from the alias to move; "
    "the environment after it if left out.",
)
@click.option("--force", is_flag=True, help="Move without evidence or over an environment; needs --reason.")
@_REASON
def promote(
    name: str, alias: str | None, source: str | None, to: str | None, force: bool, reason: str | None
) -> None:
    """Move an alias to a version that evidence carries; the working file if --from and --to are left out.

    \b
    steelyard prompts promote support                                  the working file to production
    steelyard prompts promote support --from staging --to production   what staging stands at
    """  # noqa: D301 - click wants the backspace itself
    from steelyard.release import promote as promote_version
    from steelyard.release.environments import following

    with opened() as (settings, store):
        if source is None:
            target, alias = _target(name, to), alias or "production"
        else:
            if alias is not None and to is not None:
                raise InvalidValue(
                    f"--from {source} is given with both --to {to} and --alias {alias}",
                    do="Name the alias to move once: --from staging --to production.",
                )
            target, alias = (
                Ref.parse(f"{name}@{source}"),
                alias or to or following(source, settings.environments),
            )
            if target.alias is None:
                raise InvalidValue(f"--from {source!r} is no alias", do="Name one, such as --from staging.")
            if not force:
                reason = reason or f"from {source}"
        entry = promote_version(store, settings, name, alias=alias, to=target, force=force, reason=reason)
    _moved(entry, settings)


@click.command()
@click.argument("name")
@_ALIAS
@_TO
@_REASON
def rollback(name: str, alias: str, to: str | None, reason: str | None) -> None:
    """Move an alias back to where it stood before, or to a version where it once stood."""
    from steelyard.release import rollback as roll_back

    with opened() as (settings, store):
        entry = roll_back(store, settings, name, alias=alias, to=_target(name, to), reason=reason)
    _moved(entry, settings)


@click.command()
@click.argument("name")
@click.argument("gate")
@click.option("--alias", default="production", show_default=True, help="The alias that the gate guards.")
def require(name: str, gate: str, alias: str) -> None:
    """Require GATE for an alias, with the policy of its newest evidence; it stands in the lock file."""
    from steelyard.release import require as require_gate

    with opened() as (settings, store):
        rule = require_gate(store, settings, name, gate, alias=alias)
    click.echo(f"{name}@{alias} is guarded by {gate} (policy {short(rule.policy)}) from now on:")
    for requirement in rule.requirements:
        click.echo(f"  {requirement}")
    click.echo(f"Commit {_shown(settings)}.")


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
