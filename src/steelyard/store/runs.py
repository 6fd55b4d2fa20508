"""Finished runs and evidence bundles in MLflow's tracking store."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.store.backend import FORMAT, FORMAT_TAG, Backend
from steelyard.store.naming import join_text, key, split_text
from steelyard.store.place import shown
from steelyard.store.protocol import EvidenceInfo, RunRecord

__all__ = ["Runs"]

_PARAM, _TAG = 6_000, 8_000  # MLflow's limits, in characters
_BATCH = {"params": 100, "tags": 100, "metrics": 1_000}
_ENTITIES, _BYTES = 1_000, 900_000  # a batch in all; MLflow's limit is 1 MB
_EVIDENCE, _INFO = "steelyard.evidence", "steelyard.evidence.value"
_SEARCHED = ("id", "name", "subject", "candidate", "yardstick")
_PAGE = 500


class Runs:
    """Writing runs in batches, and finding evidence again."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._experiments: dict[str, str] = {}

    def record(
        self,
        record: RunRecord,
        *,
        extra: Mapping[str, Path] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The id of a run that is written whole; one that fails half-way is left behind as FAILED."""
        artifacts = {**record.artifacts, **(extra or {})}
        for at, path in artifacts.items():
            if not path.exists():
                raise InvalidValue(
                    f"the artifact {at!r} of run {record.name!r} is not at {path}",
                    do="Write it before it is recorded.",
                )
        client = self._backend.client
        run = client.create_run(
            self._experiment(record.experiment),
            start_time=_millis(record.started),
            run_name=record.name[:250],
            tags={FORMAT_TAG: FORMAT},
        )
        run_id: str = run.info.run_id
        try:
            for batch in _batches(record, tags or {}):
                client.log_batch(run_id, **batch)
            if artifacts:
                with _staged(artifacts) as folder:
                    client.log_artifacts(run_id, str(folder))
            client.set_terminated(run_id, record.status, _millis(record.ended))
        except BaseException:
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        return run_id

    def add_evidence(self, evidence: EvidenceInfo, folder: Path, record: RunRecord) -> EvidenceInfo:
        """The evidence with its run; one that is there already stays as it is."""
        there = self.find(id=evidence.id)
        if there:
            return there[0]
        value = asdict(replace(evidence, run_id=None))
        tags = {f"{_EVIDENCE}.{k}": str(value[k]) for k in _SEARCHED if value[k] is not None}
        tags |= split_text(_INFO, json.dumps(value), size=_TAG // 2)
        run_id = self.record(record, extra={f"evidence/{evidence.id}": folder}, tags=tags)
        # Last, so that whoever finds it finds all of it.
        self._backend.client.set_tag(run_id, f"{_EVIDENCE}.complete", "true")
        return self.find(id=evidence.id)[0]

    def find(self, **wanted: str | None) -> list[EvidenceInfo]:
        """The bundles whose fields equal all given values, oldest first; each id once."""
        client = self._backend.client
        text = " AND ".join(
            [f"tags.`{_EVIDENCE}.complete` = 'true'"]
            + [f"tags.`{_EVIDENCE}.{k}` = '{_plain(v)}'" for k, v in wanted.items() if v is not None]
        )
        places = [e.experiment_id for e in _all(client.search_experiments)]
        found: dict[str, EvidenceInfo] = {}
        for run in _all(client.search_runs, experiment_ids=places, filter_string=text) if places else ():
            where = f"{shown(self._backend.uri)} run {run.info.run_id}"
            value = json.loads(join_text(_INFO, run.data.tags, where=where))
            bundle = EvidenceInfo(**{**value, "run_id": run.info.run_id})
            first = found.get(bundle.id)
            # Two who stored one bundle at one time: all readers agree on one of the runs.
            if first is None or (first.run_id or "") > run.info.run_id:
                found[bundle.id] = bundle
        return sorted(found.values(), key=lambda e: (e.created, e.id))

    def fetch(self, evidence_id: str, to: Path) -> Path:
        """The bundle's folder at `to/<id>`, complete or not there at all."""
        target = to / evidence_id
        if target.exists():
            return target
        found = self.find(id=evidence_id)
        if not found:
            raise NotFound(
                "evidence", evidence_id, existing=[e.id for e in self.find()], where=shown(self._backend.uri)
            )
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to, prefix=".fetch-") as folder:
            # Where in the folder it ends up depends on the kind of artifact store.
            here = self._backend.client.download_artifacts(found[0].run_id, f"evidence/{evidence_id}", folder)
            try:
                Path(here).rename(target)
            except OSError:
                if not target.is_dir():  # else another one was first, with the same bytes
                    raise
        return target

    def _experiment(self, name: str) -> str:
        if name in self._experiments:
            return self._experiments[name]
        client, root = self._backend.client, self._backend.artifacts
        found = client.get_experiment_by_name(name)
        if found is None:
            made = self._backend.make(
                lambda: client.create_experiment(
                    name,
                    artifact_location=None if root is None else f"{root}/{key(name).replace('/', '_')}",
                    tags={FORMAT_TAG: FORMAT},
                )
            )
            found = client.get_experiment(made) if made else client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise InvalidValue(
                f"the MLflow experiment {name!r} was deleted",
                do=f"Restore it (mlflow experiments restore -x {found.experiment_id}), or use another name.",
            )
        self._experiments[name] = found.experiment_id
        return found.experiment_id


def _plain(value: str) -> str:
    if "'" in value or "`" in value or "\0" in value:
        raise InvalidValue(f"{value[:80]!r} cannot be looked for", do="Give a name, an id or a digest.")
    return value


def _all(search: Any, **arguments: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(**arguments, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _millis(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _cut(text: str, limit: int) -> str:
    clean = text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
    if len(clean) <= limit:
        return clean
    mark = f" …[cut from {len(text)} characters]"
    return clean[: limit - len(mark)] + mark


def _batches(record: RunRecord, tags: Mapping[str, str]) -> Iterator[dict[str, list[Any]]]:
    """The arguments of as few `log_batch` calls as MLflow's limits allow."""
    batch: dict[str, list[Any]] = {k: [] for k in _BATCH}
    size = 0
    for kind, entity, weight in _entities(record, tags):
        full = len(batch[kind]) >= _BATCH[kind] or sum(map(len, batch.values())) >= _ENTITIES
        if full or size + weight > _BYTES:
            yield batch
            batch, size = {k: [] for k in _BATCH}, 0
        batch[kind].append(entity)
        size += weight
    if size:
        yield batch


def _entities(record: RunRecord, tags: Mapping[str, str]) -> Iterator[tuple[str, Any, int]]:
    from mlflow.entities import Metric, Param, RunTag

    for name, text in _keyed(record.params):
        value = _cut(text, _PARAM)
        yield "params", Param(name, value), len(value.encode()) + 400
    for name, text in _keyed(record.tags):
        value = _cut(text, _TAG)
        yield "tags", RunTag(name, value), len(value.encode()) + 400
    for name, value in tags.items():
        yield "tags", RunTag(name, value), len(value.encode()) + 400
    at = _millis(record.ended)
    for name, values in _keyed(record.metrics):
        for step, number in enumerate([values] if isinstance(values, (int, float)) else values):
            if math.isfinite(number):  # databases disagree on the others
                yield "metrics", Metric(name, float(number), at, step), 500


def _keyed(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    taken: set[str] = set()
    for name, value in values.items():
        clean, n = key(name), 2
        while clean in taken:
            clean, n = f"{key(name)[:240]}_{n}", n + 1
        taken.add(clean)
        yield clean, value


@contextlib.contextmanager
def _staged(artifacts: Mapping[str, Path]) -> Generator[Path]:
    """A folder in which the artifacts lie under their paths, linked rather than copied where that works."""
    with tempfile.TemporaryDirectory(prefix="steelyard-") as folder:
        root = Path(folder)
        for at, path in artifacts.items():
            target = root / at
            if root.resolve() not in target.resolve().parents:
                raise InvalidValue(f"the artifact path {at!r} leaves the run", do="Give a relative path.")
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=_link, dirs_exist_ok=True)
            else:
                _link(path, target)
        yield root


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
