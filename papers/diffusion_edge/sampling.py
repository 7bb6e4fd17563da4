"""Edge maps from noise: a few reverse steps in each window of an image."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from common.core.seeding import derive
from papers.diffusion_edge.method import reverse_step, times
from papers.diffusion_edge.training import Objective
from papers.diffusion_edge.uncertainty import to_map
from papers.diffusion_edge.windows import sliding

_NOISE = 0x6E6F697365


class Sampler:
    """Draws edge maps.

    Args:
        net: the denoising network.
        coder: the autoencoder.
        objective: scale and preconditioning, as in training.
        steps: N; the network is asked N + 1 times.
        window, stride: in pixels.
        seed: noise is a function of it, of the image's content and of the window, whatever batch an image is in.
    """

    def __init__(
        self,
        net: nn.Module,
        coder: nn.Module,
        objective: Objective,
        steps: int,
        window: int,
        stride: int,
        seed: int,
    ) -> None:
        self.net, self.coder, self.objective = net, coder, objective
        self.steps, self.window, self.stride, self.seed = times(steps), window, stride, seed

    @torch.no_grad()
    def maps(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, 1, H, W] in [0, 1]."""
        names = [zlib.crc32(image.cpu().numpy().tobytes()) for image in x]
        return sliding(
            x, lambda part, number: self.window_maps(part, names, number)[-1], self.window, self.stride
        )

    @torch.no_grad()
    def window_maps(self, x: Tensor, names: list[int], number: int = 0) -> list[Tensor]:
        """Decoded z0^ of every step and, last, the map itself, [B, 1, window, window] each."""
        side, k = self.window // self.coder.factor, self.objective.k
        seeds = [derive(self.seed, name, number, _NOISE) for name in names]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        def noise() -> Tensor:
            shape = (self.coder.latent, side, side)
            return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(x)

        features = self.net.see(x)
        z, shown = noise(), []
        for t, s in self.steps:
            time = torch.full((len(x),), t, device=x.device)
            found = self.objective.predict(self.net(z, time, features), z, time)
            shown.append(to_map(self.coder.decode(found.z0 / k)))
            z = reverse_step(z, found.z0, found.n, t, s, noise())
        return [*shown, to_map(self.coder.decode(z / k))]
