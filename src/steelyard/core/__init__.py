"""Values: refs, digests, examples, scores, settings, errors. Imports the standard library only."""
