"""`dualshard init`: what a user finds in the new folder, and that nothing is overwritten."""

import os
from pathlib import Path

from click.testing import CliRunner

from dualshard.common.config import resolve
from dualshard.deploy.commands import dualshard
from dualshard.deploy.init import shipped
from dualshard.deploy.launch.hostfile import read_hosts


def init(folder: Path) -> tuple[int, str]:
    ran = CliRunner().invoke(dualshard, ["init", str(folder)])
    return ran.exit_code, ran.output


def test_a_new_folder_holds_a_job_hosts_and_what_deploys_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "one"
    status, said = init(folder)
    assert status == 0
    assert f"read {folder / 'README.md'} first" in said
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert made == set(dict(shipped()))
    assert {"job.toml", "hosts.txt", "README.md", "compose.yaml", "Dockerfile"} <= made
    assert {"systemd/dualshard-worker@.service", "install-host.sh"} <= made
    assert os.access(folder / "install-host.sh", os.X_OK)
    assert len((folder / "README.md").read_text().splitlines()) == 5
    job = resolve(folder / "job.toml", {}, (), {}).job
    assert (job.job.name, job.worker.count) == ("digits", 2)
    lines = (folder / "hosts.txt").read_text().splitlines()[1:]
    hosts = read_hosts("\n".join(line.removeprefix("# ") for line in lines), "hosts.txt")
    assert [(host.name, host.slots) for host in hosts] == [("host-a", 2), ("host-b", 4)]


def test_nothing_is_overwritten_and_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "dualshard.env").write_text("mine")
    status, said = init(tmp_path)
    assert status == 2
    assert said == (
        f"dualshard: DIR = {tmp_path}: expected a folder without systemd/dualshard.env; choose "
        "another folder, or move it away: nothing was written\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["mine.txt", "systemd"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, said = init(tmp_path / "file" / "below")
    assert status == 2
    assert said.startswith(
        f"dualshard: DIR = {tmp_path / 'file' / 'below'}: expected a folder that"
    )
    assert len(said.splitlines()) == 1
