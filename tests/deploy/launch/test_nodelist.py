"""Slurm's lists of nodes, against examples, properties, and Slurm itself where it is installed."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.deploy.launch.nodelist import LIMIT, expand

EXAMPLES = {
    "n1": ["n1"],
    "n[1-3,07-09],login": ["n1", "n2", "n3", "n07", "n08", "n09", "login"],
    "r[1-2]c[1-2]": ["r1c1", "r1c2", "r2c1", "r2c2"],
    "n[1-2][3-4]": ["n13", "n14", "n23", "n24"],
    "n[08-11]": ["n08", "n09", "n10", "n11"],
    "n[9-11]": ["n9", "n10", "n11"],
    "n[001-2]": ["n001", "n002"],
    "n[1-02]": ["n1", "n2"],
    "n[0-0]": ["n0"],
    "n[1,1]": ["n1", "n1"],
    "a.example.org,b-[1-2]": ["a.example.org", "b-1", "b-2"],
    "[1-3]": ["1", "2", "3"],
}


@pytest.mark.parametrize("text", list(EXAMPLES))
def test_examples(text):
    assert expand(text, "nodes") == EXAMPLES[text]


def test_text_behind_a_bracket_as_newer_slurms_have_it():
    assert expand("n[1-2]-ib,m[3].x", "nodes") == ["n1-ib", "n2-ib", "m3.x"]


@pytest.mark.parametrize("text", list(EXAMPLES))
@pytest.mark.skipif(shutil.which("scontrol") is None, reason="Slurm's scontrol is not installed")
def test_slurm_says_the_same(text, tmp_path):
    # It wants a configuration, and reads nothing from it.
    config = tmp_path / "slurm.conf"
    config.write_text("ClusterName=none\nSlurmctldHost=localhost\nNodeName=n1\n")
    told = subprocess.run(
        ["scontrol", "show", "hostnames", text],
        env={"SLURM_CONF": str(config)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == expand(text, "nodes")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not a name with ranges in brackets"),
        ("a,,b", "'' is not a name with ranges in brackets"),
        ("n1 n2", "'n1 n2' is not a name with ranges in brackets"),
        ("n[1-2", "'n[1-2' is not a name with ranges in brackets"),
        ("n1]", "'n1]' is not a name with ranges in brackets"),
        ("n[]", "'n[]' is not a name with ranges in brackets"),
        ("n[[1]]", "'n[[1]]' is not a name with ranges in brackets"),
        ("n[a]", "'n[a]' is not a name with ranges in brackets"),
        ("n$(id)", "'n$(id)' is not a name with ranges in brackets"),
        ("n[3-1]", "'3-1' is not a number or a range that rises"),
        ("n[1-]", "'1-' is not a number or a range that rises"),
        ("n[1-2,]", "'' is not a number or a range that rises"),
        ("n[1-2-3]", "'1-2-3' is not a number or a range that rises"),
        ("n[1-999999999]", "it stands for more than 65536 nodes"),
        ("a[1-999]b[1-999]", "it stands for more than 65536 nodes"),
        ("a[1-65536],b", "it stands for more than 65536 nodes"),
    ],
)
def test_what_is_malformed_is_refused_in_one_line(text, why):
    with pytest.raises(UserError) as refused:
        expand(text, "SLURM_JOB_NODELIST")
    shown = text or "''"
    expected = "a list of nodes such as n[1-3,07],login"
    assert str(refused.value) == f"SLURM_JOB_NODELIST = {shown}: expected {expected}; {why}"


def test_the_longest_list():
    assert len(expand(f"a[1-{LIMIT}]", "nodes")) == LIMIT


@st.composite
def lists(draw):
    """A list, and the names that it was made of."""
    items, names = [], []
    for _ in range(draw(st.integers(1, 4))):
        item, made = "", [""]
        for _ in range(draw(st.integers(1, 3))):
            text = draw(st.text("abz.-", min_size=1, max_size=3))
            ranges, numbers = [], []
            for _ in range(draw(st.integers(1, 3))):
                low = draw(st.integers(0, 120))
                high = low + draw(st.integers(0, 5))
                width = draw(st.integers(len(str(low)), 5))
                ranges.append(f"{low:0{width}}" if low == high else f"{low:0{width}}-{high}")
                numbers += [f"{number:0{width}}" for number in range(low, high + 1)]
            item += f"{text}[{','.join(ranges)}]"
            made = [name + text + number for name in made for number in numbers]
        items.append(item)
        names += made
    return ",".join(items), names


@given(lists())
def test_any_list_gives_the_names_that_it_was_made_of(pair):
    text, names = pair
    assert expand(text, "nodes") == names


@given(st.text("n0123456789[],-ab .$\n", max_size=20))
def test_any_text_gives_names_or_one_line(text):
    try:
        names = expand(text, "nodes")
    except UserError:
        return
    assert names
    assert all(name and not set(name) & set("[], $\n") for name in names)
