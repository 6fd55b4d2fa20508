"""Statistics and the verdict. Pure: values in, verdict out.

`policy` and `verdict` are plain values; the names below them load NumPy and SciPy only when they are called.
"""

from steelyard.gates.checks import demand_problem
from steelyard.gates.decide import decide
from steelyard.gates.explore import Change, Changes, Slice, changed_most, discordance, slices
from steelyard.gates.plan import Plan, PlannedRequirement, plan
from steelyard.gates.policy import Policy, Requirement, at_least, at_most, not_worse_than
from steelyard.gates.sentences import GUARANTEE, guarantee
from steelyard.gates.verdict import Finding, Outcome, Verdict

__all__ = [
    "GUARANTEE",
    "Change",
    "Changes",
    "Finding",
    "Outcome",
    "Plan",
    "PlannedRequirement",
    "Policy",
    "Requirement",
    "Slice",
    "Verdict",
    "at_least",
    "at_most",
    "changed_most",
    "decide",
    "demand_problem",
    "discordance",
    "guarantee",
    "not_worse_than",
    "plan",
    "slices",
]
