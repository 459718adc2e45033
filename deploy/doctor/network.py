"""Checks of the way to a controller: name, connection, answer, clock; and of this host's keys."""

import stat
from pathlib import Path
from typing import Any

from ...common.clock import SystemClock, wall_time
from ...common.errors import UserError
from ...common.session import own_versions
from ...common.transport import parse_address
from ...common.transport.local import address_towards, reach, resolve
from ..operator import Operator
from .findings import Finding, examine, fail, ok, warn
from .patience import within

PATIENCE = 1.5
"""Seconds for each of a name, a connection and an answer."""
SKEW = 1.0
"""Seconds that two clocks may differ: only logs show them."""


def check_controller(address: str, keys: Path | None) -> list[Finding]:
    """What is found on the way to the controller at `HOST:PORT`.

    Raises:
        UserError: it is no address.
    """
    whole = parse_address(address, "--controller")
    host, _, port = whole.removeprefix("tcp://").rpartition(":")
    found: list[Finding] = []

    def look() -> Finding:
        finding, *more = _look(whole, host, int(port), keys)
        found.extend(more)
        return finding

    return [*examine([("controller", look)]), *found]


def _look(address: str, host: str, port: int, keys: Path | None) -> list[Finding]:
    shown = f"{host}:{port}"
    name = "controller"
    addresses = within(PATIENCE, lambda: _resolved(host))
    if not isinstance(addresses, list):
        why = addresses or f"no answer about its name within {PATIENCE:g} s"
        fix = "give its IPv4 address, or make the name known here (DNS, /etc/hosts)"
        return [fail(name, f"{shown} cannot be found: {why}", fix)]
    clock = SystemClock()
    began = clock.now()
    if why := reach(addresses[0], port, PATIENCE):
        return [fail(name, f"{shown} cannot be reached: {why}", _way(why, port))]
    connected = clock.now() - began
    try:
        report, took, skew = ask(address, keys, clock)
    except UserError as refused:
        return [fail(name, f"{shown} lets this operator not in: {refused.expected}", refused.fix)]
    if report is None:
        return [
            fail(
                name,
                f"{shown} takes connections and does not answer as a controller does within "
                f"{PATIENCE:g} s",
                "see what listens there; if it is a controller with keys, give --keys DIR with "
                "the operator's key",
            )
        ]
    return [
        _answered(report, shown, addresses[0], connected, took),
        judge_clock(skew, took),
    ]


def _way(why: str, port: int) -> str:
    """What to do where no connection could be opened."""
    if "refused" in why:
        return (
            "start the controller there, with --bind or --interface of an address that this "
            "machine reaches: by default it listens for its own machine alone"
        )
    return f"see that host and network let TCP through to port {port} (firewall, route)"


def _resolved(host: str) -> list[str] | str:
    try:
        return resolve(host)
    except OSError as failed:
        return failed.strerror or str(failed)


def ask(
    address: str, keys: Path | None, clock: SystemClock
) -> tuple[dict[str, Any] | None, float, float | None]:
    """The controller's report, the seconds of a round trip, and how many seconds its clock is
    ahead of ours; the first question, which opens the connection, is not measured.

    Raises:
        UserError: the controller does not answer this operator.
    """
    operator = Operator(address, keys)
    try:
        if operator.status(PATIENCE) is None:
            return None, 0.0, None
        began, sent = clock.now(), wall_time()
        report = operator.status(PATIENCE)
        took = clock.now() - began
    finally:
        operator.close()
    theirs = (report or {}).get("time")
    if isinstance(theirs, float) and theirs > 0:
        return report, took, theirs - (sent + took / 2)
    return report, took, None


def _answered(
    report: dict[str, Any], shown: str, address: str, connected: float, took: float
) -> Finding:
    theirs, ours = report.get("versions", {}), own_versions()
    what = (
        f"{shown} answers in {1000 * took:.1f} ms (connection {1000 * connected:.1f} ms), phase "
        f"{report.get('phase', 'unknown')}, dualshard {theirs.get('dualshard', 'unknown')}; the "
        f"way there leaves from {address_towards(address) or 'an unknown address'}"
    )
    if theirs.get("dualshard") != ours["dualshard"]:
        what += f", here is dualshard {ours['dualshard']}"
        return warn("controller", what, "install the same dualshard on both")
    return ok("controller", what)


def judge_clock(skew: float | None, took: float) -> Finding:
    """The difference of the clocks, known to half a round trip."""
    if skew is None:
        return warn("clock", "the controller does not tell its time", "install the same dualshard")
    way = "ahead of" if skew > 0 else "behind"
    size = f"{abs(skew):.1f} s" if abs(skew) >= SKEW else f"{1000 * abs(skew):.1f} ms"
    what = f"the controller's is {size} {way} this one (± {1000 * took / 2:.1f} ms)"
    if abs(skew) > SKEW:
        fix = "synchronise both (chrony, systemd-timesyncd): times in logs cannot be compared"
        return warn("clock", what, fix)
    return ok("clock", what)


def check_keys(folder: Path | None) -> Finding:
    """The folder of this host's keys: pairs that nobody else may read, and public keys."""
    if folder is None:
        return ok(
            "keys",
            "none given (--keys DIR): without them roles listen for this machine alone, or with "
            "--insecure",
        )
    try:
        pairs = sorted(file for file in folder.iterdir() if file.suffix == ".key")
        public = sorted((folder / "public").glob("*.pub"))
        exposed = [file.name for file in pairs if _mode(file) & 0o077]
        writable = _mode(folder) & 0o022
    except OSError as refused:
        why = refused.strerror or str(refused)
        return fail("keys", f"{folder}: {why}", "make keys with dualshard keygen DIR")
    if not pairs or not public:
        what = "a pair (*.key)" if not pairs else "public keys (public/*.pub)"
        fix = "copy what dualshard keygen DIR made for this host"
        return fail("keys", f"{folder} has not {what}", fix)
    if exposed:
        names = ", ".join(exposed)
        fix = f"chmod 600 {folder}/*.key; whoever may have read them: dualshard keygen --rotate"
        return fail("keys", f"others may read {names} in {folder}", fix)
    if writable:
        return fail("keys", f"others may write to {folder}", f"chmod go-w {folder}")
    names = ", ".join(file.stem for file in pairs)
    return ok("keys", f"{folder}: {names}, and {len(public)} public keys")


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
