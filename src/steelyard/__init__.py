"""Steelyard: versioned prompts, honest gates, evidence before promotion."""
