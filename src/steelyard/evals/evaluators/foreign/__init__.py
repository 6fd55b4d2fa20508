"""Evaluators of other packages, taken as they are: one adapter a package."""

from steelyard.evals.evaluators.foreign.adapt import ACCEPTED, adapt, recognised
from steelyard.evals.evaluators.foreign.part import ForeignEvaluator, Part, Reading, Seen

__all__ = ["ACCEPTED", "ForeignEvaluator", "Part", "Reading", "Seen", "adapt", "recognised"]
