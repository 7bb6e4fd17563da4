"""Bad input gets one sentence that names the key and the way out; nothing is written then."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.nets import small_cnn
from common.runner import run

ROOT = Path(__file__).resolve().parent.parent.parent

WRONG = [
    (["paper=kdd"], r"paper=kdd does not exist in conf/paper; did you mean kd"),
    ([], r"paper=<name> is missing; known: "),
    (["paper=kd", "scale=tiny"], r"scale=tiny does not exist .* paper, small, smoke"),
    (["paper=kd", "data=digit"], r"data=digit does not exist .* did you mean digits"),
    (["paper=kd", "student=resnet21"], r"student=resnet21 does not exist .* resnet20"),
    (["paper=kd", "seedd=1"], r"seedd is not a key .* did you mean seed"),
    (["paper=kd", "trainer.max_epoch=3"], r"did you mean trainer\.max_epochs"),
    (
        ["paper=kd", "arms.kd.method.temperatur=3"],
        r"write \+arms\.kd\.method\.temperatur=<value> .*kd\.method\.temperature or",
    ),
    (
        ["paper=kd", "+arms.kd.method.temperatur=3"],
        r"temperatur is not an option of .*KD; did you mean temperature",
    ),
    (["paper=kd", "arm=kdd"], r"arm=kdd is not an arm of kd; did you mean kd"),
    (["paper=kd", "seed=one"], r"seed=one has to be a whole number"),
    (["paper=kd", "trainer.max_epochs=many"], r"trainer\.max_epochs=many is a str, but int is needed"),
    (["paper=kd", "trainer.max_epochs=0"], r"trainer\.max_epochs=0 has to be at least 1"),
    (["paper=kd", "arms.kd.method.temperature=hot"], r"temperature=hot is a str, but float is needed"),
    (["paper=kd", "selection=best"], r"selection=best is not known; choose last or best_val"),
    (["paper=kd", "teacher=none"], r"needs a teacher; set teacher=<name>"),
    (["paper=kd", "student=none"], r"there is none; set student=<name>"),
    (["paper=kd", "teacher.cache=maybe"], r"choose auto, off or require"),
    (["paper=kd", "teacher.checkpoint=absent.pt"], r"teacher\.checkpoint=absent\.pt: there is no such file"),
    (["paper=kd", "teacher=timm"], r"^teacher\.name has no value"),
    (["paper=kd", "data=npz", "data.path=absent.npz"], r"absent\.npz"),
    (["paper=kd", "data=npz"], r"^data\.path has no value"),
    (["paper=kd", "data.train_size=99999"], r"data\.train_size=99999"),
    (["paper=kd", "data.views.x=crop_flop"], r"did you mean crop_flip"),
    (["paper=kd", "+arms.kd.patch.trainr.max_epochs=3"], r"patch\.trainr .* did you mean trainer"),
    (["paper=kd", "+arms.kd.methods.x=3"], r"an arm has method, procedure and patch"),
    (["paper=vkd", "+arms.vkd.method.projector=diagonal"], r"projector"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_wrong_configuration(words, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        run([*words, f"paths.runs={tmp_path}/runs", f"paths.zoo={tmp_path}/zoo"])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_runs_folder_that_cannot_be_one(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"paths\.runs=.*file/runs cannot be used as a folder"):
        run(["paper=kd", "scale=smoke", f"paths.runs={file}/runs", f"paths.zoo={tmp_path}/zoo"])


def own_data(tmp_path, classes=4):
    y = np.arange(80) % classes
    x = (np.random.default_rng(0).random((80, 12, 12, 3)) * 100 + 30 * y[:, None, None, None]).astype("uint8")
    np.savez(tmp_path / "my.npz", x=x, y=y)
    return ["paper=kd", "scale=smoke", "arm=[student,kd]", "data=npz", f"data.path={tmp_path}/my.npz"]


def test_own_data_and_own_teacher(tmp_path, folders):
    net = small_cnn(4, in_channels=3, image_size=12, width=8)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "mine.pt")
    words = [*own_data(tmp_path), *folders, f"teacher.checkpoint={tmp_path}/mine.pt"]
    records = run(words)
    assert {r["status"] for r in records} == {"finished"}
    assert "my.npz" in records[0]["data"]
    first = records[1]["teacher"]["key"]
    torch.save(small_cnn(4, in_channels=3, image_size=12, width=8).state_dict(), tmp_path / "mine.pt")
    assert run(words)[1]["teacher"]["key"] != first, "other weights are another teacher"


def test_other_content_under_the_same_path_runs_again(tmp_path, folders):
    first = run([*own_data(tmp_path), *folders])
    own_data(tmp_path, classes=5)
    second = run([*own_data(tmp_path, classes=5), *folders])
    assert {r["key"] for r in first}.isdisjoint(r["key"] for r in second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: torch.save(small_cnn(10, in_channels=3, image_size=12, width=8).state_dict(), p),
            r"it was trained for 10 classes and the data have 4",
        ),
        (
            lambda p: torch.save(small_cnn(4, in_channels=3, image_size=12, width=9).state_dict(), p),
            r"has shape",
        ),
        (lambda p: torch.save({"a": torch.zeros(2)}, p), r"weights missing and 1 unknown"),
        (
            lambda p: torch.save(small_cnn(4, in_channels=3, image_size=12, width=8), p),
            r"holds more than tensors",
        ),
        (lambda p: p.write_bytes(b"nothing"), r"cannot be read as weights|holds more than tensors"),
    ],
    ids=["classes", "width", "names", "pickled module", "garbage"],
)
def test_own_teacher_that_does_not_fit(tmp_path, make, message):
    make(tmp_path / "mine.pt")
    words = own_data(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        run(
            [
                *words,
                f"teacher.checkpoint={tmp_path}/mine.pt",
                f"paths.runs={tmp_path}/r",
                f"paths.zoo={tmp_path}/z",
            ]
        )
    assert sorted(tmp_path.rglob("*")) == before


def shell(*words):
    return subprocess.run([sys.executable, "run.py", *words], cwd=ROOT, capture_output=True, text=True)


def test_exit_status_and_one_line_on_standard_error():
    wrong = shell("paper=kdd")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and not wrong.stdout
    sweep = shell("-m", "paper=kd", "seed=0,1", "trainer.devices=2", "scale=smoke")
    assert sweep.returncode == 2 and "hydra/launcher=joblib" in sweep.stderr


def test_help_and_configuration_need_no_torch():
    code = (
        "import sys; sys.argv = ['run.py', *{words}]; import runpy\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules"
    )
    for words in (["--help"], ["paper=kd", "--cfg", "job"]):
        result = subprocess.run(
            [sys.executable, "-c", code.format(words=words)], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert "paper" in result.stdout


def test_paper_outside_the_repository(tmp_path, folders, monkeypatch):
    package = tmp_path / "theirs"
    (package / "conf/paper").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "conf/__init__.py").touch()
    (package / "method.py").write_text(
        "from common.methods import KD\n\n\nclass Theirs(KD):\n    '''Their method.'''\n"
    )
    recipe = (ROOT / "conf/paper/kd.yaml").read_text().replace("slug: kd", "slug: theirs")
    recipe = recipe.replace(
        "_target_: common.methods.DKD, temperature: 4.0, alpha: 1.0, beta: 8.0",
        "_target_: theirs.method.Theirs",
    )
    (package / "conf/paper/theirs.yaml").write_text(recipe)
    monkeypatch.syspath_prepend(str(tmp_path))
    records = run(
        ["hydra.searchpath=[pkg://theirs.conf]", "paper=theirs", "scale=smoke", "arm=dkd", *folders]
    )
    assert records[0]["status"] == "finished" and records[0]["key"].startswith("theirs/smoke/dkd/")
