"""What a worker says of the machine that it computes on: a name."""

import pytest
import torch

from daemon import worker
from daemon.code_version import CPU_FACTS, processor_name


def test_the_processor_is_named_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert worker.device_name() == processor_name(CPU_FACTS) != ""


def test_the_accelerator_is_named_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA H200, asked of {device.type}")
    assert worker.device_name() == "NVIDIA H200, asked of cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator")
def test_the_real_accelerator_has_a_name():
    assert worker.device_name() == torch.cuda.get_device_name()


def test_a_worker_is_started_with_it(monkeypatch):
    given = {}
    monkeypatch.setattr(worker, "run_worker_process", lambda *words, **named: given.update(named) or 0)
    assert worker.main([]) == 0
    assert given["device"] is worker.device_name
