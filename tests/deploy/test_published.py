"""The table of published data sets is one that can be downloaded."""

import gzip
import re
from urllib.parse import urlsplit

import pytest

from dualshard.common.data_sections import DataSection
from dualshard.dataserver.source import open_source
from dualshard.deploy.published import DATA_SETS


@pytest.mark.parametrize("name", DATA_SETS)
def test_what_stands_in_the_table(name):
    data = DATA_SETS[name]
    for mirror in data.mirrors:
        assert urlsplit(mirror).scheme in ("http", "https")
        assert urlsplit(mirror + "file").path.endswith("/file")
    for file in data.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert re.fullmatch(r"[a-z0-9-]+(\.tar)?\.gz", file.name)
        assert file.size > 4000
    checksums = [file.sha256 for other in DATA_SETS.values() for file in other.files]
    assert len(set(checksums)) == len(checksums) == 10


def test_the_names_are_those_that_the_source_reads(tmp_path):
    sizes = {"images": b"\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\2" + bytes(8)}
    labels = b"\0\0\x08\x01\0\0\0\2\0\1"
    for file in DATA_SETS["mnist"].files:
        content = sizes["images"] if "images" in file.name else labels
        (tmp_path / file.name).write_bytes(gzip.compress(content))
    split = open_source(DataSection(f"{DATA_SETS['mnist'].scheme}:{tmp_path}"), seed=0)
    assert (len(split.train), len(split.test)) == (2, 2)
