"""What a LangSmith server knows: datasets with versions, examples, experiments, runs, feedback, prompts."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["TENANT", "Problem", "State", "is_uuid", "matching", "parsed_time"]

Record = dict[str, Any]
TENANT = "00000000-0000-4000-8000-000000000001"


class Problem(Exception):
    """An answer other than 2xx.

    Args:
        status: HTTP status.
        detail: What is wrong, as LangSmith's API gives it.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)


def is_uuid(value: object) -> bool:
    """Whether a value is a UUID as the API takes it."""
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def parsed_time(text: str) -> datetime:
    """The time of an RFC 3339 text, UTC where it names no zone. Raises `Problem` 422."""
    try:
        # `+` in an address that was not quoted arrives as a blank.
        time = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise Problem(422, f"{text!r} is no time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class State:
    """All that was stored; every change is a new version of its dataset, as in LangSmith."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.datasets: dict[str, Record] = {}
        self.tags: dict[str, dict[str, datetime]] = {}
        self.history: dict[str, list[tuple[datetime, Record | None]]] = {}
        """Versions of each example, oldest first; None where it was deleted."""
        self.sessions: dict[str, Record] = {}
        self.runs: dict[str, Record] = {}
        self.feedback: dict[str, Record] = {}
        self.repos: dict[str, Record] = {}
        self.commits: dict[str, list[Record]] = {}
        self._last = datetime.now(UTC)

    def now(self) -> datetime:
        """A time later than every one given before."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last

    def stamp(self) -> str:
        """`now()` as text."""
        return self.now().isoformat()

    # -- datasets and examples --------------------------------------------------------------------
    def dataset(self, dataset_id: str) -> Record:
        """The dataset of an id. Raises `Problem` 404."""
        return _found(self.datasets, dataset_id, "Dataset")

    def new_dataset(self, body: Mapping[str, Any]) -> Record:
        """A dataset made of a request. Raises `Problem` 409 for a name that is taken."""
        name = _text(body, "name")
        if any(d["name"] == name for d in self.datasets.values()):
            raise Problem(409, f"Dataset with name {name} already exists")
        made: Record = {
            "id": str(body.get("id") or uuid.uuid4()),
            "name": name,
            "description": body.get("description"),
            "data_type": body.get("data_type") or "kv",
            "created_at": self.stamp(),
            "metadata": (body.get("extra") or {}).get("metadata"),
            "tenant_id": TENANT,
        }
        self.datasets[made["id"]] = made
        self.tags[made["id"]] = {}
        return made

    def put_example(self, example_id: str, changes: Mapping[str, Any], *, new: bool) -> datetime:
        """When the example was written. Raises `Problem` 404, 409 or 422."""
        if not is_uuid(example_id):
            raise Problem(422, f"example id {example_id!r} is no UUID")
        before = self.example(example_id, None)
        if new and before is not None:
            raise Problem(409, f"Example {example_id} already exists")
        if not new and before is None:
            raise Problem(404, f"Example {example_id} not found")
        known = {"inputs", "outputs", "metadata", "split", "dataset_id", "created_at", "id", "source_run_id"}
        known |= {"use_source_run_io", "use_source_run_attachments", "attachments_operations", "overwrite"}
        if odd := sorted(set(changes) - known):
            raise Problem(422, f"unknown fields of an example: {', '.join(odd)}")
        record: Record = dict(before or {"id": example_id, "inputs": None, "outputs": None, "metadata": None})
        record |= {k: changes[k] for k in ("inputs", "outputs", "metadata", "dataset_id") if k in changes}
        for key in ("inputs", "outputs", "metadata"):
            if record[key] is not None and not isinstance(record[key], dict):
                raise Problem(422, f"{key} of example {example_id} is no object")
        self.dataset(record.get("dataset_id") or "")
        split = changes.get("split")
        if split is None and before is not None and "metadata" in changes and before["metadata"]:
            split = before["metadata"].get("dataset_split")
        splits = [split] if isinstance(split, str) else split
        if splits or before is None or "metadata" in changes:
            record["metadata"] = {**(record["metadata"] or {}), "dataset_split": splits or ["base"]}
        time = self.now()
        record |= {"modified_at": time.isoformat(), "name": f"#{example_id[:8]}"}
        record.setdefault("created_at", changes.get("created_at") or time.isoformat())
        self.history.setdefault(example_id, []).append((time, record))
        return time

    def delete_example(self, example_id: str) -> None:
        """Forget the example from now on. Raises `Problem` 404."""
        if self.example(example_id, None) is None:
            raise Problem(404, f"Example {example_id} not found")
        self.history[example_id].append((self.now(), None))

    def example(self, example_id: str, as_of: datetime | None) -> Record | None:
        """The example as it was at a time, or is; None where it is not there."""
        found: Record | None = None
        for time, record in self.history.get(example_id, ()):
            if as_of is None or time <= as_of:
                found = record
        return found

    def time_of(self, dataset_id: str, as_of: str | None) -> datetime | None:
        """The time that a version's tag or time means; None for the newest. Raises `Problem` 404."""
        if as_of in (None, "", "latest"):
            return None
        tags = self.tags.get(dataset_id, {})
        if as_of in tags:
            return tags[as_of]
        if as_of[:4].isdigit():
            return parsed_time(as_of)
        raise Problem(404, f"Dataset version {as_of!r} not found")

    def examples(self, dataset_id: str, as_of: str | None = None) -> list[Record]:
        """The examples of a dataset at a version, in the order they were made."""
        time = self.time_of(dataset_id, as_of)
        found = [e for i in self.history if (e := self.example(i, time)) and e["dataset_id"] == dataset_id]
        return sorted(found, key=lambda e: (e["created_at"], e["id"]))

    def versions(self, dataset_id: str) -> list[Record]:
        """The versions of a dataset, newest first."""
        times = {
            t for h in self.history.values() for t, e in h if (e or h[0][1] or {})["dataset_id"] == dataset_id
        }
        tags = self.tags.get(dataset_id, {})
        ordered = sorted(times, reverse=True)
        return [
            {
                "as_of": t.isoformat(),
                "tags": (["latest"] if t == ordered[0] else []) + [n for n, at in tags.items() if at == t],
            }
            for t in ordered
        ]

    # -- experiments, runs, feedback --------------------------------------------------------------
    def session(self, session_id: str) -> Record:
        """The project of an id. Raises `Problem` 404."""
        return _found(self.sessions, session_id, "Session")

    def new_session(self, body: Mapping[str, Any], *, upsert: bool) -> Record:
        """A project. Raises `Problem` 409 for a name that is taken, unless upserting."""
        name = _text(body, "name")
        taken = next((s for s in self.sessions.values() if s["name"] == name), None)
        if taken is not None:
            if not upsert:
                raise Problem(409, f"Session with name {name} already exists")
            return taken
        reference = body.get("reference_dataset_id")
        if reference is not None:
            self.dataset(str(reference))
        made: Record = {
            "id": str(body.get("id") or uuid.uuid4()),
            "name": name,
            "description": body.get("description"),
            "extra": body.get("extra"),
            "reference_dataset_id": reference,
            "start_time": body.get("start_time") or self.stamp(),
            "end_time": body.get("end_time"),
            "tenant_id": TENANT,
        }
        self.sessions[made["id"]] = made
        return made

    def put_run(self, run_id: str, body: Mapping[str, Any], *, new: bool) -> None:
        """Store or complete a run. Raises `Problem` 404, 409 or 422."""
        if not is_uuid(run_id):
            raise Problem(422, f"run id {run_id!r} is no UUID")
        if new and run_id in self.runs and self.runs[run_id].get("posted"):
            raise Problem(409, f"Run {run_id} already exists")
        record = self.runs.setdefault(run_id, {"id": run_id})
        record |= {k: v for k, v in body.items() if v is not None or k not in record}
        if not new:
            return
        for key in ("name", "run_type", "start_time"):
            if not isinstance(record.get(key), str):
                raise self._refused(run_id, f"run {run_id} has no {key}")
        for key in ("inputs", "outputs"):
            if record.get(key) is not None and not isinstance(record[key], dict):
                raise self._refused(run_id, f"{key} of run {run_id} is no object")
        trace, order = record.get("trace_id") or run_id, record.get("dotted_order")
        if order is not None and not (order.endswith(run_id) and order.partition(".")[0].endswith(trace)):
            raise self._refused(run_id, f"dotted_order of run {run_id} does not end in its id")
        reference = record.get("reference_example_id")
        if reference is not None and self.example(reference, None) is None:
            raise self._refused(run_id, f"run {run_id} refers to the example {reference}, which is not there")
        if record.get("session_id") is None:
            name = record.get("session_name") or "default"
            record["session_id"] = self.new_session({"name": name}, upsert=True)["id"]
        self.session(record["session_id"])
        record |= {"posted": True, "trace_id": trace, "tenant_id": TENANT}

    def _refused(self, run_id: str, detail: str) -> Problem:
        del self.runs[run_id]
        return Problem(422, detail)

    def run_shown(self, run: Record) -> Record:
        """A run as the API gives it, with its feedback's means."""
        given = [f for f in self.feedback.values() if f.get("run_id") == run["id"]]
        stats = {
            key: {"n": len(scores), "avg": sum(scores) / len(scores)}
            for key in {f["key"] for f in given}
            if (scores := [f["score"] for f in given if f["key"] == key and f.get("score") is not None])
        }
        shown = {k: v for k, v in run.items() if k not in ("posted", "session_name")}
        status = "error" if run.get("error") else "success" if run.get("end_time") else "pending"
        return {
            "extra": {},
            "inputs": {},
            **shown,
            "status": status,
            "feedback_stats": stats,
            "app_path": "/",
        }

    def put_feedback(self, body: Mapping[str, Any]) -> Record:
        """Store feedback; the same id again replaces it. Raises `Problem` 404 or 422."""
        feedback_id = str(body.get("id") or uuid.uuid4())
        key = _text(body, "key")
        score = body.get("score")
        if score is not None and not isinstance(score, (int, float, bool)):
            raise Problem(422, f"score of feedback {key!r} is no number")
        run_id, session_id = body.get("run_id"), body.get("session_id")
        if run_id is None and session_id is None:
            raise Problem(422, "feedback needs a run_id or a session_id")
        if run_id is not None and run_id not in self.runs:
            raise Problem(404, f"Run {run_id} not found")
        record = {**body, "id": feedback_id, "modified_at": self.stamp()}
        record.setdefault("created_at", record["modified_at"])
        record.setdefault("trace_id", run_id)
        self.feedback[feedback_id] = record
        return record

    # -- prompts ----------------------------------------------------------------------------------
    def repo(self, name: str) -> Record:
        """The prompt of a name. Raises `Problem` 404."""
        return _found(self.repos, name, "Repo")

    def new_repo(self, body: Mapping[str, Any]) -> Record:
        """A prompt without a commit. Raises `Problem` 409 for a name that is taken."""
        name = _text(body, "repo_handle")
        if name in self.repos:
            raise Problem(409, f"Repo {name} already exists")
        time = self.stamp()
        made = {
            **{k: body.get(k) for k in ("description", "readme")},
            "repo_handle": name,
            "id": str(uuid.uuid4()),
            "tenant_id": TENANT,
            "created_at": time,
            "updated_at": time,
            "is_public": bool(body.get("is_public")),
            "is_archived": False,
            "tags": list(body.get("tags") or []),
            "owner": None,
            "full_name": f"-/{name}",
            **dict.fromkeys(("num_likes", "num_downloads", "num_views", "num_commits"), 0),
            "last_commit_hash": None,
        }
        self.repos[name], self.commits[name] = made, []
        return made

    def new_commit(self, name: str, body: Mapping[str, Any]) -> Record:
        """A commit on a prompt. Raises `Problem` 404, 409 (its parent is not the newest) or 422."""
        repo, manifest = self.repo(name), body.get("manifest")
        if (
            not isinstance(manifest, dict)
            or manifest.get("lc") != 1
            or not isinstance(manifest.get("id"), list)
        ):
            raise Problem(422, "the manifest is no serialized LangChain object")
        if body.get("parent_commit") not in (None, repo["last_commit_hash"]):
            raise Problem(409, "the parent is not the latest commit")
        text = json.dumps([manifest, body.get("parent_commit")], sort_keys=True)
        made = {
            "id": str(uuid.uuid4()),
            "commit_hash": hashlib.sha256(text.encode()).hexdigest(),
            "manifest": manifest,
            "examples": [],
            "description": body.get("description"),
            "parent_commit_hash": body.get("parent_commit"),
            "tags": [],
            "created_at": self.stamp(),
        }
        if made["commit_hash"] == repo["last_commit_hash"]:
            raise Problem(409, "Nothing to commit: prompt has not changed since latest commit")
        self.commits[name].append(made)
        repo |= {"last_commit_hash": made["commit_hash"], "num_commits": len(self.commits[name])}
        return made

    def commit(self, name: str, which: str) -> Record:
        """A prompt's commit by hash, prefix, tag or `latest`. Raises `Problem` 404."""
        self.repo(name)
        for commit in reversed(self.commits[name]):
            if (
                which == "latest"
                or which in commit["tags"]
                or (len(which) >= 8 and commit["commit_hash"].startswith(which))
            ):
                return commit
        raise Problem(404, f"Commit {which} not found")


def matching(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """The records whose fields have the wanted values; a None is no wish."""
    wishes = {k: v for k, v in wanted.items() if v is not None}
    return [r for r in records if all(r.get(k) == v for k, v in wishes.items())]


def _found(records: Mapping[str, Record], key: str, kind: str) -> Record:
    if key not in records:
        raise Problem(404, f"{kind} {key} not found")
    return records[key]


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise Problem(422, f"{key} is missing")
    return value
