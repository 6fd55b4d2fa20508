"""Prompts: files that people review, typed variables, safe rendering, identity by digest."""

from steelyard.prompts.load import load_prompt
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.variable import Variable

__all__ = ["Prompt", "Variable", "load_prompt"]
