"""That the README says what the program does."""

import re
from pathlib import Path

import pytest

from dualshard.common.job import SETTINGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def settings_table() -> str:
    """Every setting as a row: key, default, what it may be, what it means."""
    rows = [
        (f"`{key}`", f"`{rule.write(rule.default)}`", rule.expected, rule.doc)
        for key, rule in SETTINGS.items()
    ]
    cells = [("key", "default", "value", "meaning"), ("---",) * 4, *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def shell_blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_table_of_settings_is_the_schema() -> None:
    shown = README[README.index("| key | default |") :]
    assert shown == settings_table(), "print the table with: python tests/test_readme.py"


def test_the_first_two_blocks_are_one_command_each() -> None:
    install, tests = shell_blocks()[:2]
    assert install.startswith("python3 -m venv .venv && ")
    assert install.endswith(" && .venv/bin/dualshard train\n")
    assert tests.startswith("python3 -m venv .venv && ")
    assert tests.endswith(" && .venv/bin/pytest\n")
    assert install.count("\n") == tests.count("\n") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_length_of_the_example_is_as_told() -> None:
    told = re.search(r"\[(\d+) lines\]\((examples/.*?\.py)\)", README)
    assert told is not None
    lines = len((ROOT / told[2]).read_text().splitlines())
    assert lines == int(told[1])
    assert lines < 60


if __name__ == "__main__":
    print(settings_table(), end="")
