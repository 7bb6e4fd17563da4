"""Starts a paper: a folder, a recipe, claims and a test that fails until the method is written.

python scripts/new_paper.py <slug> [--title "..."] [--arxiv 2401.00001] [--family vision_kd]
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

INIT = '"""{title} (arXiv {arxiv})."""\n'

METHOD = '''"""{title} (arXiv {arxiv}).

Symbols: say here what each letter of the paper means, with its shape.
"""

from __future__ import annotations

from torch import Tensor

from common.core import Batch, Context, Method, Outputs


def {slug}_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """The paper's loss, mean over the batch (eq. ...).

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C], no gradient.
        target: [B] labels.
    """
    raise NotImplementedError("write the loss of {slug}")


class {name}(Method):
    """Trains a student with ``{slug}_loss``."""

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context) -> dict[str, Tensor]:
        """One term."""
        return {{"{slug}": {slug}_loss(student.logits, teacher.logits, batch["y"])}}
'''

RECIPE = """# @package _global_
defaults:
  - override /data: vision_${{scale}}
  - override /teacher: vision_${{scale}}
  - override /student: vision_${{scale}}
  - override /optim: vision_${{scale}}
  - override /evaluators: classification

paper:
  slug: {slug}
  title: "{title}"
  family: {family}
  arxiv: "{arxiv}"
  objective: test/top1
  baseline: kd

trainer: {{max_epochs: "${{by_scale:{{smoke:1,small:200,paper:240}}}}"}}

arms:
  student: {{method: {{_target_: common.methods.CrossEntropy}}}}
  kd: {{method: {{_target_: common.methods.KD, temperature: 4.0}}}}
  {slug}: {{method: {{_target_: papers.{slug}.method.{name}}}}}
"""

CLAIMS = """- id: beats_kd
  statement: "{title} beats plain distillation"
  source: "the paper's main table"
  kind: order
  metric: test/top1
  direction: higher
  arms: [{slug}, kd]
  margin: 0.0
  scales: [small]
  seeds: 5
"""

README = """# {title}

## Idea
What is new, in two sentences.

## What is reproduced
Which parts, at which scales, and what is left out.

## Run it
```
make run paper={slug}
```

## Results
<!-- results:begin -->
Not run yet.
<!-- results:end -->

## Implementation details
1. Each choice that the paper leaves open, and each deviation from it.

## Reference
arXiv [{arxiv}](https://arxiv.org/abs/{arxiv})
"""

TEST = '''"""{title}: the loss against computations that share no code with it."""

import torch

from papers.{slug}.method import {slug}_loss


def test_loss_equals_the_formula_written_out():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    target = torch.tensor([0, 1, 2, 3])
    # Write the formula here with explicit loops over samples and classes, and compare.
    expected = None
    assert expected is not None, "write the independent computation"
    torch.testing.assert_close({slug}_loss(student, teacher, target), expected)
'''


def files(slug: str, title: str, arxiv: str, family: str) -> dict[str, str]:
    """Path -> content of everything a paper starts with."""
    name = "".join(part.capitalize() for part in slug.split("_"))
    values = {"slug": slug, "title": title.replace('"', "'"), "arxiv": arxiv, "family": family, "name": name}
    templates = {
        f"papers/{slug}/__init__.py": INIT,
        f"papers/{slug}/method.py": METHOD,
        f"papers/{slug}/claims.yaml": CLAIMS,
        f"papers/{slug}/README.md": README,
        f"conf/paper/{slug}.yaml": RECIPE,
        f"tests/papers/test_{slug}.py": TEST,
    }
    return {path: text.format(**values) for path, text in templates.items()}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slug", help="snake_case, the paper's acronym or two content words")
    parser.add_argument("--title", default=None)
    parser.add_argument("--arxiv", default="0000.00000")
    parser.add_argument("--family", default="vision_kd")
    parser.add_argument("--root", type=Path, default=ROOT, help="repository to write to")
    arguments = parser.parse_args()
    slug = arguments.slug
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug) or keyword.iskeyword(slug):
        print(
            f"error: {slug} is not a slug; use small letters, digits and underscores, first a letter",
            file=sys.stderr,
        )
        return 2
    new = files(slug, arguments.title or slug.replace("_", " ").upper(), arguments.arxiv, arguments.family)
    taken = [path for path in new if (arguments.root / path).exists()]
    if taken:
        print(f"error: {taken[0]} exists already; choose another slug", file=sys.stderr)
        return 2
    for path, text in new.items():
        target = arguments.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(path)
    print(
        f"\nnext: write papers/{slug}/method.py, make tests/papers/test_{slug}.py pass, "
        f"then python run.py paper={slug} scale=smoke"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
