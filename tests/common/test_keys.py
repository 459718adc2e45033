"""The files of keys: what they hold, who may read them, what is said of a wrong one. And keygen."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualshard.common.errors import UserError
from dualshard.common.keys import (
    KEY_LENGTH,
    ROLES,
    Holder,
    KeyRing,
    Pair,
    holders,
    read_pair,
    read_public,
    role_of,
    write_pair,
    write_public,
)
from dualshard.common.transport import new_pair
from dualshard.common.transport.curve import public_of
from dualshard.deploy.commands import dualshard

A, B = "a" * KEY_LENGTH, "B." * (KEY_LENGTH // 2)


def keygen(*arguments: object) -> str:
    """What the command says; its error in one line if it fails, which it does with status 2."""
    result = CliRunner().invoke(dualshard, ["keygen", *map(str, arguments)])
    text = result.output.strip()
    assert result.exit_code in (0, 2), text
    assert "\n" not in text
    assert (result.exit_code == 2) == text.startswith("dualshard: ")
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everyone's keys, in a folder whose name needs care."""
    keygen(tmp_path / "my keys")
    return tmp_path / "my keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_pair(tmp_path / "keys", "worker-gpu1", Pair(A, B))
    assert read_pair(tmp_path / "keys" / "worker-gpu1.key") == Pair(A, B)
    assert read_public(tmp_path / "keys" / "public" / "worker-gpu1.pub") == A
    assert B not in repr(Pair(A, B))
    assert B not in (tmp_path / "keys" / "public" / "worker-gpu1.pub").read_text()


def test_a_secret_is_its_owners_alone_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    opened = os.fdopen

    def noted(descriptor: int, *rest: str) -> object:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return opened(descriptor, *rest)

    monkeypatch.setattr(os, "fdopen", noted)
    before = os.umask(0)
    try:
        write_pair(tmp_path / "keys", "worker", Pair(A, B))
    finally:
        os.umask(before)
    assert modes == [0o644, 0o600]
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / "worker.key") == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()].count("worker.key.new") == 0


@pytest.mark.parametrize("name", ["boss", "worker_1", "worker-", "Worker", "worker-a/b", "-", ""])
def test_a_name_begins_with_a_role(name: str) -> None:
    with pytest.raises(UserError, match=r"--name = .*: expected a role \(controller, paramserver"):
        role_of(name)


def test_earlier_keys_are_the_same_holders_and_come_later() -> None:
    names = {"1": "worker", "2": "worker-old-1", "3": "worker-old-3", "4": "worker-b-old-2"}
    assert holders(names) == {
        "1": Holder("worker", "worker", 0),
        "2": Holder("worker", "worker", 2),
        "3": Holder("worker", "worker", 1),
        "4": Holder("worker", "worker-b", 1),
    }


def test_a_ring_has_its_own_pair_and_everyones_public_keys(folder: Path) -> None:
    ring = KeyRing(folder, "worker")
    assert ring.own == read_pair(folder / "worker.key")
    assert sorted(holder.name for holder in ring.holders.values()) == sorted(ROLES)
    assert ring.keys_of(role="worker") == ring.keys_of(name="worker") == [ring.own.public]
    assert not ring.reload()


def test_a_ring_sees_what_changes_and_only_that(folder: Path) -> None:
    ring, controller = KeyRing(folder, "worker"), KeyRing(folder, "controller")
    old = ring.own
    keygen(folder, "--rotate", "worker")
    assert ring.reload()
    assert controller.reload()
    assert not ring.reload()
    assert ring.own == read_pair(folder / "worker.key") != old
    assert controller.keys_of(role="worker") == [ring.own.public, old.public]
    (folder / "public" / "worker-old-1.pub").unlink()
    assert controller.reload()
    assert controller.keys_of(role="worker") == [ring.own.public]


def test_while_a_pair_is_changed_both_files_may_hold_one_key(folder: Path) -> None:
    write_public(folder, "worker-old-1", read_public(folder / "public" / "worker.pub"))
    ring = KeyRing(folder, "worker")
    assert ring.holders[ring.own.public] == Holder("worker", "worker", 0)


def test_a_mistake_keeps_what_was_and_is_told(folder: Path) -> None:
    ring = KeyRing(folder, "worker")
    before = ring.holders
    (folder / "worker.key").chmod(0o640)
    assert not ring.reload()
    assert ring.trouble == (
        f"--keys = {folder / 'worker.key'}: expected a secret that only its owner may read, not "
        f"mode 640; chmod 600 '{folder / 'worker.key'}'"
    )
    assert ring.holders is before
    (folder / "worker.key").chmod(0o600)
    ring.reload()
    assert ring.trouble == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns files of root")
@pytest.mark.parametrize(
    ("mode", "us", "fits"),
    [
        *((0o600, 0, True), (0o400, 0, True), (0o440, 0, False), (0o604, 0, False)),
        *((0o400, 1000, True), (0o440, 1000, True), (0o640, 1000, True)),
        *((0o660, 1000, False), (0o444, 1000, False)),
    ],
)
def test_a_file_of_root_may_be_read_by_our_group(
    mode: int, us: int, fits: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "worker.key").chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: us)
    if fits:
        read_pair(folder / "worker.key")
    else:
        with pytest.raises(UserError, match=f"that only its owner may read, not mode {mode:o}; "):
            read_pair(folder / "worker.key")


def test_a_pair_whose_halves_do_not_fit_is_not_taken_up(folder: Path) -> None:
    ring = KeyRing(folder, "worker")
    ring.check_pairs(public_of)
    before = ring.own
    write_pair(folder, "worker", Pair(before.public, new_pair().secret))
    assert not ring.reload()
    assert "expected a public key that belongs to its secret; copy the file again" in ring.trouble
    assert ring.own == before
    with pytest.raises(UserError, match="a public key that belongs to its secret"):
        KeyRing(folder, "worker").check_pairs(public_of)


def spoil_public(folder: Path) -> None:
    (folder / "public" / "worker.pub").write_text("public = " + "~" * KEY_LENGTH)


def spoil_secret(folder: Path) -> None:
    (folder / "worker.key").write_text(f"public = {A}\nsecret = {A}x\n")


def spoil_number(folder: Path) -> None:
    (folder / "public" / "worker.pub").write_text("public = " + "#" * KEY_LENGTH)


def spoil_name(folder: Path) -> None:
    (folder / "public" / "boss.pub").write_text(f"public = {A}\n")


def two_of_one(folder: Path) -> None:
    write_public(folder, "operator", read_public(folder / "public" / "worker.pub"))


def no_public(folder: Path) -> None:
    for path in (folder / "public").iterdir():
        path.unlink()


def no_own(folder: Path) -> None:
    (folder / "worker.key").unlink()


def two_own(folder: Path) -> None:
    no_own(folder)
    keygen(folder, "--name", "worker-a", "--name", "worker-b")


def no_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            spoil_public,
            "/public/worker.pub: expected a line `public = ` and 40 characters of Z85; ",
        ),
        (spoil_number, "/public/worker.pub: expected a line `public = ` and 40 characters of Z85"),
        (spoil_secret, "/worker.key: expected a line `secret = ` and 40 characters of Z85; copy "),
        (spoil_name, "/public/boss.pub: expected a file whose name begins with a role (controller"),
        (two_of_one, "/public/worker.pub: expected a key of its own, not that of operator.pub; "),
        (no_public, "/public: expected the public keys of everyone who takes part; copy the "),
        (no_own, "my keys: expected the key of this role in worker.key; copy it from where "),
        (two_own, "my keys: expected one key of role worker, not worker-a.key, worker-b.key; keep"),
        (no_folder, "my keys: expected a folder of keys; make it with `dualshard keygen '"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file_and_the_fix(
    folder: Path, spoil: object, words: str
) -> None:
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(UserError) as raised:
        KeyRing(folder, "worker")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert A + "x" not in str(raised.value)  # of a wrong secret nothing is shown


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_of_others_are_named(folder: Path) -> None:
    (folder / "worker.key").chmod(0o000)
    with pytest.raises(UserError, match="Permission denied: check path and owner"):
        KeyRing(folder, "worker")


def test_keygen_makes_a_pair_for_every_role(tmp_path: Path) -> None:
    said = keygen(tmp_path / "keys")
    assert said == (
        "made controller, paramserver, dataserver, worker, operator in "
        f"{tmp_path / 'keys'}: keep {tmp_path / 'keys'}/*.key secret"
    )
    pairs = [KeyRing(tmp_path / "keys", role).own for role in ROLES]
    assert len({pair.public for pair in pairs} | {pair.secret for pair in pairs}) == 10


def test_keygen_replaces_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    said = keygen(folder)
    assert said.startswith(f"dualshard: DIR = {folder / 'controller.key'}: expected no such file")
    assert "--rotate controller" in said
    assert "no such file yet" in keygen(folder, "--name", "worker")
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_keygen_adds_a_pair_for_one_host_and_copies_what_it_needs(
    folder: Path, tmp_path: Path
) -> None:
    keygen(folder, "--name", "worker-gpu1")
    keygen(folder, "--copy", "worker-gpu1", tmp_path / "for gpu1")
    copied = sorted(path.name for path in (tmp_path / "for gpu1").rglob("*.*"))
    assert copied == sorted(["worker-gpu1.key", "worker-gpu1.pub", *(f"{r}.pub" for r in ROLES)])
    ring = KeyRing(tmp_path / "for gpu1", "worker")
    assert ring.own == read_pair(folder / "worker-gpu1.key")
    assert mode(tmp_path / "for gpu1" / "worker-gpu1.key") == 0o600
    again = keygen(folder, "--copy", "worker-gpu1", tmp_path / "for gpu1")
    assert "expected no such file yet; remove " in again


def test_keygen_rotates_and_numbers_the_old_keys(folder: Path) -> None:
    olds = []
    for number in (1, 2):
        olds.append(read_public(folder / "public" / "worker.pub"))
        said = keygen(folder, "--rotate", "worker")
        assert f"remove public/worker-old-{number}.pub everywhere" in said
    (folder / "public" / "worker-old-1.pub").unlink()
    keygen(folder, "--rotate", "worker")
    assert (folder / "public" / "worker-old-3.pub").exists()
    ring = KeyRing(folder, "worker")
    assert ring.keys_of(name="worker")[0] == ring.own.public
    assert ring.keys_of(name="worker")[2] == olds[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "boss"], "--name = boss: expected a role"),
        (["--name", "worker-old-1"], "expected a name that does not end in -old-N; choose another"),
        (["--rotate", "worker-x"], "worker-x.key: expected key files that can be read; No such"),
        (["--copy", "worker-x", "out"], "worker-x.key: expected key files that can be read; No"),
        (["--copy", "worker", "out", "--rotate", "worker"], "give one of --name, --rotate and"),
    ],
)
def test_keygen_says_what_is_wrong(folder: Path, arguments: list[str], words: str) -> None:
    assert words in keygen(folder, *arguments)


def test_keygen_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = keygen(tmp_path / "file" / "keys")
    assert said.startswith(f"dualshard: DIR = {tmp_path / 'file' / 'keys'}: expected a folder that")
    assert said.endswith("Not a directory: choose another DIR")


def test_fresh_pairs_differ_and_fit() -> None:
    pairs = [new_pair() for _ in range(10)]
    assert len({pair.secret for pair in pairs}) == 10
    assert all(public_of(pair.secret) == pair.public for pair in pairs)
