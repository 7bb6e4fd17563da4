"""Writes a trained student for use elsewhere and checks that it still says the same.

    python scripts/export.py runs/pld/small/pld/s0-1a2b3c4d --to state_dict|torch_export|onnx --out student.pt

The student takes images in [0, 1], NCHW; its normalisation is part of what is exported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--to", choices=["state_dict", "torch_export", "onnx"], default="torch_export")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="student", help="which training of the run")
    arguments = parser.parse_args()

    from common.errors import UserError
    from common.export import export_student

    try:
        worst = export_student(arguments.run, arguments.name, arguments.to, arguments.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: largest difference of a logit {worst:.2e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
