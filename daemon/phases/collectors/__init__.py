"""The ways in which real episodes come about: step by step, by the station's own loop, by AutoEval's jobs."""
