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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steelyard.core.clock import stamp
from steelyard.core.errors import Corrupt, InvalidValue, NotFound
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

    def find(self, *, damaged: dict[str, str] | None = None, **wanted: str | None) -> list[EvidenceInfo]:
        """The bundles whose fields equal all given values, oldest first; each id once.

        Args:
            damaged: Takes what is wrong by run, instead of the error that would be raised.
            **wanted: Values of the fields that are searched by.
        """
        client = self._backend.client
        text = " AND ".join(
            [f"tags.`{_EVIDENCE}.complete` = 'true'"]
            + [f"tags.`{_EVIDENCE}.{k}` = '{_plain(v)}'" for k, v in wanted.items() if v is not None]
        )
        places = [e.experiment_id for e in _all(client.search_experiments)]
        found: dict[str, EvidenceInfo] = {}
        for run in _all(client.search_runs, experiment_ids=places, filter_string=text) if places else ():
            where = f"{shown(self._backend.uri)} run {run.info.run_id}"
            try:
                value = json.loads(join_text(_INFO, run.data.tags, where=where))
            except Corrupt as error:
                if damaged is None:
                    raise
                damaged[run.info.run_id] = error.what
                continue
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
            with contextlib.suppress(OSError):
                os.utime(target)  # so that `gc` sees a copy that is in use
            return target
        found = self.find(id=evidence_id)
        if not found:
            raise NotFound(
                "evidence", evidence_id, existing=[e.id for e in self.find()], where=shown(self._backend.uri)
            )
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to, prefix=".fetch-") as folder:
            # Where in the folder it ends up depends on the kind of artifact store.
            here = self._download(found[0].run_id or "", f"evidence/{evidence_id}", Path(folder))
            try:
                Path(here).rename(target)
            except OSError:
                if not target.is_dir():  # else another one was first, with the same bytes
                    raise
        return target

    def read(self, run_id: str, to: Path) -> RunRecord:
        """A run as it can be recorded elsewhere, its artifacts but the evidence under `to`."""
        client = self._backend.client
        run = self._backend.find(lambda: client.get_run(run_id))
        if run is None:
            raise NotFound(
                "run", run_id, where=shown(self._backend.uri), do="Look in MLflow which there are."
            )
        metrics: dict[str, float | list[float]] = {}
        for metric in run.data._metric_objs:
            if metric.step == 0:
                metrics[metric.key] = metric.value
            else:
                history = client.get_metric_history(run_id, metric.key)
                metrics[metric.key] = [m.value for m in sorted(history, key=lambda m: m.step)]
        artifacts: dict[str, Path] = {}
        for top in client.list_artifacts(run_id):
            if top.path != "evidence":
                artifacts[top.path] = self._download(run_id, top.path, to)
        return RunRecord(
            experiment=client.get_experiment(run.info.experiment_id).name,
            name=run.info.run_name,
            status="FINISHED" if run.info.status == "FINISHED" else "FAILED",
            params=dict(run.data.params),
            metrics=metrics,
            tags={
                k: v
                for k, v in run.data.tags.items()
                if not k.startswith(("mlflow.", f"{_EVIDENCE}.")) and k != FORMAT_TAG
            },
            artifacts=artifacts,
            started=_moment(run.info.start_time),
            ended=_moment(run.info.end_time or run.info.start_time),
        )

    def delete(self, evidence_id: str) -> None:
        """Delete the runs of a bundle: hidden first, then the artifacts, then the run itself."""
        client = self._backend.client
        for run in self._with_id(evidence_id):
            run_id = run.info.run_id
            if f"{_EVIDENCE}.complete" in run.data.tags:
                client.delete_tag(run_id, f"{_EVIDENCE}.complete")
            self._backend.delete_artifacts(run_id)
            client.delete_run(run_id)
            self._backend.forget_run(run_id)

    def size(self, evidence_id: str) -> int:
        """Bytes of a bundle's files in the store."""
        found = self.find(id=evidence_id)
        if not found or found[0].run_id is None:
            return 0
        return self._size(found[0].run_id, f"evidence/{evidence_id}")

    def _size(self, run_id: str, path: str) -> int:
        files = self._backend.client.list_artifacts(run_id, path)
        return sum(self._size(run_id, f.path) if f.is_dir else int(f.file_size or 0) for f in files)

    def unfinished(self) -> dict[str, str]:
        """When it began, by id of every bundle that is not complete."""
        runs = list(self._with_id(None))
        whole = {r.data.tags[f"{_EVIDENCE}.id"] for r in runs if f"{_EVIDENCE}.complete" in r.data.tags}
        found = {r.data.tags[f"{_EVIDENCE}.id"]: _moment(r.info.start_time) for r in runs}
        return {k: v for k, v in found.items() if k not in whole}

    def _with_id(self, evidence_id: str | None) -> Iterator[Any]:
        client = self._backend.client
        places = [e.experiment_id for e in _all(client.search_experiments)]
        wanted = "LIKE '%'" if evidence_id is None else f"= '{_plain(evidence_id)}'"
        text = f"tags.`{_EVIDENCE}.id` {wanted}"
        return _all(client.search_runs, experiment_ids=places, filter_string=text) if places else iter(())

    def _download(self, run_id: str, path: str, to: Path) -> Path:
        """Where an artifact was put; its address must be one of this store's own."""
        self._backend.check_artifacts(self._backend.client.get_run(run_id).info.artifact_uri)
        to.mkdir(parents=True, exist_ok=True)
        return Path(self._backend.client.download_artifacts(run_id, path, str(to)))

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


def _moment(millis: int) -> str:
    return stamp(datetime.fromtimestamp(millis / 1000, UTC))


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
