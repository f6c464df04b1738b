"""The four networks: shapes, sizes, initialisation, and each odd part against a written-out reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from redoseg.config.schema import NetConfig
from redoseg.nets.blocks import (
    ConditionalNorm,
    DownBlock,
    FlatBlock,
    LayerMaker,
    PooledConv,
    RowsConv,
    SelfAttention,
    UpBlock,
    UpsampledConv,
    attention_side,
    block_widths,
    cat_channels,
)
from redoseg.nets.image_encoder import discriminator, latent_encoder
from redoseg.nets.mask_extractor import MaskExtractor, PyramidPooling
from redoseg.nets.region_generator import RegionGenerator

NARROW = NetConfig(extractor_width=4, generator_width=2, discriminator_width=4, encoder_width=4, latent=4)


def count(*nets: nn.Module) -> int:
    return sum(p.numel() for net in nets for p in net.parameters())


def layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def stored(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """The weight that is trained, before spectral norm."""
    return layer.parametrizations.weight.original if is_parametrized(layer) else layer.weight


def is_orthogonal(weight: Tensor, gain: float) -> bool:
    rows = weight.detach().flatten(1)
    rows = rows if len(rows) <= rows.shape[1] else rows.T
    return torch.allclose(rows @ rows.T, gain**2 * torch.eye(len(rows)), atol=1e-5)


def all_nets(config: NetConfig, size: int = 32) -> list[nn.Module]:
    return [
        MaskExtractor(config),
        RegionGenerator(config, size),
        discriminator(config, size),
        latent_encoder(config, size),
    ]


@pytest.mark.parametrize("regions", [2, 3])
@pytest.mark.parametrize("size", [32, 64, *(pytest.param(size, marks=pytest.mark.slow) for size in (128, 256))])
def test_output_shapes(size: int, regions: int) -> None:
    config = replace(NARROW, regions=regions)
    extractor, generator, judge, encoder = all_nets(config, size)
    pictures = torch.rand(1, 3, size, size) * 2 - 1
    with torch.no_grad():
        masks = extractor(pictures)
        drawing = generator(torch.randn(1, 4), masks[:, :1])
        assert masks.shape == (1, regions, size, size)
        assert drawing.shape == (1, 3, size, size)
        assert judge(pictures).shape == (1, 1)
        assert encoder(pictures).shape == (1, regions * 4)


def test_parameter_counts_are_the_papers() -> None:
    # neither has parameters of its own (below); both are slow where there is no memory behind the weights
    config = replace(NetConfig(), initialisation="default", spectral_norm=False)
    with torch.device("meta"):
        assert count(MaskExtractor(config)) == 275_209
        assert count(RegionGenerator(config, 128), RegionGenerator(config, 128)) == 15_913_790
        assert count(discriminator(config, 128)) == 38_424_258
        assert count(latent_encoder(config, 128)) == 38_483_712


@pytest.mark.parametrize("regions", [2, 3, 5])
def test_masks_sum_to_one(regions: int) -> None:
    extractor = MaskExtractor(replace(NARROW, regions=regions))
    masks = extractor(torch.rand(2, 3, 32, 32) * 20 - 10)
    assert torch.allclose(masks.sum(1), torch.ones(2, 32, 32), atol=1e-6)
    assert masks.min() >= 0
    assert masks.std() > 0.001  # not all of one value


def test_spectral_norm_and_initialisation_add_no_parameters() -> None:
    bare = replace(NARROW, initialisation="default", spectral_norm=False)
    assert [count(net) for net in all_nets(NARROW)] == [count(net) for net in all_nets(bare)]


def test_widths_double_to_a_cap_of_sixteen() -> None:
    assert block_widths(16, 3) == [3, 6]
    assert block_widths(128, 64) == [64, 128, 256, 512, 1024]
    assert block_widths(256, 64) == [64, 128, 256, 512, 1024, 1024]


# ---------------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize("gain", [0.8, 0.5])
def test_everywhere_is_orthogonal_under_spectral_norm_too(gain: float) -> None:
    config = replace(NARROW, initialisation="everywhere", initialisation_gain=gain)
    for net in all_nets(config):
        assert all(is_orthogonal(stored(layer), gain) for layer in layers(net))


def test_as_published_is_orthogonal_only_without_spectral_norm() -> None:
    normed = 0
    for net in all_nets(NARROW):
        for layer in layers(net):
            normed += is_parametrized(layer)
            assert is_orthogonal(stored(layer), 0.8) != is_parametrized(layer)
    assert normed > 20
    bare = replace(NARROW, spectral_norm=False)
    assert all(is_orthogonal(layer.weight, 0.8) for net in all_nets(bare) for layer in layers(net))


def test_default_initialisation_is_orthogonal_nowhere() -> None:
    config = replace(NARROW, initialisation="default")
    assert not any(is_orthogonal(stored(layer), 0.8) for net in all_nets(config) for layer in layers(net))


# ------------------------------------------------------------------------------------------ spectral norm


def test_spectral_norm_is_on_convolutions_alone_and_not_in_the_extractor() -> None:
    extractor, *others = all_nets(NARROW)
    assert not any(is_parametrized(layer) for layer in layers(extractor))
    for net in others:
        for layer in layers(net):
            assert is_parametrized(layer) == isinstance(layer, nn.Conv2d)
    for net in all_nets(replace(NARROW, spectral_norm=False)):
        assert not any(is_parametrized(layer) for layer in layers(net))


def test_one_power_iteration_a_training_forward_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    net = discriminator(replace(NARROW, discriminator_attention=False), 16)
    layer = net.blocks[0].conv1
    norm = layer.parametrizations.weight[0]
    weight = stored(layer).detach().flatten(1)
    norm._u.copy_(F.normalize(torch.randn_like(norm._u), dim=0))  # far from the singular vectors
    norm._v.copy_(F.normalize(torch.randn_like(norm._v), dim=0))
    u = F.normalize(weight @ norm._v, dim=0)
    v = F.normalize(weight.T @ u, dim=0)
    pictures = torch.rand(2, 3, 16, 16)
    net.train()(pictures)
    assert torch.allclose(norm._u, u, atol=1e-6)
    assert torch.allclose(norm._v, v, atol=1e-6)
    u, v = norm._u.clone(), norm._v.clone()
    net.eval()(pictures)
    assert torch.equal(norm._u, u)
    assert torch.equal(norm._v, v)
    net.train()(pictures)
    assert not torch.equal(norm._u, u)


def test_spectral_norm_brings_the_largest_singular_value_to_one() -> None:
    net = discriminator(NARROW, 16)
    for _ in range(30):
        net(torch.rand(1, 3, 16, 16))
    for layer in (layer for layer in layers(net.eval()) if isinstance(layer, nn.Conv2d)):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


# --------------------------------------------------------------------------------------------- attention


def test_attention_is_plain_softmax_without_scaling() -> None:
    torch.manual_seed(1)
    attention = SelfAttention(LayerMaker(NARROW), 16).double().eval()
    with torch.no_grad():
        for layer in layers(attention):
            stored(layer).mul_(3)
        attention.weight.fill_(0.7)
        x = 4 * torch.randn(2, 16, 8, 6, dtype=torch.float64)
        got = attention(x)

        def at(layer: nn.Module) -> Tensor:
            return torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], x)

        def pooled(y: Tensor) -> Tensor:
            corners = [y[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
            return torch.stack(corners).amax(0).flatten(2)

        query, key, value = at(attention.query).flatten(2), at(attention.key), at(attention.value)
        logits = torch.einsum("bdq,bdk->bqk", query, pooled(key))
        share = logits.exp() / logits.exp().sum(-1, keepdim=True)
        summed = torch.einsum("bqk,bdk->bdq", share, pooled(value)).view(2, 8, 8, 6)
        expected = x + 0.7 * torch.einsum("oc,bchw->bohw", attention.out.weight[:, :, 0, 0], summed)
    assert query.shape[1] == 2  # C / 8: else there would be no scaling to leave out
    assert torch.allclose(got, expected, atol=1e-12)
    assert not torch.allclose(got, x, atol=1e-3)


def test_attention_starts_as_the_identity() -> None:
    attention = SelfAttention(LayerMaker(NARROW), 16)
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(attention(x), x)
    assert all(layer.bias is None for layer in layers(attention))


@pytest.mark.every(2)
@pytest.mark.parametrize(("size", "side"), [(32, 16), (64, 32), (128, 64), (256, 64)])
def test_attention_stands_at_64_or_half_the_side(size: int, side: int) -> None:
    assert attention_side(size) == side
    seen: list[int] = []
    generator, judge = RegionGenerator(NARROW, size), discriminator(NARROW, size)
    for net in (generator, judge):
        found = [m for m in net.modules() if isinstance(m, SelfAttention)]
        assert len(found) == 1
        found[0].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[-1]))
    with torch.no_grad():
        generator(torch.randn(1, 4), torch.rand(1, 1, size, size))
        judge(torch.rand(1, 3, size, size))
    assert seen == [side, side]


def test_attention_only_where_switched_on() -> None:
    def has(net: nn.Module) -> bool:
        return any(isinstance(m, SelfAttention) for m in net.modules())

    _, generator, judge, encoder = all_nets(NARROW)
    assert [has(generator), has(judge), has(encoder)] == [True, True, False]
    off = replace(NARROW, generator_attention=False)
    assert [has(net) for net in all_nets(off)] == [False, False, True, False]
    off = replace(NARROW, discriminator_attention=False)
    assert [has(net) for net in all_nets(off)] == [False, True, False, False]


# ------------------------------------------------------------------------------------------------ blocks


def test_conditional_scale_is_the_map_itself() -> None:
    norm = ConditionalNorm(LayerMaker(NARROW), 3, 4).double()
    x, z = torch.randn(2, 3, 5, 5, dtype=torch.float64) * 4 + 1, torch.randn(2, 4, dtype=torch.float64)
    mean = x.mean((2, 3), keepdim=True)
    normed = (x - mean) / (((x - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()
    scale = z @ norm.scale.weight.T + norm.scale.bias
    shift = z @ norm.shift.weight.T + norm.shift.bias
    expected = normed * scale[:, :, None, None] + shift[:, :, None, None]
    assert torch.allclose(norm(x, z), expected, atol=1e-10)
    assert norm.scale.bias.abs().max() > 0
    nn.init.zeros_(norm.scale.weight)
    nn.init.zeros_(norm.scale.bias)
    assert torch.allclose(norm(x, z), shift[:, :, None, None].expand(x.shape))  # nothing of x is left


def test_conditional_batch_norm_takes_statistics_over_the_batch() -> None:
    norm = ConditionalNorm(LayerMaker(replace(NARROW, norm="batch")), 3, 4)
    x, z = torch.randn(4, 3, 5, 5) + torch.arange(4)[:, None, None, None], torch.zeros(4, 4)
    scaled = (norm(x, z) - norm.shift.bias[:, None, None]) / norm.scale.bias[:, None, None]
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-4
    assert scaled.mean((2, 3)).abs().max() > 0.5


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("leaky", lambda x: torch.where(x > 0, x, 0.2 * x)),
        ("elu", lambda x: torch.where(x > 0, x, x.exp() - 1)),
    ],
)
def test_down_block(activation: str, reference: Callable[[Tensor], Tensor]) -> None:
    make = LayerMaker(replace(NARROW, activation=activation, spectral_norm=False))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for first in (True, False):
        block = DownBlock(make, 3, 5, first=first).double()
        inner = reference(block.conv1(x if first else reference(x)))
        inner = F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
        expected = F.avg_pool2d(inner, 2) + block.shortcut(F.avg_pool2d(x, 2))
        assert torch.allclose(block(x), expected, atol=1e-12)


def test_flat_block() -> None:
    block = FlatBlock(LayerMaker(replace(NARROW, spectral_norm=False)), 3).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(block(x), x + block.conv2(block.conv1(x.relu()).relu()), atol=1e-12)


def test_up_block() -> None:
    block = UpBlock(LayerMaker(replace(NARROW, spectral_norm=False)), 3, 5, 4).double()
    x, z = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    mask = torch.rand(2, 1, 4, 4, dtype=torch.float64)

    def twice(y: Tensor) -> Tensor:
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3)

    inner = F.conv2d(twice(torch.cat([block.norm1(x, z).relu(), mask], 1)), block.conv1.weight, padding=1)
    expected = block.conv2(block.norm2(inner, z).relu()) + block.shortcut(twice(x))
    assert torch.allclose(block(x, z, mask), expected, atol=1e-12)
    assert block.conv1.bias is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda bias: UpsampledConv(3, 5, bias),
        lambda bias: PooledConv(3, 5, bias),
        lambda bias: RowsConv(3, 1, 3, bias=bias),
        lambda bias: RowsConv(3, 4, 5, bias=bias),
    ],
)
def test_rewritten_convolutions_have_the_same_outputs_and_gradients(
    make: Callable[[bool], nn.Conv2d], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)  # all in float64
    rewritten, plain = make(bias).double(), make(bias).double()
    plain.rewritten = False
    plain.load_state_dict(rewritten.state_dict())
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (rewritten, plain):
        out = layer(x)
        sought = [x, *layer.parameters()]
        found.append([out, *torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), sought)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-11)


def test_channels_put_together_keep_the_layout_of_the_first() -> None:
    x, mask = torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    for layout in (torch.channels_last, torch.contiguous_format):
        both = cat_channels([x.contiguous(memory_format=layout), mask])
        assert torch.equal(both, torch.cat([x, mask], 1))
        assert both.is_contiguous(memory_format=layout)


def test_pyramid_pooling_drops_the_remainder() -> None:
    pooling = PyramidPooling(2).double()
    for conv in pooling.maps:
        nn.init.ones_(conv.weight)
        nn.init.zeros_(conv.bias)
    x = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    x[:, :, 30:, 30:] = 1  # 3 and 6 cells of 10 and 5 pixels end at 30
    out = pooling(x)
    assert out.shape == (1, 6, 32, 32)
    assert torch.equal(out[:, :2], x)
    one, two, three, six = out[0, 2:]
    assert torch.allclose(one, torch.full_like(one, 2 * 4 / 32**2))
    assert two.max().item() == pytest.approx(2 * 4 / 16**2)
    assert two[0, 0] == 0
    assert three.abs().max() == 0
    assert six.abs().max() == 0
    x[:, :, 29, 29] = 1
    assert pooling(x)[0, 5, -1, -1].item() == pytest.approx(2 / 5**2)


def test_pyramid_pooling_works_where_the_side_is_too_small() -> None:
    for side in (4, 8):
        out = PyramidPooling(2)(torch.rand(1, 2, side, side))
        assert out.shape == (1, 6, side, side)
        assert out.isfinite().all()


# --------------------------------------------------------------------------------------------- generator


def test_generator_sees_the_mask_at_each_blocks_input_size() -> None:
    generator = RegionGenerator(NARROW, 32)
    seen: list[Tensor] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[2]))
    mask = torch.rand(2, 1, 32, 32)
    generator(torch.randn(2, 4), mask)
    assert [m.shape[-1] for m in seen] == [4, 8, 16]
    for small in seen:
        cell = 32 // small.shape[-1]
        means = mask.unfold(2, cell, cell).unfold(3, cell, cell).mean((-1, -2))
        assert torch.allclose(small, means, atol=1e-6)


def test_generator_draws_in_the_range_of_the_pictures() -> None:
    torch.manual_seed(0)
    z, mask = 10 * torch.randn(4, 4), torch.rand(4, 1, 16, 16)
    signed = RegionGenerator(NARROW, 16, "signed")(z, mask)
    unit = RegionGenerator(NARROW, 16, "unit")(z, mask)
    assert signed.min() < 0
    assert signed.abs().max() <= 1
    assert unit.min() >= 0
    assert unit.max() <= 1


def test_names_of_weights_are_those_in_the_files_of_earlier_runs() -> None:
    names = set(MaskExtractor(NARROW).state_dict())
    assert {"down.0.0.weight", "down.5.conv2.bias", "down.6.maps.3.weight", "up.1.0.bias", "up.3.1.weight"} < names
    assert {name.split(".")[1] for name in names if name.startswith("up.")} == {"1", "3"}
    assert {"head.weight", "head.bias"} < names
    block = set(UpBlock(LayerMaker(NARROW), 3, 5, 4).state_dict())
    assert "conv1.parametrizations.weight.original" in block
    assert "shortcut.parametrizations.weight.0._u" in block
