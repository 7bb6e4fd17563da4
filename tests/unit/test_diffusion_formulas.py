"""DiffusionEdge's formulas against loops, closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from papers.diffusion_edge import method, windows
from papers.diffusion_edge.spectral import spectral_filter
from papers.diffusion_edge.uncertainty import MODES, distilled_ce, pixel_weights, uncertain_ce

torch.manual_seed(0)
F64 = torch.float64


def rand(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_moments_of_the_forward_process():
    z0 = torch.full((200_000, 1, 1, 1), 0.7, dtype=F64)
    for t in (0.1, 0.5, 0.9):
        z_t = method.diffuse(z0, rand(*z0.shape, seed=1), torch.full((len(z0),), t, dtype=F64))
        assert float(z_t.mean()) == pytest.approx((1 - t) * 0.7, abs=4 * math.sqrt(t / len(z0)))
        assert float(z_t.var()) == pytest.approx(t, rel=0.02)


def test_reverse_step_is_the_posterior_of_a_gaussian():
    # z_{t-s} ~ N((1 - t + s) z0, t - s) and z_t - z_{t-s} ~ N(-s z0, s): condition the first on their sum.
    z0, t, s = 0.8, 0.7, 0.25
    prior_mean, prior_var = (1 - t + s) * z0, t - s
    n = rand(400_000, 1, 1, 1, seed=2)
    z_t = (1 - t) * z0 + math.sqrt(t) * n
    gain = prior_var / (prior_var + s)
    mean = prior_mean + gain * (z_t - (prior_mean - s * z0))
    clean = torch.full_like(z_t, z0)
    assert torch.allclose(method.reverse_step(z_t, clean, n, t, s, torch.zeros_like(n)), mean, atol=1e-12)
    drawn = method.reverse_step(z_t, clean, n, t, s, rand(*n.shape, seed=3))
    assert float((drawn - mean).var()) == pytest.approx(prior_var * s / (prior_var + s), rel=0.01)
    assert float(drawn.mean()) == pytest.approx(prior_mean, abs=4e-3)
    assert float(drawn.var()) == pytest.approx(prior_var, rel=0.02)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_a_perfect_network_reaches_the_clean_latent(steps):
    z0, z = rand(2, 3, 4, 4, seed=4), rand(2, 3, 4, 4, seed=5)
    plan = method.times(steps)
    assert len(plan) == steps + 1 and sum(s for _, s in plan) == pytest.approx(1.0)
    for i, (t, s) in enumerate(plan):
        n = (z - (1 - t) * z0) / math.sqrt(t)
        z = method.reverse_step(z, z0, n, t, s, rand(*z.shape, seed=6 + i))
    assert torch.allclose(z, z0, atol=1e-9)


@pytest.mark.parametrize("skip", ["official", "signed"])
def test_preconditioned_heads_are_inverted_by_their_formula(skip):
    z0, n, t = rand(3, 2, 4, 4), rand(3, 2, 4, 4, seed=1), torch.tensor([0.1, 0.5, 0.99], dtype=F64)
    z_t = method.diffuse(z0, n, t)
    F1, F2 = torch.empty_like(z0), torch.empty_like(z0)
    for i, time in enumerate(t.tolist()):
        sign = 1 if skip == "official" else -1
        F1[i] = (-z0[i] - sign * (1 - time) * z_t[i]) * math.sqrt(time**2 + 1) / time
        F2[i] = (n[i] - math.sqrt(time) * z_t[i]) * math.sqrt(time**2 + 1) / math.sqrt(1 - time)
    found = method.decoupled(F1, F2, z_t, t, skip)
    for got, true in zip(found, (-z0, n, z0), strict=True):
        assert torch.allclose(got, true, atol=1e-9)
    alone = method.single(F2, z_t, t, floor=1e-6)
    assert alone.C is None and torch.allclose(alone.z0, z0, atol=1e-8)
    losses = method.diffusion_terms(found, z0, n, t)
    assert max(float(v) for v in losses.values()) < 1e-8


def test_losses_against_loops():
    z0, n, t = rand(3, 2, 2, 2), rand(3, 2, 2, 2, seed=1), torch.tensor([0.2, 0.6, 0.9], dtype=F64)
    found = method.Prediction(*(rand(3, 2, 2, 2, seed=i) for i in (7, 8, 9)))
    simple, rec, weights = 0.0, [], []
    for b, time in enumerate(t.tolist()):
        w1, w2 = (time + 1) / time**0.5, (2 - time) ** 0.5 / (1 - time + 1e-4) ** 0.5
        for w, got, true in ((w1, found.C[b], -z0[b]), (w2, found.n[b], n[b])):
            gaps = (got - true).flatten().tolist()
            simple += w * sum(g * g + abs(g) for g in gaps) / len(gaps) / 6
        rec.append(float((found.z0[b] - z0[b]).abs().mean()))
        weights.append((1 - time) ** 2)
    official, fixed = (method.diffusion_terms(found, z0, n, t, w) for w in ("official", "fixed"))
    assert float(official["simple"]) == pytest.approx(simple) == float(fixed["simple"])
    # The B x B table of the release, entry by entry.
    table = [r * w for r in rec for w in weights]
    assert float(official["rec"]) == pytest.approx(sum(table) / 9)
    assert float(fixed["rec"]) == pytest.approx(sum(r * w for r, w in zip(rec, weights, strict=True)) / 3)
    one = [method.weighted_mean(torch.tensor([2.0]), torch.tensor([0.3]), w) for w in ("official", "fixed")]
    assert one[0] == one[1]


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 5), (3, 4)])
def test_filter_is_a_circular_convolution(height, width):
    x, kernel = rand(1, 2, height, width), rand(2, height, width, seed=1)
    weight = torch.fft.rfft2(kernel)
    expected = torch.zeros_like(x)
    for c in range(2):
        for i in range(height):
            for j in range(width):
                for p in range(height):
                    for q in range(width):
                        shifted = x[0, c, (i - p) % height, (j - q) % width]
                        expected[0, c, i, j] += kernel[c, p, q] * shifted
    assert torch.allclose(spectral_filter(x, weight), expected)
    with pytest.raises(ValueError, match="its size is tied to the crop"):
        spectral_filter(x[..., 1:], weight[..., :-1] if width % 2 else weight)


@pytest.mark.parametrize("ambiguous", ["masked", "positive"])
def test_weighted_cross_entropy_against_loops(ambiguous):
    e = torch.tensor([[[[0.0, 0.2, 0.4, 1.0], [0.0, 0.0, 0.0, 0.25]]]] * 2, dtype=F64)
    e[1, 0, 0, 0] = 0.3
    e_hat = torch.rand(e.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    labels = []
    for value in e.flatten().tolist():
        label = 1.0 if value >= 0.3 else value
        labels.append(1.0 if ambiguous == "positive" and label > 0 else label)
    plus, minus = labels.count(1.0), labels.count(0.0)
    losses = []
    for label, p in zip(labels, e_hat.flatten().tolist(), strict=True):
        if label == 1.0:
            losses.append(-minus / (plus + minus) * math.log(p))
        else:
            losses.append(-1.1 * plus / (plus + minus) * math.log(1 - p) if label == 0.0 else 0.0)
    found = uncertain_ce(e_hat, e, ambiguous)
    assert found.tolist() == pytest.approx([sum(losses[:8]) / 8, sum(losses[8:]) / 8])
    assert (pixel_weights(e, "masked")[1][(e > 0) & (e < 0.3)] == 0).all()
    for empty in (torch.zeros_like(e), torch.full_like(e, 0.2)):
        assert torch.isfinite(uncertain_ce(e_hat, empty, ambiguous)).all()


class Coder(nn.Module):
    """A small smooth pair: 8 x 8 maps, 2 x 2 latents of 2 channels."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.A = torch.randn(8, 64, dtype=F64, generator=generator) / 8
        self.B = torch.randn(64, 8, dtype=F64, generator=generator) / 8

    def encode(self, e):
        return torch.tanh(e.flatten(1) @ self.A.T).reshape(-1, 2, 2, 2)

    def decode(self, z):
        return torch.tanh(z.flatten(1) @ self.B.T).reshape(-1, 1, 8, 8)


def numerical(function, x, h=1e-6):
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros_like(x).flatten()
        step[i] = h
        step = step.reshape(x.shape)
        gradient.view(-1)[i] = (function(x + step) - function(x - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_uncertainty_distillation(mode):
    coder, k = Coder(), 0.3
    e = (rand(2, 1, 8, 8, seed=3) > 1).to(F64)
    e[0, 0, 0, :3] = 0.2
    z0 = rand(2, 2, 2, 2, seed=4).requires_grad_()
    value = distilled_ce(z0, e, k, coder.encode, coder.decode, mode)
    assert value.shape == (2,)

    def pixel_loss(z):
        return uncertain_ce((coder.decode(z / k) + 1) / 2, e)

    (gradient,) = torch.autograd.grad(value.sum() + 0 * z0.sum(), z0)
    clean = z0.detach()
    if mode == "off":
        assert (value == 0).all() and (gradient == 0).all()
    elif mode == "official_scalar":
        # What the release hands over is the derivative of (constant loss) * (mean element).
        constant = float(pixel_loss(clean).mean())
        expected = numerical(lambda z: float((constant * z.flatten(1).mean(1)).sum()), clean)
        assert (value == 1).all() and torch.allclose(gradient, expected, atol=1e-7)
        assert (gradient > 0).all() and torch.allclose(gradient, gradient.flatten()[0].expand_as(gradient))
    elif mode == "through_decoder":
        assert torch.allclose(gradient, numerical(lambda z: float(pixel_loss(z).sum()), clean), atol=1e-7)
        assert torch.allclose(value, pixel_loss(clean))
    else:
        e_hat = (coder.decode(clean / k) + 1) / 2
        pixels = numerical(lambda m: float(uncertain_ce(m, e).sum()), e_hat)
        cells = torch.zeros_like(pixels)
        for i in (0, 4):
            for j in (0, 4):
                mean = pixels[..., i : i + 4, j : j + 4].mean((-1, -2), keepdim=True)
                cells[..., i : i + 4, j : j + 4] = mean
        h = 1e-6
        moved = coder.encode(2 * (e_hat + h * cells) - 1) - coder.encode(2 * (e_hat - h * cells) - 1)
        assert torch.allclose(gradient, k * moved / (2 * h), atol=1e-7)
        assert torch.allclose(value, pixel_loss(clean))


def test_unknown_mode_is_named():
    with pytest.raises(ValueError, match="not 'none'"):
        distilled_ce(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 4, 4), 1.0, None, None, "none")


def test_windows_cover_everything_and_average():
    assert windows.starts(481, 320, 240) == [0, 161] and windows.starts(96, 96, 72) == [0]
    x = torch.rand(2, 3, 20, 28, dtype=F64)
    constant = windows.sliding(x, lambda part, number: torch.full_like(part[:, :1], 0.25), 12, 8)
    assert torch.allclose(constant, torch.full_like(constant, 0.25), atol=1e-15)
    assert torch.allclose(windows.sliding(x, lambda part, number: part[:, :1], 12, 8), x[:, :1])
    places = list(windows.places(20, 28, 12, 8))
    numbered = windows.sliding(x, lambda part, number: torch.full_like(part[:, :1], float(number)), 12, 8)
    for i, j in ((0, 0), (10, 10), (19, 27), (9, 17)):
        covering = [
            number
            for number, (rows, columns) in enumerate(places)
            if rows.start <= i < rows.stop and columns.start <= j < columns.stop
        ]
        assert float(numbered[0, 0, i, j]) == pytest.approx(np.mean(covering))
    # Symmetric windows: a prediction that flips with its input gives a map that does.
    flipped = windows.sliding(x.flip(-1), lambda part, number: part[:, :1] ** 2, 12, 8)
    assert torch.allclose(flipped.flip(-1), windows.sliding(x, lambda part, number: part[:, :1] ** 2, 12, 8))
    with pytest.raises(ValueError, match="shorter than the window"):
        windows.starts(10, 12, 8)
    with pytest.raises(ValueError, match="stride has to lie"):
        windows.starts(20, 12, 13)
