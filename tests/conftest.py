"""One torch thread: small tensors gain nothing from more, and two cores lose much to oversubscription."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def folders(tmp_path):
    """Overrides that keep a run inside the test's own folder."""
    return [f"paths.runs={tmp_path}/runs", f"paths.zoo={tmp_path}/zoo", "logger=none"]
