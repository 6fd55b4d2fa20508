"""`steelyard resume`: go on with a run that was interrupted."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.settings import Settings, load_settings
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.evidence.claim import unended

__all__ = ["resume"]


@click.command()
@click.argument("evidence_id", metavar="[RUN]", required=False)
@click.option("--errors", is_flag=True, help="RUN has ended: run its failed rows again, in a new bundle.")
@click.option("--lm-mode", type=click.Choice(["auto", "live", "replay"]), help="Record and replay.")
def resume(evidence_id: str | None, errors: bool, lm_mode: str | None) -> None:
    """Go on with an interrupted run.

    RUN is an evidence id; the newest run that did not end if left out. Rows that are there are kept, what was
    in flight runs again, and so do rows that failed for a reason that may have passed (connection, timeout,
    rate limit, key, budget). Exit code as for gates.
    """
    from steelyard.cli.gates import demand_runner, run_objects, run_pytest

    demand_runner("steelyard resume", tests=True)
    settings = load_settings(lm_mode=lm_mode)
    folder = _folder(settings, evidence_id, errors)
    bundle = EvidenceBundle.open(folder)
    origin = _origin(bundle)
    if bundle.sealed and not errors and folder not in set(unended(folder.parent)):
        raise InvalidValue(
            f"the run {folder.name} has ended", do="With --errors its failed rows are run again."
        )
    target = f"{settings.root / str(origin['target'])}"
    options: dict[str, Any] = {
        "lm_mode": lm_mode, "lm": origin.get("lm"), "prompt": origin.get("prompt"),
        "baseline": origin.get("baseline"), "resume": folder.name, "resume_errors": errors,
    }  # fmt: skip
    mode = str(origin.get("mode") or "gate")
    if "::" in target:
        code = run_pytest(mode, (target,), options)
    else:
        code = run_objects(mode, [target], settings.with_(lm=origin.get("lm") or settings.lm), options)
    if folder.name not in options.get("resumed", ()) and code < 128:
        click.echo(
            f"steelyard: {folder.name} could not be gone on with: {origin['target']} is not the run it was "
            f"({_changed(folder)}). What ran now is a run of its own.",
            err=True,
        )
        code = code or 2
    sys.exit(code)


def _folder(settings: Settings, evidence_id: str | None, errors: bool) -> Path:
    root = settings.home / "evidence"
    if evidence_id is None:
        if errors:
            raise InvalidValue("--errors needs the run", do="Name it; see `steelyard evidence list`.")
        newest = next(iter(unended(root)), None)
        if newest is None:
            raise NotFound("interrupted run", "newest", where=str(root), do="Every run there has ended.")
        return newest
    if "/" in evidence_id or ".." in evidence_id:
        raise InvalidValue(f"{evidence_id!r} is no evidence id", do="See `steelyard evidence list`.")
    folder = root / evidence_id
    if not folder.is_dir() and errors:
        from steelyard.evals.workspace import Workspace

        with Workspace(settings) as workspace:
            return workspace.store.open_evidence(evidence_id, root)
    if not folder.is_dir():
        raise NotFound("run", evidence_id, existing=[f.name for f in unended(root)], where=str(root))
    return folder


def _origin(bundle: EvidenceBundle) -> Mapping[str, Any]:
    origin = (bundle.manifest.get("provenance") or {}).get("origin")
    if not origin:
        raise InvalidValue(
            f"the run {bundle.id} was started from code, which no command can start again",
            do="Run the same code again: it resumes by itself.",
        )
    return origin


def _changed(folder: Path) -> str:
    bundle = EvidenceBundle.open(folder)
    return f"gate {bundle.manifest['gate']!r}: its prompt, task, model, dataset, evaluators or policy changed"
