"""Checkpoints as folders that Hugging Face's libraries read, and back."""
