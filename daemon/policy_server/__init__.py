"""A policy behind HTTP: for stations that run episodes themselves, and for AutoEval's clients."""
