"""Novelty without an agent: a predictor trained on zeros and a few images of another digit."""

from __future__ import annotations

import torch
from torch import Tensor

from common.core.distiller import Blocks
from common.core.seeding import derive
from common.methods.actor_critic.learner import Learner, LearnerModule, Optimizers, Transition
from common.methods.actor_critic.optim import LeanAdam
from common.run_context import RunContext
from papers.rnd.method import whiten
from papers.rnd.nets import Distillation

_SPLIT, _INIT, _NOISE, _SCALE = 0x73706C69, 0x696E69, 0x6E6F69, 0x736361
COPIES = (0, 10, 100)
_HELD = 50


class Predictor(Learner):
    """Trains the predictor on fixed inputs [M, S], in batches drawn with replacement."""

    def __init__(self, inputs: Tensor, batch_size: int, lr: float, width: int, embedding: int) -> None:
        super().__init__()
        self.lr, self.batch_size = lr, batch_size
        self.register_buffer("inputs", inputs)
        self.net = Distillation(inputs.shape[1], width, embedding)

    def optimizers(self) -> Optimizers:
        """Of the predictor."""
        return [LeanAdam(self.net.predictor.parameters(), self.lr)]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step."""
        rows = torch.randint(len(self.inputs), (self.batch_size,), generator=generator)
        loss = self.net(self.inputs[rows.to(self.inputs.device)]).mean()
        optimizers[0].descend(loss)
        return {"loss/predictor": loss.detach()}


class NoveltyToy:
    """Procedure: the error on unseen images of a digit after training on zeros and k images of it.

    The images are scikit-learn's; the digit is ``rare_digit``'s.

    Args:
        updates: of each predictor.
        whitens: pixels are whitened by the moments of the training set and clipped.
        spread: pixels are multiplied by exp(spread z), z normal and fixed by the seed: features of unequal scale.
        batch_size, lr, width, embedding: of the predictor.
    """

    def __init__(
        self,
        updates: int = 1000,
        whitens: bool = True,
        spread: float = 0.0,
        batch_size: int = 64,
        lr: float = 1e-3,
        width: int = 64,
        embedding: int = 32,
    ) -> None:
        self.updates, self.whitens, self.spread = updates, whitens, spread
        self.batch_size, self.lr, self.width, self.embedding = batch_size, lr, width, embedding

    def run(self, ctx: RunContext) -> dict[str, float]:
        """``test/novelty_<k>``: mean error on 50 unseen images of the rare digit after k copies of it, in units of that
        on 50 unseen zeros; ``test/novelty_ratio``, that of k = 0."""
        zeros, other = rare_digit(ctx.seed)
        generator = torch.Generator().manual_seed(derive(ctx.seed, _SCALE))
        scale = torch.exp(self.spread * torch.randn(zeros.shape[1], generator=generator))
        zeros, other = zeros * scale, other * scale
        metrics = {}
        for k in COPIES:
            seen = torch.cat((zeros[_HELD:], other[_HELD : _HELD + k]))
            # Pixels that are always black have no deviation; one hundredth of the mean one stands for it.
            std = seen.std(0, correction=0)
            mean, std = seen.mean(0), std.clamp(min=1e-2 * float(std.mean()))

            def shown(x: Tensor, mean: Tensor = mean, std: Tensor = std) -> Tensor:
                return whiten(x, mean, std) if self.whitens else x

            torch.manual_seed(derive(ctx.seed, _INIT))
            learner = Predictor(shown(seen), self.batch_size, self.lr, self.width, self.embedding)
            module = LearnerModule(learner, derive(ctx.seed, _NOISE, k))
            blocks = Blocks([{}] * self.updates, ctx.plan.settings.max_train_batches)
            ctx.fit(module, blocks, f"predictor_{k}", max_epochs=1)
            with torch.no_grad():
                net = module.learner.cpu().net
                new, old = (float(net(shown(x[:_HELD])).mean()) for x in (other, zeros))
            metrics[f"test/novelty_{k}"] = new / old
        return {**metrics, "test/novelty_ratio": metrics["test/novelty_0"]}


def rare_digit(seed: int) -> tuple[Tensor, Tensor]:
    """Images of the digit 0 and of another one, 1 + seed mod 9, in [0, 1], [M, 64] each, shuffled by the seed."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    parts = []
    for digit in (0, 1 + seed % 9):
        images = torch.as_tensor(pixels[labels == digit] / 16, dtype=torch.float32)
        order = torch.randperm(
            len(images), generator=torch.Generator().manual_seed(derive(seed, _SPLIT, digit))
        )
        parts.append(images[order])
    return parts[0], parts[1]
