"""Dropout masks by Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), in numpy.

A mask is a function of where it acts: the seed of the run, the optimizer step, the sequence's place in that step, the
token's position in the sequence, the linear layer, and the column. Nothing of the library is used here.
"""
import numpy as np
import torch

STREAM_DROPOUT = 4


def philox(seed, stream, index):
    """The four words of each block; arguments are arrays of uint64 that broadcast. Result [..., 4] uint32."""
    seed, stream, index = np.broadcast_arrays(*(np.asarray(v, np.uint64) for v in (seed, stream, index)))
    low, word = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = index & low, index >> word, stream & low, stream >> word
    k0, k1 = seed & low, seed >> word
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> word) ^ c1 ^ k0, p1 & low, (p0 >> word) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def check_known_answers():
    """The test vectors that the authors publish with their code."""
    for counter, key, words in [
            ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            ((0xffffffff,) * 4, (0xffffffff,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            ((0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), (0xa4093822, 0x299f31d0),
             "d16cfe09 94fdcceb 5001e420 24126ea1")]:
        found = philox(key[0] | key[1] << 32, counter[2] | counter[3] << 32, counter[0] | counter[1] << 32)
        assert " ".join(f"{w:08x}" for w in found) == words, (counter, key, found)


check_known_answers()


def kept(seed, step, slot, site, tokens, columns, probability):
    """Which elements [tokens, columns] of a sequence stay."""
    first = philox(seed, STREAM_DROPOUT, step)
    step_seed = int(first[0]) | int(first[1]) << 32
    stream = np.uint64(slot << 32) | np.arange(tokens, dtype=np.uint64)[:, None]
    index = np.uint64(site << 32) | np.arange(-(-columns // 4), dtype=np.uint64)[None, :]
    words = philox(step_seed, stream, index).reshape(tokens, -1)[:, :columns]
    return words >= probability * 2.0 ** 32


class Dropout(torch.nn.Module):
    """In the place of PEFT's nn.Dropout of one linear layer. `run.at` is (step, slot) in a training step, else None."""

    def __init__(self, run, site, probability):
        super().__init__()
        self.run, self.site, self.probability = [run], site, probability  # a list hides the run from torch

    def forward(self, x):
        run = self.run[0]
        if run.at is None:
            return x
        step, slot = run.at
        mask = kept(run.seed, step, slot, self.site, x.shape[-2], x.shape[-1], self.probability)
        return x * torch.from_numpy(mask).to(x.dtype) / (1 - self.probability)
