"""Advice on prompt files: what is allowed, but rarely meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from steelyard.core.errors import InvalidFile, SteelyardError
from steelyard.core.settings import Settings
from steelyard.prompts.files import names, path_of, read_working
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.template import strings

__all__ = ["LONG", "Advice", "lint", "lint_prompt"]

LONG = 24_000
"""Characters beyond which a prompt is called long; some 6,000 tokens of English."""

_JINJA = re.compile(r"\{%|\{#")
_SECRET = re.compile(
    r"sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to look at.

    Attributes:
        name: The prompt.
        rule: The rule's name; `error` for a file that cannot be used.
        text: What and why, a sentence.
    """

    name: str
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.rule}: {self.text}"


def lint(settings: Settings, wanted: tuple[str, ...] = ()) -> list[Advice]:
    """Advice on working files; a file that cannot be used is advice with the rule `error`."""
    out: list[Advice] = []
    for name in wanted or names(settings):
        try:
            prompt = read_working(name, settings)
            text = path_of(name, settings).read_text(encoding="utf-8")
        except InvalidFile as error:
            out.append(Advice(name=name, rule="error", text=str(error)))
            continue
        except SteelyardError as error:
            if wanted:
                raise
            out.append(Advice(name=name, rule="error", text=str(error)))
            continue
        out += lint_prompt(prompt)
        rows = [str(i) for i, row in enumerate(text.split("\n"), 1) if row.rstrip("\r") != row.rstrip()]
        if rows:
            shown = ", ".join(rows[:5])
            out.append(
                Advice(
                    name=name,
                    rule="trailing-space",
                    text=f"line {shown} ends with blanks: inside a message they count, and nobody sees them.",
                )
            )
    return out


def lint_prompt(prompt: Prompt) -> list[Advice]:
    """Advice on one prompt."""
    return [Advice(name=prompt.name, rule=rule, text=text) for rule, text in _rules(prompt)]


def _rules(prompt: Prompt) -> Iterator[tuple[str, str]]:
    if not prompt.description:
        yield "no-description", "say in 'description' what the prompt is for."
    bare = [n for n, v in prompt.variables.items() if not v.description]
    if bare:
        yield "no-variable-description", f"say what is handed in as {', '.join(bare)}."
    if not prompt.variables:
        yield "no-input", "it has no variable, so every example gets the same request."
    texts = [t for _, t in strings(list(prompt.messages))]
    size = sum(map(len, texts))
    if size > LONG:
        yield "long", f"its messages have {size:,} characters before anything is filled in."
    if prompt.syntax == "default" and any(_JINJA.search(t) for t in texts):
        yield "jinja-as-text", "'{%' or '{#' is plain text here; set 'syntax: jinja' if it is meant to run."
    if any(_SECRET.search(t) for t in texts):
        yield "secret", "a text looks like a key: take it out and revoke it; prompts are stored for good."
    if not any(m["role"] == "user" for m in prompt.messages):
        yield "no-user-message", "no message has the role 'user'; most models expect one."
    temperature = prompt.parameters.get("temperature")
    if temperature is None:
        yield "no-temperature", "the provider's default applies; set temperature, so that runs compare."
    elif temperature > 0 and "seed" not in prompt.parameters:
        yield "no-seed", f"temperature is {temperature:g} without a seed: repeat trials to see the noise."
    if "max_tokens" not in prompt.parameters and "max_completion_tokens" not in prompt.parameters:
        yield "no-token-limit", "set max_tokens, so that one answer cannot run away."
