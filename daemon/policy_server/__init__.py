"""A policy behind HTTP: for stations that run episodes themselves, and for clients of AutoEval and OpenVLA."""
