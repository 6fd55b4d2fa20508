"""`steelyard completion`, and what the shell offers: names from files alone, without store, YAML or numpy.

A shell asks at every press of a key, so nothing here opens the store: prompts are the files in the checkout,
aliases are those of the committed lock, evidence is what lies under `home`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from steelyard.core.errors import SteelyardError
from steelyard.core.settings import Settings, load_settings

__all__ = ["attach", "completion"]

Names = Callable[[Settings, str], list[str]]
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    r"""Print the script that completes commands, prompts, aliases and evidence in SHELL.

    \b
    bash:  steelyard completion bash >> ~/.bashrc
    zsh:   steelyard completion zsh >> ~/.zshrc
    fish:  steelyard completion fish > ~/.config/fish/completions/steelyard.fish
    """
    from steelyard.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "steelyard", "_STEELYARD_COMPLETE").source(), nl=False)
    if shell == "bash":
        click.echo("COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}  # support@production is one word")


def attach(command: click.Command) -> click.Command:
    """The command, its arguments completed by what their names say."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            if (inner := command.get_command(click.Context(command), name)) is not None:
                attach(inner)
        return command
    for parameter in command.params:
        source = _SOURCES.get(parameter.name or "")
        if source is not None and parameter.type is click.STRING:
            parameter._custom_shell_complete = _completer(source)  # pyright: ignore[reportPrivateUsage]
    return command


def _completer(source: Names) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = source(load_settings(), incomplete)
        except (SteelyardError, OSError):  # a broken project completes nothing; the command itself says why
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def prompt_names(settings: Settings, _incomplete: str = "") -> list[str]:
    """Names of the prompt files and of the prompts in the lock, sorted."""
    folder = settings.prompts
    files = {p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")}
    return sorted(files | set(locked_aliases(settings)))


def prompt_refs(settings: Settings, incomplete: str) -> list[str]:
    """Names; after an `@` the aliases of that name and `working`."""
    name, at, _ = incomplete.partition("@")
    if not at:
        return prompt_names(settings)
    return [f"{name}@{alias}" for alias in [*sorted(locked_aliases(settings).get(name, ())), "working"]]


def aliases(settings: Settings, _incomplete: str) -> list[str]:
    """Every alias of the lock, and the one that settings compare with."""
    return sorted({a for found in locked_aliases(settings).values() for a in found} | {settings.baseline})


def evidence_ids(settings: Settings, _incomplete: str) -> list[str]:
    """Bundles on this machine, newest first."""
    folder = settings.home / "evidence"
    return (
        sorted((p.name for p in folder.glob("[0-9]*") if p.is_dir()), reverse=True) if folder.is_dir() else []
    )


def refs_and_evidence(settings: Settings, incomplete: str) -> list[str]:
    """What `compare` takes."""
    return prompt_refs(settings, incomplete) + evidence_ids(settings, incomplete)


def datasets(settings: Settings, _incomplete: str) -> list[str]:
    """Names of the datasets."""
    folder = settings.datasets
    suffixes = {".jsonl", ".csv", ".yaml", ".yml", ".parquet"}
    return sorted(
        p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*") if p.suffix in suffixes
    )


def targets(settings: Settings, _incomplete: str) -> list[str]:
    """The files of evals, as one types them in the project's root."""
    found = sorted(settings.evals.rglob("test_*.py"))
    return [p.relative_to(settings.root).as_posix() for p in found if p.is_relative_to(settings.root)]


def topics(_settings: Settings, _incomplete: str) -> list[str]:
    """What `explain` explains."""
    from steelyard.cli.explain import sections

    return list(sections())


_SOURCES: dict[str, Names] = {
    "name": prompt_names,
    "names": prompt_names,
    "ref": prompt_refs,
    "prompt": prompt_refs,
    "before": prompt_refs,
    "after": prompt_refs,
    "baseline": refs_and_evidence,
    "candidate": refs_and_evidence,
    "alias": aliases,
    "evidence_id": evidence_ids,
    "dataset": datasets,
    "targets": targets,
    "topic": topics,
}


def locked_aliases(settings: Settings) -> dict[str, list[str]]:
    """Aliases by prompt, read off the lock's lines: we write it, so its indents are known."""
    lock: Path = settings.lock
    found: dict[str, list[str]] = {}
    if not lock.is_file():
        return found
    inside, name = False, ""
    for line in lock.read_text("utf-8", "replace").splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            inside = bare == "prompts:"
        elif inside and bare.endswith(":"):
            word = bare[:-1].strip("'\"")
            if indent == 2:
                name = word
            elif indent == 4:
                found.setdefault(name, []).append(word)
    return found
