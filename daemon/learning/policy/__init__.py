"""Policies: an image and an instruction in, a chunk of actions with their log-probabilities out."""
