"""Every file that people hand us: a reader of its bytes, and real seeds. Used by hypothesis and atheris.

A reader may return or raise a `SteelyardError` that names the file. Anything else is a bug.
"""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from steelyard.core.canonical import canonical, digest
from steelyard.core.errors import SteelyardError
from steelyard.core.results import Identity, Row, Scores, Usage
from steelyard.core.score import Failure, Metric, Score
from steelyard.core.settings import load_settings
from steelyard.data import read_dataset
from steelyard.evals.weigh import weigh
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter
from steelyard.gates import Policy, at_least, not_worse_than
from steelyard.lm.tape import Recording, Tape
from steelyard.prompts import Prompt
from steelyard.prompts.lock import read_lock
from steelyard.prompts.reader import read_prompt
from steelyard.store.memory import MemoryStore
from steelyard.store.moving import export_store, import_store
from steelyard.testing.store_parts import evidence_of, move, run_of

ROOT = Path(__file__).parents[2]
EVIDENCE_ID = "20260101T000000-00000000"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of file: its name on disk, how it is read, and what real ones look like."""

    file: str
    read: object
    seeds: tuple[bytes, ...]


def _prompt(path):
    prompt = read_prompt("p", path)
    assert Prompt.from_content("p", prompt.content(), expect=prompt.digest) == prompt or prompt.description


def _dataset(path):
    dataset = read_dataset(path)
    assert dataset.digest.startswith("sha256:")


def _settings(path):
    settings = load_settings(path.parent, environ={})
    for folder in (settings.prompts, settings.datasets, settings.home, settings.lock, settings.evals):
        folder.exists()


def _lock(path):
    lock = read_lock(path)
    for name, by_alias in lock.aliases.items():
        for locked in by_alias.values():
            Prompt.from_content(name, lock.versions[name][locked.digest], expect=locked.digest)


def _recording(path):
    # The file as a tape finds it: under its key.
    path.parent.joinpath("k0").mkdir(exist_ok=True)
    path.rename(path.parent / "k0" / "k0.rec")
    try:
        Tape(path.parent).get("k0")
    finally:
        (path.parent / "k0" / "k0.rec").unlink()


def _bundle_part(part):
    """Reads one file of a bundle whose other files are sound, the seal made anew: a forger has one too."""

    def read(path):
        data = path.read_bytes()
        path.unlink()
        folder = path.parent / EVIDENCE_ID
        if not folder.exists():
            for name, content in BUNDLE.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        (folder / part).write_bytes(data)
        try:
            if part != "seal.json":
                with contextlib.suppress(SteelyardError):  # what an accident leaves: the seal tells
                    read_bundle(folder)
                reseal(folder)
            read_bundle(folder)
        finally:
            for name, content in BUNDLE.items():
                (folder / name).write_bytes(content)

    return read


def read_bundle(folder):
    """All that is ever read of a bundle."""
    bundle = EvidenceBundle.open(folder)
    bundle.verify()
    _ = (
        bundle.id,
        bundle.sealed,
        bundle.seal_digest,
        bundle.identity,
        bundle.scores,
        bundle.verdict_bytes,
        bundle.verdict,
    )
    weigh(bundle).to_bytes()


def reseal(folder):
    from steelyard.evidence import bundle

    (folder / "seal.json").write_bytes(canonical(bundle._seal(folder)))


def _make_bundle(folder):
    identity = Identity(
        name="p",
        subject="sha256:" + "1" * 64,
        task="sha256:" + "2" * 64,
        dataset="sha256:" + "3" * 64,
        dataset_name="d",
        evaluators={"m": "sha256:" + "4" * 64},
        metrics=(Metric(name="m"),),
    )
    rows = [
        Row(example_id=f"e{i}", cluster=f"c{i // 2}", slices={"a": "b"}, outputs={"y": i},
            scores=(Score(name="m", value=float(i % 3 > 0)),), usage=Usage(calls=1))
        for i in range(40)
    ]  # fmt: skip
    rows[0] = Row(example_id="e0", failure=Failure(kind="task", message="boom"))
    policy = Policy(
        requirements=(at_least("m", 0.4), not_worse_than("production", "m", margin=0.3)), max_missing=0.1
    )
    planned = tuple(r.key for r in rows)
    writer = EvidenceWriter(
        folder / EVIDENCE_ID,
        {
            "gate": "g", "identity": identity.to_json(), "planned": [list(p) for p in planned],
            "policy": policy.to_json(), "advisory": ["e39"], "baselines": {"production": None}, "look": 1,
            "reasons": [], "absent": {}, "values": "sha256:" + "5" * 64,
            "provenance": {"created": "2026-01-01T00:00:00.000Z", "git_revision": None, "git_dirty": False},
        },
    )  # fmt: skip
    for row in rows:
        writer.append(row)
    other = Identity.from_json(identity.to_json() | {"subject": "sha256:" + "6" * 64})
    base = [Row.from_json({**r.to_json(), "scores": [Score(name="m", value=1.0).to_json()]}) for r in rows]
    writer.add_baseline("production", Scores(identity=other, planned=planned, rows=tuple(base)), "run anew")
    bundle = writer.seal(b"{}")
    bundle.folder.joinpath("verdict.json").write_bytes(weigh(bundle).to_bytes())
    reseal(bundle.folder)
    return bundle.folder


def _bundle():
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = _make_bundle(Path(name))
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def _make_export():
    """Every file of a store's export, and the same as an archive."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        store, (a, b) = MemoryStore(), ({"template": "one é"}, {"template": "two"})
        for content in (a, b):
            store.register("prompt", "team/p", digest=digest(content), content=content, tags={"git": "abc"})
        for file, content in BUNDLE.items():
            (here / EVIDENCE_ID / file).parent.mkdir(parents=True, exist_ok=True)
            (here / EVIDENCE_ID / file).write_bytes(content)
        (here / "notes.txt").write_text("beside")
        seal = EvidenceBundle.open(here / EVIDENCE_ID).seal_digest
        run = run_of(metrics={"m": [0.5, 1.0]}, artifacts={"notes.txt": here / "notes.txt"})
        store.add_evidence(evidence_of(id=EVIDENCE_ID, digest=seal), here / EVIDENCE_ID, run)
        store.move_alias(move("team/p", None, digest(a)))
        store.move_alias(move("team/p", digest(a), digest(b), evidence=(EVIDENCE_ID,)))
        export_store(store, here / "export")
        export_store(store, here / "export.tar.gz")
        files = {
            f.relative_to(here / "export").as_posix(): f.read_bytes()
            for f in sorted((here / "export").rglob("*"))
            if f.is_file()
        }
        return files, (here / "export.tar.gz").read_bytes()


def _export_part(part):
    """Imports an export with one file damaged, its checksum made anew: a forger has one too."""

    def read(path):
        import hashlib
        import shutil

        data = path.read_bytes()
        path.unlink()
        folder = path.parent / "export"
        try:
            for name, content in EXPORT.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            (folder / part).write_bytes(data)
            if part != "manifest.json":
                manifest = json.loads(EXPORT["manifest.json"])
                manifest["files"][part] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                (folder / "manifest.json").write_text(json.dumps(manifest))
            _import(folder)
        finally:
            shutil.rmtree(folder)

    return read


def _import(source):
    store = MemoryStore()
    try:
        import_store(store, source, most=2**26)
    except SteelyardError:
        assert not store.names("prompt")  # all of it was checked before anything was written
        assert not store.evidence()
        raise


def _parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = []
    tables = (
        {"id": ["a", "b"], "inputs.q": ["x", "é"], "expected": ["1", None], "metadata.n": [1, 2]},
        {"inputs": [{"q": "x", "n": [1.5, None]}, {"q": "y", "n": []}], "split": ["test", "test"]},
    )
    for columns in tables:
        for compression in ("none", "snappy", "zstd"):
            sink = io.BytesIO()
            pq.write_table(pa.table(columns), sink, compression=compression)
            out.append(sink.getvalue())
    return tuple(out)


def _seeds(*globs):
    found = [f.read_bytes() for g in globs for f in sorted(ROOT.glob(g))]
    assert found
    return tuple(found)


def _lines(pattern, n):
    return tuple(b"".join(data.splitlines(keepends=True)[:n]) for data in _seeds(pattern))


BUNDLE = _bundle()
EXPORT, ARCHIVE = _make_export()
RECORDING = Recording(
    key="k0",
    status=200,
    headers={"content-type": "application/json"},
    body=b'{"choices": []}',
    usage=Usage(calls=1, input_tokens=3),
    about={"method": "POST", "path": "/v1/chat/completions", "model": "m"},
)
DEFAULTS = b"""\
description: Shop answers.
model: gpt-x
messages:
  - {role: system, content: "Answer in {{ language }}: {{ '{{' }}"}
  - role: user
    content:
      - {type: text, text: "{{ question }}"}
variables:
  language: {type: str, default: English, description: of the shopper}
  question: str
parameters: {temperature: 0.5, max_tokens: 64, stop: ["###"], extra_body: {top_k: 5}}
tools:
  - type: function
    function: {name: find, description: "finds {{ language }}", parameters: {type: object, properties: {}}}
response_format: {type: json_object}
"""
JINJA = b"""\
syntax: jinja
template: |
  {% for x in xs %}{{ loop.index }}. {{ x['t']|upper }}{% if not loop.last %}, {% endif %}{% endfor %}
variables: {xs: list}
"""
YAML_ROWS = b"""\
examples:
  - id: a
    inputs: {q: &q [no, 2026-01-01, 1.5]}
    expected: {y: *q}
    metadata: {lang: de}
    split: test
    cluster: c
  - {id: b, inputs: {q: [x]}, expected: "7", cluster: c}
"""
CSV = b'id,inputs.q,expected,metadata.lang\na,"x, ""y""",1,de\nb,"two\nlines",,en\n'
PYPROJECT = b"""\
[project]
name = "shop"
[tool.steelyard]
prompts = "prompts"
home = ".steelyard"
lm = "openai:gpt-x"
lm_mode = "auto"
concurrency = 4
row_timeout_s = 30.5
"""

TARGETS = {
    "prompt": Target(
        file="p.yaml", read=_prompt, seeds=(*_seeds("prompts/*.yaml", "evals/pilot/*.yaml"), DEFAULTS, JINJA)
    ),
    "jsonl": Target(file="d.jsonl", read=_dataset, seeds=_lines("evals/datasets/*.jsonl", 5)),
    "csv": Target(file="d.csv", read=_dataset, seeds=(CSV,)),
    "yaml rows": Target(file="d.yaml", read=_dataset, seeds=(YAML_ROWS,)),
    "parquet": Target(file="d.parquet", read=_dataset, seeds=_parquet()),
    "lock": Target(file="steelyard.lock", read=_lock, seeds=_seeds("prompts/steelyard.lock")),
    "settings": Target(file="pyproject.toml", read=_settings, seeds=(PYPROJECT,)),
    "recording": Target(file="r.rec", read=_recording, seeds=(RECORDING.to_bytes(),)),
    "manifest": Target(file="m.json", read=_bundle_part("manifest.json"), seeds=(BUNDLE["manifest.json"],)),
    "baseline": Target(
        file="m.json",
        read=_bundle_part("baseline-production/manifest.json"),
        seeds=(BUNDLE["baseline-production/manifest.json"],),
    ),
    "rows": Target(file="r.log", read=_bundle_part("rows.log"), seeds=(BUNDLE["rows.log"],)),
    "seal": Target(file="s.json", read=_bundle_part("seal.json"), seeds=(BUNDLE["seal.json"],)),
    "verdict": Target(file="v.json", read=_bundle_part("verdict.json"), seeds=(BUNDLE["verdict.json"],)),
    **{
        f"export {part}": Target(file="x.json", read=_export_part(part), seeds=(EXPORT[part],))
        for part in ("manifest.json", "versions.jsonl", "ledger.jsonl", "evidence.jsonl")
    },
    "archive": Target(file="export.tar.gz", read=_import, seeds=(ARCHIVE,)),
}


def one(target, data, folder):
    """Read the bytes as the target reads them; anything but a typed error with the file's name passes on."""
    path = folder / target.file
    path.write_bytes(data)
    try:
        target.read(path)
    except SteelyardError as error:
        text = str(error)
        assert len(text) < 2_000, f"an error text of {len(text)} characters"
        assert text.count("\n") <= 1, f"not one sentence: {text}"
        text.encode("utf-8")
        return text
    return None


def manifest():
    """The sound manifest as a value."""
    return json.loads(BUNDLE["manifest.json"])
