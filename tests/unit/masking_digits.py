"""Images to look for gradient masking on, and how far an attack may move them."""

import torch
from sklearn.datasets import load_digits

EPS = 0.15


def digit_images():
    data = load_digits()
    return torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
