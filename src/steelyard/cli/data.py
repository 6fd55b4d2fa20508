"""`steelyard data …`: datasets listed, shown, brought in from elsewhere and sent there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from steelyard.core.canonical import short
from steelyard.core.dataset import Dataset
from steelyard.core.errors import InvalidFile, InvalidValue
from steelyard.core.ref import check_name
from steelyard.core.settings import Settings, load_settings

__all__ = ["data"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FORCE = click.option("--force", is_flag=True, help="Write over a file that is there.")


@click.group()
def data() -> None:
    """List and show datasets; bring them in from LangSmith, Hugging Face or a file, and send them there."""


@data.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List the datasets in the datasets folder."""
    from steelyard.data.load import SUFFIXES, read_dataset

    settings = load_settings()
    folder = settings.datasets
    files = sorted(f for s in SUFFIXES for f in folder.rglob(f"*{s}") if f.is_file())
    rows: list[dict[str, Any]] = []
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        try:
            rows.append(
                {"name": name, "file": _shown(settings, file), **_facts(read_dataset(file, name=name))}
            )
        except InvalidFile as error:
            rows.append({"name": name, "file": _shown(settings, file), "error": str(error)})
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo(f"There is no dataset yet. Write {_shown(settings, folder)}/NAME.jsonl.")
        return
    from steelyard.cli.prompt_output import print_table

    print_table(
        ("dataset", "examples", "splits", "digest"),
        [
            (r["name"], "unusable", "-", r["error"])
            if "error" in r
            else (r["name"], str(r["examples"]), _splits(r["splits"]), short(r["digest"]))
            for r in rows
        ],
    )


@data.command()
@click.argument("source")
@click.option("-n", "count", default=3, show_default=True, help="How many examples to show.")
@_JSON
def show(source: str, count: int, as_json: bool) -> None:
    """Show a dataset: a name, a file, langsmith:NAME[@VERSION|@SPLIT], huggingface:FOLDER, …."""
    from steelyard.data import load_dataset

    dataset = load_dataset(source, load_settings())
    examples = [e.to_json() for e in dataset.examples[: max(count, 0)]]
    if as_json:
        facts = {"name": dataset.name, "source": dataset.source, **_facts(dataset)}
        click.echo(json.dumps(facts | {"first": examples}, indent=2, ensure_ascii=False))
        return
    from steelyard.prompts.diff import visible

    click.echo(f"{dataset.name}  {dataset.digest}")
    splits = _splits(_facts(dataset)["splits"])
    click.echo(f"{len(dataset)} examples from {visible(dataset.source or '-')}; splits {splits}")
    for example in examples:
        click.echo(visible(json.dumps(example, indent=2, ensure_ascii=False)))


@data.command("import")
@click.argument("source")
@click.option("--name", help="The dataset's name here; the one there if left out.")
@_FORCE
def import_(source: str, name: str | None, force: bool) -> None:
    """Write a dataset file from SOURCE: a file, langsmith:NAME[@VERSION|@SPLIT], huggingface:…."""
    from steelyard.data import load_dataset

    settings = load_settings()
    _write(settings, load_dataset(source, settings), name, force)


@data.command()
@click.argument("name")
@click.argument("target")
@click.option(
    "--keep", is_flag=True, help="In LangSmith: keep examples there that the dataset does not have."
)
@_FORCE
def export(name: str, target: str, keep: bool, force: bool) -> None:
    """Send the dataset NAME to TARGET: langsmith:NAME, huggingface:FOLDER, or a FILE.jsonl."""
    from steelyard.data import load_dataset, write_jsonl

    settings = load_settings()
    dataset = load_dataset(name, settings)
    if target.startswith("langsmith:"):
        _push(settings, dataset, target.removeprefix("langsmith:"), keep)
    elif target.startswith("huggingface:"):
        from steelyard.data.huggingface import save_huggingface

        folder = save_huggingface(dataset, Path(target.removeprefix("huggingface:")))
        click.echo(f"{folder}  {len(dataset)} examples  {short(dataset.digest)}")
    elif target.endswith(".jsonl"):
        if Path(target).exists() and not force:
            raise InvalidValue(f"{target} is there already", do="Use --force to write over it.")
        write_jsonl(dataset, target)
        click.echo(f"{target}  {len(dataset)} examples  {short(dataset.digest)}")
    else:
        raise InvalidValue(
            f"{target!r} is no place for a dataset",
            do="Write langsmith:NAME, huggingface:FOLDER or FILE.jsonl.",
        )


@data.command()
@click.argument("name")
@click.option("--as", "local", help="The dataset's name here.")
@_FORCE
def pull(name: str, local: str | None, force: bool) -> None:
    """Bring NAME[@VERSION|@SPLIT] in from LangSmith: the same as `import langsmith:NAME`."""
    from steelyard.data import load_dataset

    settings = load_settings()
    _write(settings, load_dataset(f"langsmith:{name}", settings), local, force)


@data.command()
@click.argument("name")
@click.option("--as", "remote", help="The dataset's name there.")
@click.option("--keep", is_flag=True, help="Keep examples there that the dataset does not have.")
def push(name: str, remote: str | None, keep: bool) -> None:
    """Make LangSmith's dataset hold exactly the examples of NAME; the same again changes nothing."""
    from steelyard.data import load_dataset

    settings = load_settings()
    dataset = load_dataset(name, settings)
    _push(settings, dataset, remote or dataset.name, keep)


def _push(settings: Settings, dataset: Dataset, name: str, keep: bool) -> None:
    from steelyard.data.langsmith import push_langsmith

    done = push_langsmith(dataset, settings, name=name, prune=not keep)
    counts = f"{done.created} new, {done.updated} changed, {done.deleted} deleted"
    click.echo(f"langsmith:{name}  {len(dataset)} examples ({counts})  {short(dataset.digest)}")


def _write(settings: Settings, dataset: Dataset, name: str | None, force: bool) -> None:
    from steelyard.data import write_jsonl

    name = check_name(name or dataset.name.replace(" ", "-"), kind="dataset name")
    path = settings.datasets / f"{name}.jsonl"
    if path.exists() and not force:
        raise InvalidValue(f"{path} is there already", do="Give another name, or --force to write over it.")
    write_jsonl(dataset, path)
    click.echo(f"{_shown(settings, path)}  {len(dataset)} examples  {short(dataset.digest)}")
    click.echo(f"from {dataset.source or '-'}")


def _facts(dataset: Dataset) -> dict[str, Any]:
    splits = Counter(e.split for e in dataset if e.split is not None)
    return {"examples": len(dataset), "splits": dict(sorted(splits.items())), "digest": dataset.digest}


def _splits(splits: dict[str, int]) -> str:
    return ", ".join(f"{k} {n}" for k, n in splits.items()) or "-"


def _shown(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.root) if path.is_relative_to(settings.root) else path)
