"""Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean; arXiv 1503.02531).

Section 2, equation 1 defines the tempered softmax; the loss sums a label term and the match of tempered
outputs:

    L = w_ce * CE(s, y) + w_kd * T^2 * KL(softmax(t / T) || softmax(s / T))

Equations 2-4 give its gradient and the limit: T^2 * dKL/ds = T * (softmax(s / T) - softmax(t / T)), which
tends to (s - t) / C for T -> infinity and centred logits.

| symbol | code             | meaning                                        |
|--------|------------------|------------------------------------------------|
| s      | `student_logits` | student logits z_i in the paper, [B, C]        |
| t      | `teacher_logits` | teacher logits v_i in the paper, [B, C]        |
| y      | `target`         | labels, [B]                                    |
| T      | `temperature`    | temperature of both softmaxes                  |
| w_ce   | `ce_weight`      | weight of the label term, taken at T = 1       |
| w_kd   | `kd_weight`      | weight of the distillation term                |

Other papers compare themselves with this one, so the code lives in `common`.
"""

from common.losses.kd import kd_loss
from common.methods.kd import KD

__all__ = ["KD", "kd_loss"]
