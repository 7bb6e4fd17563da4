"""What a user can rely on: arms, keys, records, and what is run again when."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.runner import run

ROOT = Path(__file__).resolve().parent.parent.parent
SMOKE = ["paper=kd", "scale=smoke"]


def metrics(records):
    return {record["arm"]: record["metrics"] for record in records}


def started(records):
    return {record["arm"]: record["started"] for record in records}


def changed(before, after):
    return {arm for arm in after if before.get(arm) != after[arm]}


def test_arm_alone_equals_arm_in_the_set_bit_for_bit(tmp_path, folders):
    together = metrics(run([*SMOKE, *folders]))
    for arm in ("student", "kd", "dkd"):
        elsewhere = [f"paths.runs={tmp_path}/{arm}", f"paths.zoo={tmp_path}/zoo_{arm}", "logger=none"]
        assert metrics(run([*SMOKE, *elsewhere, f"arm={arm}"]))[arm] == together[arm]


def test_same_command_again_trains_nothing(folders):
    first = run([*SMOKE, *folders])
    assert started(run([*SMOKE, *folders])) == started(first)


@pytest.mark.parametrize(
    "words",
    [["logger=csv"], ["trainer.checkpoint_seconds=1"], ["trainer.accelerator=cpu"], ["arm=kd"]],
    ids=str,
)
def test_incidental_keys_run_nothing_again(folders, words):
    first = run([*SMOKE, *folders])
    assert not changed(started(first), started(run([*SMOKE, *folders, *words])))


def test_paths_run_nothing_again(tmp_path, folders):
    first = run([*SMOKE, *folders])
    os.rename(tmp_path / "runs", tmp_path / "moved")
    os.rename(tmp_path / "zoo", tmp_path / "moved_zoo")
    again = run([*SMOKE, f"paths.runs={tmp_path}/moved", f"paths.zoo={tmp_path}/moved_zoo", "logger=none"])
    assert started(again) == started(first)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["arms.kd.method.temperature=2"], {"kd"}),
        (["student.width=5"], {"student", "kd", "kd_t1", "dkd", "kd_no_labels"}),
        # The student that learns from labels alone is measured against the new teacher, but not trained again.
        (["teacher.net.width=9"], {"student", "kd", "kd_t1", "dkd", "kd_no_labels"}),
    ],
    ids=["one arm", "all", "teacher"],
)
def test_a_relevant_key_runs_again_what_depends_on_it(folders, words, expected):
    first = run([*SMOKE, *folders])
    assert changed(started(first), started(run([*SMOKE, *folders, *words]))) == expected


def test_another_teacher_does_not_train_the_label_student_again(tmp_path, folders):
    first = run([*SMOKE, *folders, "arm=student"])[0]
    weights = tmp_path / "runs" / first["key"] / "student.safetensors"
    before = weights.stat().st_mtime_ns
    second = run([*SMOKE, *folders, "arm=student", "teacher.net.width=9"])[0]
    assert second["key"] == first["key"] and weights.stat().st_mtime_ns == before
    assert second["metrics"]["test/top1"] == first["metrics"]["test/top1"]
    assert second["teacher"]["key"] != first["teacher"]["key"]


def test_other_evaluators_measure_again_without_training(tmp_path, folders):
    first = run([*SMOKE, *folders, "arm=kd"])[0]
    weights = tmp_path / "runs" / first["key"] / "student.safetensors"
    before = weights.stat().st_mtime_ns
    second = run([*SMOKE, *folders, "arm=kd", "evaluators.calibration.bins=5"])[0]
    assert second["metrics"]["test/ece"] != first["metrics"]["test/ece"]
    assert second["metrics"]["test/nll"] == first["metrics"]["test/nll"]
    assert weights.stat().st_mtime_ns == before


def test_force_gives_the_same_numbers(folders):
    first = run([*SMOKE, *folders, "arm=kd"])[0]
    second = run([*SMOKE, *folders, "arm=kd", "force=true"])[0]
    assert second["started"] > first["started"] and second["metrics"] == first["metrics"]


def test_other_measurements_of_a_run_stand_beside_each_other(tmp_path, folders):
    from common import records

    usual = [*SMOKE, *folders, "arm=kd"]
    other = [*usual, "evaluators.calibration.bins=5"]
    (first,), (second,) = run(usual), run(other)
    assert first["key"] == second["key"] and first["evaluation"] != second["evaluation"]
    assert second["costs"]["student"] == first["costs"]["student"], "measured again, not trained"
    found = list(records.every(tmp_path / "runs", "kd", "smoke"))
    assert sorted(r["evaluation"] for r in found) == sorted([first["evaluation"], second["evaluation"]])
    for command, expected in ((usual, first), (other, second), (usual, first)):
        assert run(command)[0]["started"] == expected["started"]
        assert (
            records.read(tmp_path / "runs" / first["key"] / "record.json")["evaluation"]
            == expected["evaluation"]
        )
    assert len(list(records.every(tmp_path / "runs", "kd", "smoke"))) == 2


def test_one_failing_arm_leaves_a_record_and_the_others_run(folders, monkeypatch):
    import papers.vkd.method as vkd

    def broken(*args, **kwargs):
        raise RuntimeError("the projector fell over")

    monkeypatch.setattr(vkd.VKD, "loss", broken)
    records = {record["arm"]: record for record in run(["paper=vkd", "scale=smoke", *folders])}
    assert records["vkd"]["status"] == "failed" and "the projector fell over" in records["vkd"]["reason"]
    assert "Traceback" in records["vkd"]["traceback"]
    assert records["kd"]["status"] == records["student"]["status"] == "finished"
    monkeypatch.undo()
    again = {record["arm"]: record for record in run(["paper=vkd", "scale=smoke", *folders])}
    assert again["vkd"]["status"] == "finished"
    assert again["kd"]["started"] == records["kd"]["started"]


@pytest.mark.parametrize("damage", ["truncated", "edited", "foreign", "not json"])
def test_damaged_record_is_named_and_made_again(tmp_path, folders, damage):
    first = {r["arm"]: r for r in run([*SMOKE, *folders])}
    path = tmp_path / "runs" / first["kd"]["key"] / "record.json"
    text = path.read_text()
    if damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "edited":
        content = json.loads(text)
        content["metrics"]["test/top1"] = 1.0
        path.write_text(json.dumps(content))
    elif damage == "foreign":
        path.write_text((tmp_path / "runs" / first["dkd"]["key"] / "record.json").read_text())
    else:
        path.write_bytes(b"\x80\x81")
    with pytest.warns(UserWarning, match=r"record\.json"):
        again = {r["arm"]: r for r in run([*SMOKE, *folders])}
    assert again["kd"]["metrics"] == first["kd"]["metrics"]


def test_damaged_teacher_is_named_and_trained_again(tmp_path, folders):
    first = run([*SMOKE, *folders, "arm=kd"])[0]
    path = next((tmp_path / "zoo/teachers").glob("*/teacher.safetensors"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r"teacher\.safetensors"):
        again = run([*SMOKE, *folders, "arm=kd", "force=true"])[0]
    assert again["metrics"] == first["metrics"]


def test_record_says_what_a_sceptic_asks(folders):
    record = run([*SMOKE, *folders, "arm=kd"])[0]
    assert record["status"] == "finished" and record["selection"] == "last"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["parameters"]["student"] > 0 < record["parameters"]["teacher"]
    assert record["key"].startswith("kd/smoke/kd/s0-")
    assert record["teacher"]["metrics"]["test/top1"] >= 0
    assert "made-up" in record["data"]
    assert {"git", "hardware", "wall_seconds", "started", "series", "costs"} <= record.keys()


def test_cache_is_refused_where_the_method_changes_the_teachers_input(folders):
    with pytest.raises(UserError, match=r"teacher\.cache=require .*FunctionMatching"):
        run(["paper=patient_teacher", "scale=smoke", *folders, "teacher.cache=require", "arm=funmatch"])
    run(["paper=patient_teacher", "scale=smoke", *folders, "teacher.cache=require", "arm=consistent"])


def test_recorded_and_computed_teacher_outputs_give_the_same_numbers(tmp_path, folders):
    recorded = metrics(run([*SMOKE, *folders]))
    fresh = [
        f"paths.runs={tmp_path}/off",
        f"paths.zoo={tmp_path}/zoo_off",
        "logger=none",
        "teacher.cache=off",
    ]
    assert metrics(run([*SMOKE, *fresh])) == recorded


def command(tmp_path, name, *words):
    return [
        sys.executable,
        str(ROOT / "run.py"),
        *words,
        f"paths.runs={tmp_path}/{name}/runs",
        f"paths.zoo={tmp_path}/{name}/zoo",
        "logger=none",
        "trainer.checkpoint_seconds=0",
    ]


def spawn(arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read(tmp_path, name):
    records = [json.loads(p.read_text()) for p in (tmp_path / name / "runs").glob("*/*/*/*/record.json")]
    return {record["arm"]: record["metrics"] for record in records}


LONG = ["paper=kd", "trainer.max_epochs=60", "teacher.max_epochs=15", "arm=[student,kd]"]


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on_to_the_same_bits(tmp_path):
    assert spawn(command(tmp_path, "whole", *LONG)).wait() == 0
    folder = tmp_path / "killed"
    arguments = command(tmp_path, "killed", *LONG)

    def kill_when(seen):
        process = spawn(arguments)
        while process.poll() is None and not seen():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    kill_when(lambda: list(folder.glob("zoo/teachers/*/teacher.ckpt")))
    kill_when(lambda: list(folder.glob("zoo/views/*/epoch-00010*")))
    kill_when(lambda: list(folder.glob("runs/kd/small/kd/*/student.ckpt")))
    kill_when(lambda: list(folder.glob("runs/kd/small/kd/*/.*.tmp")))
    process = spawn(arguments)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert read(tmp_path, "killed") == read(tmp_path, "whole")


@pytest.mark.slow
def test_two_processes_share_one_teacher_and_both_finish(tmp_path):
    processes = [
        spawn(command(tmp_path, "shared", *LONG, f"seed={seed}", "teacher.seed=0")) for seed in (0, 1)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, out + err
    assert len(list((tmp_path / "shared/zoo/teachers").glob("*/meta.json"))) == 1
    assert len(list((tmp_path / "shared/runs").glob("*/*/*/*/record.json"))) == 4
