"""Environments: aliases in an order, and promotion from one to the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from steelyard.cli.prompts import prompts
from steelyard.core.clock import stamp
from steelyard.core.errors import InvalidFile, InvalidValue, Refused
from steelyard.core.settings import load_settings
from steelyard.gates.policy import Policy, at_least, not_worse_than
from steelyard.prompts import load_prompt
from steelyard.prompts.push import register
from steelyard.release.environments import following, in_order, skipped
from steelyard.store import EvidenceInfo, LedgerEntry, RunRecord
from steelyard.store.memory import MemoryStore
from steelyard.store.opening import STORES

ORDER = ("dev", "staging", "production")
WHEN = "2026-01-01T00:00:00.000Z"
_CURRENT: list[MemoryStore] = []
STORES.add("environmenttest", lambda: lambda _: _CURRENT[-1])


class Team:
    """A project with three environments, a store, and gates whose verdict the test chooses."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, MemoryStore()
        (root / "pyproject.toml").write_text(
            '[tool.steelyard]\ntracking_uri = "environmenttest:"\n'
            'environments = ["dev", "staging", "production"]\n'
        )
        (root / "prompts").mkdir()
        self.settings = load_settings(root, environ={})
        self.count = 0

    def version(self, text: str) -> str:
        (self.root / "prompts" / "p.yaml").write_text(f"template: {text}\n")
        return register(load_prompt("p", self.settings), self.store).digest

    def set(self, alias: str, digest: str) -> None:
        self.store.move_alias(
            LedgerEntry(
                kind="prompt",
                name="p",
                alias=alias,
                before=self.at(alias),
                after=digest,
                action="bless",
                who="me",
                when=stamp(),
                evidence=(self.measured(alias, digest),),
            )
        )

    def measured(self, alias: str, digest: str, outcome: str = "pass") -> str:
        policy = Policy(requirements=(at_least("m", 0.6), not_worse_than(alias, "m", margin=0.05)))
        self.count += 1
        folder = self.root / "bundle"
        folder.mkdir(exist_ok=True)
        info = EvidenceInfo(
            id=f"e-{self.count:03d}",
            digest="x",
            gate=f"for-{alias}",
            kind="prompt",
            name="p",
            subject=digest,
            candidate="c",
            yardstick="y",
            values="v",
            outcome=outcome,
            policy=policy.digest,
            baselines={alias: self.at(alias)},
            metrics={"m": 0.7},
            created=f"2026-01-02T00:00:00.{self.count:03d}Z",
        )
        run = RunRecord(experiment="e", name="r", started=WHEN, ended=WHEN)
        return self.store.add_evidence(info, folder, run).id

    def at(self, alias: str) -> str | None:
        return self.store.aliases("prompt", "p").get(alias)

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(prompts, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def team(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    team = Team(tmp_path)
    _CURRENT.append(team.store)
    yield team
    _CURRENT.pop()


def test_a_version_goes_through_the_environments_by_evidence(team):
    one = team.version("one")
    for alias in ORDER:
        team.set(alias, one)
    two = team.version("two")
    with pytest.raises(Refused, match=r"skips 'staging', which is at .*dev → staging → production.*--force"):
        team.run("promote", "p")
    team.measured("production", two)  # evidence does not stand in for the way
    with pytest.raises(Refused, match="skips 'staging'"):
        team.run("promote", "p")
    with pytest.raises(Refused, match="gate 'for-dev' has not decided"):
        team.run("promote", "p", "--alias", "dev")
    team.measured("dev", two)
    team.run("promote", "p", "--alias", "dev")
    with pytest.raises(Refused, match="skips 'staging'"):
        team.run("promote", "p", "--from", "dev", "--to", "production")
    with pytest.raises(Refused, match="gate 'for-staging' has not decided"):  # the rules of evidence stay
        team.run("promote", "p", "--from", "dev")
    team.measured("staging", two)
    team.run("promote", "p", "--from", "dev")  # to the one that follows
    assert (team.at("dev"), team.at("staging"), team.at("production")) == (two, two, one)
    team.run("promote", "p", "--from", "staging", "--to", "production")
    assert team.at("production") == two
    last = json.loads(team.run("history", "p", "--alias", "production", "--json"))[-1]
    assert (last["action"], last["reason"], last["forced"]) == ("promote", "from staging", False)


def test_skipping_is_forced_with_a_reason_only(team):
    one, two = team.version("one"), team.version("two")
    for alias in ORDER:
        team.set(alias, one)
    with pytest.raises(InvalidValue, match="needs a reason"):
        team.run("promote", "p", "--alias", "production", "--force")
    team.set("dev", two)
    with pytest.raises(InvalidValue, match="needs a reason"):  # where it comes from is no reason
        team.run("promote", "p", "--from", "dev", "--to", "production", "--force")
    team.run("promote", "p", "--from", "dev", "--to", "production", "--force", "--reason", "fire")
    assert team.at("production") == two
    last = json.loads(team.run("history", "p", "--alias", "production", "--json"))[-1]
    assert (last["forced"], last["reason"]) == (True, "fire")


def test_what_production_has_may_come_back_to_staging(team):
    one, two = team.version("one"), team.version("two")
    for alias, digest in zip(ORDER, (one, one, two), strict=True):
        team.set(alias, digest)
    team.measured("staging", two)
    team.run("promote", "p", "--from", "production", "--to", "staging")
    assert team.at("staging") == two


def test_other_aliases_know_no_order(team):
    one, two = team.version("one"), team.version("two")
    team.set("canary", one)
    team.measured("canary", two)
    team.run("promote", "p", "--alias", "canary")
    assert team.at("canary") == two


def test_list_shows_them_in_their_order(team):
    one = team.version("one")
    team.set("production", one)
    team.set("anchor", one)
    short = one[7:19]
    assert f"dev → -, staging → -, production → 1 ({short}), anchor → 1 ({short})" in team.run("list")
    listed = json.loads(team.run("list", "--json"))[0]["aliases"]
    assert list(listed) == [*ORDER, "anchor"]
    assert listed["dev"] == {"digest": None, "version": None}


def test_the_command_is_told_once_where_to(team):
    for arguments, words in (
        (("--from", "dev", "--to", "staging", "--alias", "production"), "Name the alias to move once"),
        (("--from", "production"), "nothing follows 'production'"),
        (("--from", "canary"), "nothing follows 'canary'"),
        (("--from", "3", "--to", "production"), "is no alias"),
        (("--from", "dev", "--to", "Production"), "is no valid alias"),
    ):
        team.version("one")
        with pytest.raises(InvalidValue, match=words):
            team.run("promote", "p", *arguments)


def test_settings_hold_the_order(tmp_path):
    file = tmp_path / "pyproject.toml"
    for text, words in (
        ('"dev"', "wrong type"),
        ("[1]", "wrong type"),
        ('["dev", "dev"]', "twice"),
        ('["Dev"]', "no valid alias"),
        ('["working"]', "no valid alias"),
    ):
        file.write_text(f"[tool.steelyard]\nenvironments = {text}\n")
        with pytest.raises((InvalidFile, InvalidValue), match=words):
            load_settings(tmp_path, environ={})
    file.write_text("[tool.steelyard]\n")
    assert load_settings(tmp_path, environ={"STEELYARD_ENVIRONMENTS": "a, b"}).environments == ("a", "b")
    assert load_settings(tmp_path, environ={}).environments == ()


@given(
    order=st.lists(st.sampled_from("abcde"), unique=True, max_size=5),
    current=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("XY")),
    alias=st.sampled_from("abcdef"),
)
def test_the_rule(order, current, alias):
    missing = skipped("X", alias, current, order)
    if alias not in order or alias == order[0]:
        assert missing is None
    elif missing is not None:
        assert following(missing, order) == alias
        assert current.get(missing) != "X"
    else:
        at = order.index(alias)
        assert "X" in [current.get(e) for e in order[at - 1 : at] + order[at + 1 :]]
    shown = in_order({*order, *current}, order)
    assert shown[: len(order)] == order
    assert shown[len(order) :] == sorted(set(current) - set(order))
