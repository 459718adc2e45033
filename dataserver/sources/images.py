"""Folders of images, one a class: DIR/CLASS/*.jpg, or DIR/train/CLASS and DIR/test/CLASS.

Classes are numbered in the order of their sorted names, those of the training part; images lie in
the order of their sorted paths. The test part may be called val, valid or validation too. Files
of other kinds and those whose name begins with a dot are passed over.
"""

from dataclasses import dataclass

from ...common.data_sections import DataSection
from .decoding import SUFFIXES
from .encoded import EncodedSamples, open_encoded
from .places import Place
from .samples import Origin, Part

_TESTS = ("test", "val", "valid", "validation")
_LAYOUT = "put images in one folder a class, DIR/CLASS/*.jpg"


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images that are files of their own."""

    folder: Place
    names: list[str]

    def fetch(self, row: int) -> bytes:
        """As `Files.fetch`."""
        return (self.folder / self.names[row]).read()

    def name(self, row: int) -> str:
        """As `Files.name`."""
        return self.names[row]


def read_images(origin: Origin, place: str, part: Part, data: DataSection) -> EncodedSamples | None:
    """A part of a folder of class folders; None if there is no test part.

    Raises:
        UserError: no such folder, one without class folders or images, an empty class folder, a
            class that only the test part has, a damaged image among those that are looked at.
    """
    folder = Place.of(origin, place)
    names = [file.below(folder) for file in folder.walk()]
    parts = sorted({name.split("/")[0] for name in names if "/" in name})
    test = next((name for name in _TESTS if name in parts), None)
    split = "train" in parts and (test is not None or parts == ["train"])
    if part == "test" and not (split and test):
        return None
    prefix = f"{'train' if part == 'train' else test}/" if split else ""
    classes = _classes(origin, folder, names, "train/" if split else "")
    found = [n for n in names if n.startswith(prefix) and n.count("/", len(prefix))]
    found = [n for n in found if _is_image(n)]
    labels = [_label(origin, classes, name, prefix) for name in found]
    what = f"{place}/{prefix}".rstrip("/")
    if not found:
        raise origin.error(f"images in class folders in {what}, there are none", _LAYOUT)
    return open_encoded(ImageFiles(folder, found), labels, (what, what), data, origin)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.rpartition("/")[2].startswith(".")


def _classes(origin: Origin, folder: Place, names: list[str], prefix: str) -> dict[str, int]:
    """The number of each class, by the name of its folder in the training part."""
    inner = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    held = {name.split("/")[0] for name in inner if "/" in name and _is_image(name)}
    every = {name.split("/")[0] for name in inner if "/" in name}
    inside = folder / prefix.rstrip("/") if prefix else folder
    every |= {inner.name for inner in inside.list() if inner.is_folder()}
    bare = sorted(name for name in every - held if not name.startswith("."))
    if bare and held:
        (inside / bare[0]).list()  # says so, where only this user may not look into it
        raise origin.error(
            f"images in every class folder, {prefix}{bare[0]} has none",
            f"remove that folder, or put {', '.join(SUFFIXES)} files there",
        )
    return {name: number for number, name in enumerate(sorted(held))}


def _label(origin: Origin, classes: dict[str, int], name: str, prefix: str) -> int:
    """The class number of a file."""
    label = name[len(prefix) :].split("/")[0]
    if label not in classes:
        raise origin.error(
            f"test images of classes that are trained on, {name} is of {label}",
            "take both parts from the same data set",
        )
    return classes[label]
