"""Where datasets come from and go: files of examples, read strictly, written whole."""

from steelyard.data.jsonl import write_jsonl
from steelyard.data.load import load_dataset, read_dataset

__all__ = ["load_dataset", "read_dataset", "write_jsonl"]
