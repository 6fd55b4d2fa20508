"""The `steelyard` command."""
