"""A net of dualshard's own layers, named as it is: no builder.

    dualshard train --model examples/sequential.py:net

Every compute thread gets a copy. A net that should fit any data is built by a function with the
arguments `inputs` and `classes`; this one is made for the digits of scikit-learn.
"""

from dualshard.worker.nn.activations import Tanh
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.initialisers import xavier_uniform
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.sequential import Sequential

net = Sequential(
    [Dense(64, 48, xavier_uniform), Tanh(), Dense(48, 10, xavier_uniform)],
    SoftmaxCrossEntropy(),
)
