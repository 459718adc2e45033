"""Checks that break, or do not come back."""

import threading

from dualshard.deploy.doctor import patience
from dualshard.deploy.doctor.findings import examine, ok
from dualshard.deploy.doctor.patience import in_time, within

GOOD = ok("Python", "3.11.2")


def test_what_takes_too_long_is_left_to_itself():
    forever = threading.Event()
    assert within(0.05, forever.wait) is None
    forever.set()
    assert within(10.0, lambda: 7) == 7


def test_a_check_that_does_not_come_back_is_a_finding_and_stops_no_other(monkeypatch):
    forever = threading.Event()
    checks = [("GPU", forever.wait), ("BLAS", lambda: 1 / 0), ("Python", lambda: GOOD)]
    monkeypatch.setattr(patience, "LIMIT", 0.05)
    (gpu,) = examine(checks[:1], in_time)
    forever.set()
    assert (gpu.name, gpu.state, gpu.what) == ("GPU", "fail", "no answer within 0.05 s")
    monkeypatch.setattr(patience, "LIMIT", 10.0)
    blas, python = examine(checks[1:], in_time)
    assert (blas.name, blas.state, python) == ("BLAS", "fail", GOOD)
    assert blas.what.startswith("the check failed: doctor: ZeroDivisionError: division by zero")
