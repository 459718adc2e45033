"""JPEGs: the pixels of OpenCV, turned as EXIF says, and damage that OpenCV takes for pixels."""

import struct

import cv2
import numpy as np
import pytest

from dualshard.dataserver.sources.damage import BadImage
from dualshard.dataserver.sources.decoding import Decoder
from dualshard.dataserver.sources.jpeg import orientation

KINDS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "444": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}


def picture(seed=0, h=120, w=160):
    """Smooth, with some noise on it."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    noise = random.integers(-20, 21, (h, w, 3))
    smooth = cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def encode(image, *options):
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


def exif(turn, order="<"):
    """An APP1 segment with one other tag before the orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tags = struct.pack(order + "HHHII", 2, 0x0100, 4, 1, 99)
    tags += struct.pack(order + "HHIHH", 0x0112, 3, 1, turn, 0)
    body = b"Exif\0\0" + mark + struct.pack(order + "I", 8) + tags + struct.pack(order + "I", 0)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def with_exif(data, segment):
    """As cameras do it: behind the first segment."""
    end = 4 + int.from_bytes(data[4:6], "big")
    return data[:end] + segment + data[end:]


def opencv(data, flags=cv2.IMREAD_COLOR_RGB):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_opencv(kind):
    data = encode(picture(), *KINDS[kind])
    np.testing.assert_array_equal(Decoder().decode(data), opencv(data))
    grey = encode(picture()[..., 0], *KINDS[kind])
    np.testing.assert_array_equal(
        Decoder(grey=True).decode(grey), opencv(grey, cv2.IMREAD_GRAYSCALE)
    )
    np.testing.assert_array_equal(Decoder().decode(grey), opencv(grey))
    assert Decoder(grey=True).decode(data).shape == (120, 160, 3)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("turn", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_it_is_turned_as_opencv_turns_it(turn, order):
    data = with_exif(encode(picture()), exif(turn, order))
    assert orientation(data) == (turn if 1 <= turn <= 8 else 1)
    np.testing.assert_array_equal(Decoder().decode(data), opencv(data))
    # What is cut off when it is resized is cut off of the turned image.
    shape = (40, 30) if 5 <= turn <= 8 else (30, 40)
    seen = cv2.resize(opencv(data), shape[::-1], interpolation=cv2.INTER_AREA).astype(np.int64)
    assert np.abs(Decoder(shape).decode(data) - seen).mean() < 2


@pytest.mark.parametrize("cut", [0, 3, 8, 12, 20, 30])
def test_exif_that_is_cut_off_says_nothing(cut):
    segment = exif(6)[4 : len(exif(6)) - 4 - 8 - cut]
    broken = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    assert orientation(with_exif(encode(picture()), broken)) == 1
    assert orientation(b"\xff\xd8\xff\xe1") == 1


@pytest.mark.parametrize("size", [(60, 60), (100, 100), (119, 160), (200, 300)])
def test_resizing_is_close_to_means_of_areas(size):
    """At half the size the transform is a faster one, whose bias is made up for."""
    image = cv2.GaussianBlur(picture(), (0, 0), 2)
    data = encode(image, cv2.IMWRITE_JPEG_QUALITY, 95)
    made = Decoder(size).decode(data).astype(np.int64)
    scale = max(size[0] / 120, size[1] / 160)
    h, w = round(size[0] / scale), round(size[1] / scale)
    top, left = (120 - h) // 2, (160 - w) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = cv2.resize(opencv(data)[top : top + h, left : left + w], size[::-1], interpolation=how)
    assert made.shape == (*size, 3)
    assert np.sqrt(((made - seen) ** 2).mean()) < 2
    assert abs((made - seen).mean()) < 0.6


def cut_short(data, at):
    return data[:at]


def zeroed(data, at):
    return data[:at] + bytes(300) + data[at + 300 :]


def overwritten(data, at):
    return data[:at] + np.random.default_rng(5).bytes(300) + data[at + 300 :]


def ended(data, at):
    """Cut short by a program that puts an end there."""
    return data[:at] + b"\xff\xd9"


@pytest.mark.parametrize("percent", [10, 50, 90])
@pytest.mark.parametrize("harm", [cut_short, zeroed, overwritten, ended])
@pytest.mark.parametrize("kind", ["baseline", "restarts", "444"])
def test_damage_is_found_in_silence(kind, harm, percent, capfd):
    data = encode(picture(), *KINDS[kind])
    begin = data.index(b"\xff\xda")
    damaged = harm(data, begin + (len(data) - begin) * percent // 100 - 150)
    with pytest.raises(BadImage) as caught:
        Decoder((60, 60)).decode(damaged)
    if harm is cut_short:
        assert str(caught.value) == f"the JPEG ends early, after {len(damaged):,} bytes"
    else:
        assert str(caught.value).startswith("the JPEG is damaged inside (")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("percent", [10, 50, 90])
@pytest.mark.parametrize("harm", [cut_short, ended])
def test_a_progressive_jpeg_that_ends_early_is_found(harm, percent):
    data = encode(picture(), *KINDS["progressive"])
    with pytest.raises(BadImage):
        Decoder().decode(harm(data, len(data) * percent // 100))


@pytest.mark.parametrize("tail", [b"garbage", bytes(1000), b"\xff\xda more", b"\xff\xd8\xff"])
def test_what_follows_the_end_is_nobodys_business(tail):
    data = encode(picture())
    np.testing.assert_array_equal(Decoder().decode(data + tail), opencv(data))


def test_a_header_that_speaks_of_more_pixels_than_there_can_be():
    data = bytearray(encode(picture()))
    begin = data.index(b"\xff\xc0") + 5
    data[begin : begin + 4] = b"\xfd\xe8\xfd\xe8"
    with pytest.raises(BadImage) as caught:
        Decoder((60, 60)).decode(bytes(data))
    assert str(caught.value) == "the JPEG is 65000x65000, of more than 268,435,456 pixels"


@pytest.mark.parametrize("data", [b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8 and no more of it"])
def test_the_beginning_of_a_jpeg_is_none(data):
    with pytest.raises(BadImage):
        Decoder().decode(data)
