"""`dualshard data show`: what is drawn, its words and sizes, and what is refused in one line."""

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from dualshard.common.errors import UserError
from dualshard.deploy.commands import dualshard
from dualshard.deploy.sheet import GAP, LINE, MARGIN, draw_sheet
from dualshard.deploy.tiles import Tile, label_text, pixels, value_range


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x=images, y=np.arange(30) % 3)
    return lambda *words: CliRunner().invoke(dualshard, ["data", "show", *map(str, words)])


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, without the drawing."""
    calls = []
    monkeypatch.setattr("dualshard.deploy.sheet.draw_sheet", lambda *call: calls.append(call))
    return calls


def refusal(result):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_sheet_is_a_picture(run, tmp_path):
    result = run("npz:own.npz", "--augment", "reflect", "--count", 3, "--versions", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == "3 of 24 samples are drawn in samples.png\n"
    picture = cv2.imread(str(tmp_path / "samples.png"))
    # Two lines of title, one of headings; 8 x 6 pixels are enlarged 14 times.
    height = 2 * MARGIN + 3 * LINE + GAP + 3 * (8 * 14 + LINE + GAP) - GAP
    assert picture.shape == (height, 700, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"own.npz", "samples.png"}


def test_an_image_is_drawn_pixel_by_pixel(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (28, 20, 3)).astype(np.uint8)
    large = np.zeros((600, 480, 3), np.uint8)
    draw_sheet(tmp_path / "x.png", ["$ one"], ["a", "b"], [[Tile(image, ""), Tile(large, "$_{")]])
    picture = cv2.imread(str(tmp_path / "x.png"))[..., ::-1]
    top = MARGIN + LINE + GAP + 2 * LINE
    shown = picture[top : top + 28 * 4, MARGIN : MARGIN + 20 * 4]
    np.testing.assert_array_equal(shown, image.repeat(4, axis=0).repeat(4, axis=1))
    left = MARGIN + 20 * 4 + 2 + GAP
    black = picture[top : top + 240, left : left + 192]
    assert (black == 0).all()
    assert (picture[top + 240, left : left + 192] > 0).all()
    words = picture[MARGIN : MARGIN + LINE]
    assert (words < 100).any()


def test_rows_hold_the_original_and_one_version_an_epoch(run, drawn):
    words = ["npz:own.npz", "--seed", 4, "--epoch", 2, "--count", 5, "--versions", 3]
    assert run(*words, "--augment", "brightness:0.5,normalise:0.5:0.2").exit_code == 0
    ((_, title, headings, rows),) = drawn
    assert title == [
        "npz:own.npz: 5 of 24 training samples, 8 x 6 x 3, uint8",
        "brightness:0.5; seed 4",
    ]
    assert headings == ["as it is", "epoch 2", "epoch 3", "epoch 4"]
    assert [len(row) for row in rows] == [4] * 5
    for first, *others in rows:
        label = others[0].caption
        assert first.caption.startswith(f"class {label}, no. ")
        factors = [other.image.mean() / first.image.mean() for other in others]
        assert len({round(factor, 2) for factor in factors}) > 1
    # The next epoch's first sheet starts where this one's second column is.
    again = run(*words[:3], "--epoch", 2, *words[5:], "--augment", "brightness:0.5")
    assert again.exit_code == 0
    np.testing.assert_array_equal(drawn[1][3][2][1].image, rows[2][1].image)


def test_mixed_labels_are_told(run, drawn):
    result = run("npz:own.npz", "--augment", "mixup:5", "--count", 20, "--versions", 2)
    assert result.exit_code == 0
    captions = [tile.caption for row in drawn[0][3] for tile in row[1:]]
    mixed = [caption.split(" + ") for caption in captions if "+" in caption]
    assert len(mixed) > 15
    for first, second in mixed:
        assert float(first.split()[1]) + float(second.split()[1]) == pytest.approx(1, abs=0.011)


def test_test_samples_are_as_they_are_tested_on(run, drawn):
    entries = "brightness:1,resized_crop:4"
    assert run("npz:own.npz", "--augment", entries, "--test", "--count", 40).exit_code == 0
    ((_, title, headings, rows),) = drawn
    assert title == [
        "npz:own.npz: 6 of 6 test samples, 4 x 4 x 3, uint8",
        "without augmentation, as they are tested on",
    ]
    assert headings == []
    assert len(rows) == 1
    assert {tile.image.shape for tile in rows[0]} == {(4, 4, 3)}
    with np.load("own.npz") as arrays:
        images, labels = arrays["x"], arrays["y"]
    for tile in rows[0]:
        # The centred square of 7/8 of 6 pixels of exactly one image has these values.
        centres = images[:, 1:6, :5].copy()
        close = [cv2.resize(one, (4, 4), interpolation=cv2.INTER_AREA) for one in centres]
        (index,) = [i for i, one in enumerate(close) if (one == tile.image).all()]
        assert tile.caption.startswith(f"class {labels[index]}, no. ")


def test_without_augmentation_each_sample_is_shown_once(run, drawn):
    assert run("--count", 19).exit_code == 0
    ((_, title, headings, rows),) = drawn
    assert title == ["digits: 19 of 1,438 training samples, 8 x 8, float32"]
    assert (headings, [len(row) for row in rows]) == ([], [8, 8, 3])


def test_a_job_file_a_dataset_and_a_transform_of_the_users(run, drawn, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "class Data:\n"
        "    def __len__(self):\n        return 12\n"
        "    def read(self, indices):\n"
        "        images = np.full((len(indices), 5, 5), -2, np.float32)\n"
        "        return images, indices % 2\n"
        "def bright(arrays, random):\n    return (arrays[0] + 6, *arrays[1:])\n"
    )
    (tmp_path / "job.toml").write_text(
        '[data]\nsource = "mine.py:Data"\naugment = ["mine.py:bright"]\n'
    )
    assert run("--job", "job.toml", "--count", 1, "--versions", 1).exit_code == 0
    ((_, title, _, ((first, second),)),) = drawn
    assert title[-1] == "black is -2, white 4"
    assert (first.image.max(), second.image.min()) == (0, 255)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["digits", "--augment", "saturation:0.2"],
            "data.augment = saturation:0.2: expected images of 3 channels, and they have 1, in "
            "shape (8, 8); leave saturation out",
        ),
        (
            ["npz:none.npz"],
            "data.source = npz:none.npz: expected a file none.npz, it is not there; name one that "
            "is there",
        ),
        (
            ["--count", 41],
            "Invalid value for '--count': 41 is not in the range 1<=x<=40; see dualshard data "
            "show --help",
        ),
        (
            ["--seed", -1],
            "job.seed = -1: expected an integer of at least 0; for example job.seed = 0 (from "
            "command line)",
        ),
        (
            ["--out", "no/x.png"],
            "--out = no/x.png: expected a file that can be written; there is no folder no: choose "
            "another",
        ),
        (
            ["--out", "x.jpg"],
            "--out = x.jpg: expected a file name that ends in .png; write for example x.png",
        ),
        (["--out", "."], "--out = .: expected a file name that ends in .png; name a file"),
    ],
)
def test_what_is_refused(run, tmp_path, words, line):
    assert refusal(run(*words)) == f"dualshard: {line}"
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]


def test_a_write_that_fails_is_told(run, monkeypatch):
    def full(*call):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dualshard.deploy.sheet.draw_sheet", full)
    assert refusal(run("--count", 1)) == (
        "dualshard: --out = samples.png: expected a file that can be written; No space left on "
        "device: choose another"
    )


def test_samples_that_are_no_images(run, tmp_path):
    np.savez(tmp_path / "flat.npz", x=np.zeros((9, 20), np.float32), y=np.arange(9) % 3)
    assert refusal(run("npz:flat.npz")) == (
        "dualshard: data.source = npz:flat.npz: expected images to show, of shape (height, width) "
        "or (height, width, 1 or 3), and its samples are (20,); choose another source"
    )


def test_damaged_samples_are_left_out(run, drawn, tmp_path):
    image = np.zeros((6, 6, 3), np.uint8)
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(8):
            path = tmp_path / "set" / name / f"{number}.png"
            cv2.imwrite(str(path), image)
            if number % 2:
                path.write_bytes(path.read_bytes()[:40])
    words = ["images:set", "--set", "data.corrupt=skip", "--set", "data.held_out=0.5"]
    assert run(*words, "--augment", "reflect", "--versions", 1).exit_code == 0
    assert run(*words, "--test").exit_code == 0
    shown = [sum(len(row) for row in rows) for _, _, _, rows in drawn]
    # Of 8 whole ones each is in one part: the pairs on the left, the single ones on the right.
    assert shown[0] // 2 + shown[1] == 8


def test_labels_in_words():
    assert label_text(np.int64(7)) == "7"
    assert label_text(np.array([0, 0.17, 0.83], np.float32)) == "2 0.83 + 1 0.17"
    assert label_text(np.array([0, 1, 0], np.float32)) == "1"
    assert label_text(np.array([0.002, 0.998, 0], np.float32)) == "1"


def test_values_become_pixels():
    bytes_of_one = np.array([[[0, 7], [255, 3]]], np.uint8)
    np.testing.assert_array_equal(pixels(bytes_of_one)[..., 2], bytes_of_one)
    floats = np.array([[[[-1.0], [0.0], [1.0]]]], np.float32)
    low, high = value_range([floats, bytes_of_one])
    assert (low, high) == (-1, 1)
    np.testing.assert_array_equal(pixels(floats, low, high)[0, 0, :, 0], [0, 128, 255])
    assert value_range([floats[:, :, 1:]]) == (0, 1)
    with pytest.raises(UserError, match=r"and its samples are \(2, 2, 2\)"):
        pixels(np.zeros((1, 2, 2, 2), np.uint8))
