"""Aliases that move, on a real store with real evidence bundles: promote, roll back, bless, sync."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.errors import Conflict, InvalidValue, NotFound, Refused, SteelyardError
from steelyard.core.results import Identity
from steelyard.core.score import Metric
from steelyard.core.settings import Settings, load_settings
from steelyard.evidence.bundle import EvidenceWriter, new_evidence_id
from steelyard.gates.policy import Policy, at_least, not_worse_than
from steelyard.prompts import Prompt, load_prompt
from steelyard.prompts.lock import read_lock
from steelyard.release import bless, history, promote, require, rollback, sync, sync_check
from steelyard.store import EvidenceInfo, LedgerEntry, RunRecord
from steelyard.store.memory import MemoryStore

POLICY = Policy(
    requirements=(at_least("exact_match", 0.6), not_worse_than("production", "exact_match", margin=0.05))
)
CHANGED = Policy(
    requirements=(at_least("exact_match", 0.1), not_worse_than("production", "exact_match", margin=0.5))
)
WHEN = "2026-01-01T00:00:00.000Z"


class Project:
    """A checkout, a store, and gates whose outcome the test chooses."""

    def __init__(self, root: Path) -> None:
        (root / "pyproject.toml").write_text("[tool.steelyard]\n")
        (root / "prompts").mkdir()
        self.settings: Settings = load_settings(root, environ={})
        self.store = MemoryStore()
        self.count = 0

    def write(self, text: str, name: str = "p") -> Prompt:
        (self.settings.prompts / f"{name}.yaml").write_text(f"template: {text}\n")
        return load_prompt(name, self.settings)

    def gate(
        self,
        outcome: str = "pass",
        *,
        gate: str = "g",
        policy: Policy = POLICY,
        name: str = "p",
        subject: str | None = None,
    ) -> EvidenceInfo:
        """Evidence of the working file (or a subject) with an outcome, against what is live now."""
        self.count += 1
        identity = Identity(
            name=name,
            subject=subject or load_prompt(name, self.settings).digest,
            task="sha256:task",
            lm="sha256:lm",
            dataset="sha256:data",
            dataset_name="d",
            evaluators={"exact_match": "sha256:em"},
            metrics=(Metric(name="exact_match"),),
        )
        created = f"2026-01-02T00:{self.count:02d}:00.000Z"
        baselines = {"production": self.live(name)}
        writer = EvidenceWriter(
            self.settings.home / "made" / new_evidence_id(),
            {
                "gate": gate,
                "identity": identity.to_json(),
                "planned": [],
                "policy": policy.to_json(),
                "advisory": [],
                "provenance": {"created": created},
            },
        )
        bundle = writer.seal(None, baselines=baselines, look=1, reasons=[], values="v")
        info = EvidenceInfo(
            id=bundle.id,
            digest=bundle.seal_digest,
            gate=gate,
            kind="prompt",
            name=name,
            subject=identity.subject,
            candidate=identity.candidate,
            yardstick=identity.yardstick,
            values="v",
            outcome=outcome,
            policy=policy.digest,
            baselines=baselines,
            metrics={"exact_match": 0.7},
            created=created,
        )
        return self.store.add_evidence(
            info, bundle.folder, RunRecord(experiment="e", name="r", started=WHEN, ended=WHEN)
        )

    def live(self, name: str = "p") -> str | None:
        return self.store.aliases("prompt", name).get("production")

    def blessed(self, text: str = "one") -> Prompt:
        prompt = self.write(text)
        bless(self.store, self.settings, self.gate("unmeasurable"), floors_pass=True, policy=POLICY)
        return prompt

    def promote(self, name: str = "p", **more: Any) -> LedgerEntry:
        return promote(self.store, self.settings, name, **more)

    @property
    def lock(self) -> Any:
        return read_lock(self.settings.lock)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def refused(call: Callable[[], Any], *said: str) -> None:
    with pytest.raises(Refused) as caught:
        call()
    for text in said:
        assert text in str(caught.value)


# -- bless ------------------------------------------------------------------------------------------
def test_bless_sets_an_absent_alias_and_guards_it(project: Project) -> None:
    prompt = project.blessed()
    (entry,) = history(project.store, project.settings, "p")
    assert (entry.action, entry.after, entry.before, entry.policy) == (
        "bless",
        prompt.digest,
        None,
        POLICY.digest,
    )
    locked = project.lock.alias("p", "production")
    assert locked.digest == prompt.digest
    assert locked.gates["g"].policy == POLICY.digest
    assert locked.gates["g"].requirements == tuple(map(str, POLICY.requirements))
    assert project.lock.identity("p", "production", prompt.digest, "g") == {
        "task": "sha256:task",
        "lm": "sha256:lm",
        "dataset": "sha256:data",
        "evaluators": {"exact_match": "sha256:em"},
    }
    assert project.lock.versions["p"][prompt.digest] == prompt.content()


def test_bless_only_sets_what_is_absent_and_passes_its_floors(project: Project) -> None:
    project.write("one")
    evidence = project.gate("unmeasurable")
    call = lambda **more: bless(project.store, project.settings, evidence, **({"floors_pass": True} | more))  # noqa: E731
    refused(lambda: call(floors_pass=False), "its floors do not pass")
    refused(
        lambda: bless(project.store, project.settings, project.gate("fail"), floors_pass=True), "verdict fail"
    )
    refused(lambda: call(policy=CHANGED), "its policy was")
    assert project.live() is None
    call()
    project.write("two")
    refused(
        lambda: bless(project.store, project.settings, project.gate(), floors_pass=True),
        "stands at",
        "steelyard prompts promote p",
    )


def test_bless_refuses_a_file_that_changed_since(project: Project) -> None:
    project.write("one")
    evidence = project.gate("unmeasurable")
    project.write("two")
    refused(
        lambda: bless(project.store, project.settings, evidence, floors_pass=True), "the file has changed"
    )


def test_a_second_gate_blesses_the_same_version_by_guarding_it_too(project: Project) -> None:
    project.blessed()
    bless(project.store, project.settings, project.gate("pass", gate="h", policy=CHANGED), floors_pass=True)
    locked = project.lock.alias("p", "production")
    assert set(locked.gates) == {"g", "h"}
    assert [d.gate for d in locked.evidence] == ["g", "h"]
    assert len(history(project.store, project.settings, "p")) == 1


# -- promote ----------------------------------------------------------------------------------------
def test_evidence_moves_the_alias(project: Project) -> None:
    one = project.blessed()
    two = project.write("two")
    refused(project.promote, "gate 'g' has not decided", "steelyard gate")
    evidence = project.gate()
    entry = project.promote()
    assert (entry.before, entry.after, entry.evidence, entry.verdict) == (
        one.digest,
        two.digest,
        (evidence.id,),
        "pass",
    )
    assert (entry.policy, entry.forced) == (POLICY.digest, False)
    assert project.live() == two.digest
    assert project.lock.alias("p", "production").digest == two.digest
    assert [d.id for d in project.lock.alias("p", "production").evidence] == [evidence.id]
    assert project.lock.alias("p", "production").gates["g"].policy == POLICY.digest
    assert load_prompt("p@production", project.settings, project.store).digest == two.digest
    refused(project.promote, "it is there already")


def test_nothing_less_moves_it(project: Project) -> None:
    one = project.blessed()
    project.write("two")
    stale = project.gate()  # passed against 'one'
    for outcome in ("fail", "inconclusive", "unmeasurable"):
        project.gate(outcome)
        refused(project.promote, f"is {outcome}")
    assert project.live() == one.digest
    project.gate("pass", policy=CHANGED)
    refused(project.promote, "is required", "steelyard prompts require p GATE")
    project.gate()
    project.write("three")
    refused(project.promote, "has not decided")
    project.gate()
    project.promote()
    # what passed against 'one' does not pass against 'three'
    refused(lambda: project.promote(to=stale.subject), "compared with", "steelyard gate")


def test_without_a_live_version_or_a_required_gate_nothing_is_promoted(project: Project) -> None:
    project.write("one")
    project.gate()
    refused(project.promote, "is absent", "steelyard bless")
    project.promote(force=True, reason="first")
    project.write("two")
    project.gate()
    refused(project.promote, "no gate is required", "steelyard prompts require p GATE")
    require(project.store, project.settings, "p", "g")
    assert project.promote().verdict == "pass"


def test_force_needs_a_reason_and_stands_in_the_ledger(project: Project) -> None:
    one = project.blessed()
    two = project.write("two")
    failed = project.gate("fail")
    with pytest.raises(InvalidValue, match="needs a reason"):
        project.promote(force=True)
    with pytest.raises(InvalidValue, match="needs a reason"):
        project.promote(force=True, reason="  ")
    project.promote(force=True, reason="fire")
    entry = history(project.store, project.settings, "p")[-1]
    assert (entry.forced, entry.reason, entry.verdict, entry.evidence) == (True, "fire", "fail", (failed.id,))
    assert (entry.before, entry.after) == (one.digest, two.digest)
    assert set(project.lock.alias("p", "production").gates) == {"g"}  # still guarded


def test_emptying_the_lock_lifts_no_guard(project: Project) -> None:
    project.blessed()
    project.settings.lock.unlink()
    project.write("two")
    refused(project.promote, "gate 'g' has not decided")
    project.gate(policy=CHANGED)
    refused(project.promote, "is required")
    project.gate()
    project.promote()
    assert project.lock.alias("p", "production").gates["g"].requirements == tuple(
        map(str, POLICY.requirements)
    )


def test_several_required_gates_each_need_their_own(project: Project) -> None:
    project.blessed()
    bless(project.store, project.settings, project.gate("pass", gate="h", policy=CHANGED), floors_pass=True)
    project.write("two")
    project.gate()
    refused(project.promote, "gate 'h' has not decided")
    project.gate(gate="h", policy=CHANGED)
    assert len(project.promote().evidence) == 2


def test_a_changed_policy_is_accepted_in_the_lock_first(project: Project) -> None:
    project.blessed()
    project.write("two")
    project.gate(policy=CHANGED)
    rule = require(project.store, project.settings, "p", "g")
    assert rule.policy == CHANGED.digest == project.lock.alias("p", "production").gates["g"].policy
    assert project.promote().policy == CHANGED.digest
    with pytest.raises(NotFound, match="did you mean"):
        require(project.store, project.settings, "p", "gg")


def test_targets(project: Project) -> None:
    project.blessed()
    two = project.write("two")
    project.gate()
    project.promote(alias="staging", force=True, reason="try it")
    assert project.store.aliases("prompt", "p")["staging"] == two.digest
    project.write("three")
    project.promote(to="p@staging")
    assert project.live() == two.digest
    with pytest.raises(InvalidValue, match="is no version of 'p'"):
        project.promote(to="q@1")
    with pytest.raises(NotFound):
        project.promote(to="p@9")
    with pytest.raises(InvalidValue):
        project.promote(name="../p")
    with pytest.raises(InvalidValue):
        project.promote(alias="latest")


def test_of_two_promoters_exactly_one_wins(project: Project) -> None:
    project.blessed()
    subjects = []
    for text in ("two", "three"):
        subjects.append(project.write(text).digest)
        project.store.register(
            "prompt", "p", digest=subjects[-1], content=load_prompt("p", project.settings).content()
        )
        project.gate()
    barrier = threading.Barrier(2)
    results: list[object] = []

    def run(subject: str) -> None:
        barrier.wait()
        try:
            results.append(project.promote(to=subject))
        except SteelyardError as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(s,)) for s in subjects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [r for r in results if isinstance(r, LedgerEntry)]
    assert len(won) == 1
    assert all(isinstance(r, (Conflict, Refused)) for r in results if r not in won)
    assert project.live() == won[0].after == project.lock.alias("p", "production").digest


# -- roll back --------------------------------------------------------------------------------------
def test_rolling_back_goes_one_step_further_each_time(project: Project) -> None:
    one = project.blessed()
    digests = [one.digest]
    for text in ("two", "three"):
        digests.append(project.write(text).digest)
        project.gate()
        project.promote()
    back = lambda **more: rollback(project.store, project.settings, "p", **more)  # noqa: E731
    assert back(reason="worse").after == digests[1]
    assert back().after == digests[0]
    assert project.lock.alias("p", "production").digest == digests[0]
    assert project.lock.identity("p", "production", digests[0], "g") is not None
    refused(back, "it has stood nowhere before")
    assert back(to=digests[2]).after == digests[2]
    refused(lambda: back(to=digests[2]), "is there now")
    project.write("never")
    refused(lambda: back(to="p@working"), "never stood there")
    actions = [e.action for e in history(project.store, project.settings, "p")]
    assert actions == ["bless", "promote", "promote", "rollback", "rollback", "rollback"]
    with pytest.raises(NotFound, match="alias"):
        back(alias="staging")


# -- sync -------------------------------------------------------------------------------------------
def test_sync_pushes_files_and_says_what_differs(project: Project) -> None:
    project.write("one")
    assert sync_check(project.store, project.settings).lines() == ["p: the working file is not in the store"]
    pushed, moved = sync(project.store, project.settings)
    assert ([p.new for p in pushed], moved) == ([True], [])
    assert not sync_check(project.store, project.settings)
    (project.settings.prompts / "bad.yaml").write_text("template: '{{ a.b }}'")
    project.write("two")
    with pytest.raises(SteelyardError, match=r"bad.yaml:1"):
        sync(project.store, project.settings)
    assert len(project.store.versions("prompt", "p")) == 1  # all or nothing


def test_a_clean_clone_with_an_empty_store_is_guarded_as_before(project: Project) -> None:
    one = project.blessed()
    project.store = MemoryStore()
    project.write("two")
    assert load_prompt("p@production", project.settings, project.store).digest == one.digest
    refused(project.promote, "gate 'g' has not decided")
    project.gate()
    project.promote()
    assert [e.action for e in history(project.store, project.settings, "p")] == ["lock", "promote"]


def test_sync_follows_whoever_is_ahead(project: Project) -> None:
    project.blessed()
    first_lock = project.settings.lock.read_bytes()
    two = project.write("two")
    project.gate()
    project.promote()
    second_lock = project.settings.lock.read_bytes()

    project.settings.lock.write_bytes(first_lock)  # a store that moved on: the lock is written anew
    assert "the store is ahead" in sync_check(project.store, project.settings).lines()[0]
    sync(project.store, project.settings)
    assert project.lock.alias("p", "production").digest == two.digest
    assert project.settings.lock.read_bytes() == second_lock
    assert not sync_check(project.store, project.settings)

    other = MemoryStore()  # a colleague's store, still at the first lock, pulls the second
    project.settings.lock.write_bytes(first_lock)
    sync(other, project.settings)
    project.settings.lock.write_bytes(second_lock)
    assert "the lock is ahead" in sync_check(other, project.settings).lines()[0]
    sync(other, project.settings)
    assert other.aliases("prompt", "p")["production"] == two.digest
    assert [e.action for e in other.history("prompt", "p")] == ["lock", "lock"]


def test_a_crash_between_ledger_and_lock_is_seen_and_mended(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.blessed()
    two = project.write("two")
    project.gate()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(sys.modules["steelyard.release.promote"], "relock", crash)
        with pytest.raises(KeyboardInterrupt):
            project.promote()
    assert project.live() == two.digest
    assert sync_check(project.store, project.settings)
    sync(project.store, project.settings)
    assert project.lock.alias("p", "production").digest == two.digest
    assert project.lock.identity("p", "production", two.digest, "g") is not None
