"""Curves reach each logger, whole, without an account."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest

from common import loggers
from common.errors import UserError
from common.runner import run
from tests.core.test_fit import EPOCHS, train

SMOKE = ["paper=kd", "scale=smoke", "arm=kd"]


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_has_one_row_an_epoch(tmp_path, folders):
    record = run([*SMOKE, *folders, "logger=csv"])[0]
    table = rows(tmp_path / "runs" / record["key"] / "student" / "metrics.csv")
    assert [int(row["epoch"]) for row in table] == [0]
    assert float(table[-1]["train/loss/kd"]) == pytest.approx(record["metrics"]["train/loss/kd"], rel=1e-6)


def test_csv_is_whole_after_a_kill(tmp_path):
    def make():
        return loggers.csv(None, tmp_path, "curves")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, kill=3, loggers=make)
    train(tmp_path, loggers=make)
    assert [int(row["epoch"]) for row in rows(tmp_path / "curves" / "metrics.csv")] == list(range(EPOCHS))


def test_tensorboard_writes_events(tmp_path, folders):
    pytest.importorskip("tensorboard")
    record = run([*SMOKE, *folders, "logger=tensorboard"])[0]
    assert list((tmp_path / "runs" / record["key"] / "student").glob("events.out.*"))


def test_wandb_run_has_the_names_that_dashboards_group_by(tmp_path, monkeypatch):
    seen = {}
    fake = SimpleNamespace(init=lambda **options: seen.update(options) or object(), Settings=lambda **o: o)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    import lightning.pytorch.loggers as known

    monkeypatch.setattr(known, "WandbLogger", lambda experiment: experiment)
    plan = SimpleNamespace(
        slug="kd",
        scale="small",
        arm="kd",
        seed=3,
        family="vision_kd",
        config={"a": 1},
        key="kd/small/kd/s3-12345678",
        teacher=SimpleNamespace(key="abc"),
    )
    loggers.wandb(plan, tmp_path, "student", mode="offline")
    assert seen["group"] == "kd/small" and seen["job_type"] == "kd" and seen["name"] == "kd-s3"
    assert (
        seen["tags"] == ["vision_kd"]
        and seen["id"] == "kd-small-kd-s3-12345678"
        and seen["resume"] == "allow"
    )
    loggers.wandb(plan, tmp_path, "teacher", mode="offline")
    assert seen["job_type"] == "teacher" and seen["id"] == "teacher-abc"


def test_wandb_offline_works_without_an_account(tmp_path, folders, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    record = run([*SMOKE, *folders, "logger=wandb", "logger.mode=offline"])[0]
    assert record["status"] == "finished", record.get("traceback")
    assert list((tmp_path / "runs" / record["key"]).glob("wandb/offline-run-*-kd-smoke-kd-s0-*/*.wandb"))
    assert json.dumps(record["metrics"])


def test_wandb_online_without_a_key_stops_before_anything_runs(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match=r"logger\.mode=offline"):
        run([*SMOKE, f"paths.runs={tmp_path}/runs", f"paths.zoo={tmp_path}/zoo", "logger=wandb"])
    assert not list(tmp_path.glob("runs/*"))
