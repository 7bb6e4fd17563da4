"""ARD: Adversarially Robust Distillation (Goldblum, Fowl, Feizi, Goldstein; AAAI 2020; arXiv 1905.09747).

A small student learns on its own adversarial images what a large robust teacher says about the clean ones:

    x' = argmax CE(z_s(x + d), y)  over |d|_inf <= eps
    L  = alpha t^2 KL(softmax(z_t(x) / t) || softmax(z_s(x') / t)) + (1 - alpha) CE(z_s(x), y)

| symbol   | code                   | meaning                                                          |
|----------|------------------------|------------------------------------------------------------------|
| z_s(x')  | `adversarial`          | student logits on the adversarial image, [B, C]                  |
| z_s(x)   | `clean`                | student logits on the image, [B, C]                              |
| z_t(x)   | `teacher`              | teacher logits on the image, [B, C]                              |
| t        | `temperature`          | temperature of both softmaxes                                    |
| alpha    | `alpha`                | weight of the teacher                                            |
|          | `reduction`            | `mean` divides the divergence by C, as the released code does    |

Later papers compare themselves with this one, so the code lives in `common`.
"""

from common.losses.robust import ard_terms
from common.methods.robust_distillation import ARD

__all__ = ["ARD", "ard_terms"]
