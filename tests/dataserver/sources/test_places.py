"""Places: a format reads the same from a folder and from a store that fsspec reaches; secrets stay
hidden; whatever is wrong with a place is one line."""

import http.server
import sys
import threading

import fsspec
import numpy as np
import pytest
from every_format import SOURCES, write_all

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.common.urls import without_secrets
from dualshard.dataserver.source import open_source
from dualshard.dataserver.sources.places import Place
from dualshard.dataserver.sources.samples import Origin

ORIGIN = Origin("data.source", "idx:HERE")


@pytest.fixture
def store():
    """An empty store in memory, which fsspec calls memory://."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("text", SOURCES.values(), ids=SOURCES)
def test_a_store_gives_what_a_folder_gives(tmp_path, store, text):
    write_all(tmp_path)
    store.put(str(tmp_path) + "/", "/there/", recursive=True)
    here = open_source(DataSection(text.replace("FOLDER", str(tmp_path))), seed=1)
    there = open_source(DataSection(text.replace("FOLDER", "memory://there")), seed=1)
    assert len(here.train) == len(there.train) > 0
    for one, other in ((here.train, there.train), (here.test, there.test)):
        indices = np.arange(len(one))
        for expected, found in zip(one.read(indices), other.read(indices), strict=True):
            np.testing.assert_array_equal(expected, found)


def sentence(text, **settings):
    with pytest.raises(UserError) as caught:
        open_source(DataSection(text, **settings), seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("scheme", ["images", "webdataset", "parquet"])
def test_a_folder_that_is_not_there(tmp_path, scheme):
    for place in (str(tmp_path / "no"), "memory://no"):
        assert sentence(f"{scheme}:{place}").startswith(
            f"data.source = {scheme}:{place}: expected "
        )


def test_what_is_not_there_is_told_by_its_outermost_folder(tmp_path, store):
    store.makedirs("/there/a")
    store.pipe("/there/file", b"")
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path), "memory://there"):
        for name, lack in [
            ("a", "there is none"),
            ("file", "which is no folder"),
            ("no", f"there is no folder {place}/no"),
            ("no/such/folder", f"there is no folder {place}/no"),
        ]:
            assert f" in {place}/{name}, {lack}; " in sentence(f"idx:{place}/{name}")
    assert sentence(f"npz:{tmp_path}/no/a.npz") == (
        f"data.source = npz:{tmp_path}/no/a.npz: expected a file {tmp_path}/no/a.npz, there is no "
        f"folder {tmp_path}/no; name one that is there"
    )


def test_a_protocol_that_nobody_knows():
    said = sentence("idx:gopher://hole/mnist")
    assert said.startswith("data.source = idx:gopher://hole/mnist: expected ")
    assert said.endswith("name a path, or a URL of a protocol such as s3://, gs:// or https://")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # Classes of protocols are kept once they are found, as by the tests against an S3 server.
    for protocol in ("s3", "s3a"):
        found = sys.modules["fsspec.registry"]._registry
        monkeypatch.delitem(found, protocol, raising=False)
    said = sentence("idx:s3://bucket/mnist")
    assert "the package for s3://, it is not installed" in said
    assert said.endswith("; pip install 'dualshard[s3]'")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("idx:https://me:secret@host/a", "idx:https://host/a"),
        ("npz:https://host/a.npz?X-Amz-Signature=abc", "npz:https://host/a.npz?..."),
        ("images:/home/me/a@b", "images:/home/me/a@b"),
        ("idx:s3://bucket/a", "idx:s3://bucket/a"),
    ],
)
def test_secrets_of_a_url_are_not_shown(text, shown):
    assert without_secrets(text) == shown
    assert str(Origin("data.source", text).error("b", "c")).startswith(f"data.source = {shown}: ")


@pytest.mark.parametrize(("offset", "size"), [(0, None), (0, 4), (3, 4), (7, None), (10, 0)])
def test_any_part_of_a_file(tmp_path, store, offset, size):
    (tmp_path / "a").write_bytes(b"0123456789")
    store.pipe("/a", b"0123456789")
    expected = b"0123456789"[offset : None if size is None else offset + size]
    for text in (str(tmp_path / "a"), "memory://a"):
        assert Place.of(ORIGIN, text).read(offset, size) == expected


def test_a_part_that_ends_after_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with pytest.raises(UserError) as caught:
        Place.of(ORIGIN, str(tmp_path / "a")).read(8, 5)
    assert str(caught.value) == (
        f"data.source = idx:HERE: expected {tmp_path}/a to hold 13 bytes, from 8 on there are "
        "2 of 5; write or download the file again"
    )


class Files(http.server.SimpleHTTPRequestHandler):
    """A web server without ranges, which says nothing."""

    def log_message(self, *_: object) -> None:
        pass


def test_over_http_in_a_process_of_its_own(tmp_path):
    """fsspec keeps a thread for the network, which the tests' own process must not keep."""
    pytest.importorskip("aiohttp")
    import functools
    import subprocess
    import sys

    write_all(tmp_path)
    handler = functools.partial(Files, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = SOURCES["npz"].replace("FOLDER", f"http://127.0.0.1:{server.server_port}")
        code = (
            "import sys; from dualshard.common.data_sections import DataSection as D; "
            "from dualshard.dataserver.source import open_source; "
            "from dualshard.dataserver.sources.places import Place; "
            "from dualshard.dataserver.sources.samples import Origin; "
            "split = open_source(D(sys.argv[1]), seed=0); print(len(split.train)); "
            "place = Place.of(Origin('a', 'b'), sys.argv[1][4:]); print(place.read(1, 3))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60
        )
        assert (done.stdout, done.stderr) == ("7\nb'K\\x03\\x04'\n", "")
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
