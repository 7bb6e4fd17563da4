"""What a claims file may hold, and the sentence that each mistake gets."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.claims import load_claims

ORDER = {"id": "x", "statement": "s", "source": "t", "kind": "order", "metric": "m", "arms": ["a", "b"]}
VALUE = {**ORDER, "kind": "value", "arms": ["a"], "target": 1.0, "tolerance": 0.1}
RATIO = {**ORDER, "kind": "ratio", "at_least": 2}
IDENTITY = {"id": "x", "statement": "s", "source": "t", "kind": "identity", "test": "tests/x.py::test_y"}


def write(folder: Path, entries) -> Path:
    path = folder / "claims.yaml"
    path.write_text(entries if isinstance(entries, str) else yaml.safe_dump(entries), encoding="utf-8")
    return path


def test_load(tmp_path):
    entries = [
        {**ORDER, "margin": 1, "direction": "lower", "seeds": 3, "scales": ["small", "paper"]},
        {**VALUE, "id": "v", "deterministic": True, "seeds": 1},
        {**RATIO, "id": "r"},
        {**ORDER, "id": "t", "kind": "trend", "arms": ["a", "b", "c"], "margin": 0.0},
        {**IDENTITY, "id": "i"},
    ]
    first, value, ratio, trend, identity = load_claims(write(tmp_path, entries))
    assert (first.margin, first.direction, first.scales) == (1, "lower", ("small", "paper"))
    assert (first.needed_seeds, value.needed_seeds, ratio.needed_seeds) == (3, 1, 5)
    assert (trend.arms, identity.test) == (("a", "b", "c"), "tests/x.py::test_y")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"claims": []}, "claims.yaml: has to be a list of claims"),
        ("- {id: x", "claims.yaml: not valid YAML"),
        (["text"], "claim number 1: has to be a mapping, not 'text'"),
        ([{**ORDER, "metrics": "m"}], "claim 'x': unknown key 'metrics'; did you mean 'metric'?"),
        ([{**ORDER, "kind": "odrer"}], "claim 'x': unknown kind 'odrer'; did you mean 'order'?"),
        ([{**ORDER, "kind": 7}], "unknown kind 7; known are order, value, trend, ratio, identity"),
        ([{**ORDER, "kind": ["order"]}], "unknown kind"),
        ([{**ORDER, "direction": "low"}], "unknown direction 'low'; did you mean 'lower'?"),
        ([{**ORDER, "scales": ["smal"]}], "unknown scale 'smal'; did you mean 'small'?"),
        ([{**ORDER, "scales": "small"}], "'scales' has to be a list of names, not 'small'"),
        ([{k: v for k, v in ORDER.items() if k != "source"}], "claim 'x': 'source' is missing"),
        ([{k: v for k, v in ORDER.items() if k != "id"}], "claim number 1: 'id' is missing"),
        ([{k: v for k, v in VALUE.items() if k != "target"}], "kind 'value' needs 'target'"),
        ([{k: v for k, v in IDENTITY.items() if k != "test"}], "kind 'identity' needs 'test'"),
        ([{**ORDER, "target": 3}], "'target' has no meaning for kind 'order'"),
        ([{**ORDER, "arms": ["a"]}], "kind 'order' takes 2 arms, not ['a']"),
        ([{**ORDER, "kind": "trend", "arms": ["a"]}], "kind 'trend' takes 2 or more arms, not ['a']"),
        ([{**ORDER, "arms": ["a", "a"]}], "'arms' names one entry twice"),
        ([{**ORDER, "metric": ""}], "'metric' has to be a text that is not empty"),
        ([{**ORDER, "seeds": 2}], "'seeds' has to be 3 or more"),
        ([{**ORDER, "seeds": "5"}], "'seeds' has to be 3 or more"),
        ([{**ORDER, "deterministic": "yes"}], "'deterministic' has to be true or false"),
        ([{**VALUE, "tolerance": -1}], "'tolerance' has to be 0 or more"),
        ([{**VALUE, "target": math.nan}], "'target' has to be finite"),
        ([{**RATIO, "at_most": 3}], "exactly one of 'at_least' and 'at_most'"),
        ([{**IDENTITY, "test": "test_y"}], "'test' has to be a pytest id"),
        ([ORDER, ORDER], "claim 'x': the id occurs twice"),
    ],
)
def test_errors_name_file_claim_and_cause(tmp_path, entries, message):
    path = write(tmp_path, entries)
    with pytest.raises(ValueError) as error:
        load_claims(path)
    text = str(error.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text


def test_numbers_that_yaml_reads_as_text(tmp_path):
    text = "- {id: x, statement: s, source: t, kind: value, metric: m, arms: [a], target: 1, tolerance: 5e-6}"
    with pytest.raises(ValueError, match=r"'tolerance' has to be a number as in 0.5 or 5.0e-6, not '5e-6'"):
        load_claims(write(tmp_path, text))


def test_reading_claims_is_light():
    code = (
        "import common.claims, sys; "
        "sys.exit(', '.join({'torch', 'lightning', 'hydra', 'scipy', 'papers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
