"""Doing the learning phases of an iteration again, from its manifest, beside the store."""
