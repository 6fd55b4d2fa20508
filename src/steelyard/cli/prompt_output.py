"""What the commands of `steelyard prompts` share."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from steelyard.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.store import Store

__all__ = ["AS_JSON", "opened", "print_json", "print_table"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def opened() -> Generator[tuple[Settings, Store]]:
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


def print_json(value: Any) -> None:
    """The value as JSON for other programs."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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
