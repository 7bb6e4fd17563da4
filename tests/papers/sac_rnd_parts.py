"""A small random network distillation, its moments, and a batch."""

import torch

from papers.sac_rnd.rnd import RND

S, A, B = 4, 2, 6
G = torch.Generator().manual_seed(0)


def moments():
    return {
        "state_mean": torch.full((S,), 0.3),
        "state_std": torch.full((S,), 2.0),
        "action_mean": torch.full((A,), -0.1),
        "action_std": torch.full((A,), 0.5),
    }


def make_rnd(**options):
    torch.manual_seed(1)
    rnd = RND(S, A, **moments(), width=8, embedding=3, **options)
    rnd.moments.update(torch.rand(10, generator=G))
    return rnd


def make_batch(generator=G, dtype=torch.float32):
    return {
        "s": torch.randn(B, S, generator=generator).to(dtype),
        "a": (torch.rand(B, A, generator=generator) * 2 - 1).to(dtype),
        "r": torch.randn(B, generator=generator).to(dtype),
        "next_s": torch.randn(B, S, generator=generator).to(dtype),
        "d": torch.tensor([0, 1, 0, 0, 1, 0], dtype=dtype),
    }
