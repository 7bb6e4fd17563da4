"""The scripts, used as a person would."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.export import export_student, load_student
from common.runner import run

ROOT = Path(__file__).resolve().parent.parent.parent


def script(name, *words, cwd=ROOT):
    command = [sys.executable, str(cwd / "scripts" / name), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    words = [
        "paper=kd",
        "scale=smoke",
        "arm=kd",
        f"paths.runs={folder}/runs",
        f"paths.zoo={folder}/zoo",
        "logger=none",
    ]
    return folder / "runs" / run(words)[0]["key"]


@pytest.mark.parametrize("kind", ["state_dict", "torch_export"])
def test_export_agrees_with_the_student(finished, tmp_path, kind):
    assert export_student(finished, "student", kind, tmp_path / "out.pt") < 1e-5
    student, images = load_student(finished)
    if kind == "torch_export":
        program = torch.export.load(tmp_path / "out.pt").module()
        one = images[:1]
        torch.testing.assert_close(program(one), student(one).logits, rtol=0, atol=1e-5)


def test_export_of_nothing_says_so(finished, tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        export_student(tmp_path, "student", "state_dict", tmp_path / "out.pt")
    with pytest.raises(UserError, match="trainings of this run: student"):
        export_student(finished, "generation1", "state_dict", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_new_paper_writes_everything_and_its_test_fails_until_written(tmp_path):
    for name in ("common", "papers", "conf", "tests", "scripts", "run.py", "pyproject.toml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    made = script("new_paper.py", "dummy_kd", "--title", "A dummy", "--arxiv", "2401.00001", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for path in (
        "papers/dummy_kd/method.py",
        "conf/paper/dummy_kd.yaml",
        "papers/dummy_kd/claims.yaml",
        "papers/dummy_kd/README.md",
        "tests/papers/test_dummy_kd.py",
    ):
        assert (tmp_path / path).is_file()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/papers/test_dummy_kd.py",
    ]
    tested = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert tested.returncode == 1 and "write the independent computation" in tested.stdout
    again = script("new_paper.py", "dummy_kd", cwd=tmp_path)
    assert again.returncode == 2 and "exists already" in again.stderr
    shown = subprocess.run(
        [sys.executable, "run.py", "paper=dummy_kd", "--cfg", "job"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0 and "papers.dummy_kd.method.DummyKd" in shown.stdout


def test_new_paper_refuses_a_slug_that_is_none():
    made = script("new_paper.py", "My-Paper", "--root", "/nonexistent")
    assert made.returncode == 2 and "is not a slug" in made.stderr


def test_changed_papers_follow_the_paths():
    sys.path.insert(0, str(ROOT / "scripts"))
    from changed_papers import touched

    known = {"kd": "vision", "pld": "vision", "krd": "graphs"}
    assert touched(["papers/pld/method.py", "README.md"], known) == ["pld"]
    assert touched(["tests/papers/test_krd.py", "conf/paper/pld.yaml"], known) == ["krd", "pld"]
    assert touched(["common/core/fit.py"], known) == ["kd", "krd"]
    # A paper's tests may be several files; the longest slug that fits is meant, and whole words of it.
    known |= {"sac": "rl", "sac_rnd": "rl", "rnd": "rl"}
    assert touched(["tests/papers/test_sac_rnd_runs.py"], known) == ["sac_rnd"]
    assert touched(["tests/papers/test_sac_rnd.py"], known) == ["sac_rnd"]
    assert touched(["tests/papers/test_sac_runs.py"], known) == ["sac"]
    assert touched(["tests/papers/sac_rnd_parts.py"], known) == ["sac_rnd"]
    assert touched(["tests/papers/test_kdx_runs.py", "tests/papers/test_runs.py"], known) == []
    assert touched(["docs/design.md"], known) == []


def test_report_follows_from_the_records(tmp_path):
    from common import config
    from common.report.collect import results
    from common.report.markdown import render
    from common.runner import plan_all

    words_of = "paper=self_distillation_kernel"
    words = [f"paths.runs={tmp_path}/runs", f"paths.zoo={tmp_path}/zoo", "logger=none", "scale=small"]
    for seed in range(2):
        run([words_of, f"seed={seed}", *words])
    found = results("self_distillation_kernel", tmp_path / "runs", {})
    assert json.loads(json.dumps(found)) == found
    block = found["settings"][0]
    assert block["arms"]["a_000"]["seeds"] == [0, 1]
    values = block["arms"]["diabetes_krr"]["metrics"]["test/mse_diabetes"]
    assert values["mean"] == pytest.approx(sum(values["values"].values()) / 2)
    verdicts = {claim["id"]: claim["verdict"] for claim in block["claims"]}
    assert verdicts["a_000_step1"] == "confirmed"
    assert render(found).count("\n| a_000 |") == 1

    # Settings that the folder says nothing about stay, with their place, unless an arm means something else now.
    def elsewhere(words, series):
        arms = {"a_000": {**block["arms"]["a_000"], "series": series}}
        return {**block, "scale": "paper", "overrides": words, "arms": arms}

    own = next(
        p.series for p in plan_all(config.compose([words_of, "scale=paper", "seed=3"])) if p.arm == "a_000"
    )
    old = {"settings": [elsewhere([], own), elsewhere(["seed=1"], own), {**block, "data": "replaced"}]}
    again = results("self_distillation_kernel", tmp_path / "runs", {}, before=old)
    assert [(b["scale"], b["overrides"]) for b in again["settings"]] == [
        ("small", []),
        ("paper", []),
        ("paper", ["seed=1"]),
    ]
    assert again["settings"][0] == block
    # Judging what was written gives what judging the records gave.
    assert results("self_distillation_kernel", tmp_path / "nowhere", {}, before=found) == found
    assert results("self_distillation_kernel", tmp_path / "nowhere", {}) is None
    with pytest.warns(UserWarning, match=r"scale=paper is left out: its arms a_000 have changed"):
        again = results(
            "self_distillation_kernel", tmp_path / "runs", {}, before={"settings": [elsewhere([], "other")]}
        )
    assert again == found

    # Fewer seeds of the same do not replace more; another seed does.
    shutil.rmtree(next((tmp_path / "runs").glob("*/small/a_000/s1-*")))
    with pytest.warns(UserWarning, match=r"scale=small: .* holds fewer seeds than were written, which stay"):
        assert results("self_distillation_kernel", tmp_path / "runs", {}, before=found) == found
    run([words_of, "seed=2", *words])
    assert results("self_distillation_kernel", tmp_path / "runs", {}, before=found)["settings"][0]["arms"][
        "a_000"
    ]["seeds"] == [0, 2]
