"""`steelyard prompts import | export`: prompts of other projects in and out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steelyard.core.canonical import short
from steelyard.core.errors import InvalidValue
from steelyard.core.ref import check_name
from steelyard.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.prompts.foreign import Imported

__all__ = ["export", "import_"]

_MOST = 1_000_000
_FORMATS = "f-string, langchain, langsmith, github, mlflow, promptfoo or steelyard"


@click.command("import")
@click.argument("source")
@click.option(
    "--from", "format_name", metavar="FORMAT", help=f"{_FORMATS}; told from the content where it is plain."
)
@click.option("--name", help="Name of the prompt; the file's without its ends if left out.")
@click.option(
    "--dataset", help="Name of the dataset for test data that comes along; the prompt's if left out."
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
def import_(source: str, format_name: str | None, name: str | None, dataset: str | None, force: bool) -> None:
    """Write prompt files from SOURCE: a file, -, prompts:/NAME/3 (MLflow) or langsmith:NAME[:COMMIT].

    Nothing of what is read is run. What cannot be carried over is refused, or said in one line each.
    """
    from steelyard.prompts.foreign import FORMATS, detect

    settings = load_settings()
    name = name or _name_of(source)
    check_name(name, kind="prompt name")
    if source.startswith("langsmith:"):
        if format_name not in (None, "langsmith"):
            raise InvalidValue(f"{source!r} is in LangSmith, not {format_name}", do="Leave --from out.")
        found = FORMATS.get("langsmith").read(_from_langsmith(settings, source), name)
    elif source.startswith("prompts:/"):
        from steelyard.prompts.foreign.mlflow import from_mlflow
        from steelyard.store.mlflow_prompts import fetch_mlflow_prompt

        if format_name not in (None, "mlflow"):
            raise InvalidValue(
                f"{source!r} is in MLflow's registry, not {format_name}", do="Leave --from out."
            )
        found = (from_mlflow(fetch_mlflow_prompt(settings, source), name),)
    else:
        text = _text(source)
        if format_name is None:
            chosen = detect(text)
            click.echo(f"{source} is read as {chosen.name} (the content says so)", err=True)
        else:
            chosen = FORMATS.get(format_name)
        found = chosen.read(text, name)
    written = [_write_prompt(settings, item, force) for item in found]
    for item, path in zip(found, written, strict=True):
        click.echo(f"{_shown(settings, path)}  {short(item.prompt.digest)}")
    _rest(settings, found, dataset or name, force)


@click.command()
@click.argument("ref")
@click.option("--to", "format_name", metavar="FORMAT", required=True, help=f"{_FORMATS}.")
@click.option(
    "-o", "--output", help="A file, prompts:/NAME (MLflow) or langsmith:NAME; standard output if left out."
)
def export(ref: str, format_name: str, output: str | None) -> None:
    """Write the prompt REF in another project's format; what it cannot express is refused."""
    from steelyard.core.ref import Ref
    from steelyard.prompts import load_prompt
    from steelyard.prompts.foreign import FORMATS

    settings = load_settings()
    chosen = FORMATS.get(format_name)
    prompt = load_prompt(Ref.parse(ref), settings)
    made = chosen.write(prompt)
    for sentence in made.left:
        click.echo(sentence, err=True)
    if output is not None and output.startswith("prompts:/"):
        from steelyard.prompts.foreign.mlflow import to_mlflow
        from steelyard.store.mlflow_prompts import register_mlflow_prompt

        if chosen.name != "mlflow":
            raise InvalidValue(f"{output!r} is MLflow's registry", do="Use --to mlflow with it.")
        arguments = {**to_mlflow(prompt)[0], "name": output.removeprefix("prompts:/")}
        click.echo(register_mlflow_prompt(settings, arguments))
    elif output is not None and output.startswith("langsmith:"):
        if chosen.name != "langsmith":
            raise InvalidValue(f"{output!r} is in LangSmith", do="Use --to langsmith with it.")
        click.echo(_to_langsmith(settings, output, made.text))
    elif output is None:
        click.echo(made.text, nl=False)
    else:
        _write(Path(output), made.text, force=True)
        click.echo(f"{output}  {short(prompt.digest)}")


def _name_of(source: str) -> str:
    if source == "-":
        raise InvalidValue("standard input has no name", do="Give one with --name.")
    if source.startswith("langsmith:"):
        return source.removeprefix("langsmith:").partition(":")[0].rpartition("/")[2]
    if source.startswith("prompts:/"):
        return source.removeprefix("prompts:/").partition("@")[0].partition("/")[0]
    stem = Path(source).name
    for end in (".yaml", ".yml", ".json", ".txt", ".prompt"):
        stem = stem.removesuffix(end)
    return stem


def _from_langsmith(settings: Settings, source: str) -> str:
    """A commit's JSON as it is in the hub: asked for as data, so that nothing of it is constructed."""
    from steelyard.data.langsmith_client import langsmith_client

    with langsmith_client(settings) as (client, _):
        commit = client.pull_prompt_commit(
            source.removeprefix("langsmith:"), include_model=True, dangerously_pull_public_prompt=True
        )
    return commit.model_dump_json(by_alias=True)


def _to_langsmith(settings: Settings, target: str, manifest: str) -> str:
    """The address of a new commit; the same prompt again is none."""
    import json

    from steelyard.data.langsmith_client import langsmith_client

    with langsmith_client(settings) as (client, _):
        return client.push_prompt(target.removeprefix("langsmith:"), object=json.loads(manifest))


def _text(source: str) -> str:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise InvalidValue(f"{source} is over 1 MB", do="A prompt is text that people review.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidValue(
            f"{source} cannot be read: {error.strerror}", do="Check path and rights."
        ) from None
    except UnicodeDecodeError:
        raise InvalidValue(f"{source} is not UTF-8", do="Save it as UTF-8.") from None


def _write_prompt(settings: Settings, item: Imported, force: bool) -> Path:
    from steelyard.prompts.files import path_of
    from steelyard.prompts.foreign import FORMATS

    path = path_of(item.prompt.name, settings)
    _write(path, FORMATS.get("steelyard").write(item.prompt).text, force)
    return path


def _write(path: Path, text: str, force: bool) -> None:
    if path.exists() and not force:
        raise InvalidValue(f"{path} is there already", do="Give another --name, or --force to write over it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidValue(
            f"{path} cannot be written: {error.strerror}", do="Check path and rights."
        ) from None


def _rest(settings: Settings, found: tuple[Imported, ...], dataset: str, force: bool) -> None:
    """Test data into a dataset, evaluators and what was left behind to the terminal."""
    rows = [row for item in found for row in item.examples]
    if rows:
        from steelyard.core.dataset import Dataset
        from steelyard.data import write_jsonl
        from steelyard.data.rows import Rows

        check_name(dataset, kind="dataset name")
        path = settings.datasets / f"{dataset}.jsonl"
        if path.exists() and not force:
            raise InvalidValue(
                f"{path} is there already", do="Give another --dataset, or --force to write over it."
            )
        reader = Rows(path, unit="row")
        examples = tuple(reader.example(row, i) for i, row in enumerate(rows, 1))
        write_jsonl(Dataset(name=dataset, examples=examples), path)
        click.echo(f"{_shown(settings, path)}  {len(examples)} examples")
    evaluators = list(dict.fromkeys(e for item in found for e in item.evaluators))
    if evaluators:
        click.echo("Evaluators that mean what its checks meant:")
        for source in evaluators:
            click.echo(f"  {source}")
    for sentence in dict.fromkeys(s for item in found for s in item.left):
        click.echo(f"Left behind: {sentence}", err=True)


def _shown(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.root) if path.is_relative_to(settings.root) else path)
