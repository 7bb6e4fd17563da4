"""Networks: parameter counts against layer tables and published figures, shapes, and the head."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common import nets
from common.nets import TappedNet, count_parameters

THIN, TIMES_4 = (16, 16, 32, 64), (32, 64, 128, 256)


def conv(inputs, outputs, kernel=3, groups=1, bias=False):
    return inputs * outputs * kernel**2 // groups + outputs * bias


def bn(channels):
    return 2 * channels


def linear(inputs, outputs):
    return inputs * outputs + outputs


def resnet(blocks, widths, classes=100):
    total, before = conv(3, widths[0]) + bn(widths[0]), widths[0]
    for width in widths[1:]:
        total += conv(before, width) + (2 * blocks - 1) * conv(width, width) + 2 * blocks * bn(width)
        total += conv(before, width, 1) + bn(width) if before != width else 0
        before = width
    return total + linear(before, classes)


def wide(blocks, widening, classes=100):
    total, before = conv(3, 16), 16
    for width in (16 * widening, 32 * widening, 64 * widening):
        total += bn(before) + conv(before, width) + (2 * blocks - 1) * (bn(width) + conv(width, width))
        total += conv(before, width, 1) if before != width else 0
        before = width
    return total + bn(before) + linear(before, classes)


def vgg(widths):
    pairs = zip((3, *widths), widths, strict=False)
    return sum(conv(a, b, bias=True) + bn(b) for a, b in pairs) + linear(512, 100)


def mobile():
    # Half of the paper's channels; (expansion, in, out) block by block.
    row = [8, *[12] * 2, *[16] * 3, *[32] * 4, *[48] * 3, *[80] * 3, 160]
    total = conv(3, 16) + bn(16)
    for i, (a, b) in enumerate(zip((16, *row), row, strict=False)):
        hidden = a * (1 if i == 0 else 6)
        total += conv(a, hidden, 1) + conv(hidden, hidden, groups=hidden) + conv(hidden, b, 1)
        total += 2 * bn(hidden) + bn(b)
    return total + conv(160, 1280, 1) + bn(1280) + linear(1280, 100)


def shuffle_v1():
    total, before = conv(3, 24, 1) + bn(24), 24
    for width, units in ((240, 4), (480, 8), (960, 4)):
        for i in range(units):
            made = width - before if i == 0 else width
            hidden = made // 4
            total += conv(before, hidden, 1, groups=1 if before == 24 else 3) + bn(hidden)
            total += conv(hidden, hidden, groups=hidden) + bn(hidden)
            total += conv(hidden, made, 1, groups=3) + bn(made)
            before = width
    return total + linear(960, 100)


def shuffle_v2():
    total, before = conv(3, 24, 1) + bn(24), 24
    for width, units in ((116, 3), (232, 7), (464, 3)):
        half = width // 2
        total += conv(before, before, groups=before) + bn(before) + conv(before, half, 1) + bn(half)
        total += conv(before, half, 1) + conv(half, half, groups=half) + conv(half, half, 1) + 3 * bn(half)
        total += units * (2 * conv(half, half, 1) + conv(half, half, groups=half) + 3 * bn(half))
        before = width
    return total + conv(464, 1024, 1) + bn(1024) + linear(1024, 100)


def bottlenecks():
    total, before = conv(3, 64) + bn(64), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        out = 4 * width
        total += conv(before, width, 1) + (blocks - 1) * conv(out, width, 1) + conv(before, out, 1) + bn(out)
        total += blocks * (conv(width, width) + conv(width, out, 1) + 2 * bn(width) + bn(out))
        before = out
    return total + linear(2048, 100)


# name: (exact count at 100 classes, published millions, shapes of stage1.. at 32x32)
def thin(width):
    return [(width, 32, 32), (2 * width, 16, 16), (4 * width, 8, 8)]


VGG_STAGES = [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)]
NETS = {
    "resnet8": (resnet(1, THIN), 0.08, thin(16)),
    "resnet14": (resnet(2, THIN), 0.18, thin(16)),
    "resnet20": (resnet(3, THIN), 0.28, thin(16)),
    "resnet32": (resnet(5, THIN), 0.47, thin(16)),
    "resnet44": (resnet(7, THIN), 0.67, thin(16)),
    "resnet56": (resnet(9, THIN), 0.86, thin(16)),
    "resnet110": (resnet(18, THIN), 1.73, thin(16)),
    "resnet8x4": (resnet(1, TIMES_4), 1.23, thin(64)),
    "resnet32x4": (resnet(5, TIMES_4), 7.43, thin(64)),
    "wrn_16_1": (wide(2, 1), 0.18, thin(16)),
    "wrn_16_2": (wide(2, 2), 0.70, thin(32)),
    "wrn_40_1": (wide(6, 1), 0.57, thin(16)),
    "wrn_40_2": (wide(6, 2), 2.26, thin(32)),
    "vgg8": (vgg((64, 128, 256, 512, 512)), 3.97, VGG_STAGES),
    "vgg13": (vgg((64, 64, 128, 128, 256, 256, *[512] * 4)), 9.46, VGG_STAGES),
    "mobilenet_v2": (mobile(), 0.81, [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)]),
    "shufflenet_v1": (shuffle_v1(), 0.95, [(240, 16, 16), (480, 8, 8), (960, 4, 4)]),
    "shufflenet_v2": (shuffle_v2(), 1.36, [(116, 16, 16), (232, 8, 8), (464, 4, 4)]),
    "resnet50": (bottlenecks(), 23.71, [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]),
}
# Depths that only repeat a block more often are counted, but not run.
RUN = [name for name in NETS if name not in ("resnet14", "resnet32", "resnet44", "resnet56")]
SMALL = {
    "small_cnn": lambda: nets.small_cnn(10, 3, 32, width=3, depth=3),
    "mlp": lambda: nets.mlp(10, 3, 32, hidden=16, depth=3),
}


def on_meta(name, *args):
    with torch.device("meta"):
        return getattr(nets, name)(*args)


@pytest.mark.parametrize("name", NETS)
def test_parameter_count(name):
    exact, published, _ = NETS[name]
    count = count_parameters(on_meta(name, 100))
    assert count == exact
    # The tables print two decimals, rounded or cut off.
    assert abs(count / 1e6 - published) < 0.01


@pytest.mark.parametrize(("name", "blocks", "published"), [("wrn_28_10", 4, 36.5), ("wrn_34_10", 5, 46.2)])
def test_parameter_count_of_the_widest(name, blocks, published):
    count = count_parameters(on_meta(name, 10))
    assert count == wide(blocks, 10, classes=10)
    assert round(count / 1e6, 1) == published


@pytest.mark.parametrize("name", RUN)
def test_shapes_of_logits_and_stages(name):
    stages = NETS[name][2]
    x = torch.empty(2, 3, 32, 32, device="meta")
    assert on_meta(name, 10, 1)(x[:, :1]).shape == (2, 10)
    net = on_meta(name, 100)
    named = [alias for alias in net.aliases if alias.startswith("stage") and alias[-1].isdigit()]
    assert named == [f"stage{i}" for i in range(1, len(stages) + 1)]
    out = TappedNet(net, {a: a for a in net.aliases})(x)
    assert out.logits.shape == (2, 100)
    assert out.features["penultimate"].dim() == 2
    for alias, shape in zip(named, stages, strict=True):
        assert out.features[alias].shape == (2, *shape)
        preact = out.features.get(f"{alias}_preact")
        assert preact is None or preact.shape == (2, *shape)


@pytest.mark.parametrize("name", [*RUN, *SMALL])
def test_head_on_penultimate_gives_the_logits_exactly(name):
    torch.manual_seed(0)
    net = (SMALL[name]() if name in SMALL else getattr(nets, name)(10)).eval()
    with torch.no_grad():
        out = TappedNet(net, {"p": "penultimate"})(torch.rand(2, 3, 32, 32))
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        assert torch.equal(F.linear(out.features["p"], head.weight, head.bias), out.logits)
    assert out.logits.isfinite().all() and out.logits.std() > 0


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "shufflenet_v1", "resnet50"])
def test_stages_are_the_activated_preactivations(name):
    net = on_meta(name, 10).to_empty(device="cpu")
    torch.manual_seed(1)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    net.eval()
    with torch.no_grad():
        out = TappedNet(net, {a: a for a in net.aliases})(torch.rand(1, 3, 32, 32))
    pairs = [a for a in net.aliases if a.endswith("_preact")]
    assert len(pairs) >= 3
    for alias in pairs:
        before, after = out.features[alias], out.features[alias.removesuffix("_preact")]
        assert (before < 0).any()
        assert torch.equal(before.relu(), after)


def test_wide_resnet_stages_are_plain_sums():
    torch.manual_seed(0)
    out = TappedNet(nets.wrn_16_1(10), {"s": "stage2", "n": "stage2_preact"})(torch.rand(4, 3, 32, 32))
    assert (out.features["s"] < 0).any()
    # Normalised by the next block's BatchNorm, whose weight is 1 and bias 0 at the start.
    assert torch.allclose(out.features["n"].mean((0, 2, 3)), torch.zeros(32), atol=1e-5)
    assert torch.allclose(out.features["n"].var((0, 2, 3), unbiased=False), torch.ones(32), atol=1e-2)


def test_vgg_pools_once_more_from_64_pixels_on():
    with torch.device("meta"):
        net = nets.vgg8(10, 3, image_size=64)
        out = TappedNet(net, {"s3": "stage3", "s4": "stage4"})(torch.empty(2, 3, 64, 64))
    assert out.features["s3"].shape[-1] == 8 and out.features["s4"].shape[-1] == 4
    with pytest.raises(ValueError, match="at least 8 pixels"):
        nets.vgg8(10, 3, image_size=4)


@pytest.mark.parametrize(
    ("size", "depth", "widths"),
    [
        (8, 1, [4]),
        (8, 2, [8, 4]),
        (8, 3, [8, 4, 4]),
        (28, 2, [14, 7]),
        (28, 3, [28, 14, 7]),
        (32, 3, [16, 8, 4]),
    ],
)
def test_small_cnn_ends_at_four_to_seven_pixels(size, depth, widths):
    net = nets.small_cnn(10, 1, size, width=2, depth=depth)
    taps = {f"stage{i + 1}": f"stage{i + 1}" for i in range(depth)}
    features = TappedNet(net, taps)(torch.rand(3, 1, size, size)).features
    assert [tuple(f.shape) for f in features.values()] == [(3, 2 * 2**i, w, w) for i, w in enumerate(widths)]


def test_small_counts():
    cnn = conv(1, 4) + bn(4) + conv(4, 8) + bn(8) + linear(8, 10)
    assert count_parameters(nets.small_cnn(10)) == cnn
    layers = linear(64, 32) + linear(32, 32) + linear(32, 10)
    assert count_parameters(nets.mlp(10, 1, 8, hidden=32, depth=2)) == layers


def test_mlp_takes_vectors_as_well():
    net = nets.mlp(10, 1, 8)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(net(x), net(x.flatten(1)))


@pytest.mark.parametrize("make", [lambda: nets.small_cnn(10, depth=0), lambda: nets.mlp(10, 1, 8, hidden=0)])
def test_impossible_sizes_are_refused(make):
    with pytest.raises(ValueError, match="at least 1"):
        make()


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "resnet8x4",
        "wrn_16_2",
        "vgg8",
        "mobilenet_v2",
        "shufflenet_v1",
        "shufflenet_v2",
        "resnet50",
    ],
)
def test_nothing_is_written_in_place(name):
    net = on_meta(name, 10)
    paths = [path for path, module in net.named_modules() if path and not list(module.children())]
    taps = {f"{path}{end}": f"{path}{end}" for path in paths for end in ("", ":in")}
    assert len(TappedNet(net, taps)(torch.empty(2, 3, 32, 32, device="meta")).features) == len(taps)
