"""`steelyard prompts watch`: what each save of a prompt file amounts to."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from steelyard.core.canonical import short
from steelyard.core.errors import InvalidValue, MissingExtra, NotFound, SteelyardError
from steelyard.core.settings import Settings, load_settings

__all__ = ["watch"]


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--set",
    "pairs",
    metavar="NAME=VALUE",
    multiple=True,
    help="Fill a variable in; a value that is no text as JSON. Without one it stands as {{ name }}.",
)
def watch(names: tuple[str, ...], pairs: tuple[str, ...]) -> None:
    """Watch prompt files: at each save say what changed, what lint finds, and what it renders to."""
    try:
        from watchfiles import watch as watch_files
    except ModuleNotFoundError:
        raise MissingExtra("watchfiles", extra="watch", needed_for="steelyard prompts watch") from None
    from steelyard.prompts.files import names as all_names
    from steelyard.prompts.watch import Watcher

    settings = load_settings()
    given = dict(_pair(text) for text in pairs)
    there = all_names(settings)
    for name in names:
        if name not in there:
            raise NotFound("prompt file", name, existing=there, where=str(settings.prompts))
    if not settings.prompts.is_dir():
        raise NotFound(
            "folder", str(settings.prompts), do="Make it, or set 'prompts' under [tool.steelyard]."
        )
    watcher = Watcher(settings, names)
    click.echo(f"Watching {len(names or there)} prompt files in {_shown(settings)}; Ctrl-C ends.")
    sys.stdout.flush()
    saves = watch_files(
        settings.prompts,
        watch_filter=lambda _, path: path.endswith((".yaml", ".yml")),
        debounce=200,
        rust_timeout=1000,
        yield_on_timeout=True,
    )
    try:
        # A first look whatever happened: what was saved before the watch stood told nobody.
        for i, saved in enumerate(saves):
            for change in watcher.changes() if saved or i == 0 else ():
                _tell(change, given)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _tell(change: Any, given: dict[str, Any]) -> None:
    from steelyard.prompts.diff import colour, diff_prompts, plain_text, visible
    from steelyard.prompts.watch import rendered

    before, after = change.before, change.after
    moved = f"{short(before.digest) if before else 'new'} → {short(after.digest) if after else ''}"
    if after is None:
        moved = "cannot be used" if change.advice else "is gone"
    elif before is not None and before.digest == after.digest:
        moved = f"{short(after.digest)} (the same version; descriptions do not count)"
    click.echo(f"\n── {change.name}  {moved}")
    for advice in change.advice:
        click.echo(visible(f"  {advice}"))
    if after is None:
        return
    if before is not None and before.digest != after.digest:
        pieces = diff_prompts(before, after)
        colours = sys.stdout.isatty()
        click.echo(colour(pieces) if colours else plain_text(pieces), nl=False, color=colours)
    filled = ", ".join(
        f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in given.items() if k in after.variables
    )
    click.echo(f"── rendered{f' with {filled}' if filled else ''}")
    try:
        click.echo(visible(rendered(after, _typed(after, given))), nl=False)
    except SteelyardError as error:
        click.echo(f"  {error}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidValue(f"--set {text!r} is no pair", do="Write --set name=value.")
    return name, value


def _typed(prompt: Any, given: dict[str, str]) -> dict[str, Any]:
    """The values as the variables' types want them: texts as they are, others read as JSON."""
    out: dict[str, Any] = {}
    for name, text in given.items():
        variable = prompt.variables.get(name)
        if variable is None or variable.type == "str":
            out[name] = text
            continue
        try:
            out[name] = json.loads(text)
        except ValueError:
            out[name] = text  # rendering then says which type is wanted
    return out


def _shown(settings: Settings) -> str:
    try:
        return str(settings.prompts.relative_to(settings.root))
    except ValueError:
        return str(settings.prompts)
