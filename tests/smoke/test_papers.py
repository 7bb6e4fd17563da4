"""Every paper: all scales compose, every class they name exists, and all arms run at smoke scale."""

from pathlib import Path

import pytest

from common import config as configuration
from common import nodes
from common.runner import run

ROOT = Path(__file__).resolve().parent.parent.parent
SLUGS = sorted(path.stem for path in (ROOT / "conf/paper").glob("*.yaml"))


@pytest.mark.parametrize("slug", SLUGS)
def test_all_arms_run_at_smoke_scale(slug, folders):
    records = run([f"paper={slug}", "scale=smoke", *folders])
    assert {record["status"] for record in records} == {"finished"}, [r.get("reason") for r in records]
    assert all(record["metrics"] for record in records)


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_every_scale_composes_and_names_what_exists(slug, scale):
    config = configuration.compose([f"paper={slug}", f"scale={scale}"])
    for arm, resolved, _, _ in configuration.split(config):
        given = ("num_classes", "in_channels", "image_size", "num_features", "params", "root", "optimizer")
        for key, node in walk(resolved, f"{arm}:"):
            if key.endswith(":data"):
                node = {k: v for k, v in node.items() if k != "teacher_train_size"}
            nodes.check(node, key, (*given, "T_max", "plan", "folder", "name"))


def walk(node, where):
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, node
        for key, value in node.items():
            yield from walk(value, f"{where}{key}" if where.endswith(":") else f"{where}.{key}")


def test_published_protocol_is_what_the_paper_scale_carries():
    config = configuration.plain(configuration.compose(["paper=kd", "scale=paper"]))
    assert config["trainer"]["max_epochs"] == 240 == config["teacher"]["max_epochs"]
    for optim in (config["optim"], config["teacher"]["optim"]):
        assert optim["schedule"]["milestones"] == [150, 180, 210] and optim["schedule"]["gamma"] == 0.1
        assert optim["optimizer"]["lr"] == 0.05 and optim["optimizer"]["weight_decay"] == 5e-4
    assert config["data"]["_target_"] == "common.data.cifar100" and config["data"]["batch_size"] == 64
    assert config["data"]["views"]["x"] == {"name": "crop_flip", "pad": 4}
    assert config["student"]["_target_"] == "common.nets.resnet20"


def test_published_protocol_runs_for_a_few_steps(folders):
    made_up = [
        "data=synthetic",
        "data.image_size=32",
        "data.channels=3",
        "data.num_classes=20",
        "data.batch_size=16",
    ]
    limits = ["limit.epochs=1", "limit.train_batches=2", "limit.eval_batches=1", "trainer.threads=1"]
    records = run(
        ["paper=kd", "scale=paper", "arm=kd", *made_up, *limits, *folders, "data.views.x=crop_flip"]
    )
    assert records[0]["status"] == "finished", records[0].get("traceback")
    assert records[0]["parameters"]["student"] < records[0]["parameters"]["teacher"]
