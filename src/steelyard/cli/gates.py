"""`steelyard gate | run | plan | bless`: gates outside pytest."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from steelyard.core.errors import Interrupted, InvalidValue, NotFound
from steelyard.core.extras import demand
from steelyard.core.settings import load_settings

__all__ = ["bless", "gate", "plan", "run"]

_TARGETS = click.argument("targets", nargs=-1, metavar="[TARGET]...")
_OPTIONS = [
    click.option("--lm-mode", type=click.Choice(["auto", "live", "replay"]), help="Record and replay."),
    click.option("--lm", help="The model: local:smollm2, local:/path.gguf, openai:MODEL."),
    click.option("--prompt", help="Weigh this version instead of the working file: NAME@3, NAME@production."),
    click.option("-k", "keyword", help="Only tests that match (pytest targets)."),
    click.option(
        "-n", "workers", type=click.IntRange(min=1), help="Processes (pytest targets, pytest-xdist)."
    ),
    click.option("--fresh", is_flag=True, help="Begin anew, even where an interrupted run could go on."),
]


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return _TARGETS(function)


@click.command()
@_options
@click.option("--baseline", metavar="ALIAS", help="Compare with this alias.")
@click.option("--on-inconclusive", type=click.Choice(["fail", "warn"]))
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.")
def gate(targets: tuple[str, ...], **options: Any) -> None:
    """Decide gates.

    TARGET is a folder or file of evals, `file.py::test_name`, or `file.py:OBJECT` where OBJECT is a
    steelyard.Gate; the evals folder if left out. Exit code: 0 pass, 1 fail, 3 inconclusive, 4 unmeasurable.
    """
    _main("gate", targets, options)


@click.command()
@_options
def run(targets: tuple[str, ...], **options: Any) -> None:
    """Run candidates and store their evidence, without a verdict."""
    _main("run", targets, options)


@click.command()
@_options
def plan(targets: tuple[str, ...], **options: Any) -> None:
    """Say what gates would cost and what they could prove; calls no model."""
    _main("plan", targets, options)


@click.command()
@_options
@click.option("--alias", "baseline", metavar="ALIAS", help="Which alias; the gate's baseline if left out.")
def bless(targets: tuple[str, ...], **options: Any) -> None:
    """Set an alias for the first time, if absent and the floors pass: the gate's baseline, or --alias."""
    _main("bless", targets, options)


def _main(mode: str, targets: tuple[str, ...], options: dict[str, Any]) -> None:
    if options.get("lm") is None:
        options.pop("lm", None)
    settings = load_settings(
        lm_mode=options.get("lm_mode"),
        lm=options.get("lm"),
        on_inconclusive=options.get("on_inconclusive"),
        on_incomplete="fresh" if options.get("fresh") else None,
    )
    if not targets and not settings.evals.is_dir():
        do = "Begin with: steelyard init, or name a file of evals."
        raise NotFound("folder of evals", settings.evals.name, where=str(settings.root), do=do)
    targets = targets or (str(settings.evals),)
    demand_runner(f"steelyard {mode}", tests=not all(map(_is_object, targets)))
    if options.get("workers") and importlib.util.find_spec("xdist") is None:
        raise InvalidValue("-n needs pytest-xdist", do="Install it with: pip install pytest-xdist")
    objects = [t for t in targets if _is_object(t)]
    if objects and len(objects) < len(targets):
        raise InvalidValue(
            "gate objects and test files were named together",
            do="Name either file.py:OBJECT targets or files and folders of tests.",
        )
    if objects:
        sys.exit(run_objects(mode, objects, settings, options))
    sys.exit(run_pytest(mode, targets, options))


def demand_runner(command: str, *, tests: bool) -> None:
    """Nothing, if what runs gates is installed.

    Raises:
        MissingExtra: it is not.
    """
    demand(*(["pytest"] if tests else []), "filelock", "numpy", "scipy", needed_for=command)


def _is_object(target: str) -> bool:
    path, colon, name = target.rpartition(":")
    return bool(colon) and not path.endswith(":") and name.isidentifier() and path.endswith(".py")


def run_objects(mode: str, targets: list[str], settings: Any, options: dict[str, Any]) -> int:
    """The exit code of gates that are objects of a module."""
    from steelyard.cli.session import EvalSession, exit_code  # here: the shell's completion needs no runner

    tty = sys.stderr.isatty()

    def show(text: str, final: bool) -> None:
        end = "\n" if final or not tty else ""
        click.echo(f"\r\x1b[2K{text}" if tty else text, err=True, nl=bool(end))

    session = EvalSession(
        settings,
        mode=mode,
        baseline=options.get("baseline"),
        prompt=options.get("prompt"),
        report=options.get("report"),
        show=show,
        live=tty,
        resume_id=options.get("resume"),
        resume_errors=options.get("resume_errors", False),
    )
    try:
        for target in targets:
            path, _, name = target.rpartition(":")
            shown = session.workspace.shown(Path(path).resolve())
            session.run(_load(target), {}, name.lower(), f"{shown}:{name}")
        width = shutil.get_terminal_size((110, 20)).columns
        for line in session.closing_text(colour=sys.stdout.isatty(), width=width):
            click.echo(line)
        options.setdefault("resumed", []).extend(session.workspace.resumed)
        return exit_code(session)
    except Interrupted as error:
        click.echo(f"steelyard: {error.sentence}", err=True)
        options.setdefault("resumed", []).extend(session.workspace.resumed)
        return error.exit_code
    finally:
        session.close()


def _load(target: str) -> Any:
    path_text, _, name = target.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise NotFound("file", path_text, where=str(Path.cwd()))
    spec = importlib.util.spec_from_file_location(f"_steelyard_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidValue(f"{path_text!r} is no Python file", do="Name it as file.py:OBJECT.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    from steelyard.evals.spec import Gate

    value = getattr(module, name, None)
    if not isinstance(value, Gate):
        gates = [k for k, v in vars(module).items() if isinstance(v, Gate)]
        raise NotFound("gate", name, existing=gates, where=path_text)
    return value


class _Codes:
    """A pytest plugin that remembers the session, to turn its outcome into our exit code."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.code: int | None = None

    def pytest_configure(self, config: Any) -> None:
        """Hand the ref over: it is no option of pytest itself."""
        config.option.steelyard_prompt = self.options.get("prompt")
        config.option.steelyard_lm_spec = self.options.get("lm")
        config.option.steelyard_resume = self.options.get("resume")
        config.option.steelyard_resume_errors = self.options.get("resume_errors", False)

    def pytest_sessionfinish(self, session: Any) -> None:
        """Take the outcome while the session is still there."""
        from steelyard.cli.session import exit_code
        from steelyard.pytest_plugin import eval_session

        evals = eval_session(session.config)
        if evals is not None and (evals.outcomes or evals.texts or evals.errors):
            self.code = exit_code(evals)
        if evals is not None:
            self.options.setdefault("resumed", []).extend(evals.workspace.resumed)


def run_pytest(mode: str, targets: tuple[str, ...], options: dict[str, Any]) -> int:
    """The exit code of gates that are tests."""
    import pytest

    arguments = [*targets, f"--steelyard-mode={mode}", "-q", "--no-header", "-p", "no:cacheprovider"]
    # The plugin's package is loaded before pytest can rewrite its assertions; it has none to rewrite.
    arguments += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    for key, flag in (
        ("lm_mode", "--steelyard-lm"),
        ("baseline", "--steelyard-baseline"),
        ("on_inconclusive", "--steelyard-on-inconclusive"),
        ("report", "--steelyard-report"),
    ):
        if options.get(key):
            arguments.append(f"{flag}={options[key]}")
    if options.get("keyword"):
        arguments += ["-k", options["keyword"]]
    if options.get("fresh"):
        arguments.append("--steelyard-fresh")
    if options.get("workers"):
        arguments += ["-n", str(options["workers"])]
    codes = _Codes(options)
    status = int(pytest.main(arguments, plugins=[codes]))
    if status in (0, 1) and codes.code is not None:
        # A test may also fail for another reason than its gates: then nothing is green.
        return codes.code or status
    if status == 5 or (status == 0 and mode in ("gate", "bless")):  # none there, all skipped, other tests
        click.echo("steelyard: no gate ran, so nothing was measured.", err=True)
        return 4
    return 2 if status in (2, 3, 4) else status
