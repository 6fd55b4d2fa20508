"""YAML attacks on every YAML file that is read: prompts, datasets, the lock."""

import json
import resource

import pytest

from steelyard.core.errors import InvalidFile
from steelyard.data import read_dataset
from steelyard.prompts import Prompt
from steelyard.prompts.lock import read_lock
from steelyard.prompts.reader import read_prompt

PROMPT = Prompt(name="p", messages=({"role": "user", "content": "x"},))
LOCK = json.dumps({"format": 1, "prompts": {}, "versions": {"p": {PROMPT.digest: PROMPT.content()}}})[:-1]

FILES = {  # how each is read, and the file around a hostile piece of YAML
    "prompt": (lambda p: read_prompt("p", p), lambda bad: f"template: x\nparameters:\n  extra_body: {bad}\n"),
    "prompt text": (lambda p: read_prompt("p", p), lambda bad: f"template: {bad}\n"),
    "prompt root": (lambda p: read_prompt("p", p), lambda bad: f"{bad}\n"),
    "dataset": (read_dataset, lambda bad: f"- inputs: {{q: {bad}}}\n"),
    "dataset root": (read_dataset, lambda bad: f"{bad}\n"),
    "lock": (read_lock, lambda bad: f"{LOCK}, x: {bad}}}\n"),
    "lock value": (read_lock, lambda bad: f"format: 1\nversions: {{}}\nprompts: {bad}\n"),
}
CODE = {
    "apply": "!!python/object/apply:os.system ['touch CANARY']",
    "new": "!!python/object/new:os.system ['touch CANARY']",
    "module": "!!python/module:os",
    "name": "!!python/name:os.system",
    "object": "!!python/object:subprocess.Popen {args: touch CANARY}",
    "tuple": "!!python/tuple [1]",
    "custom": "!canary {a: 1}",
    "verbatim": "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch CANARY']",
    "binary": "!!binary aGVsbG8=",
    "set": "!!set {a, b}",
}
# Nine levels of nine: 387,420,489 values if it were written out.
LAUGHS = "[" + ", ".join(
    [f"&a0 [{', '.join(['lol'] * 9)}]"] + [f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
) + "]"  # fmt: skip
BOMBS = {
    "billion laughs": LAUGHS,
    "itself": "&a [*a, *a]",
    "itself by key": "&a {b: *a}",
    "depth": "[" * 5000 + "]" * 5000,
    "flow keys": "{a: " * 3000 + "1" + "}" * 3000,
    "unclosed": "[" * 200_000,
    "unclosed keys": "{a: " * 200_000,
    "a list in a list": "\n" + "- " * 200_000,
    "a huge number": "9" * 100_000,
    "a huge float": "1" + "0" * 400 + ".5",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("attack", CODE)
def test_tags_are_refused_and_run_nothing(file, attack, tmp_path, watching):
    read, around = FILES[file]
    path = tmp_path / "f.yaml"
    path.write_text(around(CODE[attack].replace("CANARY", str(tmp_path / "canary"))))
    with (
        watching("subprocess.Popen", "os.system", "pickle.find_class") as seen,
        pytest.raises(InvalidFile) as caught,
    ):
        read(path)
    assert str(path) in str(caught.value)
    assert seen == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.timeout(60)  # a bomb that goes off takes hours
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_capped_in_time_and_memory(file, bomb, tmp_path):
    read, around = FILES[file]
    path = tmp_path / "f.yaml"
    path.write_text(around(BOMBS[bomb]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidFile) as caught:
        read(path)
    assert len(str(caught.value)) < 1_000
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 400, f"{grown:.0f} MB"  # the high-water mark of the process


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("prompt", "template: x\ntemplate: y\n"),
        ("prompt", "template: x\nparameters: {temperature: 0, temperature: 1}\n"),
        ("prompt", "template: '{{ a }}'\nvariables: {a: str, 'a': int}\n"),
        ("dataset", "- inputs: {q: 1}\n  inputs: {q: 2}\n"),
        ("dataset", "- inputs: {q: 1, q: 2}\n"),
        ("lock", f"{LOCK}, versions: {{}}}}\n"),
        ("lock", "format: 1\nformat: 1\nprompts: {}\nversions: {}\n"),
    ],
)
def test_a_key_twice_is_refused(file, text, tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFile, match="stands twice"):
        FILES[file][0](path)


@pytest.mark.parametrize("file", ["prompt", "dataset", "lock"])
def test_merge_keys_are_refused(file, tmp_path):
    read, around = FILES[file]
    path = tmp_path / "f.yaml"
    path.write_text(around("{<<: {a: 1}, b: 2}"))
    if file != "lock":  # there a plain key like any other: no merging, so nothing is hidden from a reviewer
        assert "<<" in json.dumps(_values(read(path)))
    else:
        with pytest.raises(InvalidFile):
            read(path)


def _values(read):
    return read.content() if isinstance(read, Prompt) else [e.to_json() for e in read]
