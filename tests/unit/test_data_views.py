"""Views and loaders against explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.core.seeding import uniform
from common.data import DataError, Split, VisionData
from common.data.views import InceptionCrop, make_view, stream

VIEWS = ["none", "shift", "crop_flip", {"name": "crop_flip", "pad": 2}, "inception_crop"]


def make(count=37, side=9, channels=3, views=None, batch_size=8):
    x = torch.randint(0, 256, (count, side, side, channels), generator=torch.Generator().manual_seed(1))
    split = Split(x.to(torch.uint8), torch.arange(count) % 3)
    return VisionData(
        {"train": split},
        name="made",
        description="",
        classes=3,
        views=views or {"x": "none"},
        batch_size=batch_size,
    )


def epoch_by_index(loader, epoch, key="x"):
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    index = torch.cat([b["index"] for b in batches])
    return torch.cat([b[key] for b in batches])[index.argsort()], index.sort().values


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_view_does_not_depend_on_its_batch(view):
    reference, index = epoch_by_index(make(views={"x": view}, batch_size=37).train_loader(5), 3)
    assert index.tolist() == list(range(37))
    for batch_size in (2, 5, 8):
        loader = make(views={"x": view}, batch_size=batch_size).train_loader(5)
        views, index = epoch_by_index(loader, 3)
        assert torch.equal(views, reference[index])


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_form_of_a_batch(view):
    for batch in make(views={"x": view, "x_teacher": view}).train_loader(0):
        assert set(batch) == {"x", "x_teacher", "y", "index"}
        x = batch["x"]
        assert x.dtype == torch.float32 and x.shape[1:] == (3, 9, 9)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert x.min() >= 0 and x.max() <= 1
        assert batch["y"].dtype == batch["index"].dtype == torch.int64


def test_pixels_and_labels_are_the_stored_ones():
    data = make()
    split = data.splits["train"]
    for batch in data.train_loader(2):
        expected = split.x[batch["index"]].permute(0, 3, 1, 2).float() / 255
        assert torch.equal(batch["x"], expected)
        assert torch.equal(batch["y"], split.y[batch["index"]])


@pytest.mark.parametrize(
    ("name", "pad", "mirror"), [("crop_flip", 4, True), ("shift", 1, False), ("shift", 0, False)]
)
def test_crop_against_a_loop(name, pad, mirror):
    data = make(views={"x": {"name": name, "pad": pad}})
    images = data.splits["train"].x.numpy()
    seen = set()
    loader = data.train_loader(7)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for i, index in enumerate(batch["index"].tolist()):
                u = uniform(torch.tensor([index]), 3, 7, epoch, stream("x"))[0].tolist()
                top, left = int(u[0] * (2 * pad + 1)), int(u[1] * (2 * pad + 1))
                padded = np.pad(images[index], ((pad, pad), (pad, pad), (0, 0)))
                window = padded[top : top + 9, left : left + 9]
                if mirror and u[2] < 0.5:
                    window = window[:, ::-1]
                seen.add((top, left, mirror and u[2] < 0.5))
                expected = window.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
                assert np.array_equal(batch["x"][i].numpy(), expected)
    if pad == 1:
        assert len(seen) == 9


def test_flip_alone_mirrors_about_half():
    data = make(count=400, views={"x": {"name": "crop_flip", "pad": 0}}, batch_size=400)
    views, index = epoch_by_index(data.train_loader(0), 0)
    plain = data.splits["train"].x[index].permute(0, 3, 1, 2).float() / 255
    same = (views == plain).flatten(1).all(1)
    mirrored = (views == plain.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_inception_boxes_lie_inside_and_follow_the_options():
    view = InceptionCrop((0.08, 1.0), (3 / 4, 4 / 3), True)
    u = uniform(torch.arange(20000), view.draws, 0)
    top, left, h, w = view.boxes(32, 32, u).unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
    assert (top + h <= 32).all() and (left + w <= 32).all()
    share = (h * w).double() / 32**2
    # Rounding to pixels moves the smallest areas a little.
    assert 0.06 < share.min() < 0.1 and 0.95 < share.max() <= 1
    assert abs(share.mean() - 0.5) < 0.05
    ratio = w.double() / h
    assert ratio.min() > 0.6 and ratio.max() < 1.6


def test_inception_falls_back_to_the_centre():
    # Nothing of twice the width and the full area fits into a square.
    view = InceptionCrop((1.0, 1.0), (2.0, 2.0), False)
    boxes = view.boxes(8, 8, uniform(torch.arange(5), view.draws, 0))
    assert boxes.tolist() == [[2, 0, 4, 8]] * 5


def test_inception_crop_against_torch_resize():
    data = make(side=12, views={"x": "inception_crop"})
    view = make_view("inception_crop", "x")
    images = data.splits["train"].x.permute(0, 3, 1, 2).float() / 255
    for batch in data.train_loader(4):
        u = uniform(batch["index"], view.draws, 4, 0, stream("x"))
        for i, (top, left, h, w) in enumerate(view.boxes(12, 12, u).tolist()):
            crop = images[batch["index"][i], :, top : top + h, left : left + w][None]
            expected = torch.nn.functional.interpolate(
                crop, size=(12, 12), mode="bilinear", align_corners=False
            )[0]
            expected = expected.flip(2) if u[i, 2] < 0.5 else expected
            assert torch.allclose(batch["x"][i], expected, atol=2e-5)


def test_full_inception_crop_is_the_image():
    data = make(views={"x": {"name": "inception_crop", "scale": [1.0, 1.0], "ratio": [1, 1], "flip": False}})
    views, index = epoch_by_index(data.train_loader(0), 0)
    plain = data.splits["train"].x[index].permute(0, 3, 1, 2).float() / 255
    assert torch.allclose(views, plain, atol=1e-5)


def test_the_teacher_has_a_stream_of_its_own():
    both = make(views={"x": "crop_flip", "x_teacher": "crop_flip"}).train_loader(0)
    alone = make(views={"x": "crop_flip"}).train_loader(0)
    student, _index = epoch_by_index(both, 1)
    teacher, _ = epoch_by_index(both, 1, "x_teacher")
    assert not torch.equal(student, teacher)
    assert torch.equal(epoch_by_index(alone, 1)[0], student)
    fixed = make(views={"x": "crop_flip", "x_teacher": "none"}).train_loader(0)
    assert torch.equal(epoch_by_index(fixed, 0, "x_teacher")[0], epoch_by_index(fixed, 9, "x_teacher")[0])
    # Results of earlier versions can be repeated only while this number stays.
    assert stream("x_teacher") == 216984994


def test_views_change_with_epoch_and_seed():
    data = make(views={"x": "crop_flip"})
    first = epoch_by_index(data.train_loader(0), 0)[0]
    assert not torch.equal(first, epoch_by_index(data.train_loader(0), 1)[0])
    assert not torch.equal(first, epoch_by_index(data.train_loader(1), 0)[0])


@pytest.mark.parametrize(
    ("views", "random"),
    [
        ({"x": "none"}, False),
        ({"x": {"name": "shift", "pad": 0}}, False),
        ({"x": "shift"}, True),
        ({"x": {"name": "crop_flip", "pad": 0}}, True),
        ({"x": "none", "x_teacher": "inception_crop"}, True),
    ],
)
def test_views_random(views, random):
    assert make(views=views).views_random is random


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ({"x": "crop_flop"}, ["data.views.x=crop_flop", "crop_flip"]),
        ({"x": None}, ["data.views.x=None"]),
        ({"x": {"name": "shift", "pda": 1}}, ["data.views.x.pda", "pad"]),
        ({"x": {"name": "none", "pad": 1}}, ["data.views.x.pad"]),
        ({"x": {"pad": 1}}, ["data.views.x", "name"]),
        ({"x": {"name": "shift", "pad": -1}}, ["data.views.x.pad=-1"]),
        ({"x": {"name": "shift", "pad": 1.5}}, ["pad=1.5"]),
        ({"x": {"name": "inception_crop", "scale": [0, 1]}}, ["scale=[0, 1]"]),
        ({"x": {"name": "inception_crop", "scale": [0.1, 2]}}, ["scale", "at most 1"]),
        ({"x": {"name": "inception_crop", "ratio": 1}}, ["ratio=1"]),
        ({"x": {"name": "inception_crop", "flip": "yes"}}, ["flip=yes"]),
        ({"x_teacher": "none"}, ["data.views has no x"]),
        ({}, ["data.views has no x"]),
        ({"x": "none", "y": "none"}, ["data.views.y"]),
    ],
    ids=str,
)
def test_wrong_views_are_named(views, words):
    with pytest.raises(DataError) as error:
        VisionData(make().splits, name="made", description="", classes=3, views=views)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message
