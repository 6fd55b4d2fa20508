"""`steelyard ui`: MLflow's own UI on the same store."""

from __future__ import annotations

import subprocess
import sys

import click

from steelyard.core.extras import demand
from steelyard.core.settings import load_settings

__all__ = ["ui"]


@click.command()
@click.option("--port", default=5001, show_default=True, help="Port on 127.0.0.1.")
def ui(port: int) -> None:
    """Open MLflow's own UI on the store: runs, prompts, artifacts. Ctrl-C stops it."""
    from steelyard.store import ui_command

    demand("mlflow", needed_for="steelyard ui")
    command = ui_command(load_settings(), port=port)
    click.echo(f"MLflow's UI: http://127.0.0.1:{port}  (Ctrl-C stops it)")
    try:
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own argv
    except KeyboardInterrupt:
        sys.exit(0)
