"""Blocks that at least two networks share, one file a topic."""
