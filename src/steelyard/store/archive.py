"""Folders in and out of `.tar.gz`, where the archive may come from anyone."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

from steelyard.core.errors import InvalidFile

__all__ = ["MOST_BYTES", "check_member", "pack", "unpack"]

MOST_BYTES = 20 * 2**30
"""Bytes that an archive may unpack to, unless the caller allows more."""
_MOST_FILES = 500_000
_RATIO, _RATIO_FROM = 200, 64 * 2**20  # no honest archive of ours unpacks to more, beyond the first 64 MB
_CLASH = (FileExistsError, NotADirectoryError, IsADirectoryError)  # a file where another has a folder
_SEGMENT = re.compile(r"[A-Za-z0-9_][^/\\\0]{0,250}")


def pack(folder: Path, names: Iterable[str], file: Path) -> None:
    """Write an archive of files of a folder, in the order given; it is there whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    try:
        with tarfile.open(part, "w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as archive:
            for name in names:
                archive.add(folder / name, arcname=name, recursive=False, filter=_plain)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def unpack(file: Path, to: Path, *, most: int = MOST_BYTES) -> None:
    """Write an archive's files under a folder.

    Only plain files with plain relative names are written, by us: what the archive says of owners, modes,
    links and devices is not obeyed.

    Raises:
        InvalidFile: it is no archive, a member is something else or would leave the folder, or it unpacks to
            more than `most` bytes, or to over 64 MB and 200 times its own size.
    """
    size, total, count = file.stat().st_size, 0, 0
    try:
        # As a stream: members are taken as they come, and a second one of one name is seen as such.
        with gzip.open(file) as raw, tarfile.open(fileobj=cast("Any", raw), mode="r|") as archive:
            for member in archive:
                count += 1
                if count > _MOST_FILES:
                    raise _bad(file, f"it holds more than {_MOST_FILES:,} files")
                check_member(file, member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise _bad(file, f"the member {member.name[:80]!r} is a link, a device or a pipe")
                target = to / member.name
                if target.exists():
                    raise _bad(file, f"the member {member.name[:80]!r} comes twice")
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(member)
                assert source is not None
                total = _copy(file, source, target, total, size, most)
    except (
        tarfile.TarError,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        FileExistsError,
        NotADirectoryError,
    ) as e:
        raise _bad(file, f"it cannot be read as .tar.gz ({e})") from None


def check_member(file: Path, name: str) -> None:
    """Nothing, if the name of a member is plain and relative, each segment beginning with a letter or digit.

    Raises:
        InvalidFile: it is not.
    """
    if len(name) > 1000 or not all(_SEGMENT.fullmatch(s) and s.rstrip(". ") == s for s in name.split("/")):
        raise _bad(file, f"the name {name[:80]!r} is none that an export has")


def _copy(file: Path, source: IO[bytes], target: Path, total: int, size: int, most: int) -> int:
    with target.open("xb") as out:
        while chunk := source.read(1 << 20):
            total += len(chunk)
            if total > most or (total > _RATIO_FROM and total > _RATIO * size):
                raise _bad(file, f"it unpacks to {total:,} bytes and more, from {size:,}")
            out.write(chunk)
    return total


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _bad(file: Path, what: str) -> InvalidFile:
    return InvalidFile(file, what, do="Use an archive that `steelyard store export` wrote, unchanged.")
