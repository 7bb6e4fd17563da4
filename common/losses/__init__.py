"""Classic losses as free functions of tensors; every one is a mean over the batch."""
