"""promptfoo's configuration, its simple part: texts with `{{ var }}`, and tests with vars and assertions.

Prompts become prompts; tests become rows with reference outputs; an assertion becomes an evaluator where
there is one that means the same for every row. Everything else (files, functions, providers, transforms) is
named as left behind. Reading runs nothing and opens no other file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.prompts.foreign.build import Building, allowed, keyed, listed, typed_by_rows
from steelyard.prompts.foreign.format import Exported, Imported
from steelyard.prompts.foreign.json_text import looks_like, read_json, read_mapping
from steelyard.prompts.foreign.promptfoo_asserts import Assertions
from steelyard.prompts.foreign.text import read_double
from steelyard.prompts.prompt import Prompt

__all__ = ["FORMAT"]

_SAID = {
    "providers": "The providers were left out: the settings name the model.",
    "targets": "The targets were left out: the settings name the model.",
    "scenarios": "The scenarios were left out: write their rows into the dataset.",
    "extensions": "The extensions were left out: they are code.",
    "nunjucksFilters": "The nunjucks filters were left out: they are code.",
    "redteam": "The red-team settings were left out.",
}
_QUIET = (
    "description",
    "prompts",
    "tests",
    "defaultTest",
    "tags",
    "metadata",
    "outputPath",
    "sharing",
    "env",
)
_KEYS = (
    *_SAID,
    *_QUIET,
    "evaluateOptions",
    "commandLineOptions",
    "writeLatestResults",
    "$schema",
    "derivedMetrics",
)
_TEST = ("vars", "assert", "description", "metadata", "threshold", "options", "provider", "providerOutput")


class _Promptfoo:
    name = "promptfoo"

    def read(self, text: str, name: str) -> tuple[Imported, ...]:
        """One prompt for each of the configuration's; the rows of the tests come with the first."""
        value = allowed(read_mapping(text, "promptfooconfig.yaml"), _KEYS, "the configuration")
        prompts: Any = value.get("prompts")
        prompts = [prompts] if isinstance(prompts, (str, Mapping)) else prompts
        if not isinstance(prompts, list) or not prompts:
            raise InvalidValue(
                "the configuration has no prompts", do="Give at least one text under 'prompts'."
            )
        given = cast("list[Any]", prompts)
        notes = [sentence for key, sentence in _SAID.items() if value.get(key)]
        asserts = Assertions()
        rows = _rows(value, asserts)
        evaluators, said = asserts.evaluators(len(rows))
        out: list[Imported] = []
        for i, entry in enumerate(given):
            building = Building(name if len(given) == 1 else f"{name}-{i + 1}")
            building.description = str(value.get("description") or "")
            where = f"prompt {i + 1}"
            for message in _messages(entry, where):
                segments = read_double(_simple(message["content"], where), where, blanks=True)
                building.add({"role": message["role"], "content": building.segments(segments)})
            typed_by_rows(building, rows)
            out.append(building.done())
        first = replace(
            out[0], examples=tuple(rows), evaluators=tuple(evaluators), left=(*out[0].left, *notes, *said)
        )
        return (first, *out[1:])

    def write(self, prompt: Prompt) -> Exported:
        """The prompt as one entry of `prompts`: OpenAI messages as JSON with `{{ name }}`.

        Raises:
            InvalidValue: it holds more than messages whose texts promptfoo can fill.
        """
        from steelyard.prompts.foreign.build import segments_of, text_variables
        from steelyard.prompts.foreign.text import write_double
        from steelyard.prompts.strict_yaml import dump_ordered

        for key in ("tools", "response_format", "parameters", "model"):
            if getattr(prompt, key):
                raise InvalidValue(
                    f"prompt {prompt.name!r} cannot go to promptfoo: its prompts have no place for {key}",
                    do="Take it out, and set it in promptfoo's provider.",
                )
        if any(set(m) != {"role", "content"} or not isinstance(m["content"], str) for m in prompt.messages):
            raise InvalidValue(
                f"prompt {prompt.name!r} cannot be a prompt of promptfoo's: a message has more than a text",
                do="Write it out there by hand.",
            )
        where = f"prompt {prompt.name!r}"
        texts = [
            {
                "role": m["role"],
                "content": write_double(segments_of(prompt, m["content"], "promptfoo"), where, "promptfoo"),
            }
            for m in prompt.messages
        ]
        for text in texts:
            _simple(text["content"], where)
        single = len(texts) == 1 and texts[0]["role"] == "user"
        entry = texts[0]["content"] if single else json.dumps(texts, indent=2, ensure_ascii=False)
        left = [
            f"The default of {v!r} is not in it: set it under defaultTest.vars, {t!r}."
            for v, t in text_variables(prompt).items()
        ]
        text = dump_ordered({"description": prompt.description or prompt.name, "prompts": [entry]})
        return Exported(text=text, left=tuple(left))

    def matches(self, text: str) -> bool:
        """Whether it is YAML with `prompts` and `tests`, `providers` or `defaultTest`."""

        def promptfoo(value: Mapping[str, Any]) -> bool:
            return "prompts" in value and bool({"tests", "providers", "defaultTest", "targets"} & set(value))

        return looks_like(text, promptfoo, yaml=True)


FORMAT = _Promptfoo()


def _messages(entry: object, where: str) -> list[dict[str, Any]]:
    if isinstance(entry, Mapping):
        found = allowed(entry, ("raw", "label", "id", "display"), where)
        entry = found.get("raw", found.get("id"))
    if not isinstance(entry, str) or entry.startswith(("file://", "http://", "https://", "exec:")):
        raise InvalidValue(
            f"{where} is a file, an address or code, which is not followed",
            do="Write its text into the configuration.",
        )
    one_line = "\n" not in entry.strip() and "{{" not in entry
    if one_line and entry.strip().endswith(
        (".txt", ".json", ".yaml", ".yml", ".md", ".py", ".js", ".j2", ".csv")
    ):
        raise InvalidValue(
            f"{where} is the file {entry.strip()[:60]!r}, which is not followed",
            do="Write its text into the configuration.",
        )
    if not entry.lstrip().startswith("["):
        return [{"role": "user", "content": entry}]
    chat = read_json(entry, where)
    out: list[dict[str, Any]] = []
    for message in cast("list[Any]", chat):
        found = allowed(message, ("role", "content"), f"a message of {where}")
        if not isinstance(found.get("content"), str):
            raise InvalidValue(f"a message of {where} has no text", do="Give role and content.")
        out.append(found)
    return out


def _simple(text: str, where: str) -> str:
    import re

    tags = re.sub(r"\{\{\s*[\w.\-]+\s*\}\}", "", text)
    if "{%" in tags or "{{" in tags or "{#" in tags:
        raise InvalidValue(
            f"{where} uses more of nunjucks than {{{{ var }}}}",
            do="Write it as a prompt file with 'syntax: jinja'.",
        )
    return text


def _rows(value: Mapping[str, Any], asserts: Assertions) -> list[Mapping[str, JSON]]:
    default = allowed(value.get("defaultTest") or {}, _TEST, "defaultTest")
    tests: Any = value.get("tests") or []
    if not isinstance(tests, list):
        raise InvalidValue(
            "the tests are a file or an address, which is not followed", do="Write them out as a list."
        )
    rows: list[Mapping[str, JSON]] = []
    for i, test in enumerate(cast("list[Any]", tests)):
        where = f"test {i + 1}"
        if not isinstance(test, Mapping):
            raise InvalidValue(f"{where} is a file or an address, which is not followed", do="Write it out.")
        found = allowed(test, _TEST, where)
        for key in ("options", "provider", "threshold"):
            if found.get(key):
                asserts.say(f"{key!r} of {where} was left out.")
        values = keyed(default.get("vars"), "defaultTest.vars") | keyed(found.get("vars"), f"vars of {where}")
        reference = asserts.of_test(
            [
                *listed(default.get("assert"), "defaultTest.assert"),
                *listed(found.get("assert"), f"assert of {where}"),
            ],
            where,
        )
        named = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
        for combination in itertools.product(*named.values()):  # a list of values is one row each, as there
            inputs = dict(zip(named, combination, strict=True))
            if odd := [
                k for k, v in inputs.items() if isinstance(v, str) and v.startswith(("file://", "package:"))
            ]:
                raise InvalidValue(
                    f"the variable {odd[0]!r} of {where} is a file, which is not followed", do="Write it out."
                )
            row: dict[str, JSON] = {"inputs": inputs}
            if reference:
                row["reference_outputs"] = reference
            if found.get("description"):
                row["metadata"] = {"description": str(found["description"])}
            rows.append(row)
    asserts.counted(len(rows))
    return rows
