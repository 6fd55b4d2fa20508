"""The paths of LangSmith's API that its client calls, on a `State`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from steelyard.testing.langsmith_state import TENANT, Problem, State, matching, parsed_time

__all__ = ["ROUTES", "Request", "Served"]


class Served(Protocol):
    """What a route needs of the server."""

    state: State
    version: str
    flags: dict[str, Any]
    multipart: bool


class Request(NamedTuple):
    """One request that came in.

    Attributes:
        method: `GET`, `POST` …
        path: The path below the API's root.
        query: The query's values by name.
        headers: Names in lower case.
        body: The bytes.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `Problem` 422."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise Problem(422, "the body is no JSON") from None

    def one(self, name: str) -> str | None:
        """The one value of a query's name, or None."""
        return (self.query.get(name) or [None])[0]


Route = Callable[[Served, Request, "re.Match[str]"], Any]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []
_ID = r"([0-9a-fA-F-]{36})"


def _route(method: str, pattern: str) -> Callable[[Route], Route]:
    def add(function: Route) -> Route:
        ROUTES.append((method, re.compile(pattern + r"/?"), function))
        return function

    return add


def _page(request: Request, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    offset, limit = int(request.one("offset") or 0), int(request.one("limit") or 100)
    if not 0 < limit <= 100:
        raise Problem(422, f"limit={limit} is not between 1 and 100")
    return records[offset : offset + limit]


def _parts(request: Request) -> list[tuple[str, bytes]]:
    """Name and content of each part of a multipart body. Raises `Problem` 422."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if boundary is None:
        raise Problem(422, "the body is no multipart form")
    parts: list[tuple[str, bytes]] = []
    for chunk in request.body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, content = chunk.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        if name is None:
            raise Problem(422, "a part has no name")
        parts.append((name[1].decode(), content.removesuffix(b"\r\n")))
    return parts


def _json_part(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise Problem(422, f"the part {name!r} is no JSON") from None


# -- the server itself --------------------------------------------------------------------------------
@_route("GET", "/info")
def _info(server: Served, _request: Request, _match: re.Match[str]) -> Any:
    batch = {
        "use_multipart_endpoint": server.multipart,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 16,
        "scale_down_nempty_trigger": 4,
    }
    return {"version": server.version, "instance_flags": server.flags, "batch_ingest_config": batch}


@_route("GET", "/settings")
def _settings(server: Served, _request: Request, _match: re.Match[str]) -> Any:
    return {"id": TENANT, "display_name": "test", "created_at": server.state.stamp(), "tenant_handle": None}


# -- datasets -----------------------------------------------------------------------------------------
@_route("POST", "/datasets")
def _new_dataset(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return server.state.new_dataset(request.json())


@_route("GET", "/datasets")
def _datasets(server: Served, request: Request, _match: re.Match[str]) -> Any:
    found = matching(server.state.datasets.values(), name=request.one("name"))
    ids, part = request.query.get("id"), request.one("name_contains") or ""
    return _page(request, [d for d in found if (not ids or d["id"] in ids) and part in d["name"]])


@_route("GET", f"/datasets/{_ID}")
def _dataset(server: Served, _request: Request, match: re.Match[str]) -> Any:
    return server.state.dataset(match[1])


@_route("DELETE", f"/datasets/{_ID}")
def _delete_dataset(server: Served, _request: Request, match: re.Match[str]) -> Any:
    server.state.dataset(match[1])
    for example in server.state.examples(match[1]):
        server.state.delete_example(example["id"])
    del server.state.datasets[match[1]]
    return {}


@_route("GET", f"/datasets/{_ID}/versions")
def _versions(server: Served, request: Request, match: re.Match[str]) -> Any:
    server.state.dataset(match[1])
    return _page(request, server.state.versions(match[1]))


@_route("GET", f"/datasets/{_ID}/version")
def _version(server: Served, request: Request, match: re.Match[str]) -> Any:
    time = server.state.time_of(match[1], request.one("as_of") or request.one("tag"))
    for version in server.state.versions(match[1]):
        if time is None or parsed_time(version["as_of"]) <= time:
            return version
    raise Problem(404, "Dataset version not found")


@_route("PUT", f"/datasets/{_ID}/tags")
def _tag(server: Served, request: Request, match: re.Match[str]) -> Any:
    body = request.json()
    server.state.dataset(match[1])
    server.state.tags[match[1]][body["tag"]] = parsed_time(body["as_of"])
    return {}


@_route("GET", f"/datasets/{_ID}/splits")
def _splits(server: Served, request: Request, match: re.Match[str]) -> Any:
    server.state.dataset(match[1])
    found = server.state.examples(match[1], request.one("as_of"))
    return sorted({s for e in found for s in (e["metadata"] or {}).get("dataset_split", [])})


@_route("PATCH", f"/datasets/{_ID}/examples/metadata")
def _bulk_metadata(server: Served, request: Request, match: re.Match[str]) -> Any:
    body = request.json()
    server.state.dataset(match[1])
    for example_id in body["example_ids"]:
        example = server.state.example(example_id, None)
        if example is None:
            raise Problem(404, f"Example {example_id} not found")
        metadata = dict(example["metadata"] or {})
        for operation in body["operations"]:
            have = list(metadata.get(operation["key"], []))
            add = operation["operation"].lower() == "array_add"
            gone = [] if add else operation["values"]
            metadata[operation["key"]] = [
                *(v for v in have if v not in gone),
                *(v for v in operation["values"] if add and v not in have),
            ]
        splits = metadata.pop("dataset_split", None)
        server.state.put_example(example_id, {"metadata": metadata, "split": splits}, new=False)
    return {}


# -- examples -----------------------------------------------------------------------------------------
@_route("GET", "/examples")
def _examples(server: Served, request: Request, _match: re.Match[str]) -> Any:
    dataset, ids = request.one("dataset"), request.query.get("id")
    as_of, splits = request.one("as_of"), request.query.get("splits")
    if dataset is None and not ids:
        raise Problem(422, "give a dataset or ids")
    if dataset is not None:
        server.state.dataset(dataset)
        found = server.state.examples(dataset, as_of)
    else:
        found = [e for i in ids or () if (e := server.state.example(i, None))]
    if ids:
        found = [e for e in found if e["id"] in ids]
    if splits:
        found = [e for e in found if set(splits) & set((e["metadata"] or {}).get("dataset_split", []))]
    if (wanted := request.one("metadata")) is not None:
        wish = json.loads(wanted)
        found = [e for e in found if wish.items() <= (e["metadata"] or {}).items()]
    return _page(request, found)


@_route("GET", f"/examples/{_ID}")
def _example(server: Served, request: Request, match: re.Match[str]) -> Any:
    as_of = request.one("as_of")
    found = server.state.example(match[1], parsed_time(as_of) if as_of else None)
    if found is None:
        raise Problem(404, f"Example {match[1]} not found")
    return found


@_route("POST", "/examples")
def _new_example(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return _put_examples(server, [request.json()], new=True)[0]


@_route("POST", "/examples/bulk")
def _new_examples(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return _put_examples(server, request.json(), new=True)


@_route("PATCH", "/examples/bulk")
def _patch_examples(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return {"count": len(_put_examples(server, request.json(), new=False))}


@_route("PATCH", f"/examples/{_ID}")
def _patch_example(server: Served, request: Request, match: re.Match[str]) -> Any:
    return _put_examples(server, [{**request.json(), "id": match[1]}], new=False)[0]


@_route("DELETE", f"/examples/{_ID}")
def _delete_example(server: Served, _request: Request, match: re.Match[str]) -> Any:
    server.state.delete_example(match[1])
    return {}


@_route("DELETE", "/examples")
def _delete_examples(server: Served, request: Request, _match: re.Match[str]) -> Any:
    for example_id in request.query.get("example_ids", []):
        server.state.delete_example(example_id)
    return {}


def _put_examples(server: Served, bodies: list[dict[str, Any]], *, new: bool) -> list[Any]:
    ids = [str(b.get("id") or uuid.uuid4()) for b in bodies]
    for example_id, body in zip(ids, bodies, strict=True):
        fields = {k: v for k, v in body.items() if k not in ("id", "attachments") and v is not None}
        server.state.put_example(example_id, fields, new=new)
    return [server.state.example(i, None) for i in ids]


@_route("POST", f"/datasets/{_ID}/examples")
def _upload_examples(server: Served, request: Request, match: re.Match[str]) -> Any:
    return _multipart_examples(server, request, match[1], new=True)


@_route("PATCH", f"/datasets/{_ID}/examples")
def _update_examples(server: Served, request: Request, match: re.Match[str]) -> Any:
    return _multipart_examples(server, request, match[1], new=False)


def _multipart_examples(server: Served, request: Request, dataset_id: str, *, new: bool) -> Any:
    server.state.dataset(dataset_id)
    found: dict[str, dict[str, Any]] = {}
    for name, content in _parts(request):
        example_id, _, field = name.partition(".")
        if field.startswith("attachment"):
            raise Problem(422, "attachments are not kept by this server")
        value = _json_part(name, content)
        if not field:
            found[example_id] = {**value, "dataset_id": dataset_id}
        elif example_id not in found or field not in ("inputs", "outputs"):
            raise Problem(422, f"the part {name!r} comes before its example, or is none")
        else:
            found[example_id][field] = value
    times = [server.state.put_example(i, body, new=new) for i, body in found.items()]
    as_of = max(times).isoformat() if times else None
    return {"count": len(found), "example_ids": list(found), "as_of": as_of}


# -- experiments --------------------------------------------------------------------------------------
@_route("POST", "/sessions")
def _new_session(server: Served, request: Request, _match: re.Match[str]) -> Any:
    upsert = (request.one("upsert") or "").lower() == "true"
    return server.state.new_session(request.json(), upsert=upsert)


@_route("GET", "/sessions")
def _sessions(server: Served, request: Request, _match: re.Match[str]) -> Any:
    wanted = {"name": request.one("name"), "reference_dataset_id": request.one("reference_dataset")}
    found = matching(server.state.sessions.values(), **wanted)
    part = request.one("name_contains") or ""
    wish = json.loads(request.one("metadata") or "{}")
    found = [s for s in found if part in s["name"] and wish.items() <= _metadata(s).items()]
    return _page(request, [_session_shown(server, s) for s in found])


@_route("GET", f"/sessions/{_ID}")
def _session(server: Served, _request: Request, match: re.Match[str]) -> Any:
    return _session_shown(server, server.state.session(match[1]))


@_route("PATCH", f"/sessions/{_ID}")
def _patch_session(server: Served, request: Request, match: re.Match[str]) -> Any:
    record = server.state.session(match[1])
    record |= {k: v for k, v in request.json().items() if v is not None}
    return record


@_route("DELETE", f"/sessions/{_ID}")
def _delete_session(server: Served, _request: Request, match: re.Match[str]) -> Any:
    server.state.session(match[1])
    del server.state.sessions[match[1]]
    for run in [r for r in server.state.runs.values() if r.get("session_id") == match[1]]:
        del server.state.runs[run["id"]]
    return {}


def _metadata(session: Mapping[str, Any]) -> dict[str, Any]:
    return dict((session.get("extra") or {}).get("metadata") or {})


def _session_shown(server: Served, session: dict[str, Any]) -> dict[str, Any]:
    runs = matching(server.state.runs.values(), session_id=session["id"])
    return {**session, "run_count": len(runs)}


@_route("POST", f"/datasets/{_ID}/runs")
def _examples_with_runs(server: Served, request: Request, match: re.Match[str]) -> Any:
    body = request.json()
    server.state.dataset(match[1])
    runs = [r for r in server.state.runs.values() if r.get("session_id") in body["session_ids"]]
    out = [
        {**e, "runs": [server.state.run_shown(r) for r in runs if r.get("reference_example_id") == e["id"]]}
        for e in server.state.examples(match[1])
    ]
    offset = body.get("offset") or 0
    return [e for e in out if e["runs"]][offset : offset + (body.get("limit") or 100)]


# -- runs ---------------------------------------------------------------------------------------------
@_route("POST", "/runs")
def _new_run(server: Served, request: Request, _match: re.Match[str]) -> Any:
    body = request.json()
    server.state.put_run(str(body.get("id")), body, new=True)
    return {}


@_route("PATCH", f"/runs/{_ID}")
def _patch_run(server: Served, request: Request, match: re.Match[str]) -> Any:
    server.state.put_run(match[1], request.json(), new=False)
    return {}


@_route("POST", "/runs/batch")
def _batch(server: Served, request: Request, _match: re.Match[str]) -> Any:
    body = request.json()
    for key, new in (("post", True), ("patch", False)):
        for run in body.get(key) or ():
            server.state.put_run(str(run.get("id")), run, new=new)
    return {}


@_route("POST", "/runs/multipart")
def _multipart(server: Served, request: Request, _match: re.Match[str]) -> Any:
    if not server.multipart:
        raise Problem(404, "Not Found")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, content in _parts(request):
        kind, _, rest = name.partition(".")
        record_id, _, field = rest.partition(".")
        if kind == "attachment":
            continue  # counted by nobody: this server keeps no files
        if kind not in ("post", "patch", "feedback"):
            raise Problem(422, f"the part {name!r} is none that is known")
        value = _json_part(name, content)
        record = found.setdefault((kind, record_id), {})
        if field:
            record[field] = value
        else:
            record |= value
    conflict: Problem | None = None
    for (kind, record_id), record in sorted(found.items(), key=lambda item: item[0][0] == "feedback"):
        if kind == "feedback":
            server.state.put_feedback({**record, "id": record_id})
            continue
        try:
            server.state.put_run(record_id, record, new=kind == "post")
        except Problem as problem:
            if problem.status != 409:
                raise
            conflict = problem  # the others of the request are kept all the same
    if conflict is not None:
        raise conflict
    return {}


@_route("GET", f"/runs/{_ID}")
def _run(server: Served, _request: Request, match: re.Match[str]) -> Any:
    if match[1] not in server.state.runs:
        raise Problem(404, f"Run {match[1]} not found")
    return server.state.run_shown(server.state.runs[match[1]])


@_route("POST", "/runs/query")
def _query(server: Served, request: Request, _match: re.Match[str]) -> Any:
    body = request.json()
    found = list(server.state.runs.values())
    for key, field in (
        ("session", "session_id"),
        ("id", "id"),
        ("reference_example", "reference_example_id"),
    ):
        if body.get(key):
            wanted = {str(v) for v in body[key]}
            found = [r for r in found if r.get(field) in wanted]
    for key, field in (("trace", "trace_id"), ("parent_run", "parent_run_id"), ("run_type", "run_type")):
        if body.get(key):
            found = [r for r in found if r.get(field) == str(body[key])]
    if body.get("is_root") is not None:
        found = [r for r in found if (r.get("parent_run_id") is None) == body["is_root"]]
    if body.get("error") is not None:
        found = [r for r in found if bool(r.get("error")) == body["error"]]
    found.sort(key=lambda r: (str(r.get("start_time")), r["id"]), reverse=True)
    start, limit = int(body.get("cursor") or 0), min(int(body.get("limit") or 100), 100)
    later = start + limit < len(found)
    shown = [server.state.run_shown(r) for r in found[start : start + limit]]
    return {"runs": shown, "cursors": {"next": str(start + limit) if later else None}}


# -- feedback -----------------------------------------------------------------------------------------
@_route("POST", "/feedback")
def _new_feedback(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return server.state.put_feedback(request.json())


@_route("GET", "/feedback")
def _feedback(server: Served, request: Request, _match: re.Match[str]) -> Any:
    runs, keys = request.query.get("run"), request.query.get("key")
    sessions = request.query.get("session")
    found = [
        f
        for f in server.state.feedback.values()
        if (not runs or f.get("run_id") in runs)
        and (not keys or f["key"] in keys)
        and (not sessions or f.get("session_id") in sessions)
    ]
    return _page(request, found)


@_route("GET", f"/feedback/{_ID}")
def _one_feedback(server: Served, _request: Request, match: re.Match[str]) -> Any:
    if match[1] not in server.state.feedback:
        raise Problem(404, f"Feedback {match[1]} not found")
    return server.state.feedback[match[1]]


@_route("PATCH", f"/feedback/{_ID}")
def _patch_feedback(server: Served, request: Request, match: re.Match[str]) -> Any:
    return server.state.put_feedback(
        {**_one_feedback(server, request, match), **request.json(), "id": match[1]}
    )


@_route("DELETE", f"/feedback/{_ID}")
def _delete_feedback(server: Served, request: Request, match: re.Match[str]) -> Any:
    _one_feedback(server, request, match)
    del server.state.feedback[match[1]]
    return {}


# -- prompts ------------------------------------------------------------------------------------------
@_route("POST", "/repos")
def _new_repo(server: Served, request: Request, _match: re.Match[str]) -> Any:
    return {"repo": server.state.new_repo(request.json())}


@_route("GET", "/repos")
def _repos(server: Served, request: Request, _match: re.Match[str]) -> Any:
    found = list(server.state.repos.values())
    return {"repos": _page(request, found), "total": len(found)}


@_route("GET", r"/repos/[^/]+/([^/]+)")
def _repo(server: Served, _request: Request, match: re.Match[str]) -> Any:
    return {"repo": server.state.repo(match[1])}


@_route("PATCH", r"/repos/[^/]+/([^/]+)")
def _patch_repo(server: Served, request: Request, match: re.Match[str]) -> Any:
    record = server.state.repo(match[1])
    record |= {k: v for k, v in request.json().items() if k in ("description", "readme", "tags", "is_public")}
    return {"repo": record}


@_route("DELETE", r"/repos/[^/]+/([^/]+)")
def _delete_repo(server: Served, _request: Request, match: re.Match[str]) -> Any:
    server.state.repo(match[1])
    del server.state.repos[match[1]], server.state.commits[match[1]]
    return {}


@_route("POST", r"/repos/[^/]+/([^/]+)/tags")
def _tag_commit(server: Served, request: Request, match: re.Match[str]) -> Any:
    body = request.json()
    for commit in server.state.commits[match[1]]:
        commit["tags"] = [t for t in commit["tags"] if t != body["tag_name"]]
        if commit["id"] == body["commit_id"]:
            commit["tags"].append(body["tag_name"])
    return {}


@_route("POST", r"/commits/[^/]+/([^/]+)")
def _new_commit(server: Served, request: Request, match: re.Match[str]) -> Any:
    return {"commit": server.state.new_commit(match[1], request.json())}


@_route("GET", r"/commits/[^/]+/([^/]+)")
def _commits(server: Served, request: Request, match: re.Match[str]) -> Any:
    server.state.repo(match[1])
    found = list(reversed(server.state.commits[match[1]]))
    return {"commits": _page(request, found), "total": len(found)}


@_route("GET", r"/commits/[^/]+/([^/]+)/([^/]+)")
def _commit(server: Served, _request: Request, match: re.Match[str]) -> Any:
    return server.state.commit(match[1], match[2])
