"""Reading an MLflow server without MLflow: what an application needs to be served prompts.

Only the standard library; versions and the ledger are read by the very code that reads them through MLflow
(`store.registry`, `store.aliases`), over a registry client that can do nothing but search. It follows no
redirect, so credentials go to the configured host alone.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

from steelyard.core.canonical import is_digest
from steelyard.core.errors import InvalidValue, StoreUnavailable
from steelyard.core.settings import Settings, TrackingAccess, tracking_access
from steelyard.store.aliases import Aliases
from steelyard.store.backend import Backend
from steelyard.store.place import shown
from steelyard.store.protocol import Kind, LedgerEntry, Version
from steelyard.store.registry import Versions
from steelyard.store.schema import FORMAT_TAG, check_format
from steelyard.store.select import check_kind, check_target, pick

__all__ = ["RestStore"]

TIMEOUT_S = 5.0
"""Seconds for one request, connecting included; one answer may take twice as long to arrive whole."""
_LARGEST = 64_000_000


class RestStore:
    """The reading half of a `Store`, on an MLflow server: versions, aliases, history; nothing is written.

    Args:
        settings: `tracking_uri` is the server's address, `http://HOST:PORT[/path]`.
        access: Credentials and TLS; MLflow's own variables (`MLFLOW_TRACKING_USERNAME` …) if left out.
        timeout_s: Seconds for one request.

    Raises:
        InvalidValue: the address is none of a server.
    """

    def __init__(
        self, settings: Settings, *, access: TrackingAccess | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        uri = settings.tracking_uri or ""
        _load_modules()
        registry = _Registry(uri, access or tracking_access(), timeout_s)
        backend = _SearchOnly(uri, registry)
        self._uri, self._registry, self._layout_known = shown(uri), registry, False
        self._versions = Versions(backend)
        self._aliases = Aliases(self._versions)

    @property
    def is_light(self) -> bool:
        """Always true: once the store is made, reading loads no modules any more."""
        return True

    @property
    def uri(self) -> str:
        """Where it is, without user, password and query."""
        return self._uri

    def versions(self, kind: Kind, name: str) -> list[Version]:
        """All versions, oldest first."""
        check_target(kind, name)
        self._check_layout()
        return self._versions.all(kind, name)

    def version(self, kind: Kind, name: str, selector: int | str) -> Version:
        """The version with a number or a digest."""
        check_target(kind, name)
        self._check_layout()
        if isinstance(selector, str) and is_digest(selector):
            found = self._versions.by_digest(kind, name, selector)
            if found is not None:
                return found
        return pick(kind, name, self._versions.all(kind, name), selector)

    def names(self, kind: Kind) -> list[str]:
        """All names of the kind that have a version, sorted."""
        check_kind(kind)
        self._check_layout()
        return self._versions.names(kind)

    def history(self, kind: Kind, name: str, alias: str | None = None) -> list[LedgerEntry]:
        """The moves that took effect, by alias and number."""
        check_target(kind, name)
        self._check_layout()
        return self._aliases.history(kind, name, alias)

    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """Digest by alias, as the ledger has it; MLflow's own aliases are left as they are."""
        state = {entry.alias: entry.after for entry in self.history(kind, name)}  # the last of each counts
        return {alias: digest for alias, digest in state.items() if digest is not None}

    def _check_layout(self) -> None:
        """Once, that a newer Steelyard has not laid things out otherwise."""
        if not self._layout_known:
            check_format(self._uri, self._registry.layout())
            self._layout_known = True

    def close(self) -> None:
        """Nothing to release: every request has a connection of its own."""


class _SearchOnly(Backend):
    """What `Versions` and `Aliases` need of a backend to read."""

    def __init__(self, uri: str, registry: _Registry) -> None:
        self.uri, self.client, self.artifacts, self.registry = uri, None, None, registry


class _Page(list[Any]):
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    """MLflow's entity, as far as it is read."""

    name: str
    version: str
    creation_timestamp: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Model:
    """MLflow's entity, as far as it is read."""

    name: str
    tags: Mapping[str, str]
    latest_versions: Sequence[Any]


class _Registry:
    """The two calls of MLflow's registry client that reading takes, and a look at the layout."""

    def __init__(self, uri: str, access: TrackingAccess, timeout_s: float) -> None:
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidValue(
                f"tracking_uri = {shown(uri)[:200]!r} is no address of a server", do="Write http://HOST:PORT."
            )
        at = f"[{host}]" if ":" in host else host
        at = at if port is None else f"{at}:{port}"
        self._base = f"{parts.scheme}://{at}{quote(parts.path.rstrip('/'), safe='/%')}"
        self._uri, self._timeout_s, self._access = shown(uri), timeout_s, access
        self._authorization = _authorization(access, parts.username, parts.password)

    def search_model_versions(
        self,
        filter_string: str,
        *,
        max_results: int,
        order_by: Sequence[str],
        page_token: str | None = None,
    ) -> _Page:
        """A page of versions."""
        query = [("filter", filter_string), ("max_results", str(max_results))]
        query += [("order_by", o) for o in order_by]
        return self._page("model-versions", "model_versions", query, page_token, _version)

    def search_registered_models(
        self, filter_string: str, *, max_results: int, page_token: str | None = None
    ) -> _Page:
        """A page of models, prompts among them."""
        query = [("filter", filter_string), ("max_results", str(max_results))]
        return self._page("registered-models", "registered_models", query, page_token, _model)

    def layout(self) -> str | None:
        """Steelyard's mark on the default experiment; None where there is none, or it may not be seen."""
        path = "/api/2.0/mlflow/experiments/get"
        answer = self._get(path, [("experiment_id", "0")], hidden=(403, 404))
        try:
            return _tags(answer["experiment"]).get(FORMAT_TAG) if answer else None
        except (KeyError, TypeError, AttributeError) as error:
            raise self._unusable(f"its answer has a wrong shape ({type(error).__name__}: {error})") from None

    def _page(
        self,
        path: str,
        key: str,
        query: list[tuple[str, str]],
        token: str | None,
        read: Callable[[Mapping[str, Any]], Any],
    ) -> _Page:
        query += [("page_token", token)] if token else []
        answer = self._get(f"/api/2.0/mlflow/{path}/search", query)
        page = _Page()
        try:
            page += [read(raw) for raw in answer.get(key, [])]
            page.token = answer.get("next_page_token") or None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unusable(f"its answer has a wrong shape ({type(error).__name__}: {error})") from None
        return page

    def _get(
        self, path: str, query: list[tuple[str, str]], *, hidden: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The answer; an empty one where its status is one of `hidden`."""
        import http.client
        import urllib.error
        import urllib.request

        request = urllib.request.Request(  # noqa: S310 - http and https only, checked above
            f"{self._base}{path}?{urlencode(query)}", headers={"Accept": "application/json"}
        )
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        end = time.monotonic() + 2 * self._timeout_s
        try:
            with self._opener().open(request, timeout=self._timeout_s) as response:
                data = self._read(response, end)
        except urllib.error.HTTPError as error:
            if error.code in hidden:
                error.close()
                return {}
            raise self._refused(error) from None
        except urllib.error.URLError as error:
            raise self._unusable(f"nothing answers ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:  # on the way, after the connection stood
            raise self._unusable(f"{type(error).__name__}: {error}") from None
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            raise self._unusable(
                f"it does not answer with JSON, as MLflow does, but with {data[:60]!r}"
            ) from None
        if not isinstance(answer, dict):
            raise self._unusable("its answer is JSON, but no object")
        return cast("dict[str, Any]", answer)

    def _opener(self) -> Any:
        import ssl
        from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_: Any, **__: Any) -> None:  # it then comes out as an HTTPError
                return None

        handlers: list[Any] = [Stay()]
        if self._base.startswith("https:"):
            try:
                context = ssl.create_default_context(cafile=self._access.ca_file)
            except OSError as error:
                raise self._unusable(f"its CA file {self._access.ca_file!r} is unusable: {error}") from None
            if self._access.insecure_tls:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            handlers.append(HTTPSHandler(context=context))
        return build_opener(*handlers)

    def _read(self, response: Any, end: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while data := response.read1(65_536):
            parts.append(data)
            size += len(data)
            if size > _LARGEST:
                raise self._unusable(f"its answer is larger than {_LARGEST:,} bytes")
            if time.monotonic() > end:
                raise self._unusable(f"its answer takes longer than {2 * self._timeout_s:g} s")
        if response.length:  # what its headers promised and did not come
            raise self._unusable(f"its answer broke off {response.length} bytes before its end")
        return b"".join(parts)

    def _refused(self, error: Any) -> StoreUnavailable:
        status: int = error.code
        with error:
            try:
                text = error.read(2_000).decode("utf-8", "replace")
            except OSError:
                text = ""
        if status in (401, 403):
            return self._unusable(
                f"it refuses the credentials (HTTP {status})",
                do="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
            )
        if 300 <= status < 400:
            to = error.headers.get("Location", "elsewhere")
            return self._unusable(
                f"it redirects to {shown(to)[:200]!r}, which is not followed",
                do="Set tracking_uri to the address that answers.",
            )
        return self._unusable(f"HTTP {status}: {' '.join(text.split())[:200]}")

    def _unusable(
        self, what: str, do: str = "Look whether the MLflow server is up, and at tracking_uri."
    ) -> StoreUnavailable:
        return StoreUnavailable(self._uri, what, do=do)


def _version(raw: Mapping[str, Any]) -> _Version:
    return _Version(
        name=raw["name"],
        version=str(raw["version"]),
        creation_timestamp=int(raw["creation_timestamp"]),
        tags=_tags(raw),
    )


def _model(raw: Mapping[str, Any]) -> _Model:
    return _Model(name=raw["name"], tags=_tags(raw), latest_versions=raw.get("latest_versions", ()))


def _tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {t["key"]: t.get("value", "") for t in raw.get("tags", [])}


def _load_modules() -> None:
    """Load now what the first request, or its failure, would load."""
    for module in ("difflib", "encodings.idna", "http.client", "ssl", "urllib.request"):
        import_module(module)


def _authorization(access: TrackingAccess, username: str | None, password: str | None) -> str | None:
    if username is not None:
        pair = f"{unquote(username)}:{unquote(password or '')}"
    elif access.username is not None and access.password is not None:
        pair = f"{access.username}:{access.password}"
    else:
        return f"Bearer {access.token}" if access.token else None
    return "Basic " + base64.b64encode(pair.encode()).decode()
