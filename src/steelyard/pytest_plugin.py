"""The pytest plugin: inert, and imports nothing heavy, until a test asks for the `steelyard` fixture.

    def test_support_intent(steelyard):
        steelyard.gate(
            classify,
            dataset="support-intent",
            prompt="support-intent",
            evaluators=[exact_match("intent")],
            require=[at_least("exact_match", 0.60), not_worse_than("production", "exact_match", margin=0.05)],
        )

The call itself decides. A verdict that blocks fails the test even if the test swallows the exception, and a
test that asks for the fixture and runs no gate fails too: no vacuous green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from steelyard.cli.session import EvalSession

__all__ = ["eval_session"]

_SESSION = pytest.StashKey["EvalSession"]()
_DATASETS = pytest.StashKey["Path | None"]()
_USED = pytest.StashKey["Fixture"]()
_SAID = "steelyard_said"
_SHARED = "steelyard_gates"
"""What a worker of xdist hands to the controller with a test's report."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options; each has its setting, so a project can fix it in `pyproject.toml`."""
    group = parser.getgroup("steelyard", "Steelyard: gates on prompts and models")
    group.addoption(
        "--steelyard-lm",
        choices=["auto", "live", "replay"],
        default=None,
        help="auto: replay recorded model calls and record new ones; live: always call; replay: never call.",
    )
    group.addoption(
        "--steelyard-baseline",
        metavar="ALIAS",
        default=None,
        help="Compare with this alias instead of the one each requirement names.",
    )
    group.addoption(
        "--steelyard-on-inconclusive",
        choices=["fail", "warn"],
        default=None,
        help="What an inconclusive verdict does to the test (default: fail).",
    )
    group.addoption(
        "--steelyard-report",
        metavar="FOLDER",
        default=None,
        help="Where index.html, summary.md and verdicts.json are written (default: .steelyard/report).",
    )
    group.addoption(
        "--steelyard-mode",
        choices=["gate", "run", "plan", "bless"],
        default="gate",
        help="gate: decide; run: record evidence only; plan: say what it would cost and prove; "
        "bless: set an alias that is absent if the floors pass.",
    )
    group.addoption(
        "--steelyard-fresh",
        action="store_true",
        default=False,
        help="Begin every run anew; by default an interrupted run of the same gate goes on.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Under xdist the controller gathers what the workers' gates found."""
    if getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Gatherer(config), "steelyard-gatherer")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """True for the folder of datasets: data comes from elsewhere, and a `conftest.py` in it is not run."""
    if collection_path.suffix or not collection_path.is_dir():
        return None
    if _DATASETS not in config.stash:
        config.stash[_DATASETS] = _datasets(config)
    datasets = config.stash[_DATASETS]
    return True if datasets is not None and collection_path.resolve() == datasets else None


def _datasets(config: pytest.Config) -> Path | None:
    """The folder of datasets that `pyproject.toml` names, where it holds nothing but data.

    Read here and not by `core.settings`, so that a session without gates imports nothing of ours.
    """
    import tomllib

    for root in (config.rootpath, *config.rootpath.parents):
        file = root / "pyproject.toml"
        if not file.is_file() or b"[tool.steelyard" not in (data := file.read_bytes()):
            continue
        try:
            table: Any = tomllib.loads(data.decode("utf-8"))["tool"]["steelyard"]
            datasets = (root / table.get("datasets", "evals/datasets")).resolve()
            evals = (root / table.get("evals", "evals")).resolve()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None  # whoever needs the settings says what is wrong with them
        return None if evals.is_relative_to(datasets) else datasets
    return None


def eval_session(config: pytest.Config) -> EvalSession | None:
    """The session behind the fixture, or None while no test has asked for it."""
    return config.stash.get(_SESSION, None)


def _session_of(config: pytest.Config) -> EvalSession:
    if _SESSION not in config.stash:
        from steelyard.cli.session import EvalSession

        config.stash[_SESSION] = EvalSession.of_pytest(config)
        # Only now: in a session without gates no test pays for these hooks.
        config.pluginmanager.register(_Hooks(config), "steelyard-hooks")
    return config.stash[_SESSION]


class Fixture:
    """What a test gets as `steelyard`."""

    def __init__(self, session: EvalSession, node: pytest.Item, root: Path) -> None:
        self._session, self._node, self._root = session, node, root
        self.calls = 0
        self.blocking: list[str] = []
        self.decided = True
        """Whether each of `blocking` is a verdict, which the summary shows."""

    @property
    def settings(self) -> Any:
        """The settings in force (`steelyard.core.settings.Settings`)."""
        return self._session.workspace.settings

    def gate(self, task: Any, /, **spec: Any) -> Any:
        """The report of a gate; the test fails unless the gate passes.

        Args:
            task: The function under evaluation, or a `steelyard.Gate`.
            **spec: The fields of `steelyard.Gate`; `name` is the test's name if left out.

        Raises:
            GateFailed: the verdict is fail, unmeasurable, or inconclusive without `warn`.
        """
        from steelyard.core.errors import Interrupted

        self.calls += 1
        session, name = self._session, self._node.name.removeprefix("test_")
        file, _, inside = self._node.nodeid.partition("::")
        target = f"{session.workspace.shown(self._root / file)}::{inside}"
        try:
            report, problem = session.run(task, spec, name, target)
        except Interrupted as error:
            pytest.exit(f"steelyard: {error.sentence}", returncode=error.exit_code)
        except Exception as error:
            # Nothing was measured: the test must not go green, whoever catches this.
            session.errors.append(error)
            self.blocking.append(str(error))
            self.decided = False
            raise
        if report is not None:
            from steelyard.cli.sharing import properties

            self._node.user_properties += properties(report)
        if problem is not None:
            self.blocking.append(str(problem))
            raise problem
        return report


@pytest.fixture
def steelyard(request: pytest.FixtureRequest) -> Fixture:
    """Gates for this test: `steelyard.gate(task, dataset=..., evaluators=[...], require=[...])`."""
    config = request.config
    fixture = Fixture(_session_of(config), request.node, config.rootpath)
    request.node.stash[_USED] = fixture
    return fixture


class _Said:
    """A verdict as a test's failure: whole in JUnit, one line on the terminal; the summary has it whole."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reprcrash = self
        self.message = next((t for t in text.splitlines() if t.startswith(("✗", "∅", "?"))), text)

    def __str__(self) -> str:
        return self._text

    def toterminal(self, out: Any) -> None:
        """Point to the summary."""
        out.line(f"{self.message}  (see the section 'steelyard' below)")


def _shorten(report: pytest.TestReport) -> None:
    if getattr(report, _SAID, False):
        report.longrepr = cast("Any", _Said(str(report.longrepr)))


class _Hooks:
    """What a session with gates does for each test and at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = hasattr(config, "workerinput")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn a test green only if its gates are."""
        report = yield
        fixture = item.stash.get(_USED, None)
        if fixture is None or call.when != "call":
            return report
        if self._worker:
            from steelyard.cli.sharing import packed

            setattr(report, _SHARED, packed(_session_of(self._config)))
        if report.passed and fixture.blocking:
            report.outcome = "failed"
            text = "the test passed, but its gate did not:\n" + "\n".join(fixture.blocking)
            report.longrepr = text
            setattr(report, _SAID, fixture.decided)
        elif report.passed and not fixture.calls:
            report.outcome = "failed"
            report.longrepr = (
                "the test asks for the `steelyard` fixture but ran no gate, so nothing was measured. "
                "Call steelyard.gate(...), or leave the fixture out."
            )
        elif report.failed and call.excinfo is not None and fixture.blocking:
            from steelyard.core.errors import GateFailed, SteelyardError

            if isinstance(call.excinfo.value, SteelyardError):
                # The sentence is the message: no traceback through the runner.
                report.longrepr = str(call.excinfo.value)
                setattr(report, _SAID, isinstance(call.excinfo.value, GateFailed))
        if not self._worker:
            _shorten(report)
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """A line a requirement, then the examples that changed most, then where the report is."""
        _session_of(self._config).summary(terminalreporter)

    def pytest_unconfigure(self) -> None:
        """Stop the local model and close the store."""
        _session_of(self._config).close()


class _Gatherer:
    """On xdist's controller: the workers' gates in one session, for one summary and one report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take over what came with a test's report."""
        shared = getattr(report, _SHARED, None)
        if shared is not None:
            from steelyard.cli.sharing import unpack

            delattr(report, _SHARED)
            unpack(shared, _session_of(self._config))
            _shorten(report)
