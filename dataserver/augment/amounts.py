"""The amounts that stand behind a name in `data.augment`: how each is read and described. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf


class Amount(ABC):
    """One amount of an entry, between two colons: `read` from text, `described` in errors."""

    name: str
    optional: bool

    @abstractmethod
    def read(self, text: str) -> object | None:
        """The value of `text`, or None where it is no such amount."""

    @abstractmethod
    def described(self) -> str:
        """For errors: `PIXELS a number from 0 to 4096`."""


@dataclass(frozen=True, slots=True)
class Number(Amount):
    """A finite float from `low` to `high`, both allowed; `whole`: an int."""

    name: str
    low: float
    high: float
    whole: bool = False
    optional: bool = False

    def read(self, text: str) -> float | None:
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            return None
        # A comparison with NaN is false, so that it is refused too.
        return value if self.low <= value <= self.high and value < inf else None

    def described(self) -> str:
        kind = "an integer" if self.whole else "a number"
        return f"{self.name} {kind} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Choice(Amount):
    """One of a few words, each with the value it stands for."""

    name: str
    values: Mapping[str, object]
    optional: bool = False

    def read(self, text: str) -> object | None:
        return self.values.get(text)

    def described(self) -> str:
        return f"{self.name} one of {', '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Channels(Amount):
    """A number for all channels, or one for each with `/` between them, from `low` to `high`."""

    name: str
    low: float
    high: float
    optional: bool = False

    def read(self, text: str) -> tuple[float, ...] | None:
        one = Number(self.name, self.low, self.high)
        values = [one.read(part) for part in text.split("/")]
        found = tuple(value for value in values if value is not None)
        return found if len(found) == len(values) else None

    def described(self) -> str:
        return f"{self.name} numbers from {self.low:g} to {self.high:g}, / between channels"
