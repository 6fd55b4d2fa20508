"""`steelyard gc`: let go of what no alias, ledger or rule keeps."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from typing import Any

import click

from steelyard.core.clock import utc_now
from steelyard.core.settings import load_settings

__all__ = ["gc"]


@click.command()
@click.option("--yes", is_flag=True, help="Delete; without it only what would go is shown.")
@click.option("--evidence-days", type=click.IntRange(0), help="Days that evidence is kept.  [180]")
@click.option("--keep-last", type=click.IntRange(0), help="Bundles kept of each gate and prompt.  [20]")
@click.option("--replay-days", type=click.IntRange(0), help="Days that an unused recording is kept.  [90]")
@click.option("--incomplete-days", type=click.IntRange(0), help="Days that a run can be resumed.  [14]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(yes: bool, as_json: bool, **given: int | None) -> None:
    """Let go of old evidence, copies, recordings and unfinished runs.

    Never what an alias or a ledger needs: bundles that decided a move, bundles of the versions at which
    aliases stand, those that the lock file names, the newest of each gate. Nothing younger than a day goes.
    Rules come from options, else from `retention` under [tool.steelyard].
    """
    from steelyard.prompts.lock import lock_of
    from steelyard.store import open_store
    from steelyard.store.retention import Goner, Retention, alone, plan, sweep

    settings = load_settings()
    rules = {f.name: settings.retention[f.name] for f in fields(Retention) if f.name in settings.retention}
    rules |= {k: v for k, v in given.items() if v is not None}
    lock = lock_of(settings)
    locked = {d.id for by in lock.aliases.values() for a in by.values() for d in a.evidence}
    store = open_store(settings)

    def say(goner: Goner) -> None:
        if not as_json:
            click.echo(f"{goner.what:<10}  {goner.id}  {goner.age_days} days  {_size(goner.bytes)}")

    try:
        with alone(settings.home):
            goners = plan(store, settings.home, Retention(**rules), locked=locked, now=utc_now())
            gone: list[Goner] = []
            for goner in sweep(store, goners, locked=locked) if yes else goners:
                gone.append(goner)
                say(goner)
    finally:
        store.close()
    count, size = Counter(g.what for g in gone), sum(g.bytes for g in gone)
    if as_json:
        keys = ("what", "id", "bytes", "age_days")
        found: list[dict[str, Any]] = [{k: getattr(g, k) for k in keys} for g in gone]
        click.echo(json.dumps({"deleted": yes, "bytes": size, "found": found}, indent=2))
        return
    words = ", ".join(f"{n} {what}" for what, n in sorted(count.items())) or "nothing"
    end = "" if yes or not gone else "; delete with --yes"
    click.echo(f"{'deleted' if yes else 'would delete'} {words}: {_size(size)}{end}")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
