"""The sections of the job file that say how parameters are updated: `[optimizer]`, `[outer]`. Pure.

What a rule does is in `rules`, how its rate changes in `schedules`.
"""

from dataclasses import dataclass

from .rates import parse_rates
from .section import Section, with_default
from .settings import Kind, setting


@dataclass(frozen=True)
class RuleSection(Section):
    """An update rule and its schedule: what `[optimizer]` and `[outer]` share."""

    rule: str = setting(
        Kind.TEXT,
        "rmsprop",
        "the update rule; adam and adamw are one: Adam with decoupled weight decay",
        choices=("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"),
    )
    lr: float = setting(Kind.NUMBER, 2e-3, "the learning rate", above=0)
    momentum: float = setting(
        Kind.NUMBER, 0.9, "momentum, where the rule has one; β1 of adam", minimum=0, below=1
    )
    beta2: float = setting(
        Kind.NUMBER,
        0.0,
        "what of the mean square each update keeps; 0: 0.99 for rmsprop, 0.999 for adam",
        minimum=0,
        below=1,
    )
    eps: float = setting(
        Kind.NUMBER,
        0.0,
        "added to the root of the mean square; 0: 1e-10 for adagrad, 1e-8 for rmsprop and adam",
        minimum=0,
    )
    weight_decay: float = setting(
        Kind.NUMBER,
        0.0,
        "decoupled decay of weights, times the rate; none on biases and normalisation",
        minimum=0,
    )
    rates: tuple[str, ...] = setting(
        Kind.TEXTS,
        [],
        "multiples of the rate by parameter name, like dense1.*:0.1 or *.bias:2; the first match "
        "counts, 0 freezes",
    )
    schedule: str = setting(
        Kind.TEXT,
        "linear",
        "how the rate changes over the job",
        choices=("constant", "linear", "step", "cosine", "onecycle"),
    )
    warmup: float = setting(
        Kind.NUMBER,
        0.0,
        "fraction of the job in which the rate rises; 0: none, 0.3 for onecycle",
        minimum=0,
        below=1,
    )
    step_every: float = setting(
        Kind.NUMBER,
        0.3334,
        "schedule step: fraction of the job between two drops; 0.3334: two drops",
        above=0,
        maximum=1,
    )
    step_factor: float = setting(
        Kind.NUMBER, 0.1, "schedule step: what each drop multiplies the rate by", above=0, maximum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_rates(self.rates, f"{self.name_in_file}.rates")


@dataclass(frozen=True)
class OptimizerSection(RuleSection):
    """The update rule of the parameter servers, and of workers that step locally."""

    name_in_file = "optimizer"
    clip: float = setting(
        Kind.NUMBER, 0.0, "largest norm of a minibatch's whole gradient; 0: off", minimum=0
    )
    clip_value: float = setting(
        Kind.NUMBER, 0.0, "largest size of one element of a gradient; 0: off", minimum=0
    )
    delay_compensation: float = setting(
        Kind.NUMBER,
        0.0,
        "λ of DC-ASGD: corrects a late gradient by λ g² times how far the parameters moved; 0: off",
        minimum=0,
    )


@dataclass(frozen=True)
class OuterSection(RuleSection):
    """The servers' rule in mode local, for the changes that workers push."""

    name_in_file = "outer"
    rule: str = with_default(RuleSection, "rule", "sgd")
    lr: float = with_default(RuleSection, "lr", 1.0)
    schedule: str = with_default(RuleSection, "schedule", "constant")
