"""LangSmith's prompts: the manifest that its hub gives, alone or in a commit.

The manifest is read as data. `langsmith.Client.pull_prompt` would construct what it names, with any base
address, headers and classes somebody put there (CVE-2026-45134); here a prompt is text and JSON schemas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from steelyard.prompts.foreign.build import allowed
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.json_text import looks_like, read_json
from steelyard.prompts.foreign.manifest_reader import is_manifest, read_manifest
from steelyard.prompts.foreign.manifest_writer import differences, sequence_node
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT"]

_COMMIT = (
    *("owner", "repo", "commit_hash", "manifest", "examples", "description"),
    *("model_config", "model_provider", "id", "parent_commit", "parent_commit_hash"),
)


class _LangSmith:
    name = "langsmith"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """The prompt in a commit's JSON (`GET /commits/OWNER/NAME/latest`), or in the manifest alone."""
        value = read_json(text, "LangSmith's JSON")
        if is_manifest(value):
            return (read_manifest(value, name).done(),)
        commit = allowed(value, _COMMIT, "the commit")
        building = read_manifest(commit.get("manifest"), name)
        building.description = str(commit.get("description") or "")
        if commit.get("model_config"):
            building.note("'model_config' of the commit was left out: the manifest is what counts.")
        if commit.get("examples"):
            building.note("The examples of the commit were left out: read them from their dataset.")
        return (building.done(),)

    def write(self, prompt: Prompt) -> Exported:
        """The manifest, as `langsmith.Client.create_commit` takes it."""
        text = json.dumps(sequence_node(prompt), indent=2, ensure_ascii=False) + "\n"
        return Exported(text=text, left=differences(prompt))

    def matches(self, text: str) -> bool:
        """Whether it is a commit's JSON; a bare manifest is LangChain's."""

        def commit(value: Mapping[str, Any]) -> bool:
            return is_manifest(cast("object", value.get("manifest")))

        return looks_like(text, commit)


FORMAT = _LangSmith()
