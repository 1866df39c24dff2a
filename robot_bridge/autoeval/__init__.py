"""AutoEval: the robot cell that asks our policy itself, and everything that deals with it."""
