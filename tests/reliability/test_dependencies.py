"""What `src/` imports is declared where it is needed: by the base installation, by an extra, or guarded."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from steelyard.core.extras import EXTRAS

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
# Import name and distribution, where they differ.
DISTRIBUTIONS = {"yaml": "pyyaml"}
# Packages of other people that we adapt: they are there when the caller hands us one of theirs.
FOREIGN = {"deepeval", "pydantic_evals"}
# What comes with the package that it belongs to and is only looked at beside it.
COMES_WITH = {"urllib3": "langsmith", "zstandard": "langsmith"}


def imports():
    """Every import of a third party: file, line, package, whether at the module's top, whether guarded."""
    for file in sorted(SRC.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        yield from walk(tree, file, top=True, guarded=False)


def walk(node, file, *, top, guarded):
    for child in ast.iter_child_nodes(node):
        here, safe = top, guarded
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            here = False
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from walk(ast.Module([other], []), file, top=top, guarded=guarded)
            continue
        if isinstance(child, ast.Try):
            names = {n for h in child.handlers if h.type for n in re.findall(r"\w+", ast.unparse(h.type))}
            safe = guarded or bool(names & {"ImportError", "ModuleNotFoundError"})
        modules = []
        if isinstance(child, ast.Import):
            modules = [a.name for a in child.names]
        elif isinstance(child, ast.ImportFrom) and child.level == 0:
            modules = [child.module]
        for module in modules:
            package = module.partition(".")[0]
            if package not in sys.stdlib_module_names and package != "steelyard":
                yield file.relative_to(SRC).as_posix(), child.lineno, package, here, safe
        yield from walk(child, file, top=here, guarded=safe)


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {e: {name(r): r for r in requirements} for e, requirements in lists.items()}


def name(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def distribution(package):
    return DISTRIBUTIONS.get(package, package).lower().replace("_", "-")


def test_every_import_is_declared():
    extras = declared()
    missed = []
    for file, line, package, _, _ in imports():
        package = COMES_WITH.get(package, package)
        if package in FOREIGN or distribution(package) in extras[""]:
            continue
        if package not in EXTRAS or distribution(package) not in extras[EXTRAS[package]]:
            missed.append(f"{file}:{line} imports {package}, which no extra of it declares")
    assert not missed, "\n".join(missed)


def test_the_table_of_extras_is_that_of_pyproject():
    extras = declared()
    for package, extra in EXTRAS.items():
        assert distribution(package) in extras[extra], f"{package} is not in the extra {extra!r}"


def test_the_table_of_extras_names_nothing_that_src_does_not_look_for():
    looked_for = {p for _, _, p, _, _ in imports()}
    for file in SRC.rglob("*.py"):
        looked_for |= set(re.findall(r'find_spec\("(\w+)"\)', file.read_text(encoding="utf-8")))
    assert set(EXTRAS) <= looked_for


def test_what_modules_load_at_their_top_is_there_in_the_base_installation():
    """A package of an extra is loaded at the top only of a module that nothing but that extra loads."""
    base = declared()[""]
    allowed = {
        "steelyard/pytest_plugin.py": "pytest",  # pytest itself loads it
        "steelyard/testing/store_contract.py": "pytest",
        "steelyard/testing/evaluator_contract.py": "pytest",
        "steelyard/lm/clients.py": "httpx2",  # openai_lm.py loads it after it found openai
    }
    at_top = {
        (file, package)
        for file, _, package, top, guarded in imports()
        if top and not guarded and distribution(package) not in base
    }
    assert at_top == set(allowed.items())


def test_constraints_pin_every_package_that_an_extra_declares_and_fit_its_bounds():
    from packaging.requirements import Requirement

    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            package, _, version = line.partition("==")
            pins[name(package)] = version.partition(";")[0].strip()
    for requirements in declared().values():
        for package, text in requirements.items():
            if package in pins:
                assert Requirement(text).specifier.contains(pins[package]), (text, pins[package])
