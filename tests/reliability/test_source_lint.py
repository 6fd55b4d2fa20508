"""What must not stand in our own code, read from its syntax trees."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "steelyard"
CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "tempfile.mktemp",
    ),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("marshal.loads", "joblib.load", "shelve.open"),
}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "telnetlib"}
ARGUMENTS = {
    "weights_only": False,
    "trust_remote_code": True,
    "allow_pickle": True,
    "shell": True,
    "verify": False,
}


def dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def findings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                yield node.lineno, f"{name}()"
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in ARGUMENTS and value is ARGUMENTS[keyword.arg]:
                    yield node.lineno, f"{keyword.arg}={value}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.partition(".")[0] in MODULES:
                    yield node.lineno, f"import {name}"


def test_no_code_of_ours_runs_data():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 80
    found = [
        f"{file.relative_to(SOURCE)}:{line}: {what}"
        for file in files
        for line, what in findings(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


SEEN = [
    *("eval(x)", "exec(x)", "import pickle", "from pickle import loads", "yaml.load(x)", "os.system(x)"),
    *("torch.load(x, weights_only=False)", "np.load(f, allow_pickle=True)", "f(trust_remote_code=True)"),
    "subprocess.run(x, shell=True)",
]


@pytest.mark.parametrize("text", SEEN)
def test_this_lint_sees_what_it_looks_for(text):
    assert list(findings(ast.parse(text)))


def test_it_leaves_harmless_code_alone():
    harmless = (
        "re.compile(x)\nyaml.safe_load(x)\nf(shell=False, weights_only=True)\nmodel.eval()\ngate.evaluate()"
    )
    assert list(findings(ast.parse(harmless))) == []
