"""One session of gates behind an edge: pytest or the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from steelyard.core.clock import monotonic
from steelyard.core.errors import GateFailed, InvalidValue, did_you_mean
from steelyard.core.settings import Settings, load_settings
from steelyard.evals.gate import prepare, run_gate, run_only
from steelyard.evals.planning import plan_text
from steelyard.evals.runner import Progress
from steelyard.evals.spec import Gate
from steelyard.evals.workspace import Workspace
from steelyard.gates.verdict import Outcome, worst
from steelyard.report import GateReport, to_terminal, write_report

__all__ = ["EXIT_CODES", "EvalSession", "exit_code"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "unmeasurable": 4}
"""What a process returns; 2 is for wrong usage and files that cannot be used."""


class EvalSession:
    """Gates of one pytest run or one command, with progress, summary and report.

    Args:
        settings: How Steelyard runs here.
        mode: `gate`, `run`, `plan` or `bless`.
        baseline: An alias that replaces the one each requirement names; None keeps them.
        prompt: A ref that replaces the gate's prompt; None keeps it.
        report: Folder of the report; None means under the home folder.
        show: Writes a line to the person; None where nobody looks.
        live: Whether `show` may overwrite its last line (a terminal).
        resume_id: The interrupted bundle to go on with; None takes up what fits.
        resume_errors: Whether it is a sealed one, whose failed rows are to be run again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        mode: str = "gate",
        baseline: str | None = None,
        prompt: str | None = None,
        report: Path | None = None,
        show: Callable[[str, bool], None] | None = None,
        live: bool = False,
        resume_id: str | None = None,
        resume_errors: bool = False,
    ) -> None:
        self.settings, self.mode, self.baseline, self.prompt = settings, mode, baseline, prompt
        self.report_folder = report or settings.home / "report"
        self._show, self._live = show, live
        self._last = monotonic()
        self._began = monotonic()
        self.texts: list[str] = []
        self.outcomes: list[Outcome] = []
        self.errors: list[Exception] = []
        """What a person must mend first: gates that raised before they could be decided."""
        self.workspace = Workspace(
            settings, say=self._say, note=self._note, resume_id=resume_id, resume_errors=resume_errors
        )

    @classmethod
    def of_pytest(cls, config: Any) -> EvalSession:
        """The session of a pytest run."""
        option = config.option
        settings = load_settings(
            config.rootpath,
            lm_mode=option.steelyard_lm,
            on_inconclusive=option.steelyard_on_inconclusive,
            lm=getattr(option, "steelyard_lm_spec", None),
            on_incomplete="fresh" if option.steelyard_fresh else None,
        )
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        capture = config.pluginmanager.get_plugin("capturemanager")
        live = bool(reporter and reporter.isatty)
        worker = getattr(config, "workerinput", {}).get("workerid")  # of xdist: only stderr reaches anybody

        def show(text: str, final: bool) -> None:
            if not live and not final:
                return
            if worker is not None:
                with capture.global_and_fixture_disabled() if capture else _nothing():
                    sys.stderr.write(f"\n[{worker}] {text}\n")
                    sys.stderr.flush()
                return
            if reporter is None:
                return
            with capture.global_and_fixture_disabled() if capture else _nothing():
                stream = sys.stdout
                stream.write(f"\r\x1b[2K{text}" if live else f"\n{text}")
                stream.write("\n" if live and final else "")
                stream.flush()

        report = option.steelyard_report
        return cls(
            settings,
            mode=option.steelyard_mode,
            baseline=option.steelyard_baseline,
            prompt=getattr(option, "steelyard_prompt", None),
            report=Path(report) if report else None,
            show=show,
            live=live,
            resume_id=getattr(option, "steelyard_resume", None),
            resume_errors=getattr(option, "steelyard_resume_errors", False),
        )

    # -- one gate ---------------------------------------------------------------------------------
    def run(
        self, task: Any, spec: dict[str, Any], default_name: str, target: str | None = None
    ) -> tuple[GateReport | None, GateFailed | None]:
        """A gate's report, and what to raise if it blocks; both None where the mode decides nothing.

        Args:
            task: The task, or a `Gate`.
            spec: Fields of the gate.
            default_name: The gate's name where it has none.
            target: What one gives to `steelyard gate` to run it, from the project's root.
        """
        gate = self._gate(task, spec, default_name)
        self.workspace.origin = self._origin(target)
        if self.mode == "plan":
            self.texts.append(plan_text(prepare(gate, self.workspace)))
            return None, None
        if self.mode == "run":
            bundle = run_only(gate, self.workspace)
            self.texts.append(
                f"{gate.label}: recorded {len(bundle.scores.rows)} rows as evidence {bundle.id}"
            )
            return None, None
        if self.mode == "bless":
            from steelyard.cli.bless import bless_gate

            text, outcome = bless_gate(gate, self.workspace, alias=self.baseline)
            self.workspace.reports.clear()  # its verdict only says that nothing was blessed before
            self.texts.append(text)
            self.outcomes.append(outcome)
            return None, None
        report = run_gate(gate, self.workspace)
        outcome = report.outcome
        self.outcomes.append(outcome)
        if outcome == "pass" or (outcome == "inconclusive" and self.settings.on_inconclusive == "warn"):
            return report, None
        sentence = to_terminal(report, colour=False, width=110)
        return report, GateFailed(sentence, verdict=report.verdict)

    def _origin(self, target: str | None) -> dict[str, str | None] | None:
        if target is None:
            return None
        lm = self.settings.lm
        return {
            "target": target, "mode": self.mode, "prompt": self.prompt, "baseline": self.baseline, "lm": lm
        }  # fmt: skip

    def _gate(self, task: Any, spec: dict[str, Any], default_name: str) -> Gate:
        if isinstance(task, Gate):
            gate = replace(task, **spec) if spec else task
        else:
            try:
                gate = Gate(task=task, **spec)
            except TypeError as error:
                raise _unknown_keyword(error, spec) from None
        if gate.name is None:
            gate = replace(gate, name=default_name)
        if self.prompt is not None and gate.prompt is not None:
            gate = replace(gate, prompt=self.prompt)
        if self.baseline is not None:
            require = [
                replace(r, baseline=self.baseline) if r.baseline is not None else r for r in gate.require
            ]
            gate = replace(gate, require=require)
        return gate

    # -- what people see --------------------------------------------------------------------------
    def _note(self, text: str) -> None:
        if self._show is not None:
            self._tell(f"steelyard: {text}", True)

    def _say(self, text: str, progress: Progress | None) -> None:
        if self._show is None:
            return
        now = monotonic()
        final = progress is not None and progress.done == progress.planned
        if progress is None:
            self._tell(f"steelyard: {text}", False)
            return
        if not final and now - self._last < (0.1 if self._live else 5.0):
            return
        self._last = now
        failed = f", {progress.failed} failed" if progress.failed else ""
        tokens = progress.usage.input_tokens + progress.usage.output_tokens
        line = f"steelyard: {text}  {progress.done}/{progress.planned} rows{failed}, {tokens:,} tokens"
        self._tell(line, final or not self._live)

    def _tell(self, text: str, final: bool) -> None:
        from steelyard.report.text import no_commands, visible

        if self._show is not None:
            self._show(
                no_commands(visible(text).replace("\n", " ⏎ ")), final
            )  # names of gates and datasets are anybody's text

    def summary(self, reporter: Any) -> None:
        """Write the summary and the report at the end of a pytest run."""
        reporter.section("steelyard", sep="=")
        for line in self.closing_text(colour=reporter.hasmarkup, width=reporter._screen_width):
            reporter.write_line(line)

    def closing_text(self, *, colour: bool, width: int) -> list[str]:
        """The lines that end a session: verdicts, where the report is, what to try next."""
        lines = [line for text in self.texts for line in text.splitlines()]
        if not self.workspace.reports and (self.mode != "gate" or self.outcomes):
            return lines
        session = self.workspace.session_report()
        lines += to_terminal(session, colour=colour, width=max(60, width)).splitlines()
        page = write_report(session, self.report_folder)
        lines += [
            "",
            f"report   {_relative(page)}",
            f"summary  {_relative(page.with_name('summary.md'))}  (for a pull request)",
            "runs     steelyard ui   (MLflow's own UI on the same store)",
        ]
        lines += [f"next     {hint}" for hint in self._hints()]
        return lines

    def _hints(self) -> list[str]:
        hints = [f"steelyard resume {evidence_id}" for evidence_id in self.workspace.unended.values()]
        for report in self.workspace.reports:
            candidate = report.verdict.candidate
            if candidate is None or candidate.name is None:
                continue
            moved = any(s != "identical" for s in report.baseline_source.values())
            if report.outcome == "pass" and moved and report.baseline_source:
                hints.append(f"steelyard prompts promote {candidate.name}")
            elif self.settings.baseline in report.unset:
                hints.append(
                    f"steelyard bless {self.workspace.evals_name}   "
                    f"(sets {candidate.name}@{self.settings.baseline} for the first time)"
                )
        if any(r.outcome in ("fail", "inconclusive") for r in self.workspace.reports):
            hints.append("open the report: what got worse, side by side")
        return list(dict.fromkeys(hints))

    @property
    def outcome(self) -> Outcome:
        """The worst outcome so far; none at all is unmeasurable."""
        return worst(tuple(self.outcomes))

    def close(self) -> None:
        """Stop the local model and close the store."""
        self.workspace.close()


def exit_code(session: EvalSession) -> int:
    """What the process returns for a session."""
    if session.errors:
        return 2
    if session.mode in ("plan", "run"):
        return 0
    outcome = session.outcome
    if outcome == "inconclusive" and session.settings.on_inconclusive == "warn":
        return 0
    return EXIT_CODES[outcome]


def _unknown_keyword(error: TypeError, spec: dict[str, Any]) -> InvalidValue:
    known = [f for f in Gate.__dataclass_fields__ if f != "task"]
    wrong = [k for k in spec if k not in known]
    if not wrong:
        return InvalidValue(f"the gate cannot be built: {error}", do=f"It takes {', '.join(known)}.")
    hint = did_you_mean(wrong[0], known, f"It takes {', '.join(known)}.")
    return InvalidValue(f"a gate has no {wrong[0]!r}", do=hint)


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
