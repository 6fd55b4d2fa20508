"""What goes live: promotion by evidence, rollback, the first blessing, the lock."""

from steelyard.release.bless import bless, require
from steelyard.release.promote import promote
from steelyard.release.rollback import history, rollback
from steelyard.release.sync import SyncReport, sync, sync_check

__all__ = ["SyncReport", "bless", "history", "promote", "require", "rollback", "sync", "sync_check"]
