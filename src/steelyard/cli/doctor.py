"""`steelyard doctor`: what is installed, set and reachable, and what to do where something is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from steelyard.cli import checkup, reach
from steelyard.cli.checkup import Finding
from steelyard.core.errors import SteelyardError
from steelyard.core.settings import load_settings

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--call", is_flag=True, help="Ask the model for one word (costs a few tokens).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(call: bool, as_json: bool) -> None:
    """Look over installation, settings, store and model. Exit code 1 if something will not work.

    Nothing is changed or made, and no model is asked unless --call is given.
    """
    found: list[Finding] = []
    for finding in examine(call=call):
        found.append(finding)
        if not as_json:
            _print(finding, new=len(found) == 1 or found[-2].part != finding.part)
    failed = sum(f.state == "fail" for f in found)
    warned = sum(f.state == "warn" for f in found)
    if as_json:
        rows = [checkup.as_row(f) for f in found]
        click.echo(json.dumps({"ok": not failed, "findings": rows}, indent=2, ensure_ascii=False))
    else:
        click.echo(f"\n{len(found) - failed - warned} ok, {warned} to look at, {failed} that will not work")
    if failed:
        sys.exit(1)


def examine(*, call: bool = False) -> Iterator[Finding]:
    """All findings, one after another as they are found."""
    yield from checkup.installation()
    try:
        settings = load_settings()
    except SteelyardError as error:
        yield Finding(part="settings", name="settings", state="fail", text=str(error))
        return
    yield from checkup.settings_in_force(settings)
    yield from checkup.project(settings)
    yield from checkup.files(settings)
    clocks: reach.Clocks = {}
    yield from reach.store(settings, clocks)
    yield from reach.model(settings, clocks, call=call)
    yield reach.clock(clocks)


def _print(finding: Finding, *, new: bool) -> None:
    if new:
        click.secho(f"\n{finding.part}", bold=True)
    word = click.style(f"{finding.state:<4}", fg=_COLOURS[finding.state])
    click.echo(f"  {word}  {finding.name:<18}  {finding.text}")
    if finding.do:
        click.echo(f"        {'':<18}  → {finding.do}")
