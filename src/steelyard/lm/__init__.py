"""Who answers: local and remote language models, record and replay, cost."""

from steelyard.lm.budget import Budget
from steelyard.lm.failures import failure_of
from steelyard.lm.local_lm import LocalLM
from steelyard.lm.openai_lm import OpenAILM
from steelyard.lm.opening import open_lm
from steelyard.lm.protocol import LM
from steelyard.lm.replay import call_scope, replaying
from steelyard.lm.weights import fetch_smollm2

__all__ = [
    "LM",
    "Budget",
    "LocalLM",
    "OpenAILM",
    "call_scope",
    "failure_of",
    "fetch_smollm2",
    "open_lm",
    "replaying",
]
