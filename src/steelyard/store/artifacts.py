"""Which addresses of artifacts a store may send us to.

Everyone who may write to a store can make a run that says its artifacts lie anywhere: at an address of the
inner network of whoever fetches them, in a file of that machine, outside of the server's own folder.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from steelyard.core.errors import Refused
from steelyard.store.place import shown

__all__ = ["check_address"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_address(address: str, store: str, *, served: bool) -> None:
    """Nothing, if artifacts at an address may be fetched.

    Args:
        address: What the run says.
        store: The store's own address.
        served: Whether the store is a server.

    Raises:
        Refused: they may not.
    """
    parts, mine = urlsplit(address), urlsplit(store)
    path = unquote(unquote(parts.path)).replace("\\", "/").split("/")
    elsewhere = (parts.hostname, parts.port) != (mine.hostname, mine.port)
    if ".." in path or "\0" in unquote(address):
        because = "it leaves the folder of the run"
    elif elsewhere and parts.netloc and parts.scheme in ("http", "https", "ftp", "sftp", "mlflow-artifacts"):
        because = "it is at another server than the store's"
    elif parts.scheme in ("", "file") and served and mine.hostname not in _LOOPBACK:
        because = "a server elsewhere has no say over files of this machine"
    else:
        return
    raise Refused(
        f"fetching artifacts from {shown(address)[:200]!r}",
        because=because,
        do="Look in MLflow who made the run; its artifacts are not read.",
    )
