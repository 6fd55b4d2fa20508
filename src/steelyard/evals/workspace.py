"""A workspace: what the gates of one session share, opened when first needed and closed once."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from steelyard.core.clock import utc_now
from steelyard.core.dataset import Dataset
from steelyard.core.errors import NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings
from steelyard.data import load_dataset
from steelyard.evals.runner import Progress
from steelyard.lm import LM, Budget, open_lm, replaying
from steelyard.lm.opening import as_lm
from steelyard.prompts import Prompt, load_prompt
from steelyard.prompts.lock import Lock, bootstrap, read_lock
from steelyard.report.model import GateReport, SessionReport
from steelyard.store import Store, open_store

__all__ = ["Workspace"]

Say = Callable[[str, "Progress | None"], None]


class Workspace:
    """Settings, store, models, recordings and the reports so far.

    Args:
        settings: How Steelyard runs here.
        store: A store to use instead of the settings'; it is not closed.
        lm: A model to use instead of the settings'; it is not closed.
        say: Told what goes on: a sentence, and how far the run is.
        note: Told what a person should read even where nobody watches, such as that a run was resumed.
        resume_id: The bundle that a person asked to go on with; None takes up what fits.
        resume_errors: Whether that bundle is sealed, and its failed rows are to be run again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
        lm: Any = None,
        say: Say | None = None,
        note: Callable[[str], None] | None = None,
        resume_id: str | None = None,
        resume_errors: bool = False,
    ) -> None:
        self.settings = settings
        self.note: Callable[[str], None] = note or (lambda _text: None)
        self.resume_id, self.resume_errors = resume_id, resume_errors
        self.resumed: list[str] = []
        """Bundles that were gone on with."""
        self.unended: dict[str, str] = {}
        """By gate, the bundle of a run that stopped before its end and can be resumed."""
        self.origin: Mapping[str, str | None] | None = None
        """How the gate that is run now was asked for: its target and what the command changed in it."""
        self.say: Say = say or (lambda _text, _progress: None)
        self.reports: list[GateReport] = []
        self.calls = {"hit": 0, "live": 0}
        """Model calls so far: answered from recordings, and sent out."""
        self.seen: dict[str, Dataset] = {}
        """The datasets that were opened, by digest."""
        self._given_store, self._given_lm = store, lm
        self._lms: dict[str, LM] = {}
        self._stack = ExitStack()
        self._closed = False

    # -- what is shared ---------------------------------------------------------------------------
    @cached_property
    def store(self) -> Store:
        """The store, with the committed lock's aliases taken over if it does not know them."""
        store = self._given_store
        if store is None:
            self.say("opening the store", None)
            gc.collect()
            store = open_store(self.settings)
            gc.freeze()  # a million objects of MLflow's that stay: pytest alone would look at them five times
            self._stack.callback(store.close)
        if self.lock is not None:
            bootstrap(self.lock, store)
        return store

    @cached_property
    def lock(self) -> Lock | None:
        """The committed lock file, or None where there is none."""
        return read_lock(self.settings.lock) if self.settings.lock.is_file() else None

    @contextmanager
    def recording(self, budget: Budget | None = None) -> Generator[None]:
        """Record and replay beneath all model calls inside, as the settings say; counts add up.

        Args:
            budget: What the calls that go out may spend.
        """
        folder = self.settings.home / "replay"
        with replaying(folder, self.settings.lm_mode, budget=budget) as session:
            try:
                yield
            finally:
                self.calls["hit"] += session.counts.hits
                self.calls["live"] += session.counts.live

    def lm(self, given: Any) -> LM:
        """The model of a gate: what it hands over, what it names, or the settings'."""
        given = given if given is not None else self._given_lm
        if given is not None and not isinstance(given, str):
            return as_lm(given)
        spec = given or self.settings.lm
        if spec not in self._lms:
            lm = open_lm(spec, self.settings)
            self._stack.callback(lm.close)
            self._lms[spec] = lm
        return self._lms[spec]

    def dataset(self, given: str | Dataset, split: str | None) -> Dataset:
        """A gate's dataset, cut to its split."""
        dataset = given if isinstance(given, Dataset) else load_dataset(given, self.settings)
        cut = dataset.split(split) if split is not None and len(dataset) else dataset
        self.seen[cut.digest] = cut
        return cut

    def prompt(self, ref: str | Ref) -> Prompt:
        """The prompt that a ref names; the store is only opened for what is not the working file."""
        parsed = Ref.parse(ref) if isinstance(ref, str) else ref
        return load_prompt(parsed, self.settings, None if parsed.is_working else self.store)

    def aliases(self, name: str) -> Mapping[str, str]:
        """Where a prompt's aliases stand; nothing for a prompt that the store does not know."""
        try:
            return self.store.aliases("prompt", name)
        except NotFound:
            return {}

    @cached_property
    def git(self) -> tuple[str | None, bool]:
        """The commit the code is at, and whether there are uncommitted changes; (None, False) outside git."""
        return git_state(self.settings.root)

    @property
    def evals_name(self) -> str:
        """The evals folder as one types it in the project's root."""
        return f"{self.shown(self.settings.evals)}/"

    def shown(self, path: Path) -> str:
        """A path as people write it: from the project's root where it lies inside."""
        root = self.settings.root
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    @property
    def evidence_folder(self) -> Path:
        """Where bundles are written."""
        return self.settings.home / "evidence"

    # -- the end ----------------------------------------------------------------------------------
    def session_report(self) -> SessionReport:
        """All gates so far as one report."""
        return SessionReport(
            gates=tuple(self.reports), created=f"{utc_now():%Y-%m-%d %H:%M} UTC", title="Steelyard report"
        )

    def close(self) -> None:
        """Stop and close what was opened."""
        if not self._closed:
            self._closed = True
            self._stack.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def git_state(folder: Path) -> tuple[str | None, bool]:
    """(commit, dirty) of a folder's checkout; (None, False) where git or the checkout is missing."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                ["git", *arguments],  # noqa: S607 - the user's own git
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    revision = git("rev-parse", "HEAD")
    return (revision, bool(git("status", "--porcelain"))) if revision else (None, False)


def provenance(workspace: Workspace) -> Mapping[str, Any]:
    """Where and when a run happened: for people, never for verdicts."""
    from importlib.metadata import version

    from steelyard.core.clock import stamp

    revision, dirty = workspace.git
    return {
        "created": stamp(),
        "git_revision": revision,
        "git_dirty": dirty,
        "python": ".".join(map(str, sys.version_info[:3])),
        "steelyard": version("steelyard"),
        "lm_mode": workspace.settings.lm_mode,
        "origin": dict(workspace.origin) if workspace.origin else None,
    }
