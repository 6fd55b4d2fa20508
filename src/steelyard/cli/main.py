"""The `steelyard` command. Each command loads what it needs when it runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from steelyard.core.errors import SteelyardError, did_you_mean

__all__ = ["main"]

_COMMANDS = {
    "init": ("steelyard.cli.init:init", "Scaffold a project whose gate passes at once."),
    "doctor": ("steelyard.cli.doctor:doctor", "Look over installation, settings, store and model."),
    "gate": ("steelyard.cli.gates:gate", "Decide gates: candidate against floors and baseline."),
    "run": ("steelyard.cli.gates:run", "Run candidates and store their evidence, without a verdict."),
    "resume": ("steelyard.cli.resume:resume", "Go on with an interrupted run."),
    "plan": ("steelyard.cli.gates:plan", "Say what gates would cost and prove, before paying."),
    "bless": ("steelyard.cli.gates:bless", "Set an alias for the first time, if the floors pass."),
    "compare": ("steelyard.cli.evidence:compare", "Compare two evidence bundles or prompt versions."),
    "evidence": ("steelyard.cli.evidence:evidence", "List, show and verify evidence bundles."),
    "data": ("steelyard.cli.data:data", "Datasets: list, show, bring in, send out."),
    "prompts": ("steelyard.cli.prompts:prompts", "The prompt registry."),
    "models": ("steelyard.cli.models:models", "Language models on this machine."),
    "store": ("steelyard.cli.store:store", "The store as a whole: info, check, export, import, migrate."),
    "gc": ("steelyard.cli.gc:gc", "Let go of old evidence and recordings."),
    "explain": ("steelyard.cli.explain:explain", "Explain an error, a kind of failure or a verdict."),
    "completion": (
        "steelyard.cli.completion:completion",
        "Print the script that completes commands in a shell.",
    ),
    "ui": ("steelyard.cli.ui:ui", "Open MLflow's own UI on the store."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if ctx.resilient_parsing:  # the shell asks for completions
            from steelyard.cli.completion import attach

            return attach(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(n, help=t) for n, (_, t) in _COMMANDS.items() if n.startswith(incomplete)]
        return found + click.Command.shell_complete(
            self, ctx, incomplete
        )  # options, and no command is imported

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            hint = did_you_mean(args[0], _COMMANDS, f"There is {', '.join(_COMMANDS)}.")
            ctx.fail(f"no command {args[0]!r}. {hint}")


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="steelyard", message="steelyard %(version)s")
def cli() -> None:
    """Weigh every prompt, model and adapter before it replaces the one in production.

    Exit codes: 0 pass, 1 fail, 2 wrong usage or an unusable file, 3 inconclusive, 4 unmeasurable.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a `SteelyardError` becomes one sentence on stderr and exit code 2."""
    try:
        return _run(arguments)
    except SteelyardError as error:
        click.echo(f"steelyard: {error}", err=True)
        if sys.stderr.isatty():
            from steelyard.cli.explain import topic_of

            click.secho(f"  more: steelyard explain {topic_of(error)}", err=True, dim=True)
        sys.exit(2)


def _run(arguments: list[str] | None) -> Any:
    try:
        return cli.main(args=arguments, prog_name="steelyard")
    except ModuleNotFoundError as error:
        from steelyard.core.extras import missing

        words = [w for w in (sys.argv[1:] if arguments is None else arguments) if w in _COMMANDS]
        told = missing(error, needed_for=" ".join(["steelyard", *words[:1]]))
        if told is None:
            raise
        raise told from None


if __name__ == "__main__":
    main()
