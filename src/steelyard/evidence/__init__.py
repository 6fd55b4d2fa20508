"""What a run leaves behind: the evidence bundle, written row by row and verified by checksum."""

from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter

__all__ = ["EvidenceBundle", "EvidenceWriter"]
