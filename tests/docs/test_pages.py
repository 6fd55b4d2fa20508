"""Every page: Python blocks compile and what they import is there, names exist, links lead somewhere."""

import ast
import importlib
import json
import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from markdown_it import MarkdownIt

import steelyard
from steelyard.cli.main import cli
from steelyard.core.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "evals" / "README.md"])
OPTIONAL = {"deepeval", "vllm"}  # peers that are shown and not installed here
RUNNABLE = "<!-- runs -->"


def fences(page):
    """(language, text, line, whether it is marked as runnable)."""
    before = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language = (token.info.split() or [""])[0]
            yield language, token.content, token.map[0] + 1, RUNNABLE in before
        before = token.content if token.type == "html_block" else ""


PYTHON = [
    pytest.param(text, runs, id=f"{page.relative_to(ROOT)}:{line}")
    for page in PAGES
    for language, text, line, runs in fences(page)
    if language in ("python", "py")
]


@pytest.mark.parametrize(("text", "runs"), PYTHON)
def test_python_blocks_compile_and_their_imports_resolve(text, runs, tmp_path, monkeypatch):
    tree = ast.parse(text)
    compile(tree, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] not in OPTIONAL:
                    importlib.import_module(name.name)
        elif (
            isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in OPTIONAL
        ):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
        elif "import steelyard\n" in text and is_ours(node):
            assert hasattr(steelyard, node.attr), f"steelyard.{node.attr}"
    if runs:
        monkeypatch.chdir(tmp_path)
        exec(compile(tree, "block", "exec"), {"__name__": "__main__"})


def is_ours(node):
    """Whether a node is `steelyard.something`."""
    return isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "steelyard"


def test_there_are_blocks_to_check_and_to_run():
    assert len(PYTHON) >= 10
    assert sum(p.values[1] for p in PYTHON) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_data_blocks_can_be_read(page):
    for language, text, line, _ in fences(page):
        where = f"{page.name}:{line}"
        try:
            if language == "toml":
                tomllib.loads(text)
            elif language in ("yaml", "yml"):
                list(yaml.safe_load_all(text))
            elif language == "json":
                for row in [text] if text.lstrip().startswith(("{\n", "[")) else text.splitlines():
                    json.loads(row)
        except ValueError as error:
            pytest.fail(f"{where}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


def anchors(page):
    """Anchors of a page's headings, as MkDocs and GitHub make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[`*]", "", heading).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain)))
    return found


def commands(group, prefix=()):
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


def test_commands_and_options_in_the_pages_exist():
    known = dict(commands(cli))
    shown = 0
    for page in PAGES:
        for line in re.findall(
            r"(?:^|`|&& )(?:\$ )?(steelyard [a-z][^`\n&|#]*)", page.read_text(), re.MULTILINE
        ):
            words = line.split()[1:]
            path = tuple(words[:2]) if tuple(words[:2]) in known else tuple(words[:1])
            if path not in known:
                assert not re.fullmatch(r"[a-z-]+", words[0]) or is_prose(line), f"{page.name}: {line}"
                continue
            shown += 1
            options = {o for p in known[path].params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
            for option in re.findall(r"(?<!\S)--[a-z-]+", line):
                assert option in options, f"{page.name}: {line!r} has no {option}"
    assert shown > 30


def is_prose(line):
    """Whether the words after `steelyard` are no command but the word's ordinary use, or a placeholder."""
    return line.split()[1].isupper() or line.startswith(("steelyard fixture", "steelyard is"))


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "reference.md").read_text()
    directives = dict.fromkeys(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    for match in re.finditer(r"^::: (\S+)\n    options:\n      members: \[([^\]]+)\]", page, re.MULTILINE):
        directives[match[1]] = [name.strip() for name in match[2].split(",")]
    missing = []
    for name in steelyard.__all__:
        value = getattr(steelyard, name)
        modules = {value.__module__, f"steelyard.{steelyard._HOMES[name]}"}
        if value.__module__.endswith(f".{name}"):
            modules = {value.__module__}  # a function named like its module hides behind it in its package
        if not any(
            f"{m}.{name}" in directives
            or (m in directives and (directives[m] is None or name in directives[m]))
            for m in modules
        ):
            missing.append(name)
    assert missing == []


def test_every_setting_is_described():
    described = re.findall(r"^        (\w+): ", Settings.__doc__, re.MULTILINE)  # the reference shows it
    assert sorted(described) == sorted(Settings.__dataclass_fields__)


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert [p.name for p in (ROOT / "docs").glob("*.md") if p.name not in nav] == []
