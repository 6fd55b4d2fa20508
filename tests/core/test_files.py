"""A file is the old one or the new one, whatever happens in between."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.core.files import SHARED, replacing, write_atomically


def test_the_bytes_stand_and_nothing_is_left_beside_them(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two", durable=False)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == {"a": b"two"}


def test_what_raises_half_way_leaves_the_old_file(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(file) as new:
        new.writelines([b"half", "no bytes"])
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == {"a": b"old"}


def test_private_is_for_the_owner_and_shared_is_narrowed_by_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "private", b"")
        write_atomically(tmp_path / "shared", b"", mode=SHARED)
    finally:
        os.umask(before)
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    assert modes == {"private": 0o600, "shared": 0o640}


def test_a_long_name_can_be_written(tmp_path):
    write_atomically(tmp_path / ("n" * 250), b"x")
    assert [len(f.name) for f in tmp_path.iterdir()] == [250]


def test_killed_at_any_time_the_file_is_whole(tmp_path):
    file = tmp_path / "a"
    write_atomically(file, b"0" * 100_000)
    code = (
        "import sys\nfrom pathlib import Path\nfrom steelyard.core.files import write_atomically\n"
        "for n in range(10**9):\n"
        "    write_atomically(Path(sys.argv[1]), str(n % 10).encode() * 100_000, durable=False)\n"
        "    n == 20 and print('going', flush=True)\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        data = Path(file).read_bytes()
        assert len(data) == 100_000
        assert len(set(data)) == 1
