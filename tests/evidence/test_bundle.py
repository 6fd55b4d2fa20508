import os
import random
import signal
import subprocess
import sys
import textwrap

import pytest

from steelyard.core.errors import Corrupt, InvalidValue, NotFound
from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Metric, Score
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter, new_evidence_id
from steelyard.evidence.rowlog import RowLog, read_rows, recover_rows

IDENTITY = Identity(
    task="sha256:t",
    dataset="sha256:d",
    dataset_name="d",
    evaluators={"m": "sha256:e"},
    metrics=(Metric(name="m"),),
)
FULL = os.environ.get("STEELYARD_FULL") == "1"


def row(i, value=1.0):
    return Row(example_id=str(i), outputs={"text": "é\u2028\n" * 3}, scores=(Score(name="m", value=value),))


def begin(folder, n=3):
    manifest = {"identity": IDENTITY.to_json(), "planned": [[str(i), 0] for i in range(n)]}
    return EvidenceWriter(folder / new_evidence_id(), manifest)


def sealed(folder, n=3):
    writer = begin(folder, n)
    for i in range(n):
        writer.append(row(i))
    return writer.seal(b"{}", look=1)


def test_a_sealed_bundle_reads_back(tmp_path):
    writer = begin(tmp_path)
    for i in range(3):
        writer.append(row(i, i / 2))
    base = Scores(identity=IDENTITY, planned=(("0", 0),), rows=(row(0),))
    writer.add_baseline("production", base, "run anew")
    bundle = EvidenceBundle.open(writer.seal(b'{"a":1}', look=2).folder)
    bundle.verify()
    assert bundle.sealed
    assert bundle.manifest["look"] == 2
    assert [r.score("m").value for r in bundle.scores.rows] == [0, 0.5, 1]
    assert bundle.baseline("production") == base
    assert bundle.baseline("other") is None
    assert bundle.verdict_bytes == b'{"a":1}'
    assert bundle.identity == IDENTITY


def test_a_pair_is_written_once(tmp_path):
    writer = begin(tmp_path)
    writer.append(row(0))
    with pytest.raises(InvalidValue, match="already"):
        writer.append(row(0))


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    folder = sealed(tmp_path).folder
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        data = file.read_bytes()
        positions = (
            range(len(data)) if FULL else random.Random(7).sample(range(len(data)), min(40, len(data)))
        )
        for at in positions:
            for changed in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at]):
                file.write_bytes(changed)
                with pytest.raises((Corrupt, InvalidValue)):
                    EvidenceBundle.open(folder).verify()
        file.write_bytes(data)
    EvidenceBundle.open(folder).verify()


def test_a_missing_and_an_added_file_are_found(tmp_path):
    folder = sealed(tmp_path).folder
    (folder / "extra.txt").write_text("x")
    with pytest.raises(Corrupt, match=r"extra\.txt"):
        EvidenceBundle.open(folder).verify()
    (folder / "extra.txt").unlink()
    (folder / "verdict.json").unlink()
    with pytest.raises(Corrupt, match=r"verdict\.json"):
        EvidenceBundle.open(folder).verify()


def test_a_sealed_bundle_takes_no_more(tmp_path):
    folder = sealed(tmp_path).folder
    with pytest.raises(InvalidValue, match="sealed"):
        EvidenceWriter(folder, {})


def test_an_unknown_format_and_an_empty_folder(tmp_path):
    with pytest.raises(NotFound):
        EvidenceBundle.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(InvalidValue, match="Update Steelyard"):
        EvidenceBundle.open(tmp_path)


def test_damage_is_set_aside_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "rows.log"
    log = RowLog(path)
    for i in range(5):
        log.append({"i": i})
    log.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"i":2', b'"i":7')
    path.write_bytes(b"".join(lines) + b"deadbeef {torn")
    with pytest.raises(Corrupt, match=":3"):
        list(read_rows(path))
    rows, damaged = recover_rows(path)
    assert ([r["i"] for r in rows], damaged) == ([0, 1, 3, 4], 2)
    assert len(path.with_suffix(".log.damaged").read_bytes().splitlines()) == 2
    assert [r["i"] for r in read_rows(path)] == [0, 1, 3, 4]


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    """A real limit (RLIMIT_FSIZE), met in the middle of a row."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from steelyard.evidence.rowlog import RowLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        log = RowLog(Path(sys.argv[1]))
        n = 0
        try:
            while True:
                log.append({"i": n, "pad": "x" * 70})
                n += 1
        except OSError as error:
            print(n, error.errno)
    """)
    path = tmp_path / "rows.log"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    acknowledged, errno = map(int, done.stdout.split())
    assert errno == 27
    assert [r["i"] for r in read_rows(path)] == list(range(acknowledged))


@pytest.mark.slow
def test_a_killed_writer_loses_no_acknowledged_row(tmp_path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from steelyard.evidence.rowlog import RowLog
        log = RowLog(Path(sys.argv[1]))
        n = 0
        while True:
            log.append({"i": n, "pad": "x" * (n % 997)})
            n += 1
            sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
    """)
    chance = random.Random(11)
    for round_ in range(200 if FULL else 12):
        path = tmp_path / f"{round_}.log"
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        import time

        time.sleep(chance.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        said = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        acknowledged = int(said[-1]) if said and said[-1].isdigit() else 1
        rows, damaged = recover_rows(path)
        numbers = [r["i"] for r in rows]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= acknowledged - 1  # the last line of the pipe may itself be torn
        assert damaged <= 1
