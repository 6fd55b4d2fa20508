"""`steelyard init`: a project whose gate passes at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from steelyard.cli.scaffold import Kind, Written, scaffold
from steelyard.core.errors import InvalidValue
from steelyard.core.settings import load_settings

__all__ = ["init"]


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--local", "who", flag_value="local", help="The small model of this machine answers.")
@click.option("--endpoint", "who", flag_value="endpoint", help="An OpenAI-compatible endpoint answers.")
@click.option("--model", help="The endpoint's model, such as gpt-5-mini (with --endpoint).")
@click.option("--base-url", help="The endpoint's address, ending in /v1; OPENAI_BASE_URL if left out.")
@click.option("--bare", is_flag=True, help="Leave the example out: settings, workflow, lock, empty folders.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
def init(
    folder: Path, who: str | None, model: str | None, base_url: str | None, bare: bool, force: bool
) -> None:
    """Scaffold prompts, an eval, a CI workflow and a lock in FOLDER (this one if left out).

    `pytest evals/` passes at once. Without --local or --endpoint the local model answers if it is installed,
    and its recorded answers are replayed if it is not: no model, no key, no network.
    """
    kind = _kind(who, model, base_url)
    done = scaffold(folder, kind, model=model, base_url=base_url, bare=bare, force=force)
    width = max(len(w.what) for w in done)
    for written in done:
        note = f"  ({written.note})" if written.note else ""
        click.echo(f"{written.what:<{width}}  {folder / written.path}{note}")
    click.echo()
    if not (bare and kind == "recorded"):
        click.echo(_who_answers(kind, model, base_url))
    if kind != "endpoint" and _endpoint_is_set(folder):
        click.echo("An endpoint is set in your environment: --endpoint --model NAME lets it answer instead.")
    click.echo("Next:")
    commands = _next_bare(folder) if bare else _next(folder, kind, done)
    width = max(len(command) for command, _ in commands)
    for number, (command, why) in enumerate(commands, 1):
        click.echo(f"  {number}. {command:<{width}}  {why}")


def _kind(who: str | None, model: str | None, base_url: str | None) -> Kind:
    if who != "endpoint" and (model or base_url):
        raise InvalidValue("--model and --base-url belong to an endpoint", do="Add --endpoint.")
    if who == "endpoint":
        if not model:
            raise InvalidValue(
                "--endpoint needs the model's name", do="Add --model, as in --model gpt-5-mini."
            )
        if base_url is not None and (not base_url.startswith(("http://", "https://")) or "@" in base_url):
            raise InvalidValue(
                f"--base-url {base_url.rpartition('@')[2]!r} cannot be used",
                do="Give an address such as http://127.0.0.1:8000/v1, and the key as OPENAI_API_KEY.",
            )
        return "endpoint"
    if who == "local" or _local_model():
        return "local"
    return "recorded"


def _local_model() -> bool:
    """Whether engine and weights are here."""
    from steelyard.lm.weights import WeightsMissing, find_weights

    if find_spec("xllamacpp") is None:
        return False
    try:
        find_weights("smollm2")
    except WeightsMissing:
        return False
    return True


def _endpoint_is_set(folder: Path) -> bool:
    settings = load_settings(folder)
    return settings.openai_base_url is not None or settings.openai_api_key is not None


def _who_answers(kind: Kind, model: str | None, base_url: str | None) -> str:
    if kind == "endpoint":
        return (
            f"{model} at {base_url or 'OPENAI_BASE_URL'} answers; each answer is recorded and paid for once."
        )
    if kind == "local":
        return "The local model answers what is not recorded yet."
    return (
        "No local model is installed, so recorded answers of one are replayed. For a model of your own\n"
        "begin in another folder with: steelyard init --endpoint --model NAME"
    )


def _next_bare(folder: Path) -> list[tuple[str, str]]:
    inside = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    return [
        (f"{inside}steelyard doctor --call", "does the model answer?"),
        ("write prompts/NAME.yaml", "and evals/test_NAME.py with a gate: see docs/tutorial.md"),
        ("steelyard bless evals/", "puts the first version into production, if its floors pass"),
    ]


def _next(folder: Path, kind: Kind, done: list[Written]) -> list[tuple[str, str]]:
    inside = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    if find_spec("mlflow") is None or find_spec("pytest") is None:
        return [
            ("pip install 'steelyard[evals]'", "evals and gates"),
            (f"{inside}pytest evals/", "the gate: it passes"),
            ("steelyard doctor", "what is installed, and what is missing"),
        ]
    if kind == "endpoint":
        return [
            (f"{inside}steelyard doctor --call", "is the endpoint there?"),
            ("pytest evals/", "60 short calls, then the verdict"),
            ("steelyard bless evals/", "puts the prompt into production: see the comment in evals/"),
        ]
    kept = any(w.what == "kept" for w in done)
    last = (
        ("steelyard doctor", "what is set up")
        if kept
        else (
            "git add -A && git commit",
            "recordings and lock belong to the commit; CI replays them",
        )
    )
    engine = "" if find_spec("xllamacpp") else "pip install 'steelyard[local]' && "
    fetch = (f"{engine}steelyard models fetch smollm2", "and take lm_mode out: a model answers what is new")
    middle = ("edit prompts/review-sentiment.yaml", "and run it again: is the change good enough?")
    return [(f"{inside}pytest evals/", "the gate: it passes"), fetch if kind == "recorded" else middle, last]
