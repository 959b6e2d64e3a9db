import numpy


def redness(images, prompts, metadata):
    """How red images are, from -1 to 1; the same number as redness.h, to the bit."""
    wide = images.astype(numpy.int64)
    total = (2 * wide[..., 0] - wide[..., 1] - wide[..., 2]).sum(axis=(1, 2))
    return (total / (510.0 * images.shape[1] * images.shape[2])).astype(numpy.float32)
