"""The shared tracking and registry core. The only room that imports mlflow."""

from steelyard.store.opening import open_store, ui_command
from steelyard.store.protocol import EvidenceInfo, Kind, LedgerEntry, RunRecord, Store, Version

__all__ = [
    "EvidenceInfo",
    "Kind",
    "LedgerEntry",
    "RunRecord",
    "Store",
    "Version",
    "open_store",
    "ui_command",
]
