"""Any bytes in any file that people hand us: it is read, or one typed error names the file. Never a crash."""

import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from fuzz_mutation import damaged, disturbed, hostile_json
from fuzz_targets import BUNDLE, EVIDENCE_ID, RECORDING, TARGETS, one, read_bundle, reseal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.core.canonical import canonical
from steelyard.core.errors import SteelyardError
from steelyard.evidence.rowlog import frame
from steelyard.lm.tape import Recording
from steelyard.prompts import Prompt

FULL = os.environ.get("STEELYARD_FULL") == "1"
ROUNDS = {"jsonl": 80, "csv": 80, "yaml rows": 80, "settings": 80}
fuzzed = settings(
    deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, report_multiple_bugs=False
)


def short(error):
    assert len(str(error)) < 2_000


def rounds(target):
    return 800 if FULL else ROUNDS.get(target, 40)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_by_name(name, folder):
    target = TARGETS[name]
    here = folder / name.replace(" ", "-")
    here.mkdir(exist_ok=True)
    told = re.compile(
        rf"{re.escape(target.file)}|k0\.rec|{EVIDENCE_ID}|manifest\.json|verdict\.json|export|rows\.log|seal\.json"
    )
    refused = []

    @settings(fuzzed, max_examples=rounds(name))
    @given(damaged(target.seeds))
    def run(data):
        said = one(target, data, here)
        if said is not None:
            assert told.search(said), said
            refused.append(said)

    run()
    for seed in target.seeds:
        assert one(target, seed, here) is None  # the seeds are sound, so the damage is what is refused
    assert refused


@settings(fuzzed, max_examples=400 if not FULL else 2_000)
@given(st.data())
def test_any_stored_content_is_a_prompt_or_a_typed_error(data):
    from steelyard.prompts import Variable

    sound = Prompt(
        name="p",
        messages=({"role": "user", "content": "{{ a }}"},),
        variables={"a": Variable(), "b": Variable(type="list", default=[1])},
        parameters={"temperature": 0.5},
        tools=({"type": "function", "function": {"name": "f", "description": "{{ b }}"}},),
    ).content()
    content = data.draw(disturbed(json.loads(canonical(sound))))
    if not isinstance(content, dict):
        content = {"content": content}
    try:
        prompt = Prompt.from_content("p", content)
    except SteelyardError as error:
        short(error)
    else:
        assert Prompt.from_content("p", prompt.content(), expect=prompt.digest).digest == prompt.digest


@settings(fuzzed, max_examples=150 if not FULL else 1_000)
@given(st.data())
def test_a_forged_bundle_with_a_right_seal_is_weighed_or_a_typed_error(data):
    """Checksums stop accidents, not forgers: any JSON may stand where ours was."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / EVIDENCE_ID
        for file, content in BUNDLE.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        which = data.draw(st.sampled_from(("manifest.json", "baseline-production/manifest.json", "rows.log")))
        if which == "rows.log":
            lines = BUNDLE["rows.log"].splitlines(keepends=True)
            row = data.draw(disturbed(json.loads(lines[5][17:])) | hostile_json(4))
            lines[5] = _line(row)
            (folder / which).write_bytes(b"".join(lines))
        else:
            value = data.draw(disturbed(json.loads(BUNDLE[which])))
            (folder / which).write_bytes(json.dumps(value).encode())
        reseal(folder)
        try:
            read_bundle(folder)
        except SteelyardError as error:
            short(error)


def _line(row):
    try:
        return frame(row)
    except SteelyardError:  # what canonical JSON cannot hold is written all the same, as a forger would
        import hashlib

        text = json.dumps(row).encode()
        return hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n"


@settings(fuzzed, max_examples=200 if not FULL else 1_000)
@given(hostile_json(6), st.binary(max_size=30))
def test_a_forged_recording_with_a_right_checksum_is_read_or_corrupt(meta, body):
    import hashlib

    sound = json.loads(RECORDING.to_bytes().split(b"\n", 2)[1])
    meta = sound | meta if isinstance(meta, dict) else meta
    rest = json.dumps(meta).encode() + b"\n" + body
    data = RECORDING.to_bytes()[:22] + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
    try:
        found = Recording.from_bytes(data, key="k0")
    except (ValueError, KeyError, TypeError):  # what `Tape.get` turns into `Corrupt`
        return
    assert found.body == body
