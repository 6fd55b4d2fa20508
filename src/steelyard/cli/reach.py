"""What `steelyard doctor` asks of others: the store, the model, and what time they think it is."""

from __future__ import annotations

import email.utils
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from steelyard.cli.checkup import Finding
from steelyard.core.clock import monotonic, utc_now
from steelyard.core.errors import SteelyardError
from steelyard.core.settings import Settings

__all__ = ["Clocks", "clock", "model", "store"]

_TIMEOUT_S = 5.0
_SKEW_S = 30.0
_OPENAI = "https://api.openai.com/v1"

Clocks = dict[str, float]
"""Seconds by which another machine's clock is ahead of ours, by the machine's address."""


def store(settings: Settings, clocks: Clocks) -> Iterator[Finding]:
    """Whether the store answers, and its version. A store that is not there yet is not made."""
    part, name = "store", "store"
    try:
        from steelyard.store import open_store
        from steelyard.store.opening import store_uri
        from steelyard.store.place import shown, sqlite_file

        uri = store_uri(settings)
        file = sqlite_file(uri)
        if file is not None and not file.exists():
            yield Finding(part=part, name=name, state="ok", text=f"{file} (made at first use)")
            return
        since = monotonic()
        opened = open_store(settings)
        try:
            prompts = len(opened.names("prompt"))
        finally:
            opened.close()
    except SteelyardError as error:
        yield Finding(part=part, name=name, state="fail", text=str(error), do="See `steelyard explain`.")
        return
    version = _schema(file) if file is not None else _server_version(uri, clocks)
    text = f"{shown(uri)}: {prompts} prompts, answers in {monotonic() - since:.1f} s{version}"
    yield Finding(part=part, name=name, state="ok", text=text)


def _schema(file: Path) -> str:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error:
        return ""
    return f", schema {found[0]}" if found else ""


def _server_version(uri: str, clocks: Clocks) -> str:
    if not uri.startswith(("http://", "https://")):
        return ""
    status, body = _get(f"{uri.rstrip('/')}/version", {}, clocks)
    return f", MLflow {body.decode('utf-8', 'replace')[:40]}" if status == 200 else ""


def model(settings: Settings, clocks: Clocks, *, call: bool) -> Iterator[Finding]:
    """Whether the model can answer; asked for one word only if `call`."""
    kind, _, rest = settings.lm.partition(":")
    if settings.lm_mode == "replay" and not call:
        text = f"{settings.lm} is not asked: lm_mode is replay, so only recorded answers count"
        yield Finding(part="model", name="lm", state="ok", text=text)
        return
    if kind == "openai":
        yield from _endpoint(settings, rest, clocks)
    elif kind == "local":
        yield from _local(settings, rest)
    else:
        yield Finding(part="model", name="lm", state="ok", text=f"{settings.lm} (a plugin's model)")
    if call:
        yield _one_call(settings)


def _endpoint(settings: Settings, wanted: str, clocks: Clocks) -> Iterator[Finding]:
    part, name = "model", "endpoint"
    base = (settings.openai_base_url or _OPENAI).rstrip("/")
    if settings.openai_base_url is None and settings.openai_api_key is None:
        yield Finding(
            part=part,
            name=name,
            state="fail",
            text="neither OPENAI_API_KEY nor OPENAI_BASE_URL is set",
            do="Set the key for OpenAI's own models, or the address of another endpoint.",
        )
        return
    if not base.startswith(("http://", "https://")):
        do = "Give an address such as http://127.0.0.1:8000/v1."
        yield Finding(part=part, name=name, state="fail", text=f"{base!r} is no address", do=do)
        return
    headers = {"Authorization": f"Bearer {settings.openai_api_key}"} if settings.openai_api_key else {}
    status, body = _get(f"{base}/models", headers, clocks)
    host = base.partition("://")[2].rpartition("@")[2]
    if status is None:
        do = "Start it, or mend OPENAI_BASE_URL."
        text = f"{host} cannot be reached: {body.decode('utf-8', 'replace')}"
        yield Finding(part=part, name=name, state="fail", text=text, do=do)
    elif status in (401, 403):
        do = "Set OPENAI_API_KEY to a key of that endpoint."
        yield Finding(part=part, name=name, state="fail", text=f"{host} refuses the key ({status})", do=do)
    elif status == 404:
        text = f"{host} answers, but lists no models"
        do = "Should calls fail: the address mostly ends in /v1."
        yield Finding(part=part, name=name, state="warn", text=text, do=do)
    elif status != 200:
        do = "Try one call: steelyard doctor --call"
        yield Finding(part=part, name=name, state="warn", text=f"{host} answers {status}", do=do)
    else:
        names = _names(body)
        known = not names or wanted in names
        yield Finding(
            part=part,
            name=name,
            state="ok" if known else "warn",
            text=f"{host} answers" + (f", and has {wanted}" if wanted in names else ""),
            do="" if known else f"It does not list {wanted!r}; it has {', '.join(names[:5])}.",
        )


def _names(body: bytes) -> list[str]:
    try:
        rows = json.loads(body)["data"]
        return [str(row["id"]) for row in rows]
    except (ValueError, KeyError, TypeError):
        return []


def _local(settings: Settings, rest: str) -> Iterator[Finding]:
    from importlib.util import find_spec

    from steelyard.lm.weights import find_weights

    part = "model"
    engine = find_spec("xllamacpp") is not None
    do = "" if engine else "pip install 'steelyard[local]'"
    state = "ok" if engine else "fail"
    yield Finding(part=part, name="engine", state=state, text="llama.cpp" if engine else "missing", do=do)
    name = rest or "smollm2"
    path = name if name == "smollm2" or name.startswith("~") else str(settings.root / name)
    try:
        found = find_weights(path)
    except SteelyardError as error:
        yield Finding(part=part, name="weights", state="fail", text=str(error))
    else:
        size = found.stat().st_size / 1e6
        yield Finding(part=part, name="weights", state="ok", text=f"{found.name}, {size:,.0f} MB")


def _one_call(settings: Settings) -> Finding:
    from steelyard.core.chat import ChatRequest

    request = ChatRequest(
        messages=({"role": "user", "content": "Say ok."},), parameters={"max_tokens": 8, "temperature": 0}
    )
    since = monotonic()
    try:
        from steelyard.lm import open_lm

        lm = open_lm(settings.lm, settings)
        try:
            answer = lm.complete(request)
        finally:
            lm.close()
    except SteelyardError as error:
        do = "See docs/endpoint.md." if settings.lm.startswith("openai") else ""
        return Finding(part="model", name="call", state="fail", text=str(error), do=do)
    seconds = monotonic() - since
    text = f"{answer.model or settings.lm} said {answer.text[:40]!r} in {seconds:.1f} s"
    return Finding(part="model", name="call", state="ok", text=text)


def clock(clocks: Mapping[str, float]) -> Finding:
    """Whether other machines that were asked agree on the time."""
    if not clocks:
        return Finding(part="clock", name="clock", state="ok", text=f"{utc_now():%Y-%m-%d %H:%M} UTC")
    host, skew = max(clocks.items(), key=lambda item: abs(item[1]))
    away = abs(skew) > _SKEW_S
    return Finding(
        part="clock",
        name="clock",
        state="warn" if away else "ok",
        text=f"{host} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
        do="Set the clock by NTP: ledger entries would stand in the wrong order." if away else "",
    )


def _get(url: str, headers: Mapping[str, str], clocks: Clocks) -> tuple[int | None, bytes]:
    """(status, body), or (None, why) if nobody answers. Redirects are not followed with the key."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http(s) was checked
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            _note(url, answer.headers, clocks)
            return answer.status, answer.read(2_000_000)
    except urllib.error.HTTPError as error:
        _note(url, error.headers, clocks)
        return error.code, b""
    except (OSError, ValueError) as error:
        return None, str(getattr(error, "reason", error)).encode()


def _note(url: str, headers: Any, clocks: Clocks) -> None:
    try:
        theirs = email.utils.parsedate_to_datetime(headers["Date"])
    except (TypeError, ValueError):
        return
    if theirs.tzinfo is not None:
        host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
        clocks[host] = (theirs - utc_now()).total_seconds()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
