"""Where datasets come from and go: files of examples, read strictly, written whole."""

from steelyard.data.jsonl import write_jsonl
from steelyard.data.leakage import NearDuplicate, near_duplicates
from steelyard.data.load import load_dataset, read_dataset

__all__ = ["NearDuplicate", "load_dataset", "near_duplicates", "read_dataset", "write_jsonl"]
