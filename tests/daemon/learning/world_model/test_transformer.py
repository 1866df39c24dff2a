"""The transformer is the documented one, causal in time, and starts as a function that says nothing.

`Reference` below is a second, slow reading of the architecture's description: interleaved rotary pairs,
loops over frames and places. It shares no code with the product.
"""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.world_model.transformer import WorldModelTransformer

SEED = 3


def inputs(frames: int = 4, *, batch: int = 2, channels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(batch, frames, channels, 8, 4, generator=generator)
    levels = torch.randint(1000, (batch, frames), generator=generator)
    return latents, levels, torch.randn(batch, frames, 10, generator=generator)


class Reference:
    """The forward pass of one window, by the book and from the checkpoint's names alone."""

    def __init__(self, model: WorldModelTransformer) -> None:
        self.state, self.heads, self.layers = model.state_dict(), model.config.heads, model.config.layers
        self.patch, self.rotary = model.config.patch, model.config.rotary

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def condition(self, level: int, action: Tensor) -> Tensor:
        angles = [level * 10_000 ** (-i / 128) for i in range(128)]
        waves = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
        hidden = F.silu(self.linear("timestep_mlp.0", waves))
        return self.linear("timestep_mlp.2", hidden) + self.linear("action_embedder", action)

    def turned(self, x: Tensor, angles: list[float]) -> Tensor:
        out = x.clone()
        for i, angle in enumerate(angles):
            a, b = x[2 * i], x[2 * i + 1]
            out[2 * i] = a * math.cos(angle) - b * math.sin(angle)
            out[2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def attend(
        self, name: str, tokens: list[Tensor], angles: list[list[float]], *, causal: bool
    ) -> list[Tensor]:
        dim = len(tokens[0])
        width = dim // self.heads
        qkv = [self.linear(f"{name}.qkv_proj", token) for token in tokens]
        mixed = [torch.zeros(dim) for _ in tokens]
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = ([row[i * dim : (i + 1) * dim][part] for row in qkv] for i in range(3))
            q = [self.turned(row, a) for row, a in zip(q, angles, strict=True)]
            k = [self.turned(row, a) for row, a in zip(k, angles, strict=True)]
            for i in range(len(tokens)):
                seen = i + 1 if causal else len(tokens)
                scores = torch.stack([q[i] @ k[j] / math.sqrt(width) for j in range(seen)]).softmax(0)
                mixed[i][part] = sum(s * v[j] for j, s in enumerate(scores))
        return [self.linear(f"{name}.out_proj", row) for row in mixed]

    def places(self, count: int, pairs: int) -> list[list[float]]:
        """Angles of every place on one side of a frame."""
        if self.rotary == "pixel":
            rates = [math.pi * (1 + 127 * i / (pairs - 1)) for i in range(pairs)]
            return [[(2 * at / (count - 1) - 1) * rate for rate in rates] for at in range(count)]
        return [[at * 10_000 ** (-i / pairs) for i in range(pairs)] for at in range(count)]

    def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        normal = (x - x.mean()) / (x.var(unbiased=False) + 1e-6).sqrt()
        return normal * (1 + scale) + shift

    def branch(
        self, name: str, x: list[list[Tensor]], conditions: list[Tensor], *, spatial: tuple[int, int] | None
    ):
        six = [self.linear(f"{name}.adaLN_modulation.1", F.silu(c)).chunk(6) for c in conditions]
        ready = [[self.modulate(t, six[f][0], six[f][1]) for t in row] for f, row in enumerate(x)]
        width = len(x[0][0]) // self.heads
        if spatial:
            down, along = (self.places(count, width // 4) for count in spatial)
            angles = [row + column for row in down for column in along]
            mixed = [self.attend(f"{name}.attn", row, angles, causal=False) for row in ready]
        else:
            half = width // 2
            angles = [[f * 10_000 ** (-i / half) for i in range(half)] for f in range(len(x))]
            columns = [
                self.attend(f"{name}.attn", [row[s] for row in ready], angles, causal=True)
                for s in range(len(x[0]))
            ]
            mixed = [[column[f] for column in columns] for f in range(len(x))]
        x = [[t + six[f][2] * m for t, m in zip(row, mixed[f], strict=True)] for f, row in enumerate(x)]
        out = []
        for f, row in enumerate(x):
            hidden = [self.linear(f"{name}.ffwd.0", self.modulate(t, six[f][3], six[f][4])) for t in row]
            fed = [self.linear(f"{name}.ffwd.2", F.gelu(h, approximate="tanh")) for h in hidden]
            out.append([t + six[f][5] * g for t, g in zip(row, fed, strict=True)])
        return out

    def forward(self, latents: Tensor, levels: Tensor, actions: Tensor) -> Tensor:
        p, (frames, channels, h, w) = self.patch, latents.shape
        rows, columns = h // p, w // p
        conditions = [self.condition(int(levels[f]), actions[f]) for f in range(frames)]
        weight, bias = self.state["x_proj.weight"], self.state["x_proj.bias"]
        x = [
            [
                (weight * latents[f, :, r * p : (r + 1) * p, c * p : (c + 1) * p]).sum((1, 2, 3)) + bias
                for r in range(rows)
                for c in range(columns)
            ]
            for f in range(frames)
        ]
        for layer in range(self.layers):
            x = self.branch(f"blocks.{layer}.s_block", x, conditions, spatial=(rows, columns))
            x = self.branch(f"blocks.{layer}.t_block", x, conditions, spatial=None)
        out = torch.zeros_like(latents)
        for f in range(frames):
            shift, scale = self.linear("final_layer.adaLN_modulation.1", F.silu(conditions[f])).chunk(2)
            for s, token in enumerate(x[f]):
                pixels = self.linear("final_layer.linear", self.modulate(token, shift, scale)).view(
                    p, p, channels
                )
                r, c = divmod(s, columns)
                out[f, :, r * p : (r + 1) * p, c * p : (c + 1) * p] = pixels.permute(2, 0, 1)
        return out


@torch.no_grad()
def test_it_computes_what_the_description_says(tiny_transformer: WorldModelTransformer):
    latents, levels, actions = inputs(3, batch=1)
    ours = tiny_transformer(latents, levels, actions)[0]
    book = Reference(tiny_transformer).forward(latents[0], levels[0], actions[0])
    assert float(book.abs().mean()) > 0.1, "the comparison says something"
    assert torch.allclose(ours, book, atol=2e-4), float((ours - book).abs().max())


def test_parameter_names_and_shapes_are_those_of_worldgym_checkpoints():
    with torch.device("meta"):
        model = WorldModelTransformer(in_channels=16, patch=2, dim=1024, layers=16, heads=16, max_frames=20)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(607.93e6, rel=1e-4)
    assert shapes.pop("x_proj.weight") == (1024, 16, 2, 2)
    assert shapes.pop("timestep_mlp.0.weight") == (1024, 256)
    assert shapes.pop("timestep_mlp.2.weight") == (1024, 1024)
    assert shapes.pop("action_embedder.weight") == (1024, 10)
    assert shapes.pop("final_layer.linear.weight") == (64, 1024)
    assert shapes.pop("final_layer.adaLN_modulation.1.weight") == (2048, 1024)
    for layer in range(16):
        for block in ("s_block", "t_block"):
            prefix = f"blocks.{layer}.{block}"
            assert shapes.pop(f"{prefix}.adaLN_modulation.1.weight") == (6144, 1024)
            assert shapes.pop(f"{prefix}.attn.qkv_proj.weight") == (3072, 1024)
            assert shapes.pop(f"{prefix}.attn.out_proj.weight") == (1024, 1024)
            assert shapes.pop(f"{prefix}.ffwd.0.weight") == (4096, 1024)
            assert shapes.pop(f"{prefix}.ffwd.2.weight") == (1024, 4096)
    assert all(name.endswith("bias") for name in shapes)
    assert not any("qkv_proj" in name for name in shapes)


@torch.no_grad()
@pytest.mark.parametrize("what", ["latents", "levels", "actions"])
def test_no_frame_sees_a_later_one(tiny_transformer: WorldModelTransformer, what: str):
    parts = dict(zip(("latents", "levels", "actions"), inputs(4), strict=True))
    before = tiny_transformer(*parts.values())
    changed = {name: part.clone() for name, part in parts.items()}
    changed[what][:, 2] = 999 - changed[what][:, 2]
    after = tiny_transformer(*changed.values())
    assert torch.equal(after[:, :2], before[:, :2])
    for frame in (2, 3):
        assert not torch.allclose(after[:, frame], before[:, frame], atol=1e-4)


@torch.no_grad()
def test_a_frame_sees_its_window_and_no_further(tiny_transformer: WorldModelTransformer):
    """One layer sees `max_frames - 1` frames back; what it saw may reach further through the next layer."""
    model = WorldModelTransformer(**{**tiny_transformer.config, "layers": 1})
    model.load_state_dict(tiny_transformer.state_dict(), strict=False)
    latents, levels, actions = inputs(6)
    before = model(latents, levels, actions)
    latents[:, 0] += 1
    after = model(latents, levels, actions)
    assert not torch.allclose(after[:, 3], before[:, 3], atol=1e-5), "3 frames back is inside a window of 4"
    assert torch.equal(after[:, 4:], before[:, 4:]), "4 frames back is outside"


@torch.no_grad()
def test_rollouts_of_a_batch_do_not_touch_each_other(tiny_transformer: WorldModelTransformer):
    latents, levels, actions = inputs(3, batch=3)
    together = tiny_transformer(latents, levels, actions)
    for i in range(3):
        alone = tiny_transformer(latents[i : i + 1], levels[i : i + 1], actions[i : i + 1])
        assert torch.allclose(alone[0], together[i], atol=1e-4)


def test_a_fresh_transformer_predicts_nothing_whatever_it_sees():
    model = WorldModelTransformer(in_channels=4, dim=32, layers=2, heads=2)
    assert model(*inputs()).abs().max().item() == 0


def test_every_parameter_gets_a_gradient(tiny_transformer: WorldModelTransformer):
    tiny_transformer(*inputs()).square().mean().backward()
    without = [
        n for n, p in tiny_transformer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


@pytest.mark.parametrize(
    ("change", "thing"),
    [
        (lambda x, t, a: (x[:, :, :3], t, a), "latents"),
        (lambda x, t, a: (x[..., :3], t, a), "latents"),  # a side of 3 cannot be cut into patches of 2
        (lambda x, t, a: (x[0], t, a), "latents"),
        (lambda x, t, a: (x, t[:, :2], a), "timesteps"),
        (lambda x, t, a: (x, t.float(), a), "timesteps"),
        (lambda x, t, a: (x, t, a[:, :3]), "actions"),
        (lambda x, t, a: (x, t, a[..., :7]), "actions"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    tiny_transformer: WorldModelTransformer, change, thing: str
):
    with pytest.raises(BadTensor, match=thing):
        tiny_transformer(*change(*inputs(4)))


def test_saving_as_diffusers_do_gives_the_same_model(tmp_path: Path, tiny_transformer: WorldModelTransformer):
    tiny_transformer.save_pretrained(tmp_path)
    again = WorldModelTransformer.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*inputs()), tiny_transformer(*inputs()))
