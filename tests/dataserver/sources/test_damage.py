"""PNG, BMP and WebP files that are damaged or end early; the files are OpenCV's."""

import cv2
import numpy as np
import pytest

from dualshard.dataserver.sources.damage import BadImage, check_whole
from dualshard.dataserver.sources.decoding import Decoder


def encode(suffix, h=30, w=41):
    image = np.random.default_rng(3).integers(0, 256, (h, w, 3)).astype(np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def reason(data):
    with pytest.raises(BadImage) as caught:
        Decoder().decode(data)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_whole_files_pass_and_may_have_a_tail(suffix):
    data = encode(suffix)
    for tail in (b"", b"\0", b"more"):
        check_whole(data + tail)
        assert Decoder().decode(data + tail).shape == (30, 41, 3)


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_files_that_end_early(suffix, percent, capfd):
    data = encode(suffix)
    size = len(data) * percent // 100
    kind = {".png": "PNG", ".bmp": "BMP", ".webp": "WebP"}[suffix]
    ends = f"the PNG ends early, after {size:,} bytes"
    has = f"the {kind} has {size:,} of its {len(data):,} bytes"
    assert reason(data[:size]) == (ends if kind == "PNG" else has)
    assert capfd.readouterr() == ("", "")


def test_an_upside_down_bmp_and_one_of_grey():
    data = encode(".bmp")
    turned = data[:22] + (-30).to_bytes(4, "little", signed=True) + data[26:]
    np.testing.assert_array_equal(Decoder().decode(turned), Decoder().decode(data)[::-1])
    assert reason(turned[:-1]) == f"the BMP has {len(data) - 1:,} of its {len(data):,} bytes"
    grey = cv2.imencode(".bmp", np.zeros((5, 7), np.uint8))[1].tobytes()
    check_whole(grey)
    with pytest.raises(BadImage):
        check_whole(grey[:-1])


def test_every_flipped_byte_of_a_png_is_found(capfd):
    data = encode(".png", 4, 5)
    for place in range(8, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        assert reason(bytes(damaged)).startswith("the PNG ")
    assert capfd.readouterr() == ("", "")


def test_a_damaged_chunk_is_named():
    data = bytearray(encode(".png"))
    begin = data.index(b"IDAT") - 4
    data[begin + 100] ^= 1
    assert reason(bytes(data)).startswith(
        f"the PNG is damaged in its chunk IDAT at byte {begin}, whose CRC-32 is "
    )


def test_nothing_at_all():
    assert reason(b"") == "it is empty"
    assert reason(b"text") == "it cannot be decoded, 4 bytes"
