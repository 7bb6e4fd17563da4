"""Order, resuming and the edges of an epoch."""

from __future__ import annotations

import pytest
import torch

from common.data import DataError, Split, VisionData, synthetic


def make(count, batch_size=8, **options):
    split = Split(torch.zeros(count, 4, 4, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    return VisionData(
        {"train": split, "test": split},
        name="made",
        description="",
        classes=1,
        batch_size=batch_size,
        **options,
    )


def indices(loader):
    return torch.cat([batch["index"] for batch in loader]).tolist()


def test_shuffling_is_a_permutation_and_differs_per_epoch():
    loader = make(50).train_loader(0)
    orders = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        orders.append(tuple(indices(loader)))
        assert sorted(orders[-1]) == list(range(50))
    assert len(set(orders)) == 4
    assert tuple(indices(make(50).train_loader(1))) not in orders


def test_every_place_is_reached_equally_often():
    loader = make(5, batch_size=5).train_loader(0)
    counts = torch.zeros(5, 5)
    for epoch in range(1000):
        loader.sampler.set_epoch(epoch)
        counts[torch.arange(5), loader.sampler.order()] += 1
    # 200 expected, standard deviation 12.6.
    assert counts.min() > 145 and counts.max() < 255


def test_resuming_at_an_epoch_equals_getting_there():
    data = synthetic(views={"x": "crop_flip", "x_teacher": "inception_crop"}, batch_size=24)
    through, resumed = data.train_loader(3), data.train_loader(3)
    for epoch in range(6):
        through.sampler.set_epoch(epoch)
        expected = list(through)
    resumed.sampler.set_epoch(5)
    for one, other in zip(expected, resumed, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_lightning_reaches_the_epoch():
    utilities = pytest.importorskip("lightning.fabric.utilities.data")
    loader = make(50).train_loader(0)
    utilities._set_sampler_epoch(loader, 7)
    assert loader.sampler.epoch == 7 and loader.batch_sampler.sampler is loader.sampler


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (16, 8, [8, 8]),
        (18, 8, [8, 8, 2]),
        (17, 8, [8, 8]),
        (1, 8, [1]),
        (9, 8, [8]),
        (3, 1, [1, 1, 1]),
        (5, 64, [5]),
    ],
)
def test_last_batch_of_training(count, batch_size, sizes):
    loader = make(count, batch_size).train_loader(0)
    assert [len(batch["y"]) for batch in loader] == sizes and len(loader) == len(sizes)


def test_evaluation_takes_everything_in_order():
    data = make(17, eval_batch_size=8, views={"x": "crop_flip"})
    loader = data.eval_loader("test")
    assert len(loader) == 3 and indices(loader) == list(range(17))
    loader.sampler.set_epoch(3)
    assert indices(loader) == list(range(17))
    assert all(set(batch) == {"x", "y", "index"} for batch in loader)


def test_evaluation_is_not_augmented():
    data = synthetic(views={"x": "crop_flip", "x_teacher": "shift"})
    for split in ("train", "val", "test"):
        x = torch.cat([batch["x"] for batch in data.eval_loader(split)])
        assert torch.equal(x, data.splits[split].x.permute(0, 3, 1, 2).float() / 255)


def test_unknown_split_is_named():
    with pytest.raises(DataError, match=r"no split tset; did you mean test"):
        make(3).eval_loader("tset")
    with pytest.raises(DataError, match=r"no split val; set data\.val_size"):
        make(3).eval_loader("val")
