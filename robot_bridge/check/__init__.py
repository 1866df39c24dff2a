"""The bring-up check of a robot: a list of what must be well before it works, and the report of it."""
