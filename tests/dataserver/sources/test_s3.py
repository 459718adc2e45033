"""Sources in S3: a store on this machine (moto) gives what a folder gives, and what is not there is
told by its bucket or its folder."""

from concurrent.futures import ThreadPoolExecutor

import fsspec.asyn
import numpy as np
import pytest
from every_format import SOURCES, write_all

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.source import open_source

pytestmark = pytest.mark.xdist_group("s3")  # one server, not one for each test process


@pytest.fixture(scope="module")
def server():
    """A store, and credentials for it in the environment."""
    moto = pytest.importorskip("moto.server", reason="the S3 server of moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    from werkzeug.serving import WSGIRequestHandler

    # fsspec keeps a thread for the network for good, and that one another for names of hosts.
    loop, names = fsspec.asyn.get_loop(), ThreadPoolExecutor(1)
    names.submit(int).result()
    loop.call_soon_threadsafe(loop.set_default_executor, names)
    with pytest.MonkeyPatch.context() as patch:
        # Connections end with their answers: none outlives its test.
        patch.setattr(WSGIRequestHandler, "protocol_version", "HTTP/1.0")
        running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", host)
        yield
        running.stop()
    for store in s3fs.S3FileSystem._cache.values():
        if store._s3 is not None:
            store.close_session(loop, store._s3)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    """A folder with a source of each format, which the bucket holds, too."""
    import boto3

    folder = tmp_path_factory.mktemp("formats")
    write_all(folder)
    client = boto3.client("s3")
    client.create_bucket(Bucket="shelf")
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"deep/{path.relative_to(folder)}"
            client.put_object(Bucket="shelf", Key=key, Body=path.read_bytes())
    client.close()
    return folder


@pytest.mark.parametrize("text", SOURCES.values(), ids=SOURCES)
def test_a_bucket_gives_what_a_folder_gives(folder, text):
    here = open_source(DataSection(text.replace("FOLDER", str(folder))), seed=1)
    there = open_source(DataSection(text.replace("FOLDER", "s3://shelf/deep")), seed=1)
    assert len(here.train) == len(there.train) > 0
    for one, other in ((here.train, there.train), (here.test, there.test)):
        indices = np.arange(len(one))
        for expected, found in zip(one.read(indices), other.read(indices), strict=True):
            np.testing.assert_array_equal(expected, found)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idx:s3://nowhere/mnist", " in s3://nowhere/mnist, there is no bucket s3://nowhere; "),
        ("cifar:s3://nowhere", " in s3://nowhere, there is no bucket s3://nowhere; "),
        (
            "npz:s3://nowhere/a/b.npz",
            "a file s3://nowhere/a/b.npz, there is no bucket s3://nowhere",
        ),
        ("images:s3://nowhere/a", "a folder s3://nowhere/a, there is no bucket s3://nowhere; "),
        ("idx:s3://shelf/mnist", " in s3://shelf/mnist, there is no folder s3://shelf/mnist; "),
        ("idx:s3://shelf/no/mnist", " in s3://shelf/no/mnist, there is no folder s3://shelf/no; "),
        ("idx:s3://shelf/deep/photos", " in s3://shelf/deep/photos, there is none; "),
        ("idx:s3://shelf/deep/a.npz", " in s3://shelf/deep/a.npz, which is no folder; "),
        ("npz:s3://shelf/deep/b.npz", "a file s3://shelf/deep/b.npz, it is not there; "),
        ("cifar:s3://shelf/no.tar.gz", "a file s3://shelf/no.tar.gz, it is not there; "),
        ("images:s3://shelf/no", "a folder s3://shelf/no, it is not there; "),
    ],
)
def test_a_bucket_or_a_key_that_is_not_there(text, expected):
    with pytest.raises(UserError) as caught:
        open_source(DataSection(text), seed=0)
    said = str(caught.value)
    assert said.startswith(f"data.source = {text}: expected ")
    assert expected in said
    assert "\n" not in said
