"""`steelyard evidence list | show | verify` and `steelyard compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from steelyard.core.canonical import short
from steelyard.core.errors import Corrupt, InvalidValue, NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import load_settings

if TYPE_CHECKING:  # each command loads what it needs when it runs
    from steelyard.evals.workspace import Workspace
    from steelyard.evidence.bundle import EvidenceBundle

__all__ = ["compare", "evidence"]


@contextmanager
def _workspace() -> Generator[Workspace]:
    from steelyard.evals.workspace import Workspace

    with Workspace(load_settings()) as workspace:
        yield workspace


@click.group()
def evidence() -> None:
    """List, show and verify evidence bundles."""


@evidence.command("list")
@click.option("--prompt", "name", help="Only this prompt's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(name: str | None, as_json: bool) -> None:
    """The stored bundles, oldest first, then the runs that were interrupted."""
    from steelyard.evidence.bundle import EvidenceBundle
    from steelyard.evidence.claim import unended

    with _workspace() as workspace:
        found = workspace.store.evidence(name=name)
        begun = [EvidenceBundle.open(folder) for folder in unended(workspace.evidence_folder)]
    if as_json:
        fields = ("id", "gate", "name", "subject", "outcome", "created", "run_id")
        rows = [{**{f: getattr(e, f) for f in fields}, "metrics": dict(e.metrics)} for e in found]
        click.echo(json.dumps(rows, indent=2))
        return
    for e in found:
        metrics = "  ".join(f"{k} {v:.4g}" for k, v in e.metrics.items())
        click.echo(f"{e.id}  {e.outcome:<12}  {e.gate}  {e.name or '-'}@{short(e.subject)}  {metrics}")
    for bundle in reversed(begun):
        if name in (None, bundle.identity.name):
            click.echo(
                f"{bundle.id}  {'interrupted':<12}  {bundle.manifest['gate']}  "
                f"{len(bundle.manifest['planned'])} rows planned; go on: steelyard resume {bundle.id}"
            )
    if not found and not begun:
        click.echo("no evidence yet: run `steelyard gate evals/`")


@evidence.command()
@click.argument("evidence_id")
def show(evidence_id: str) -> None:
    """A bundle's manifest and verdict as JSON."""
    with _workspace() as workspace:
        bundle = _open(workspace, evidence_id)
        out = {"manifest": bundle.manifest, "verdict": bundle.verdict}
        click.echo(json.dumps(out, indent=2, ensure_ascii=False))


@evidence.command()
@click.argument("evidence_id")
def verify(evidence_id: str) -> None:
    """Check every checksum and compute the verdict again; it must come out byte for byte the same."""
    from steelyard.evals.weigh import weigh

    with _workspace() as workspace:
        bundle = _open(workspace, evidence_id)
        stored = bundle.verdict_bytes
        if stored is None:
            click.echo(f"{bundle.id}: {len(bundle.scores.rows)} rows intact; no gate decided on it")
            return
        again = weigh(bundle)
        if again.to_bytes() != stored:
            raise Corrupt(
                bundle.folder / "verdict.json",
                f"computed again the verdict is {again.outcome!r} with other bytes",
                do="It was made by another version of Steelyard, or with other evidence: run the gate again.",
            )
        click.echo(f"{bundle.id}: {len(bundle.scores.rows)} rows intact; verdict {again.outcome}, same bytes")


@evidence.command("mirror")
@click.argument("evidence_id")
@click.option("--dataset", "dataset_name", help="The dataset it was run on, where its name has changed.")
def mirror_(evidence_id: str, dataset_name: str | None) -> None:
    """Mirror a bundle to LangSmith as an experiment; again, it adds nothing. Needs LANGSMITH_API_KEY."""
    from steelyard.data import load_dataset
    from steelyard.evals.mirror import mirror

    with _workspace() as workspace:
        bundle = _open(workspace, evidence_id)
        wanted = bundle.identity.dataset
        whole = load_dataset(dataset_name or bundle.identity.dataset_name, workspace.settings)
        parts = [whole, *(whole.split(s) for s in sorted({e.split for e in whole if e.split is not None}))]
        found = next((d for d in parts if d.digest == wanted), None)
        if found is None:
            raise InvalidValue(
                f"dataset {whole.name!r} has changed since evidence {bundle.id} was made",
                do="Check out its commit, or name the dataset with --dataset.",
            )
        done = mirror(bundle, found, workspace.settings)
    state = f"{done.rows} rows" if done.new else f"all {done.rows} rows were there"
    click.echo(f"{done.experiment}: {state}" + (f"  {done.url}" if done.url else ""))


@click.command()
@click.argument("baseline")
@click.argument("candidate")
@click.option(
    "--margin",
    type=float,
    default=0.05,
    show_default=True,
    help="The tolerated loss, a share of the metric's range, or of its value where it has none.",
)
@click.option("--metric", help="Only this metric.")
def compare(baseline: str, candidate: str, margin: float, metric: str | None) -> None:
    """Compare stored evidence: is CANDIDATE not worse than BASELINE?

    Each is an evidence id or a prompt ref such as support-intent@production; refs take their newest evidence.
    No model is called. Exit code as for gates.
    """
    from steelyard.cli.session import EXIT_CODES
    from steelyard.evals.weigh import gated_part
    from steelyard.gates import Policy, decide, not_worse_than

    with _workspace() as workspace:
        bundles = [_open(workspace, _newest(workspace, text)) for text in (baseline, candidate)]
        parts = [gated_part(b.scores, frozenset(b.manifest["advisory"])) for b in bundles]
        names = [m.name for m in parts[1].identity.metrics]
        if metric is not None and metric not in names:
            raise NotFound("metric", metric, existing=names, where=f"evidence {bundles[1].id}")
        requirements = tuple(
            not_worse_than("baseline", m.name, margin=margin * m.span, relative=not m.bounded)
            for m in parts[1].identity.metrics
            if metric in (None, m.name)
        )
        verdict = decide(Policy(requirements=requirements), parts[1], {"baseline": parts[0]})
    click.echo(f"baseline   {baseline}  evidence {bundles[0].id}")
    click.echo(f"candidate  {candidate}  evidence {bundles[1].id}")
    for finding in verdict.findings:
        click.echo(f"{finding.outcome:<12}  {finding.sentence}")
    click.echo(verdict.sentence)
    sys.exit(EXIT_CODES[verdict.outcome])


def _newest(workspace: Workspace, text: str) -> str:
    if "@" not in text and text[:8].isdigit():
        return text
    ref = Ref.parse(text)
    subject = workspace.prompt(ref).digest
    found: list[Any] = workspace.store.evidence(name=ref.name, subject=subject)
    if not found:
        raise NotFound("evidence", text, do="Make some with: steelyard run evals/ --prompt " + text)
    return found[-1].id


def _open(workspace: Workspace, evidence_id: str) -> EvidenceBundle:
    from steelyard.evidence.bundle import EvidenceBundle

    if "/" in evidence_id or ".." in evidence_id:
        raise InvalidValue(f"{evidence_id!r} is no evidence id", do="See `steelyard evidence list`.")
    local = workspace.evidence_folder / evidence_id
    folder = (
        local if local.is_dir() else workspace.store.open_evidence(evidence_id, workspace.evidence_folder)
    )
    bundle = EvidenceBundle.open(folder)
    bundle.verify()
    return bundle
