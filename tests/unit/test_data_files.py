"""One's own files: arrays, encoded images, folders, and what can be wrong with them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import DataError, image_folder, npz

SHARED = Path(os.environ.get("DISTILLERY_DATA", "")) / "cifar10_subset"
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
Y = np.arange(40) % 4


def save(folder, name="set.npz", **arrays):
    np.savez(folder / name, **arrays)
    return str(folder / name)


def everything(data, *splits):
    """All images and labels of a data set, or of some splits, in one order."""
    parts = [data.splits[name] for name in splits or data.splits]
    x = torch.cat([split.x for split in parts]).numpy()
    y = torch.cat([split.y for split in parts]).tolist()
    return sorted((image.tobytes(), label) for image, label in zip(x, y, strict=True))


def expected(x, y):
    return sorted((image.tobytes(), label) for image, label in zip(x, y.tolist(), strict=True))


def encode(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("x", "images"),
    [
        (X, X),
        (X.transpose(0, 3, 1, 2), X),
        (X[..., 0], X[..., :1]),
        (X[..., :1], X[..., :1]),
        (X[:, None, :, :, 0], X[..., :1]),
        ((X / 255).astype(np.float32), X),
        ((X / 255).transpose(0, 3, 1, 2), X),
        ((X / 255).astype(np.float16), X),
    ],
    ids=["NHWC", "NCHW", "NHW", "NHW1", "N1HW", "float32", "float64-NCHW", "float16"],
)
def test_layouts(tmp_path, x, images):
    data = npz(save(tmp_path, x=x, y=Y))
    assert everything(data) == expected(images, Y)
    assert data.spec == {"num_classes": 4, "in_channels": images.shape[3], "image_size": 6}
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 32, "test": 8}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_labels_of_any_integer_type(tmp_path, dtype):
    assert everything(npz(save(tmp_path, image=X, label=Y[:, None].astype(dtype)))) == expected(X, Y)


def test_parts_in_one_file(tmp_path):
    path = save(
        tmp_path, x_train=X[:20], y_train=Y[:20], x_val=X[20:28], y_val=Y[20:28], x_test=X[28:], y_test=Y[28:]
    )
    data = npz(path)
    assert torch.equal(data.splits["train"].x, torch.from_numpy(X[:20]))
    assert everything(data, "val") == expected(X[20:28], Y[20:28])
    assert everything(data, "test") == expected(X[28:], Y[28:])
    with pytest.raises(DataError, match="val_size=4 has to be 0"):
        npz(path, val_size=4)
    with pytest.raises(DataError, match="test images of its own"):
        npz(path, test_path=path)


def test_a_test_file_and_nested_sizes(tmp_path):
    save(tmp_path, "a.npz", x=X[:30], y=Y[:30])
    save(tmp_path, "b.npz", x=X[30:], y=Y[30:])
    sets = [npz("a.npz", "b.npz", train_size=size, val_size=8, root=tmp_path) for size in (8, 16, None)]
    for data in sets:
        assert everything(data, "test") == expected(X[30:], Y[30:])
        assert torch.equal(data.splits["val"].x, sets[0].splits["val"].x)
        size = len(data.splits["train"])
        assert torch.equal(sets[-1].splits["train"].x[:size], data.splits["train"].x)
    assert [len(data.splits["train"]) for data in sets] == [8, 16, 22]
    assert everything(sets[-1]) == expected(X, Y)
    assert sets[0].description == "a.npz (6x6), 8 training images"
    assert npz("a.npz", description="beans", root=tmp_path).description.startswith("beans, ")


def test_the_beginning_of_a_test_file_sorted_by_class_holds_all_classes(tmp_path):
    order = np.argsort(Y, kind="stable")
    save(tmp_path, "train.npz", x=X, y=Y)
    save(tmp_path, "test.npz", x=X[order], y=Y[order])
    one, other = (npz("train.npz", "test.npz", split_seed=seed, root=tmp_path) for seed in (0, 1))
    labels = one.splits["test"].y
    counts = torch.nn.functional.one_hot(labels, 4).cumsum(0)
    # After k images each of four equal classes has come k / 4 times, up to one.
    assert (counts - torch.arange(1, len(Y) + 1)[:, None] / 4).abs().max() <= 1
    assert torch.equal(other.splits["test"].x, one.splits["test"].x)


def test_a_carved_test_set_does_not_depend_on_the_training_size(tmp_path):
    path = save(tmp_path, x=X, y=Y)
    few, many, other = npz(path, train_size=8), npz(path), npz(path, split_seed=1)
    assert torch.equal(few.splits["test"].x, many.splits["test"].x)
    assert not torch.equal(other.splits["test"].x, many.splits["test"].x)
    assert torch.bincount(many.splits["test"].y).tolist() == [2] * 4


def test_encoded_images(tmp_path):
    files = [encode(image) for image in X]
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        # The sums of unsigned lengths would be floats.
        "length": np.array([len(f) for f in files], np.uint64),
        "label": Y.astype(np.uint8),
    }
    assert everything(npz(save(tmp_path, **arrays))) == expected(X, Y)
    wrong = arrays["jpeg"].copy()
    start = int(arrays["length"][:7].sum())
    wrong[start : start + 20] = 0
    with pytest.raises(DataError, match=r"set.npz: image 7 cannot be decoded"):
        npz(save(tmp_path, **{**arrays, "jpeg": wrong}))
    with pytest.raises(DataError, match="length sums to"):
        npz(save(tmp_path, **{**arrays, "jpeg": arrays["jpeg"][:-1]}))
    with pytest.raises(DataError, match="39 labels"):
        npz(save(tmp_path, **{**arrays, "label": Y[:-1]}))


def test_a_changed_file_is_read_again(tmp_path):
    path = save(tmp_path, x=X, y=Y)
    first = npz(path).fingerprint
    save(tmp_path, x=255 - X, y=Y)
    os.utime(path, ns=(1, 1))
    assert npz(path).fingerprint != first


NAN = np.where(np.arange(40)[:, None, None] == 3, np.nan, X[..., 0] / 255)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": X, "Y": Y}, ["keys X, Y", "rename X to x and Y to y"]),
        ({"images": X, "labels": Y}, ["images, labels", "images to image and labels to label"]),
        ({"x": X}, ["keys x;", "x and y"]),
        ({}, ["no arrays"]),
        ({"x_train": X, "y_trian": Y}, ["no y_train", "did you mean y_trian"]),
        ({"x_test": X, "y_test": Y}, ["no images to train on"]),
        ({"x": np.array([None] * 4), "y": Y}, ["set.npz: x is pickled", "never loaded"]),
        ({"x": X, "y": Y.astype(float)}, ["y has dtype float64", "integers"]),
        ({"x": X, "y": Y - 1}, ["y contains -1"]),
        ({"x": X, "y": Y + 1}, ["no image has label 0", "labels reach 4"]),
        ({"x": X, "y": Y * 2}, ["no image has label 1"]),
        ({"x": X, "y": np.eye(4, dtype=int)[Y]}, ["y has shape [40, 4]"]),
        ({"x": X, "y": Y[:-1]}, ["40 images", "39 labels"]),
        ({"x": NAN, "y": Y}, ["x contains NaN"]),
        ({"x": X.astype(np.float32), "y": Y}, ["[0, 255]", "scale floats"]),
        ({"x": X / 255 - 0.5, "y": Y}, ["x lies in [-0.5, 0.5]"]),
        ({"x": X.astype(np.int64), "y": Y}, ["x has dtype int64"]),
        ({"x": X[:, 0, 0], "y": Y}, ["x has shape [40, 3]"]),
        ({"x": X[:0], "y": Y[:0]}, ["no images"]),
        ({"x": X[:, :4], "y": Y}, ["4 x 6", "squares"]),
        ({"x_train": X[:9], "y_train": Y[:9] % 2, "x_test": X, "y_test": Y}, ["class 2 has no image"]),
    ],
    ids=str,
)
def test_wrong_arrays_are_named(tmp_path, arrays, words):
    with pytest.raises(DataError) as error:
        npz(save(tmp_path, **arrays))
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(DataError, match=r"the file is neither at .*set.npz nor "):
        npz("set.npz", root=tmp_path)
    with pytest.raises(DataError, match=r"data.test_path=no.npz"):
        npz(save(tmp_path, x=X, y=Y), test_path="no.npz")
    for options in ({"test_fraction": 0}, {"test_fraction": 1.5}, {"test_fraction": 0.001}):
        with pytest.raises(DataError, match="test_fraction"):
            npz(str(path), **options)
    with pytest.raises(DataError, match="train_size=33 is more than the 32 images"):
        npz(str(path), train_size=33)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read as"):
        npz(str(path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as"):
        npz(str(path))
    path.write_bytes(b"\x80\x04]\x94.")
    with pytest.raises(DataError, match="pickled"):
        npz(str(path))
    np.save(tmp_path / "single.npy", X)
    with pytest.raises(DataError, match="a single array"):
        npz(str(tmp_path / "single.npy"))
    with pytest.raises(DataError, match="is a folder"):
        npz(str(tmp_path))


def tree(folder, images=X, labels=Y, names=("ant", "bee", "cat", "dog")):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:03d}.png")
    return str(folder)


def test_class_folders(tmp_path):
    path = tree(tmp_path / "pets")
    (tmp_path / "pets" / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".cache").mkdir()
    data = image_folder(path)
    assert everything(data) == expected(X, Y)
    assert data.classes == ["ant", "bee", "cat", "dog"] and data.name == "pets"
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 32, "test": 8}
    grey = image_folder("pets", channels=1, train_size=8, val_size=4, root=tmp_path)
    assert grey.spec == {"num_classes": 4, "in_channels": 1, "image_size": 6}
    assert [len(grey.splits[k]) for k in ("train", "val", "test")] == [8, 4, 8]


def test_folders_of_splits(tmp_path):
    for part, rows in (("train", slice(0, 24)), ("val", slice(24, 32)), ("test", slice(32, 40))):
        tree(tmp_path / part, X[rows], Y[rows])
    data = image_folder(str(tmp_path))
    assert [len(data.splits[k]) for k in ("train", "val", "test")] == [24, 8, 8]
    first = data.splits["train"]
    assert expected(first.x.numpy(), first.y) == expected(X[:24], Y[:24])
    (tmp_path / "test").rename(tmp_path / "kept")
    data = image_folder(str(tmp_path), val_size=4)
    assert [len(data.splits[k]) for k in ("train", "val", "test")] == [20, 4, 8]
    assert expected(data.splits["test"].x.numpy(), data.splits["test"].y) == expected(X[24:32], Y[24:32])


def test_resizing_keeps_the_centre(tmp_path):
    wide = RANDOM.integers(0, 256, (4, 20, 40, 3), dtype=np.uint8)
    path = tree(tmp_path / "wide", wide, [0, 1, 0, 1])
    data = image_folder(path, image_size=10, test_fraction=0.5)
    small = [Image.fromarray(image).resize((20, 10), Image.Resampling.BILINEAR) for image in wide]
    assert everything(data) == expected([np.asarray(image)[:, 5:15] for image in small], Y[:4] % 2)


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="the folder is not at"):
        image_folder(str(tmp_path / "none"))
    with pytest.raises(DataError, match="has no class folders"):
        image_folder(str(tmp_path))
    path = tree(tmp_path / "pets")
    with pytest.raises(DataError, match=r"more than data.max_memory_gib=1e-06"):
        image_folder(path, max_memory_gib=1e-6)
    for option in ({"image_size": 0}, {"channels": 2}):
        with pytest.raises(DataError, match=next(iter(option))):
            image_folder(path, **option)
    Image.fromarray(X[0, :4]).save(tmp_path / "pets" / "cat" / "odd.png")
    with pytest.raises(DataError, match=r"odd.png has 6x4 pixels .* set data.image_size"):
        image_folder(path)
    assert image_folder(path, image_size=6).image_size == 6
    (tmp_path / "pets" / "cat" / "odd.png").write_bytes(encode(X[0])[:60])
    with pytest.raises(DataError, match=r"cat/odd.png cannot be decoded"):
        image_folder(path)
    (tmp_path / "pets" / "cat" / "odd.png").write_text("hello")
    with pytest.raises(DataError, match=r"cat/odd.png cannot be decoded \(it is not an image file\)"):
        image_folder(path)
    (tmp_path / "pets" / "emu").mkdir()
    with pytest.raises(DataError, match=r"emu holds no images"):
        image_folder(path)
    with pytest.raises(DataError, match="is a file"):
        image_folder(str(tmp_path / "pets" / "cat" / "odd.png"))
    tree(tmp_path / "split" / "train")
    tree(tmp_path / "split" / "test", names=("ant", "bee", "cats", "dog"))
    with pytest.raises(DataError, match=r"class cats is not among those of train; did you mean cat"):
        image_folder(str(tmp_path / "split"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="DISTILLERY_DATA holds no cifar10_subset")
def test_real_cifar_images():
    data = npz("test_jpeg.npz", train_size=1000, root=SHARED, views={"x": "crop_flip"})
    assert data.spec == {"num_classes": 10, "in_channels": 3, "image_size": 32}
    assert torch.bincount(data.splits["train"].y).tolist() == [100] * 10
    assert torch.bincount(data.splits["test"].y).tolist() == [100] * 10
    # What is known of the whole set.
    assert np.allclose(data.mean, [0.4926, 0.4828, 0.4471], atol=0.015)
    assert np.allclose(data.std, [0.2457, 0.2435, 0.2611], atol=0.015)
    assert sum(len(batch["y"]) for batch in data.train_loader(0)) == 1000
