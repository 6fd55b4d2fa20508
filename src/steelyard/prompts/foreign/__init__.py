"""Prompts of other projects, read as data and written as data: one file a format."""

from steelyard.prompts.foreign.format import FORMATS, Exported, Format, Imported, detect

__all__ = ["FORMATS", "Exported", "Format", "Imported", "detect"]
