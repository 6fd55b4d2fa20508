"""Word diffs and advice."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.settings import load_settings
from steelyard.prompts import Prompt, Variable
from steelyard.prompts.diff import colour, diff_prompts, diff_words, plain_text
from steelyard.prompts.lint import LONG, lint, lint_prompt

TEXT = st.text(st.sampled_from("ab {}\n.é"), max_size=30)


@given(TEXT, TEXT)
def test_the_pieces_give_both_texts_back(before: str, after: str) -> None:
    pieces = diff_words(before, after)
    assert "".join(p.text for p in pieces if p.change != "added") == before
    assert "".join(p.text for p in pieces if p.change != "removed") == after
    if before == after:
        assert all(p.change == "same" for p in pieces)


@given(TEXT, TEXT)
def test_the_pieces_of_prompts_give_their_texts_back(before: str, after: str) -> None:
    a, b = (
        Prompt(name="p", messages=({"role": "user", "content": t.replace("{", "(")},))
        for t in (before, after)
    )
    pieces = diff_prompts(a, b)
    assert "".join(p.text for p in pieces if p.change != "added") == a.to_text()
    assert "".join(p.text for p in pieces if p.change != "removed") == b.to_text()


def test_words_are_kept_whole() -> None:
    assert plain_text(diff_words("Answer in one word.", "Answer in two words.")) == (
        "Answer in [-one-]{+two+} [-word-]{+words+}."
    )


def test_colour_marks_changes_and_disarms_control_characters() -> None:
    text = colour(diff_words("a \x1b]0;evil\x07 b", "a \x1b]0;evil\x07 c"))
    assert "\x1b[31;9mb\x1b[0m" in text
    assert "\x1b[32;4mc\x1b[0m" in text
    assert "\x1b]0" not in text
    assert "\\x1b]0;evil\\x07" in text


def rules(prompt: Prompt) -> set[str]:
    return {a.rule for a in lint_prompt(prompt)}


def test_a_tidy_prompt_gets_no_advice() -> None:
    prompt = Prompt(
        name="p",
        description="d",
        messages=({"role": "user", "content": "{{ x }}"},),
        variables={"x": Variable(description="d")},
        parameters={"temperature": 0, "max_tokens": 5},
    )
    assert rules(prompt) == set()


def test_each_rule() -> None:
    bare = Prompt(name="p", messages=({"role": "system", "content": "{% if x %} sk-" + "a" * 30},))
    assert rules(bare) == {
        "no-description",
        "no-input",
        "jinja-as-text",
        "secret",
        "no-user-message",
        "no-temperature",
        "no-token-limit",
    }
    long = Prompt(
        name="p",
        messages=({"role": "user", "content": "x" * (LONG + 1) + "{{ x }}"},),
        variables={"x": Variable()},
        parameters={"temperature": 0.7},
    )
    assert {"long", "no-seed", "no-variable-description"} <= rules(long)


def test_files_that_cannot_be_used_are_advice_too(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "bad.yaml").write_text("template: '{{ o.x }}'")
    (tmp_path / "prompts" / "blank.yaml").write_text("description: d\ntemplate: x   \n")
    found = lint(load_settings(tmp_path, environ={}))
    assert [a.rule for a in found if a.name == "bad"] == ["error"]
    assert [a.text for a in found if a.rule == "trailing-space"] == [
        "line 2 ends with blanks: inside a message they count, and nobody sees them."
    ]
