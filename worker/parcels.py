"""In which form a shard of a gradient goes to a server: as it is, compressed, or as factors. Pure.

To a server that shares memory nothing goes at all; what is decided here is for the others.

Averaged state is never compressed: it goes beside the code as it is, a few numbers. Beside large
gradients `topk` would send none of it and `int8` would round it to nothing; and what error feedback
kept of it would come in one lump, many times too large, since the averages did not move meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common import modes
from ..common.cluster import parse_layout
from ..common.codecs import Encoder, make_codec
from ..common.job import Job
from ..common.partition import is_consensus
from ..common.rates import averaged_in, make_segments
from ..common.sharding import Shards
from ..common.types import Array, Float32
from .exchange import Exchange
from .factors import ShardPlan, factored, pack, plan
from .model import Factors

NOTHING: Float32 = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Parcel:
    """The fields of a `Push` that carry the gradient of one shard."""

    encoding: str
    gradient: Array
    extra: Array
    pieces: Sequence[list[int]] = ()
    averaged: Float32 = field(default_factory=lambda: NOTHING)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.gradient.nbytes + self.extra.nbytes + self.averaged.nbytes


class Parcels:
    """Packs what the exchanges of one worker push. Belongs to the loop.

    Arguments:
        layout: rows of all parameters, as in `Describe`.
        names: the weights whose gradients the model can give as factors.
        numbers: the shards that the worker holds; None: all. Its gradients are of these alone.
    """

    def __init__(
        self,
        job: Job,
        shards: Shards,
        layout: Sequence[Sequence[Any]],
        names: Sequence[str],
        numbers: range | None = None,
    ) -> None:
        self._job, self._shards, self._layout = job, shards, layout
        self._numbers = range(shards.count) if numbers is None else numbers
        self._begin = shards.span(self._numbers[0])[0] if self._numbers else 0
        self._names = names if _may_factor(job) else ()
        self._averaged = averaged_in(make_segments(parse_layout(layout)))
        self._plans: dict[int, list[ShardPlan | None]] = {}
        self._encoders: dict[int, Encoder] = {}
        self._buffers: dict[tuple[int, int], Float32] = {}

    @property
    def factors(self) -> bool:
        """Whether some weight may go as factors."""
        return bool(self._names)

    def skipped(self, samples: int) -> frozenset[str]:
        """The weights whose gradient nobody needs if all of a minibatch of so many samples goes
        as `pack` would have it."""
        return factored(self._plan(samples)) if self._names else frozenset()

    def pack(self, exchange: Exchange, shard: int, factors: Mapping[str, Factors]) -> Parcel:
        """One shard of the exchange's gradient; its buffers are lent until the reply."""
        begin, end = self._shards.span(shard)
        gradient = exchange.gradient[begin - self._begin : end - self._begin]
        if self._job.train.compression != "none":
            return self._encoded(exchange.number, shard, gradient)
        planned = None
        if factors and self._names:
            planned = self._plan(len(exchange.batches[-1].inputs))[shard]
        if planned is None:
            return Parcel("f32", gradient, NOTHING)
        key = (exchange.number, shard)
        if key not in self._buffers:
            self._buffers[key] = np.empty(end - begin, np.float32)
        payload = pack(planned, exchange.gradient, factors, self._buffers[key])
        return Parcel("factors", payload, NOTHING, planned.pieces)

    def _encoded(self, number: int, shard: int, gradient: Float32) -> Parcel:
        """One shard of the gradient of exchange `number`."""
        train = self._job.train
        encoder = self._encoders.get(number)
        if encoder is None:
            codec = make_codec(train.compression, train.topk)
            # Replicas push how far they are from z: what was left out of it once is in there again.
            feedback = train.error_feedback and not is_consensus(self._job)
            encoder = Encoder(codec, self._shards, feedback, self._numbers)
            self._encoders[number] = encoder
        averaged = self._taken_out(gradient, *self._shards.span(shard))
        code = encoder.encode(shard, gradient)
        return Parcel(code.name, code.payload, code.extra, averaged=averaged)

    def _taken_out(self, gradient: Float32, begin: int, end: int) -> Float32:
        """The averaged elements of the shard [begin, end), which leaves zeros in their place."""
        spans = [
            slice(max(span.start, begin) - begin, min(span.stop, end) - begin)
            for span in self._averaged
            if span.start < end and begin < span.stop
        ]
        if not spans:
            return NOTHING
        taken = np.concatenate([gradient[span] for span in spans])
        for span in spans:
            gradient[span] = 0
        return taken

    def _plan(self, samples: int) -> list[ShardPlan | None]:
        if samples not in self._plans:
            self._plans[samples] = plan(self._layout, self._shards, samples, self._names)
        return self._plans[samples]


def _may_factor(job: Job) -> bool:
    """Whether what is pushed is the plain gradient of one minibatch."""
    optimizer, train = job.optimizer, job.train
    return (
        train.factors != "off"
        and train.compression == "none"
        and modes.n_push(job) == 1
        and not modes.steps_locally(job)
        and not optimizer.clip
        and not optimizer.clip_value
    )
