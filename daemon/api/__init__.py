"""The REST API: one file per resource, problems in one place. No torch, no learning, no phases."""
