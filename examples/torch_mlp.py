"""A PyTorch module as it is, trained by parameter servers.

    dualshard train --model examples/torch_mlp.py:Net

Needs PyTorch: pip install 'dualshard[torch]'. The loss is the module's own method `loss`; without
one it is cross-entropy. `dualshard export RUN --format pt` gives the state_dict that it loads.
"""

import torch
from torch import nn


class Net(nn.Module):
    """A perceptron with batch normalisation, whose running averages the servers keep too."""

    def __init__(self, inputs: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, classes),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.body(inputs)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, labels, label_smoothing=0.05)
