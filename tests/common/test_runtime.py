"""What a role's process has around its loop, as far as it can be tried without a role."""

import resource
from collections.abc import Iterator

import pytest

from dualshard.common.runtime import FILES, allow_many_files


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_role_may_have_as_many_connections_as_its_process(limits: tuple[int, int]) -> None:
    hard = limits[1]
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
