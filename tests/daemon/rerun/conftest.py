"""The lab of the phases: a toy station, tiny models, one iteration."""

from tests.daemon.phases.conftest import lab, model_files, toy_station

__all__ = ["lab", "model_files", "toy_station"]
