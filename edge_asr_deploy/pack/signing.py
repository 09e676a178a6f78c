"""Signatures of archives and bundles by SSH keys, made and checked by `ssh-keygen -Y` (OpenSSH 8.2 or newer).

An archive's signature lies beside it, ARCHIVE.sig, and is of its bytes. A bundle's is `bundle.sig` inside, of one line
with the bundle's hash, which covers every file and the whole manifest but card and time: a card can be written anew.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge_asr_deploy.bundle.manifest import bundle_hash
from edge_asr_deploy.bundle.verification import verify_files
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import appearing
from edge_asr_deploy.printing import one_line

SIGNATURE = "bundle.sig"
# What a signature is for: one made for another purpose does not count here.
NAMESPACE = "edge-asr-deploy"


def signature_of(path: Path) -> Path:
    """Where the signature of an archive or a bundle lies."""
    return path / SIGNATURE if path.is_dir() else path.with_name(f"{path.name}.sig")


def sign(path: Path, key: Path) -> Path:
    """Sign an archive or an intact bundle with a private key, or with a public one whose private half an agent holds.

    Returns the signature's path. UserError for a damaged bundle and for a key that cannot sign.
    """
    if not path.exists():
        raise UserError("sign", path, "no such archive or bundle; check the path")
    signature = signed(message_of(bundle_hash(verify_files(path))) if path.is_dir() else path, key)
    target = signature_of(path)
    try:
        with appearing(target) as file:
            file.write(signature)
    except OSError as error:
        raise UserError("sign", target, f"cannot be written ({error.strerror}); choose another place") from None
    return target


def message_of(digest: str) -> bytes:
    """The line that is signed for a bundle of this hash."""
    return f"edge-asr-deploy bundle {digest}\n".encode()


def check_signature(path: Path, message: Path | bytes, signature: Path, allowed: Path) -> str:
    """The name of the signer, as the file of allowed signers says it (ssh-keygen(1), ALLOWED SIGNERS).

    `message` is a file or what was signed. UserError for no signature, one of another content, and one of a key that is
    not allowed.
    """
    if not allowed.is_file():
        remedy = "give a file of lines `NAME ssh-ed25519 KEY`, see ssh-keygen(1)"
        raise UserError("--allowed-signers", allowed, f"no such file; {remedy}")
    if not signature.is_file():
        raise UserError("signature", path, f"is not signed ({signature.name} is missing); ask its maker to sign it")
    found = _run(["find-principals", "-s", str(signature), "-f", str(allowed)], b"")
    names = found.stdout.decode(errors="replace").split()
    if found.returncode != 0 or not names:
        raise UserError("signature", path, f"is not of a key that {allowed} allows; do not use what it is for")
    words = ["verify", "-f", str(allowed), "-I", names[0], "-n", NAMESPACE, "-s", str(signature)]
    if _run(words, message).returncode != 0:
        raise UserError("signature", path, "is not of this content, or has run out; do not use it")
    return one_line(names[0])


def signed(message: Path | bytes, key: Path) -> bytes:
    """The signature of a file's bytes, or of these. UserError for a key that cannot sign."""
    if not key.is_file():
        raise UserError("key", key, "no such file; make a key with `ssh-keygen -t ed25519`")
    done = _run(["sign", "-n", NAMESPACE, "-f", str(key)], message)
    if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError("key", key, f"cannot sign ({one_line(lines[-1]) if lines else 'no reason given'}); check it")
    return done.stdout


def _run(words: list[str], message: Path | bytes) -> subprocess.CompletedProcess[bytes]:
    """ssh-keygen on a message as its standard input."""
    try:
        if isinstance(message, bytes):
            return subprocess.run(["ssh-keygen", "-Y", *words], input=message, capture_output=True)
        with message.open("rb") as file:
            return subprocess.run(["ssh-keygen", "-Y", *words], stdin=file, capture_output=True)
    except FileNotFoundError:
        raise UserError("ssh-keygen", "not found", "install OpenSSH's client (Debian: openssh-client)") from None
