"""Where datasets come from and go: files of examples, read strictly, written whole."""

from steelyard.data.huggingface import from_huggingface, save_huggingface, to_huggingface
from steelyard.data.jsonl import write_jsonl
from steelyard.data.langsmith import pull_langsmith, push_langsmith
from steelyard.data.leakage import NearDuplicate, near_duplicates
from steelyard.data.load import load_dataset, read_dataset

__all__ = [
    "NearDuplicate",
    "from_huggingface",
    "load_dataset",
    "near_duplicates",
    "pull_langsmith",
    "push_langsmith",
    "read_dataset",
    "save_huggingface",
    "to_huggingface",
    "write_jsonl",
]
