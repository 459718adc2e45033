"""A data set and a transform of one's own.

    dualshard train --set data.source=examples/own_data.py:Stripes \
        --set data.augment=examples/own_data.py:Window

A data set is any object with a length and `read`; it is asked for the samples that are needed next.
"""

import numpy as np


class Stripes:
    """4,000 images of stripes, drawn when they are asked for; the class is their direction."""

    thread_safe = True  # several threads may call `read` at once

    def __init__(self):
        self.labels = np.arange(4000) % 4  # with these, nothing is read before it is needed

    def __len__(self):
        return len(self.labels)

    def read(self, indices):
        labels = self.labels[indices]
        angles, phases = (labels * np.pi / 4)[:, None, None], (indices * 0.7)[:, None, None]
        y, x = np.mgrid[:16, :16]
        waves = np.sin(x * np.cos(angles) + y * np.sin(angles) + phases)
        return (127.5 + 127 * waves).astype(np.uint8), labels


class Window:
    """12 of the 16 pixels each way, from anywhere; at testing from the middle."""

    def __call__(self, arrays, random):
        tops, lefts = (random.uniform(draw, 0, 5).astype(int) for draw in (0, 1))
        windows = np.lib.stride_tricks.sliding_window_view(arrays[0], (12, 12), axis=(1, 2))
        return windows[np.arange(len(tops)), tops, lefts], *arrays[1:]

    def at_test(self, arrays):
        return arrays[0][:, 2:14, 2:14], *arrays[1:]
