"""Judges: the last frames of rollouts and their instructions in, verdicts out."""
