"""DiffusionEdge: the networks' contracts, sizes as published, and a run that was killed."""

import pytest
import torch
from torch import nn

from common.runner import run
from papers.diffusion_edge.autoencoder import Autoencoder, SpaceToDepth, gradient_gap, kl_to_normal
from papers.diffusion_edge.baselines import Detector
from papers.diffusion_edge.condition import Backbone, Pyramid
from papers.diffusion_edge.pictures import thinned, write_sheet
from papers.diffusion_edge.procedure import Diffusion, Replay
from papers.diffusion_edge.sampling import Sampler
from papers.diffusion_edge.stages import schedule_of
from papers.diffusion_edge.training import DiffusionStage, Objective, Schedule, Stage
from papers.diffusion_edge.unet import DenoisingNet

torch.manual_seed(0)
F64 = torch.float64


def rand(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def millions(net):
    return sum(p.numel() for p in net.parameters()) / 1e6


class Widths(nn.Module):
    widths = (128, 256, 512, 1024)


def test_published_sizes():
    with torch.device("meta"):
        coder, net = Autoencoder(), DenoisingNet(Widths(), 3, 80)
    assert millions(coder) == pytest.approx(55.3, abs=0.05)
    assert millions(coder.encoder) == pytest.approx(22.3, abs=0.06)
    assert millions(coder.decoder) == pytest.approx(33.0, abs=0.06)
    fusion = [level.fusion for level in net.levels]
    fusion += [level.fusion for decoder in net.decoders for level in decoder.levels]
    assert sum(map(millions, fusion)) == pytest.approx(18.6, rel=0.02)
    for decoder in net.decoders:
        alone = millions(decoder) - sum(millions(level.fusion) for level in decoder.levels)
        assert alone == pytest.approx(39.5, rel=0.02)
    # The published count has Swin-B with its classifier, 87.8 of the 224.9.
    assert millions(net) == pytest.approx(224.9 - 87.8, rel=0.01)
    assert net.filters[0].weight.shape == (512, 10, 6, 2)


def test_detector_is_as_large_as_the_diffusion_network():
    with torch.device("meta"):
        pairs = [
            (Detector(Widths(), 1280), DenoisingNet(Widths(), 3, 80)),
            (Detector(Pyramid((16, 32)), 104), DenoisingNet(Pyramid((16, 32)), 3, 16, 16, (1, 2), (4, 2))),
        ]
    for detector, net in pairs:
        assert millions(detector) == pytest.approx(millions(net), rel=0.15)


@pytest.mark.slow
def test_published_sizes_fit_together():
    with torch.device("meta"):
        net = DenoisingNet(Backbone("swin_base_patch4_window7_224", 320), 3, 80)
        features = net.see(torch.empty(2, 3, 320, 320))
        heads = net(torch.empty(2, 3, 80, 80), torch.empty(2), features)
        sum(head.sum() for head in heads).backward()
    assert [tuple(f.shape[1:]) for f in features] == [
        (128, 80, 80),
        (256, 40, 40),
        (512, 20, 20),
        (1024, 10, 10),
    ]
    assert [tuple(head.shape) for head in heads] == [(2, 3, 80, 80)] * 2
    assert all(p.grad is not None for p in net.parameters())
    assert millions(net.condition) == pytest.approx(87.8 - 1.025, rel=0.002)


@pytest.mark.slow
def test_published_sizes_train_and_sample():
    net = DenoisingNet(Backbone("swin_base_patch4_window7_224", 320), 3, 80)
    coder = Autoencoder().requires_grad_(False)
    stage = DiffusionStage(net, Schedule(1, 5e-5), 0, coder=coder)
    stage.objective = Objective(0.3)
    batch = {"x": torch.rand(1, 3, 320, 320) * 2 - 1, "e": (torch.rand(1, 1, 320, 320) > 0.97).float()}
    terms = stage.terms(batch, torch.Generator().manual_seed(0))
    sum(terms.values()).backward()
    stage.configure_optimizers().step()
    assert all(torch.isfinite(p).all() for p in net.parameters())
    edges = Sampler(net.eval(), coder, stage.objective, 1, 320, 240, 0).maps(batch["x"])
    assert edges.shape == (1, 1, 320, 320) and 0 <= edges.min() <= edges.max() <= 1


def little_net(heads=2, filtered=True):
    torch.manual_seed(0)
    return DenoisingNet(Pyramid((8, 8)), 16, 8, 8, (1, 1), (2, 1), heads, filtered)


@pytest.mark.parametrize(("heads", "filtered"), [(2, True), (2, False), (1, True)])
def test_every_parameter_learns(heads, filtered):
    net = little_net(heads, filtered)
    stage = DiffusionStage(net, Schedule(1, 1e-3), 0, coder=SpaceToDepth())
    stage.objective = Objective(1.0, "through_decoder")
    batch = {"x": torch.rand(2, 3, 32, 32), "e": (torch.rand(2, 1, 32, 32) > 0.9).float()}
    sum(stage.terms(batch, torch.Generator().manual_seed(0)).values()).backward()
    # A bias in front of a normalisation, or the same for all keys of a softmax, has no effect.
    idle = [name for name, p in net.named_parameters() if p.grad is None]
    assert not idle


def test_maps_do_not_depend_on_the_batch_an_image_is_in():
    net = little_net().eval()
    sampler = Sampler(net, SpaceToDepth(), Objective(1.0), 2, 32, 16, seed=3)
    x = torch.rand(3, 3, 40, 32) * 2 - 1
    together = sampler.maps(x)
    alone = torch.cat([sampler.maps(x[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5) and together.shape == (3, 1, 40, 32)
    other = Sampler(net, SpaceToDepth(), Objective(1.0), 2, 32, 16, seed=4).maps(x)
    assert not torch.allclose(together, other, atol=1e-3)


def test_evaluators_get_the_maps_back():
    maps = torch.rand(3, 1, 5, 5)
    maps[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    replay = Replay(maps)
    back = torch.cat([replay(torch.zeros(2, 3, 5, 5)).logits, replay(torch.zeros(1, 3, 5, 5)).logits])
    assert torch.allclose(torch.sigmoid(back), maps, atol=1e-6)


def test_sheet_has_a_picture_for_each_column_and_row(tmp_path):
    from PIL import Image

    line = torch.zeros(1, 24, 24)
    line[0, :, 12] = 1.0
    assert thinned(line[0].numpy()).sum(0).nonzero()[0].tolist() == [12]
    write_sheet(
        tmp_path / "sheet.png", [{"image": torch.rand(3, 24, 24) * 2 - 1, "raw": line}, {"raw": line}]
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 200
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_losses_of_the_autoencoder():
    mean, log_variance = rand(2, 3, 2, 2), rand(2, 3, 2, 2, seed=1) / 2
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    assert torch.allclose(kl_to_normal(mean, log_variance), expected.flatten(1).sum(1))
    ramp = torch.arange(6, dtype=F64).expand(1, 1, 5, 6)
    # A slope of 1 from left to right: 2 in the inside, times one of two directions.
    assert torch.allclose(gradient_gap(ramp, 0 * ramp)[..., 1:-1, 1:-1], torch.tensor(1.0, dtype=F64))
    e = torch.rand(2, 1, 16, 16)
    assert torch.equal(SpaceToDepth().decode(SpaceToDepth().encode(e)), e)


def test_schedule_falls_to_its_floor():
    schedule = Schedule(10, 1.0, power=2.0, floor=0.05)
    assert [schedule.factor(i) for i in (0, 5, 9, 10)] == pytest.approx([1.0, 0.25, 0.05, 0.05])
    with pytest.raises(ValueError, match="a schedule needs steps"):
        Schedule(0, 1.0)


SHORT = ["paper=diffusion_edge", "scale=smoke", "trainer.max_epochs=2", "limit.epochs=null"]


def test_a_killed_run_goes_on_bit_for_bit(folders, tmp_path, monkeypatch):
    command = [
        *SHORT,
        "hyper.diffusion.optim.steps=4",
        "trainer.checkpoint_seconds=0",
        "arm=space_to_depth",
    ]
    (whole,) = run([*command, *folders])
    assert whole["status"] == "finished", whole.get("traceback")
    begin = Stage.on_train_epoch_start

    def killed(self):
        if isinstance(self, DiffusionStage) and self.current_epoch == 1:
            raise RuntimeError("killed")
        begin(self)

    monkeypatch.setattr(Stage, "on_train_epoch_start", killed)
    other = [f"paths.runs={tmp_path / 'other'}", f"paths.zoo={tmp_path / 'otherzoo'}", "logger=none"]
    assert run([*command, *other])[0]["reason"].endswith("killed")
    monkeypatch.undo()
    (resumed,) = run([*command, *other])
    assert resumed["metrics"] == whole["metrics"]


def diffusion(**options):
    return Diffusion({"widths": [8, 8]}, {}, {"steps": 1, "lr": 0.1}, None, {}, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: schedule_of({"steps": 1, "lr": 0.1, "warmup": 3}, "optim"),
            "optim: got an unexpected keyword",
        ),
        (lambda: schedule_of({"steps": 0, "lr": 0.1}, "optim"), "optim: a schedule needs steps"),
        (lambda: DenoisingNet(Pyramid((8, 8)), 3, 8, 8, (1, 1), (2,)), "give one entry a level"),
        (lambda: DenoisingNet(Pyramid((8, 8)), 3, 9, 8, (1, 1), (2, 1)), "cannot be divided into its levels"),
        (lambda: diffusion(sampling_steps=[0]), "needs whole numbers of at least 1"),
        (lambda: diffusion(k=-1.0), "has to be a positive number"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
