"""Edge data: made-up scenes, BSDS500 in its layout, one's own folders, and crops that resume."""

import socket

import numpy as np
import pytest
import torch

from common.boundaries import Settings, summarise
from common.boundaries.scoring import score_images
from common.data import bsds500, edge_folder, shapes
from common.data.base import DataError
from common.data.edges_scenes import SOURCES, Recipe, label_boundaries, make_scene
from tests.unit.boundary_maps import save, write_mat


@pytest.fixture(scope="module")
def scenes():
    """Twelve scenes of the test split, three annotators each."""
    return [make_scene(Recipe(annotators=(3, 3)), "test", 0, i) for i in range(12)]


def f_measure(maps, scenes):
    sources = [(m.astype(float), list(s.annotations)) for m, s in zip(maps, scenes, strict=True)]
    images = score_images(sources, [0.5], Settings(protocol="bsds", tolerance_px=2.0))
    return summarise([image.counts for image in images])


def test_exact_boundaries_agree_with_annotators_and_canny_does_not(scenes):
    from skimage.feature import canny

    exact = [label_boundaries(scene.labels) for scene in scenes]
    assert 0.022 < np.mean([boundary.mean() for boundary in exact]) < 0.036
    ceiling = f_measure(exact, scenes)
    assert 0.94 < ceiling.ods < 1.0 and ceiling.ods_precision > 0.99
    grey = [scene.image @ [0.299, 0.587, 0.114] / 255 for scene in scenes]
    filtered = f_measure([canny(g, 1.0, 20 / 255, 50 / 255) for g in grey], scenes)
    assert 0.45 < filtered.ods < 0.65


def test_every_boundary_pixel_touches_two_labels(scenes):
    for scene in scenes:
        padded = np.pad(scene.labels, 1, mode="edge")
        for y, x in zip(*np.nonzero(label_boundaries(scene.labels)), strict=True):
            assert len(np.unique(padded[y : y + 3, x : x + 3])) > 1


def test_annotators_disagree_so_that_labels_are_soft(scenes):
    soft = np.stack([scene.annotations.mean(0) for scene in scenes])
    assert ((soft > 0) & (soft < 1)).any() and (soft == 1).any()
    five = make_scene(Recipe(annotators=(5, 5)), "train", 0, 0).annotations.mean(0)
    assert ((five > 0) & (five < 0.3)).any()
    alike = make_scene(Recipe(annotators=(3, 3), annotator_drop=0.0, annotator_jitter=0), "train", 0, 0)
    assert (alike.annotations == label_boundaries(alike.labels)).all()


def test_scenes_are_functions_of_the_seed_and_need_no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("network"))
    a, b, c = (make_scene(Recipe(size=48), "val", seed, 3) for seed in (0, 0, 1))
    assert (a.image == b.image).all() and (a.annotations == b.annotations).all()
    assert a.image.shape == (48, 48, 3) and a.image.dtype == np.uint8 and (a.image != c.image).any()
    assert len({name for names in SOURCES.values() for name in names}) == sum(map(len, SOURCES.values()))


def small(**options):
    return shapes(4, 1, 2, size=40, crop=32, batch_size=3, **options)


def test_crops_depend_on_seed_epoch_and_place_alone():
    data = small()

    def batches(seed, epoch, steps=3):
        loader = data.train_loader(seed, steps)
        loader.set_epoch(epoch)
        return list(loader)

    first, again, other = batches(0, 1), batches(0, 1, steps=2), batches(0, 2)
    assert [len(b["x"]) for b in first] == [3, 3, 3] and len(data.train_loader(0)) == 1
    for a, b in zip(first[:2], again, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(first[0]["x"], other[0]["x"])
    # A crop is a window of its image, or the mirror image of one, and image and label go together.
    x, e, index = (first[0][key][0] for key in ("x", "e", "index"))
    scene = data.scenes("train")[int(index)]
    found = 0
    for top in range(9):
        for left in range(9):
            for step in (1, -1):
                pixels = scene.image[top : top + 32, left : left + 32][:, ::step]
                if np.allclose(pixels.transpose(2, 0, 1) / 127.5 - 1, x, atol=1e-6):
                    label = scene.annotations.mean(0)[top : top + 32, left : left + 32][:, ::step]
                    found += np.allclose(label, e[0])
    assert found == 1


def test_evaluation_batches_and_annotations_go_together():
    data = small(eval_batch_size=1)
    batches = list(data.eval_loader("test"))
    assert [int(b["y"]) for b in batches] == [0, 1] and batches[0]["x"].shape == (1, 3, 40, 40)
    assert len(data.annotations("test")) == 2 and data.annotations("test")[0][0].shape == (40, 40)
    assert small().fingerprint == data.fingerprint != small(scene_seed=1).fingerprint


@pytest.mark.parametrize("kind", ["bsds500", "edge_folder"])
def test_files_are_read_turned_and_cropped(tmp_path, kind):
    draw = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i, shape in enumerate(((30, 40), (40, 30))):
            inside = f"images/{split}" if kind == "bsds500" else f"{split}/images"
            truth = f"groundTruth/{split}" if kind == "bsds500" else f"{split}/groundTruth"
            drawn = np.zeros((2, *shape), dtype=bool)
            drawn[0, 5], drawn[1, :, 7] = True, True
            save(tmp_path / inside / f"{i}.png", draw.integers(0, 255, (*shape, 3), dtype=np.uint8))
            if kind == "bsds500":
                write_mat(tmp_path / truth / f"{i}.mat", drawn)
            else:
                save(tmp_path / truth / f"{i}.png", (drawn[0] * 255).astype(np.uint8))
    make = bsds500 if kind == "bsds500" else edge_folder
    data = make(str(tmp_path), crop=24, resized_crop=kind == "bsds500", batch_size=2)
    assert {scene.image.shape for scene in data.scenes("test")} == {(30, 40, 3)}
    assert data.annotations("test")[1][0].shape == (30, 40)
    batch = next(iter(data.train_loader(0)))
    assert batch["x"].shape == (2, 3, 24, 24) and batch["e"].shape == (2, 1, 24, 24)
    (tmp_path / ("images/test" if kind == "bsds500" else "test/images") / "1.png").unlink()
    with pytest.raises(DataError, match="has no image in"):
        make(str(tmp_path), crop=24)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapes(0), "data.train_size=0 has to be a whole number"),
        (lambda: shapes(crop=200), "data.crop=200 is larger than the scenes"),
        (lambda: shapes(annotator_drop=1.5), r"data.annotator_drop=1.5 has to lie in \[0, 1\]"),
        (lambda: shapes(n_objects=[5, 3]), r"data.n_objects=\[5, 3\] has to be two ascending numbers"),
        (lambda: shapes(size=16), "data.size=16 is too small"),
        (lambda: small().scenes("dev"), "has no split dev; choose train, val, test"),
        (lambda: bsds500("nowhere", root="/absent"), "data.path=nowhere: the folder of BSDS500 is neither"),
        (lambda: edge_folder("nowhere"), "data.path=nowhere: the folder is not"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(DataError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
