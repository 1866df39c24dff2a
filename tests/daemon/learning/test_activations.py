"""The tanh form of GELU: torch's numbers in float32, and close enough for what bfloat16 keeps."""

import pytest
import torch
import torch.nn.functional as F

from daemon.learning.activations import Gelu, gelu

EXTREMES = (-1e30, -100.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 100.0, 1e30)


def some_numbers() -> torch.Tensor:
    return torch.cat((torch.randn(5000) * 4, torch.tensor(EXTREMES)))


def test_gelu_is_torch_s_with_and_without_gradients():
    x = some_numbers()
    before, expected = x.clone(), F.gelu(x, approximate="tanh")
    with torch.no_grad():
        assert torch.allclose(gelu(x), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before), "what it was given stays as it was"
    assert torch.equal(gelu(x), expected)


def test_in_bfloat16_it_is_as_near_to_the_tanh_form_as_that_type_can_tell():
    x = some_numbers().bfloat16()
    expected = F.gelu(x.float(), approximate="tanh")
    assert torch.allclose(gelu(x).float(), expected, rtol=2**-7, atol=6e-4)
    with torch.no_grad():
        assert torch.equal(gelu(x), gelu(x.clone().requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_types_that_nothing_is_known_of_are_left_to_torch(dtype: torch.dtype):
    x = torch.linspace(-6, 6, 99, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(Gelu()(x), F.gelu(x, approximate="tanh"))


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 0.0), (torch.bfloat16, 0.02)])
def test_gelu_s_gradient_is_torch_s(dtype: torch.dtype, off: float):
    x, same = (torch.linspace(-6, 6, 99, dtype=dtype).requires_grad_() for _ in range(2))
    gelu(x).sum().backward()
    F.gelu(same, approximate="tanh").sum().backward()
    assert x.grad is not None
    assert same.grad is not None
    assert (x.grad - same.grad).abs().max() <= off


def test_large_and_small_numbers_come_out_as_a_rectifier_would_have_them():
    assert gelu(torch.tensor([-50.0, 0.0, 50.0])).tolist() == [0.0, 0.0, 50.0]
