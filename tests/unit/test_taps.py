"""Taps: right tensors, nothing stale, nothing left behind, clear errors; and the same on timm models."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from common.core import Outputs
from common.nets import TappedNet, resnet8, small_cnn, tap, timm_model
from common.nets.taps import resolve


def hooks(net):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


class Net(nn.Module):
    """Two layers and an in-place ReLU; ``mode`` makes it misbehave."""

    def __init__(self, mode="", inplace=False):
        super().__init__()
        self.mode = mode
        self.first = nn.Linear(4, 5)
        self.act = nn.ReLU(inplace=inplace)
        self.unused = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.first(x)
        if self.mode == "raises":
            raise KeyError("inside")
        if self.mode == "twice":
            x = self.first(x[:, :4])
        if self.mode == "overwrites":
            x += 1
        x = self.head(self.act(x))
        return (x, x) if self.mode == "tuple" else x


def test_features_equal_a_forward_written_by_hand():
    torch.manual_seed(0)
    net = resnet8(10).eval()
    x = torch.rand(2, 3, 32, 32)
    taps = {
        "second": "stage2",
        "first": "stage1",
        "deep": "layer3.0.conv2",
        "pooled": "penultimate",
        "in": "stage2:in",
    }
    out = TappedNet(net, taps)(x)

    def block(b, x):
        short = x if b.downsample is None else b.downsample(x)
        inner = b.conv2(torch.relu(b.bn1(b.conv1(x))))
        return inner, torch.relu(b.bn2(inner) + short)

    stem = torch.relu(net.bn1(net.conv1(x)))
    _, one = block(net.layer1[0], stem)
    _, two = block(net.layer2[0], one)
    deep, three = block(net.layer3[0], two)
    pooled = three.mean((2, 3))
    expected = {"second": two, "first": one, "deep": deep, "pooled": pooled, "in": one}
    assert isinstance(out, Outputs)
    assert list(out.features) == list(taps)
    for name, value in expected.items():
        assert torch.equal(out.features[name], value), name
    assert torch.equal(out.logits, net.fc(pooled))


def test_without_taps_there_are_no_hooks_and_no_features(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a hook was made")

    monkeypatch.setattr(nn.Module, "register_forward_hook", refuse)
    monkeypatch.setattr(nn.Module, "register_forward_pre_hook", refuse)
    net, x = Net(inplace=True), torch.rand(2, 4)
    out = TappedNet(net, {})(x)
    assert torch.equal(out.logits, net(x)) and out.features == {}
    assert net.act.inplace


def test_hooks_live_for_one_pass_even_if_it_fails():
    for mode, error in (("", None), ("raises", KeyError), ("tuple", TypeError)):
        net = Net(mode)
        tapped = TappedNet(net, {"a": "act", "b": "head:in"})
        if error is None:
            tapped(torch.rand(2, 4))
        else:
            with pytest.raises(error):
                tapped(torch.rand(2, 4))
        assert hooks(net) == 0


def test_two_wrappers_and_the_bare_net_do_not_disturb_each_other():
    net = Net()
    one, two = TappedNet(net, {"a": "act"}), TappedNet(net, {"a": "first", "b": "act"})
    x, y = torch.rand(2, 4), torch.rand(3, 4)
    first, second = one(x), two(y)
    net(y)
    assert torch.equal(first.features["a"], net.act(net.first(x)))
    assert torch.equal(second.features["a"], net.first(y))
    assert list(first.features) == ["a"] and list(second.features) == ["a", "b"]


def test_each_hook_fires_once_a_pass(monkeypatch):
    from common.nets import taps as module

    calls = []
    keep = module._keep_output
    monkeypatch.setattr(module, "_keep_output", lambda *args: (calls.append(args[2]), keep(*args))[1])
    tapped = TappedNet(Net(), {"a": "act", "b": "head:in", "c": "head"})
    for _ in range(3):
        tapped(torch.rand(2, 4))
    assert calls == ["a", "b", "c"] * 3


def test_features_are_fresh_and_freed_without_the_garbage_collector():
    tapped = TappedNet(Net(), {"a": "act"})
    gc.disable()
    try:
        out = tapped(torch.rand(2, 4))
        feature = weakref.ref(out.features["a"])
        again = tapped(torch.rand(2, 4))
        assert again.features is not out.features
        del out
        assert feature() is None
    finally:
        gc.enable()


def test_gradient_flows_through_a_feature():
    net = Net().double()
    tapped = TappedNet(net, {"p": "head:in"})
    x = torch.rand(2, 4, dtype=torch.double)
    tapped(x).features["p"].square().sum().backward()
    assert net.head.weight.grad is None
    expected = torch.autograd.grad(net.act(net.first(x)).square().sum(), net.first.weight)[0]
    assert torch.equal(net.first.weight.grad, expected)


def test_a_module_that_runs_twice_gives_its_last_value():
    net, x = Net("twice"), torch.rand(2, 4)
    out = TappedNet(net, {"f": "first"})(x)
    assert torch.equal(out.features["f"], net.first(net.first(x)[:, :4]))


def test_deepcopy_is_independent():
    tapped = TappedNet(Net(), {"a": "act"}, mean=None, std=None)
    x = torch.rand(2, 4)
    twin = copy.deepcopy(tapped)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(twin(x).features["a"], torch.zeros(2, 5))
    assert (tapped(x).features["a"] != 0).any()
    assert hooks(copy.deepcopy(tapped.net)) == 0


def test_state_dict_of_the_inner_net_round_trips(tmp_path):
    net = small_cnn(10)
    tapped = TappedNet(net, {"p": "penultimate"}, mean=[0.5], std=[0.25])
    assert set(tapped.state_dict()) == {f"net.{key}" for key in net.state_dict()}
    torch.save(tapped.net.state_dict(), tmp_path / "net.pt")
    other = small_cnn(10)
    other.load_state_dict(torch.load(tmp_path / "net.pt"))
    x = torch.rand(2, 1, 8, 8)
    other = TappedNet(other.eval(), {}, [0.5], [0.25])
    assert torch.equal(other(x).logits, tapped.eval()(x).logits)


def test_inputs_are_normalised_inside_by_channel():
    net = small_cnn(10, in_channels=3).eval()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    x = torch.rand(2, 3, 8, 8)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    kept = x.clone()
    for taps in ({}, {"s": "stage1"}):
        assert torch.allclose(TappedNet(net, taps, mean, std)(x).logits, net(by_hand), atol=1e-6)
    assert torch.equal(x, kept)
    net.mean, net.std = mean, std
    assert torch.allclose(tap(net, {})(x).logits, net(by_hand), atol=1e-6)
    wrapped = TappedNet(net, {}, mean, std).double()
    assert wrapped.mean.dtype == torch.double and wrapped.mean.shape == (3, 1, 1)


@pytest.mark.parametrize(("mean", "std"), [([0.5], None), (None, [1.0]), ([0.5], [1.0, 1.0]), ([0.5], [0.0])])
def test_half_a_normalisation_is_refused(mean, std):
    with pytest.raises(ValueError, match="mean and std go together"):
        TappedNet(small_cnn(10), {}, mean, std)


@pytest.mark.parametrize(
    ("alias", "near"),
    [("stage9", "stage1"), ("penultimat", "penultimate"), ("layer1.0.conv9", "layer1.0.conv1")],
)
def test_unknown_taps_name_the_nearest(alias, near):
    with pytest.raises(ValueError) as error:
        TappedNet(resnet8(10), {"f": alias})
    message = str(error.value)
    assert message.startswith(f"CifarResNet has no tap '{alias}'") and near in message
    assert message.count("\n") == 0


@pytest.mark.parametrize("alias", ["", ":in", "zzzz"])
def test_hopeless_taps_list_what_there_is(alias):
    with pytest.raises(ValueError, match="head"):
        TappedNet(Net(), {"f": alias})


def test_aliases_win_over_paths_and_may_ask_for_the_input():
    net = Net()
    net.aliases = {"act": "first", "p": "head:in"}
    assert resolve(net, "act") == (net.first, False)
    assert resolve(net, "act:in") == (net.first, True)
    assert resolve(net, "p") == (net.head, True)
    assert resolve(net, "head") == (net.head, False)


def test_in_place_relu_does_not_overwrite_a_tap():
    torch.manual_seed(0)
    net = Net(inplace=True)
    out = TappedNet(net, {"before": "first"})(torch.rand(8, 4))
    assert (out.features["before"] < 0).any()


def test_other_overwriting_is_an_error():
    tapped = TappedNet(Net("overwrites"), {"f": "first"})
    with torch.no_grad(), pytest.raises(RuntimeError, match="overwrites tap 'f'"):
        tapped(torch.rand(2, 4))


def test_a_module_that_does_not_run_is_an_error():
    with pytest.raises(RuntimeError, match="did not run the module of tap 'f'"):
        TappedNet(Net(), {"f": "unused"})(torch.rand(2, 4))


@pytest.mark.parametrize("taps", [{}, {"a": "act"}])
def test_a_net_that_returns_no_tensor_is_an_error(taps):
    with pytest.raises(TypeError, match="Net returned a tuple"):
        TappedNet(Net("tuple"), taps)(torch.rand(2, 4))


def test_a_tap_that_meets_no_tensor_is_an_error():
    net = nn.Sequential(nn.LSTM(4, 4), nn.Identity())
    with pytest.raises(TypeError, match="Tap 'f' met a tuple at a LSTM"):
        TappedNet(net, {"f": "0"})(torch.rand(2, 4))


def test_inference_mode():
    with torch.inference_mode():
        out = TappedNet(Net(), {"f": "first"})(torch.rand(2, 4))
    assert out.features["f"].shape == (2, 5)


def test_timm_model_has_aliases_and_right_taps():
    net = timm_model("resnet10t", 7, in_channels=1).eval()
    assert list(net.aliases) == ["stem", "stage1", "stage2", "stage3", "stage4", "penultimate"]
    assert not hasattr(net, "mean")
    plain = net(x := torch.rand(2, 1, 64, 64))
    out = TappedNet(net, {a: a for a in net.aliases})(x)
    assert torch.equal(out.logits, plain)
    assert torch.equal(net.fc(out.features["penultimate"]), out.logits)
    assert [f.shape[-1] for f in out.features.values()] == [32, 16, 8, 4, 2, 512]


def test_timm_stages_of_other_families():
    with torch.device("meta"):
        vit, vgg = timm_model("vit_tiny_patch16_224", 10), timm_model("vgg11_bn", 10)
    assert vit.aliases["stage12"] == "blocks.11" and vit.aliases["penultimate"] == "head:in"
    assert "stem" not in vgg.aliases and "stage5" in vgg.aliases


def test_timm_unknown_name_and_missing_weights(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="no model 'resnt18'; the nearest are resnet18"):
        timm_model("resnt18", 10)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        timm_model("resnet10t", 10, weights=tmp_path / "none.pth")

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(RuntimeError, match=r"'resnet10t' could not be fetched; give a local file as weights"):
        timm_model("resnet10t", 10, pretrained=True)


def test_timm_local_weights_with_another_head(tmp_path):
    source = timm_model("resnet10t", 1000)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = timm_model("resnet10t", 5, weights=tmp_path / "w.pth")
    assert torch.equal(net.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert net.fc.out_features == 5
    assert len(net.mean) == len(net.std) == 3 and all(0 < m < 1 for m in net.mean)
    assert len(timm_model("resnet10t", 5, in_channels=1, weights=tmp_path / "w.pth").mean) == 1
