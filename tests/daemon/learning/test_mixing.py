"""Weights between those of before a finetuning and the learned ones."""

import torch

from daemon.learning.mixing import mix, weights_of


def a_layer(weight: float, bias: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, weight)
    torch.nn.init.constant_(layer.bias, bias)
    return layer


def test_a_share_is_taken_on_of_every_weight():
    before, learned = a_layer(1.0, 0.0), a_layer(3.0, -2.0)
    mix(learned, weights_of(before), share=0.25)
    assert (learned.weight.item(), learned.bias.item()) == (1.5, -0.5)


def test_all_is_what_was_learned_and_none_is_what_was_before():
    for share, expected in ((1.0, (3.0, -2.0)), (0.0, (1.0, 0.0))):
        learned = a_layer(3.0, -2.0)
        mix(learned, weights_of(a_layer(1.0, 0.0)), share=share)
        assert (learned.weight.item(), learned.bias.item()) == expected


def test_weights_are_copied_so_that_training_does_not_move_them():
    layer = a_layer(1.0, 0.0)
    kept = weights_of(layer)
    torch.nn.init.constant_(layer.weight, 9.0)
    assert kept["weight"].item() == 1
    assert not any(weight.requires_grad for weight in kept.values())
