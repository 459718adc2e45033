"""What a section of the job file is: typed settings that check themselves. Pure.

The sections themselves are in `job` and `rule_sections`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from .errors import UserError
from .settings import Setting
from .toml import shown

Unknown = Callable[[str, str, object], UserError]
"""Makes the error for a key that a section does not have: section, key, value."""


@dataclass(frozen=True)
class Section:
    """A section of the job file; every field of a subclass is made by `setting`."""

    name_in_file: ClassVar[str]

    def __post_init__(self) -> None:
        """Check every value and keep its canonical form. Raises `UserError`."""
        for name, rule in self.rules().items():
            checked = rule.check(f"{self.name_in_file}.{name}", getattr(self, name))
            object.__setattr__(self, name, checked)

    @classmethod
    def rules(cls) -> dict[str, Setting]:
        """The keys of this section, in order."""
        return {item.name: item.metadata["setting"] for item in fields(cls)}

    @classmethod
    def from_dict(cls, table: object, unknown: Unknown) -> Self:
        """A section from what stands under its header; missing keys take their defaults.

        Arguments:
            unknown: makes the error for a key that the section does not have.
        Raises:
            UserError: that is no table, or has a key that the section does not have.
        """
        name = cls.name_in_file
        if not isinstance(table, Mapping):
            fix = f"write [{name}] on a line of its own, and the keys below it"
            raise UserError(name, shown(table), f"a section [{name}]", fix)
        for key in table:
            if key not in cls.rules():
                raise unknown(name, str(key), table[key])
        return cls(**table)


def with_default(section: type[Section], name: str, default: Any) -> Any:
    """A field like one of `section`, with another default, as in the job file."""
    rule = section.rules()[name]
    return field(default=default, metadata={"setting": replace(rule, default=default)})
