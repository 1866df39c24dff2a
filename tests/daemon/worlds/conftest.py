"""The fixtures of the phases' tests serve here too: tiny models in a store."""

from tests.daemon.phases.conftest import lab, model_files, toy_station

__all__ = ["lab", "model_files", "toy_station"]
