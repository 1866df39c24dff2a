"""Precision is chosen by measuring, and autocast lowers products only where it is entered."""

import pytest
import torch
from torch import nn

from daemon.learning.devices import autocast, choose_device, choose_precision, precision_of

CPU = torch.device("cpu")


def test_the_device_is_the_accelerator_only_where_there_is_one():
    assert (choose_device().type == "cuda") is torch.cuda.is_available()


def test_precision_is_probed_once_and_is_one_of_two():
    assert choose_precision("cpu") in {torch.bfloat16, torch.float32}
    assert choose_precision("cpu") is choose_precision("cpu")


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_what_was_done_in_a_precision_can_be_done_in_it_again(precision: torch.dtype):
    before = choose_precision("cpu")
    with pytest.raises(ZeroDivisionError), precision_of("cpu", precision):
        assert choose_precision("cpu") is precision
        _ = 1 / 0
    assert choose_precision("cpu") is before


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_products_inside_have_the_precision_asked_for_and_weights_keep_theirs(precision: torch.dtype):
    layer = nn.Linear(4, 4)
    with autocast(CPU, precision):
        inside = layer(torch.ones(1, 4))
    assert inside.dtype == precision
    assert layer(torch.ones(1, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_a_step_outside_of_autocast_is_seen_by_the_next_forward():
    """The trap this module warns of, from its safe side."""
    layer = nn.Linear(1, 1, bias=False)
    outputs = []
    for _ in range(2):
        with autocast(CPU, torch.bfloat16):
            loss = layer(torch.ones(1, 1)).sum()
        outputs.append(loss.item())
        loss.backward()
        with torch.no_grad():
            layer.weight += 1
    assert outputs[1] == pytest.approx(outputs[0] + 1, abs=0.02)
