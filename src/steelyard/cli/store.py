"""`steelyard store info | check | export | import | migrate`: the store as a whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from steelyard.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.store import Store

__all__ = ["store"]

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _opened() -> Generator[tuple[Settings, Store]]:
    """The store as it is: the lock file's aliases are not taken over, nothing is moved."""
    from steelyard.store import open_store

    settings = load_settings()
    opened = open_store(settings)
    try:
        yield settings, opened
    finally:
        opened.close()


@click.group()
def store() -> None:
    """The store as a whole: what is in it, whether it is sound, moving it."""


@store.command()
@_AS_JSON
def info(as_json: bool) -> None:
    """Where the store is, its releases, and how much is in it."""
    from steelyard.store.protocol import Kind
    from steelyard.store.state import state_of

    with _opened() as (settings, opened):
        facts: dict[str, Any] = {"uri": opened.uri, **state_of(settings)}
        for kind in get_args(Kind):
            names = opened.names(kind)
            facts[f"{kind}s"] = len(names)
            facts[f"{kind} versions"] = sum(len(opened.versions(kind, n)) for n in names)
        evidence = opened.evidence()
        facts["evidence bundles"] = len(evidence)
        facts["newest evidence"] = evidence[-1].created if evidence else None
    if as_json:
        click.echo(json.dumps({k.replace(" ", "_"): v for k, v in facts.items()}, indent=2))
        return
    for key, value in facts.items():
        click.echo(f"{key:<17}  {'-' if value is None else value}")


@store.command()
@click.option(
    "--repair", is_flag=True, help="Bring what MLflow shows back to the ledger; nothing else is changed."
)
@_AS_JSON
def check(repair: bool, as_json: bool) -> None:
    """Look at every version, alias, ledger and bundle. Exit code 1 if anything is wrong and not mended."""
    from steelyard.store.check import check as look

    found: list[Any] = []
    with _opened() as (_, opened):
        for finding in look(opened, repair=repair):
            found.append(finding)
            if not as_json:
                click.echo(str(finding))
        uri = opened.uri
    wrong = [f for f in found if not f.mended]
    if as_json:
        click.echo(json.dumps([asdict(f) for f in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo(f"{uri}: sound")
    sys.exit(1 if wrong else 0)


@store.command("export")
@click.argument("to", type=click.Path(path_type=Path))
def export(to: Path) -> None:
    """Write versions, aliases with their history, and evidence to a new folder or a .tar.gz file."""
    from steelyard.store.moving import export_store

    with _opened() as (_, opened):
        moved = export_store(opened, to)
    click.echo(f"{to}: {moved}")


@store.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--max-gb", type=float, default=20.0, show_default=True, help="Most that an archive may unpack to."
)
def import_(source: Path, max_gb: float) -> None:
    """Bring in what an export holds. Again it changes nothing; aliases that went two ways are refused."""
    from steelyard.store.moving import import_store

    with _opened() as (_, opened):
        moved = import_store(opened, source, most=int(max_gb * 2**30))
        uri = opened.uri
    click.echo(f"{uri}: new: {moved}")


@store.command()
def migrate() -> None:
    """Bring the tables of an older MLflow release to the one installed here. Back them up first."""
    from steelyard.store.state import migrate as run

    click.echo(run(load_settings()))
