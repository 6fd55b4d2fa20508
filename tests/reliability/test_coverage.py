"""The map from promises to tests is true: each named test exists, each promise of the page is on it."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
_spec = importlib.util.spec_from_file_location("reliability_map", Path(__file__).with_name("coverage.py"))
MAP = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(MAP)
ROWS = {**MAP.FAULTS, **MAP.ATTACKS}


def names_in(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name.startswith(("test_", "Test")):
                names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name) and t.id.startswith("Test")}
    return names


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test_that_exists(row):
    assert ROWS[row]
    for named in ROWS[row]:
        file, _, test = named.partition("::")
        found = names_in(TESTS / file)
        assert (test in found) if test else found, f"{named} does not exist"


def test_the_page_and_the_map_name_the_same_rows():
    named = set(re.findall(r"^\| \*\*(.+?)\*\* \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == set(ROWS)
