"""Versions in MLflow's model registry; prompts where MLflow's own UI shows prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from steelyard.core.canonical import JSON, canonical
from steelyard.core.clock import stamp
from steelyard.core.errors import InvalidValue, StoreUnavailable
from steelyard.store.backend import FORMAT, FORMAT_TAG, Backend
from steelyard.store.naming import base_name, decode, join_text, key, split_text
from steelyard.store.outage import outage_of
from steelyard.store.place import shown
from steelyard.store.protocol import Kind, Version

__all__ = ["PROMPT_SOURCE", "SOURCE", "Series", "Versions"]

IS_PROMPT = "mlflow.prompt.is_prompt"
PROMPT_SOURCE = "dummy-source"  # the one word that MLflow's server takes as the source of a prompt
SOURCE = "steelyard:/store"  # not a path, so MLflow never looks for files there
DIGEST, KIND, NAME = "steelyard.digest", "steelyard.kind", "steelyard.name"
CONTENT, TAGS = "steelyard.content", "steelyard.tags"
_PAGE = 1000
_SHOWN = 100_000  # MLflow's limit for the text of a prompt


class Series:
    """Numbered versions under one MLflow name. MLflow gives out the numbers, one writer at a time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def ensure(self, at: str, tags: Mapping[str, str], description: str | None = None) -> None:
        """Make the registered model if it is absent.

        Raises:
            InvalidValue: MLflow holds something else under that name.
        """
        client, backend = self.backend.registry, self.backend
        made = backend.make(
            lambda: client.create_registered_model(
                at, tags={**tags, FORMAT_TAG: FORMAT}, description=description
            )
        )
        if made is not None:
            return
        there: dict[str, str] = dict(client.get_registered_model(at)._tags)
        if (IS_PROMPT in there) != (IS_PROMPT in tags):
            raise InvalidValue(
                f"MLflow has a {'prompt' if IS_PROMPT in there else 'model'} named {at!r} already",
                do="Rename one of them: in MLflow prompts and models share their names.",
            )
        for name, value in {**tags, FORMAT_TAG: FORMAT}.items():
            if name not in there:  # a prompt that was made with MLflow itself; ours go beside its versions
                client.set_registered_model_tag(at, name, value)

    def append(
        self, at: str, tags: Mapping[str, str], *, prompt: bool = False, description: str | None = None
    ) -> int:
        """The number of a new version, made with its tags in one transaction."""
        made = self.backend.registry.create_model_version(
            name=at,
            source=PROMPT_SOURCE if prompt else SOURCE,
            tags=dict(tags),
            description=description,
            await_creation_for=0,
        )
        return int(made.version)

    def read(self, at: str, *, prompt: bool = False, **tags: str) -> list[Any]:
        """MLflow's versions under a name, oldest first, narrowed by tags."""
        parts = [f"name = '{at}'"]
        if prompt:
            parts.append(f"tag.`{IS_PROMPT}` = 'true'")
        parts += [f"tag.`steelyard.{k}` = '{v}'" for k, v in tags.items()]
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self.backend.registry.search_model_versions(
                " AND ".join(parts),
                max_results=_PAGE,
                # Upwards, so that what is appended meanwhile cannot shift a later page.
                order_by=["version_number ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda v: int(v.version))


class Versions:
    """Registering and reading versions."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.series = Series(backend)

    def register(
        self, kind: Kind, name: str, digest: str, content: Mapping[str, JSON], tags: Mapping[str, str]
    ) -> Version:
        """The version with this digest; of several made at one time the lowest number is it."""
        canonical(content)  # refuses what JSON cannot hold
        at, prompt = base_name(kind, name), kind == "prompt"
        found = self._with_digest(kind, name, digest)
        if found:
            return found
        own = {KIND: kind, NAME: name}
        self.series.ensure(at, {**own, IS_PROMPT: "true"} if prompt else own)
        text = json.dumps(dict(content), ensure_ascii=False, allow_nan=False)
        written = {
            **_for_people(tags),
            **(_as_prompt(content) if prompt else {}),
            **own,
            DIGEST: digest,
            **split_text(CONTENT, text),
            **split_text(TAGS, json.dumps(dict(tags))),
        }
        number = None
        try:
            number = self.series.append(at, written, prompt=prompt)
        except Exception as error:
            # The answer was lost, perhaps not the write. A second one would be hidden behind the first.
            if outage_of(error) != "unanswered":
                raise
            if self._with_digest(kind, name, digest) is None:
                number = self.series.append(at, written, prompt=prompt)
        winner = self._with_digest(kind, name, digest)
        if winner is None:
            raise StoreUnavailable(
                shown(self.backend.uri),
                f"version {number or ''} of {kind} {name!r} was written and is gone",
                do="Look who deletes versions in MLflow, then register it again.",
            )
        if number is not None and winner.number != number:
            # Another process was first. Ours is the same content, and hidden by its number even if this
            # deletion does not come about.
            self.backend.find(lambda: self.backend.registry.delete_model_version(at, str(number)))
        return winner

    def all(self, kind: Kind, name: str) -> list[Version]:
        """All versions, oldest first, without duplicates."""
        found = self.series.read(base_name(kind, name), prompt=kind == "prompt")
        return self._ours(kind, name, found)

    def by_digest(self, kind: Kind, name: str, digest: str) -> Version | None:
        """The version with a whole digest."""
        return self._with_digest(kind, name, digest)

    def names(self, kind: Kind, *, tag: str = KIND) -> list[str]:
        """All names of the kind that have a version of ours, or a line in a series with another tag."""
        prompts = f" AND tag.`{IS_PROMPT}` = 'true'" if kind == "prompt" and tag == KIND else ""
        names: set[str] = set()
        token: str | None = None
        while True:
            page = self.backend.registry.search_registered_models(
                f"tag.`{tag}` = '{kind}'{prompts}", max_results=_PAGE, page_token=token
            )
            names |= {model.tags.get(NAME) or decode(model.name) for model in page if model.latest_versions}
            token = page.token
            if not token:
                return sorted(names)

    def delete(self, kind: Kind, name: str, digest: str) -> None:
        """Delete the version with a digest, hidden duplicates too."""
        at = base_name(kind, name)
        # From the top, or a duplicate would for a moment come up as the version.
        for found in reversed(self.series.read(at, prompt=kind == "prompt", digest=digest)):
            number = str(found.version)
            self.backend.find(lambda number=number: self.backend.registry.delete_model_version(at, number))

    def _with_digest(self, kind: Kind, name: str, digest: str) -> Version | None:
        found = self.series.read(base_name(kind, name), prompt=kind == "prompt", digest=digest)
        ours = self._ours(kind, name, found[:1])
        return ours[0] if ours else None

    def _ours(self, kind: Kind, name: str, found: list[Any]) -> list[Version]:
        first: dict[str, Version] = {}
        for version in found:
            digest = version.tags.get(DIGEST)
            if digest is None or digest in first:
                continue  # made with MLflow itself, or a duplicate of a lower number
            where = f"{shown(self.backend.uri)} {kind} {name!r} version {version.version}"
            first[digest] = Version(
                kind=kind,
                name=name,
                number=int(version.version),
                digest=digest,
                content=json.loads(join_text(CONTENT, version.tags, where=where)),
                created=stamp(datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)),
                tags=json.loads(join_text(TAGS, version.tags, where=where)),
            )
        return list(first.values())


def _for_people(tags: Mapping[str, str]) -> dict[str, str]:
    """Short tags as MLflow's own, so that its UI shows them; the exact ones stand in `steelyard.tags`."""
    return {
        k: v
        for k, v in tags.items()
        if key(k) == k
        and len(v) <= 1000
        and "\0" not in v
        and not k.startswith(("mlflow.", "_mlflow", "steelyard."))
    }


def _as_prompt(content: Mapping[str, JSON]) -> dict[str, str]:
    """The tags by which MLflow shows and loads a prompt: a view of the content, cut where MLflow must."""
    messages, template = content.get("messages"), content.get("template")
    chat = _is_chat(messages)
    if chat:
        text = json.dumps(messages, ensure_ascii=False)
    elif isinstance(template, str) and template:
        text = template
    else:
        text = json.dumps(dict(content), ensure_ascii=False, indent=2)
    if len(text) > _SHOWN:
        chat = False  # a cut list of messages could not be read as one
        text = text[: _SHOWN - 40] + "\n[cut: MLflow shows 100,000 characters]"
    view = {
        IS_PROMPT: "true",
        "_mlflow_prompt_type": "chat" if chat else "text",
        "mlflow.prompt.text": text.replace("\0", "\N{SYMBOL FOR NULL}"),
    }
    response_format = content.get("response_format")
    if isinstance(response_format, Mapping):
        shown_format = json.dumps(response_format)
        if len(shown_format) <= _SHOWN:
            view["_mlflow_prompt_response_format"] = shown_format
    if isinstance(content.get("model"), str):
        view["_mlflow_prompt_model_config"] = json.dumps({"model_name": content["model"]})
    return view


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
            for m in messages
        )
    )
