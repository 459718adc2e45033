"""What a check found, and what follows from all of them. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ...common.errors import describe

State = Literal["ok", "warn", "fail"]
Check = Callable[[], "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not `ok`.

    `warn` hinders nobody, or not yet; with `fail` something of dualshard does not work here.
    """

    name: str
    state: State
    what: str
    fix: str = ""


def ok(name: str, what: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", what)


def warn(name: str, what: str, fix: str) -> Finding:
    """It works, but not as well as it might."""
    return Finding(name, "warn", what, fix)


def fail(name: str, what: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(name, "fail", what, fix)


def examine(
    checks: Iterable[tuple[str, Check]], run: Callable[[str, Check], Finding] = lambda _, it: it()
) -> list[Finding]:
    """Run the checks in order; one that breaks is a finding, too, and stops none of the others.

    `run` is handed the name and the check.
    """
    findings = []
    for name, check in checks:
        try:
            findings.append(run(name, check))
        except Exception as error:
            what = f"the check itself failed: {describe(error)}"
            findings.append(fail(name, what, "report this as a fault of dualshard"))
    return findings


def exit_status(findings: Sequence[Finding]) -> int:
    """1 if anything failed, else 0."""
    return int(any(finding.state == "fail" for finding in findings))


def verdict(findings: Sequence[Finding]) -> str:
    """All findings in one line."""
    counts = [
        f"{number} {state}{'s' if number > 1 else ''}"
        for state, number in (
            ("failure", sum(finding.state == "fail" for finding in findings)),
            ("warning", sum(finding.state == "warn" for finding in findings)),
        )
        if number
    ]
    return f"{len(findings)} checks: {', '.join(counts) or 'all is well'}"


def as_rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Plain values, for programs."""
    return [asdict(finding) for finding in findings]
