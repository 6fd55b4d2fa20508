"""Which extra brings which package, and one sentence where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from types import MappingProxyType

from steelyard.core.errors import MissingExtra

__all__ = ["EXTRAS", "demand", "missing"]

EXTRAS = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("alembic", "anyio", "filelock", "genai_prices", "httpx2", "jsonschema", "mlflow", "numpy"),
                *("openai", "packaging", "pyarrow", "pytest", "referencing", "regex", "requests"),
                *("rich", "scipy", "sqlalchemy"),
            ),
            "evals",
        ),
        "xllamacpp": "local",
        **dict.fromkeys(("langchain", "langchain_core", "langchain_openai", "langsmith"), "langchain"),
        "datasets": "huggingface",
        "watchfiles": "watch",
    }
)
"""The extra of each package that `src/` may import beyond the base installation, by its import name."""


def demand(*packages: str, needed_for: str) -> None:
    """Nothing, if all these packages are installed.

    Args:
        packages: Import names, each in `EXTRAS`.
        needed_for: Who needs them, the beginning of a sentence.

    Raises:
        MissingExtra: one is not.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra=EXTRAS[package], needed_for=needed_for)


def missing(error: ModuleNotFoundError, *, needed_for: str) -> MissingExtra | None:
    """The error as one sentence, if it is our own code that imported a package of an extra, else None."""
    package = (error.name or "").partition(".")[0]
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    module = "" if at is None else str(at.tb_frame.f_globals.get("__name__", ""))
    if package not in EXTRAS or module.partition(".")[0] != "steelyard":
        return None
    return MissingExtra(package, extra=EXTRAS[package], needed_for=needed_for)
