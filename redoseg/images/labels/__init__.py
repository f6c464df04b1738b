"""Formats of labelling tools: from what was found in a photograph to their texts, and back for a later run."""
