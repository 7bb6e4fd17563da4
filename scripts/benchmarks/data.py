"""Cost of an image's view: tensor code for a whole batch, against PIL and a data loader."""

from __future__ import annotations

from torch.utils.data import DataLoader

from benchmarks.measure import Options, Ratio, Result, cpu_seconds, paired
from benchmarks.torchdistill import BATCH, PILImages, images


def run(options: Options) -> Result:
    """An epoch of random crops and mirror images of 32x32 colour images, normalisation left out of ours alone.

    Ours normalises inside the network, on the batch; that is added here, so that both give the same numbers.
    """
    import torch

    data = images()
    ours, epoch = data.train_loader(0), 0
    theirs = DataLoader(PILImages(data), batch_size=BATCH, shuffle=True, num_workers=0)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))

    def our_epoch() -> None:
        nonlocal epoch
        ours.sampler.set_epoch(epoch)
        epoch += 1
        for batch in ours:
            _ = (batch["x"] - mean) / std

    def their_epoch() -> None:
        for _ in theirs:
            pass

    arms = (their_epoch, our_epoch)
    found = paired(
        [lambda arm=arm: 1e6 * cpu_seconds(arm) / data.num_train for arm in arms], options.pairs(15, 3)
    )
    result = Result("data", "random crop and mirror image of 32x32x3")
    result.ratios.append(Ratio("PIL and DataLoader / ours", "microseconds an image", *found))
    return result
