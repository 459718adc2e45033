"""The batch script for Slurm: what it asks for, what is refused, and the example that is shown."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.deploy.launch.plan import Plan
from dualshard.deploy.launch.slurm import batch_script
from dualshard.deploy.launch.slurm_script import directives, role_counts, script

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "deploy" / "examples" / "slurm" / "digits.sbatch"
OUT = PurePosixPath("/scratch/me/digits")


def job(**worker):
    return Job.from_dict({"job": {"name": "digits"}, "worker": {"count": 4, **worker}})


def example():
    """What stands in deploy/examples: launch with --out, --keys and three options."""
    plan = Plan(
        job=job(threads=2),
        keys="/home/me/keys",
        options={"nodes": "4", "partition": "short", "time": "1:00:00"},
    )
    return batch_script(plan, Path(OUT), ["dualshard"])


def test_the_example_is_what_is_generated():
    assert EXAMPLE.read_text() == example(), f"print it with: python {__file__} >{EXAMPLE}"


def test_the_script_is_one_that_bash_reads(tmp_path):
    told = subprocess.run(["bash", "-n"], input=example(), capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_every_role_is_a_task():
    asked = directives(job(threads=3), OUT, {})
    assert asked == {
        "job-name": "digits",
        "ntasks": "8",
        "cpus-per-task": "3",
        "requeue": "",
        "signal": "B:USR1@60",
        "output": "/scratch/me/digits/logs/slurm-%j.log",
        "open-mode": "append",
    }


@pytest.mark.parametrize(
    ("given", "each"), [("1", "8"), ("3", "3"), ("8", "1"), ("20", "1"), ("2-4", None)]
)
def test_tasks_are_spread_evenly_over_a_number_of_nodes(given, each):
    asked = directives(job(), OUT, {"nodes": given})
    assert (asked["nodes"], asked.get("ntasks-per-node")) == (given, each)


def test_options_win_over_what_is_usual():
    given = {"job-name": "mine", "cpus-per-task": "8", "no-requeue": "", "signal": "B:USR1@300"}
    asked = directives(job(), OUT, {**given, "nodes": "2", "ntasks-per-node": "7"})
    assert asked.items() >= given.items()
    assert "requeue" not in asked
    assert asked["ntasks-per-node"] == "7"


def test_a_name_that_a_directive_cannot_hold_is_replaced():
    named = Job.from_dict({"job": {"name": "my run; id"}})
    assert directives(named, OUT, {})["job-name"] == "dualshard"


@pytest.mark.parametrize(
    "given",
    [
        {"comment": "two words"},
        {"comment": "a\n#SBATCH --uid=0"},
        {"comment": "a\nrm -rf /"},
        {"comment": '"quoted"'},
        {"comment": "a\\b"},
        {"comment": "a#b"},
        {"comment": "$(id)"},
        {"-n": "3"},
        {"Time": "3"},
        {"time limit": "3"},
        {"time\n": "3"},
    ],
)
def test_what_slurm_or_a_shell_would_read_otherwise_is_refused(given):
    with pytest.raises(
        UserError, match=r"^--option = .*: expected a long option of sbatch"
    ) as told:
        directives(job(), OUT, given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("key", ["ntasks", "array", "output", "error", "open-mode", "wrap"])
def test_what_the_launcher_decides_is_refused(key):
    with pytest.raises(UserError, match="expected an option that is yours to choose; "):
        directives(job(), OUT, {key: "1"})


@pytest.mark.parametrize("out", ["/a b", "/a%j", "/a'b", "/a\nb", "/a#b", "/$a"])
def test_a_run_directory_that_a_directive_cannot_hold_is_refused(out):
    with pytest.raises(UserError, match=r"^--out = .*: expected a path of letters"):
        directives(job(), PurePosixPath(out), {})


@given(st.text(min_size=1), st.text())
def test_options_add_one_directive_or_are_refused(key, value):
    try:
        asked = directives(job(), OUT, {key: value})
    except UserError:
        return
    usual = directives(job(), OUT, {})
    lines = [text for text in text_of(asked).splitlines() if text not in text_of(usual)]
    assert all(line.startswith("#SBATCH --") for line in lines)
    assert len(lines) <= 2


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_the_shell_gives_the_command_the_words_that_it_was_made_of(words):
    text = script({}, {"worker": 1}, PurePosixPath("/logs"), words)
    begin = text.index("--label --input=none \\\n    ") + len("--label --input=none \\\n    ")
    command = text[begin : text.index(" &\nstep=$!")]
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True)
    assert told.stdout == b"".join(word.encode() + b"\0" for word in words)


def text_of(asked):
    return script(asked, role_counts(job()), OUT, ["dualshard"])


if __name__ == "__main__":
    sys.stdout.write(example())
