"""Results mirrored to LangSmith as an experiment: one run a row, scores as feedback, the verdict as metadata.

The evidence bundle stays the truth; the mirror is for people who look at LangSmith. Every id is made of the
evidence's id, so mirroring the same evidence again adds nothing, and one that broke off is completed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from steelyard.core.canonical import JSON, canonical
from steelyard.core.clock import monotonic
from steelyard.core.dataset import Dataset
from steelyard.core.errors import SteelyardError, StoreUnavailable
from steelyard.core.results import Row
from steelyard.core.settings import Settings
from steelyard.evals.weigh import weigh
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.gates.verdict import Verdict

if TYPE_CHECKING:
    from langsmith import Client

    from steelyard.evals.workspace import Workspace

__all__ = ["Mirrored", "mirror", "mirror_if_asked", "run_id"]

_NAMESPACE = uuid.UUID("0d9c6e1e-6d59-5a6c-8d1f-2a9a52b7c1f0")
_BATCH, _BATCH_BYTES = 100, 8_000_000
_FLUSH_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What LangSmith has now.

    Attributes:
        experiment: The experiment's name.
        url: Where people see it, if LangSmith says so.
        rows: How many rows it has.
        new: Whether anything was sent; False where all of it was there.
    """

    experiment: str
    url: str | None
    rows: int
    new: bool


def mirror_if_asked(workspace: Workspace, bundle: EvidenceBundle) -> None:
    """Mirror a bundle that was just recorded, if there is a key; whatever goes wrong is one line, no more."""
    settings = workspace.settings
    if settings.langsmith == "off" or not settings.langsmith_api_key:
        return
    try:
        dataset = workspace.seen.get(bundle.identity.dataset)
        if dataset is None:
            raise StoreUnavailable(
                "LangSmith", "the examples are not at hand", do="Run: steelyard evidence mirror"
            )
        done = mirror(bundle, dataset, settings)
        workspace.note(f"mirrored to LangSmith: {done.experiment}" + (f"  {done.url}" if done.url else ""))
    except SteelyardError as error:
        workspace.note(f"not mirrored to LangSmith: {_one_line(error)}")
    except Exception as error:  # a mirror of somebody else's making must not change a verdict
        workspace.note(f"not mirrored to LangSmith: {type(error).__name__}: {_one_line(error)}")


def mirror(bundle: EvidenceBundle, dataset: Dataset, settings: Settings) -> Mirrored:
    """What LangSmith has of a bundle after it was mirrored.

    Args:
        bundle: A sealed bundle.
        dataset: The examples it was run on.
        settings: Where LangSmith and its key are.

    Raises:
        StoreUnavailable: LangSmith cannot be reached, or did not take all of it; mirror again to complete it.
        InvalidValue: there is no key, or LangSmith refuses something. MissingExtra: `langsmith` is missing.
    """
    from steelyard.data.langsmith import PREFIX, push_examples
    from steelyard.data.langsmith_client import langsmith_client

    rows = bundle.scores.rows
    verdict = weigh(bundle) if bundle.verdict_bytes is not None else None
    name = f"{bundle.manifest['gate']}-{bundle.id}"
    with langsmith_client(settings) as (client, failed):
        project = next(iter(client.list_projects(name=name, limit=1)), None)
        if project is not None and project.metadata.get("steelyard_rows") == len(rows):
            return Mirrored(experiment=name, url=project.url, rows=len(rows), new=False)
        # What came from LangSmith may have been changed there since: it is not put back to what it was.
        theirs = (dataset.source or "").startswith(PREFIX)
        pushed = push_examples(client, dataset, dataset.name, prune=False, update=not theirs)
        metadata = _metadata(bundle, verdict, client, pushed.dataset_id)
        if project is None:
            project = client.create_project(
                name,
                upsert=True,  # another process may have been first
                description=_sentence(verdict),
                metadata=metadata,
                reference_dataset_id=pushed.dataset_id,
                num_examples=len(dataset),
                num_repetitions=bundle.identity.trials,
            )
        examples = {e.id: e.inputs for e in dataset}
        for batch in _batches(_runs(bundle, rows, examples, pushed.ids, str(project.id))):
            client.multipart_ingest(create=batch)
            _check(failed, client)
        for row in rows:
            _feedback(client, bundle, row, str(project.id))
        _verdict_feedback(client, bundle.id, verdict, str(project.id))
        began = monotonic()
        client.flush(timeout=_FLUSH_S)  # says nothing where it runs out of time
        if monotonic() - began >= _FLUSH_S:
            failed.append(TimeoutError(f"scores were still on their way after {_FLUSH_S:g} s"))
        _check(failed, client)
        # Said last: an experiment without it is one that broke off.
        client.update_project(
            project.id, metadata={**metadata, "steelyard_rows": len(rows)}, end_time=datetime.now(UTC)
        )
    return Mirrored(experiment=name, url=project.url, rows=len(rows), new=True)


def run_id(evidence_id: str, example_id: str, trial: int) -> str:
    """LangSmith's id of a row: always the same for one row of one evidence bundle."""
    return str(uuid.uuid5(_NAMESPACE, f"{evidence_id}\n{example_id}\n{trial}"))


def _runs(
    bundle: EvidenceBundle,
    rows: tuple[Row, ...],
    inputs: Mapping[str, Mapping[str, JSON]],
    ids: Mapping[str, str],
    project_id: str,
) -> Iterator[dict[str, Any]]:
    began = datetime.fromisoformat(bundle.manifest["provenance"]["created"]).astimezone(UTC)
    for i, row in enumerate(rows):
        identity = run_id(bundle.id, row.example_id, row.trial)
        start = began + timedelta(microseconds=i)  # one order for people, whatever ran first
        outputs = row.outputs
        made: dict[str, Any] = {
            "id": identity,
            "trace_id": identity,
            "dotted_order": f"{start:%Y%m%dT%H%M%S%f}Z{identity}",
            "name": bundle.manifest["gate"],
            "run_type": "chain",
            "start_time": start.isoformat(),
            "end_time": (start + timedelta(seconds=row.seconds)).isoformat(),
            "inputs": dict(inputs.get(row.example_id, {})),
            "session_id": project_id,
            "reference_example_id": ids.get(row.example_id),
            "extra": {"metadata": _row_metadata(row)},
        }
        if row.failure is not None:
            made["error"] = f"{row.failure.kind}: {row.failure.message}"
        else:
            made["outputs"] = outputs if isinstance(outputs, dict) else {"output": outputs}
        yield made


def _batches(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records in requests of at most 100 and about 8 MB, well under what LangSmith takes at once."""
    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(canonical([record["inputs"], record.get("outputs")]))
        if batch and (len(batch) == _BATCH or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def _row_metadata(row: Row) -> dict[str, JSON]:
    usage = row.usage
    out: dict[str, JSON] = {
        "steelyard_example": row.example_id,
        "trial": row.trial,
        "model_calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
        "replayed_calls": usage.replayed,
    }
    if row.cluster is not None:
        out["cluster"] = row.cluster
    if row.invalid_output is not None:
        out["invalid_output"] = row.invalid_output
    return out


def _feedback(client: Client, bundle: EvidenceBundle, row: Row, project_id: str) -> None:
    identity = run_id(bundle.id, row.example_id, row.trial)
    for score in row.scores:
        error = score.error
        client.create_feedback(
            identity,
            score.name,
            score=score.value,
            value=score.label,
            comment=score.explanation if error is None else f"{error.kind}: {error.message}",
            error=True if error is not None else None,
            source_info={"evaluator": score.evaluator_version} if score.evaluator_version else None,
            trace_id=identity,
            session_id=project_id,
            feedback_id=uuid.uuid5(uuid.UUID(identity), score.name),
        )


def _verdict_feedback(client: Client, evidence_id: str, verdict: Verdict | None, project_id: str) -> None:
    if verdict is not None:
        client.create_feedback(
            project_id=project_id,
            key="steelyard_verdict",
            score={"pass": 1.0, "fail": 0.0}.get(verdict.outcome),  # neither is no number
            value=verdict.outcome,
            comment=verdict.sentence,
            feedback_id=uuid.uuid5(_NAMESPACE, f"{evidence_id}\nverdict"),
        )


def _metadata(
    bundle: EvidenceBundle, verdict: Verdict | None, client: Client, dataset_id: str
) -> dict[str, JSON]:
    identity, manifest = bundle.identity, bundle.manifest
    version = next(iter(client.list_dataset_versions(dataset_id=dataset_id, limit=1)), None)
    return {
        "steelyard_evidence": bundle.id,
        "steelyard_evidence_digest": bundle.seal_digest,
        "gate": manifest["gate"],
        "prompt": identity.name,
        "prompt_digest": identity.subject,
        "task_digest": identity.task,
        "model": identity.lm_name,
        "model_digest": identity.lm,
        "dataset_digest": identity.dataset,
        "dataset_version": version.as_of.isoformat() if version is not None else None,
        "trials": identity.trials,
        "verdict": verdict.outcome if verdict is not None else "recorded",
        "sentence": _sentence(verdict),
        "git_revision": manifest["provenance"].get("git_revision"),
    }


def _sentence(verdict: Verdict | None) -> str:
    return verdict.sentence if verdict is not None else "run without a gate"


def _check(failed: list[Exception], client: Client) -> None:
    if failed:
        do = "Mirror it again to complete it: steelyard evidence mirror."
        raise StoreUnavailable(client.api_url, f"not everything was taken ({_one_line(failed[0])})", do=do)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
