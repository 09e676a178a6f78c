"""Signed bundles and archives, by the real `ssh-keygen`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.bundle.verification import verify as verify_bundle
from edge_asr_deploy.bundle.writer import replace_card
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.pack.archive import pack
from edge_asr_deploy.pack.signing import SIGNATURE, sign
from edge_asr_deploy.pack.verify import verify
from tests.support.small_bundles import FILES, NEW, write

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path, "key")


@pytest.fixture
def allowed(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "allowed"
    path.write_text(f"maker@example.org {key.with_suffix('.pub').read_text()}")
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "tiny", FILES)
    return tmp_path / "tiny"


def test_a_signed_bundle_names_its_signer(bundle: Path, key: Path, allowed: Path) -> None:
    assert sign(bundle, key) == bundle / SIGNATURE
    assert verify(bundle, allowed).signer == "maker@example.org"
    assert verify(bundle).signer is None


def test_a_new_card_leaves_the_signature_good(bundle: Path, key: Path, allowed: Path) -> None:
    sign(bundle, key)
    replace_card(bundle, verify_bundle(bundle), "# Measured\n")
    assert verify(bundle, allowed).signer == "maker@example.org"


def test_a_bundle_that_was_made_anew_is_not_what_was_signed(
    bundle: Path, key: Path, allowed: Path, tmp_path: Path
) -> None:
    """Whoever changes a file can write a manifest for it, but no signature."""
    sign(bundle, key)
    write(tmp_path / "other", NEW)
    shutil.copyfile(bundle / SIGNATURE, tmp_path / "other" / SIGNATURE)
    with pytest.raises(UserError, match="is not of this content"):
        verify(tmp_path / "other", allowed)


def test_a_bundle_without_a_signature_is_refused(bundle: Path, allowed: Path) -> None:
    with pytest.raises(UserError, match=r"is not signed \(bundle.sig is missing\)"):
        verify(bundle, allowed)


def test_another_key_is_not_allowed(bundle: Path, allowed: Path, tmp_path: Path) -> None:
    sign(bundle, make_key(tmp_path, "stranger"))
    with pytest.raises(UserError, match="is not of a key that"):
        verify(bundle, allowed)


def test_a_signature_for_another_purpose_does_not_count(bundle: Path, key: Path, allowed: Path) -> None:
    sign(bundle, key)
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(key)]
    done = subprocess.run(words, input=b"edge-asr-deploy bundle", capture_output=True, check=True)
    (bundle / SIGNATURE).write_bytes(done.stdout)
    with pytest.raises(UserError, match="is not of this content"):
        verify(bundle, allowed)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN SSH SIGNATURE-----\n", bytes(range(256))])
def test_what_is_no_signature_is_refused(bundle: Path, allowed: Path, damage: bytes) -> None:
    (bundle / SIGNATURE).write_bytes(damage)
    with pytest.raises(UserError, match="is not of a key that"):
        verify(bundle, allowed)


def test_a_signed_archive_holds_a_signed_bundle(bundle: Path, key: Path, allowed: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pi.tar.gz"
    packed = pack(bundle, archive, "linux_aarch64", ["3.11"], False, False, key)
    assert packed.signature == f"{archive}.sig"
    assert verify(archive, allowed).signer == "maker@example.org"
    shutil.unpack_archive(archive, tmp_path / "board")
    assert verify(tmp_path / "board" / "pi" / "bundle", allowed).signer == "maker@example.org"
    assert not (bundle / SIGNATURE).exists(), "the bundle itself is not written to"


def test_the_signature_of_a_replaced_archive_does_not_stay(bundle: Path, key: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pi.tar.gz"
    pack(bundle, archive, "linux_aarch64", ["3.11"], False, False, key)
    pack(bundle, archive, "linux_aarch64", ["3.11"], False, True)
    assert not archive.with_name("pi.tar.gz.sig").exists()


def test_a_changed_archive_is_refused(bundle: Path, key: Path, allowed: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pi.tar.gz"
    pack(bundle, archive, "linux_aarch64", ["3.11"], False, False, key)
    other = tmp_path / "other.tar.gz"
    pack(bundle, other, "linux_x86_64", ["3.11"], False, False)
    archive.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="is not of this content"):
        verify(archive, allowed)


def test_a_key_that_cannot_sign_leaves_no_archive(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("no key\n")
    for name, said in (("broken", "cannot sign"), ("missing", "no such file")):
        with pytest.raises(UserError, match=said):
            pack(bundle, tmp_path / "pi.tar.gz", "linux_aarch64", ["3.11"], False, False, tmp_path / name)
    assert not (tmp_path / "pi.tar.gz").exists()


def test_the_command_line(bundle: Path, key: Path, allowed: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["sign", str(bundle), "--key", str(key)])
    assert done.exit_code == 0 and "bundle.sig: written" in done.output
    done = runner.invoke(app, ["verify", str(bundle), "--allowed-signers", str(allowed)])
    assert done.exit_code == 0 and "signed by maker@example.org" in done.output.replace("\n", " ")


def test_without_ssh_keygen_the_remedy_is_named(bundle: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="openssh-client"):
        sign(bundle, key)
