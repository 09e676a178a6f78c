"""A board on loopback: an sshd of the test's own, with throw-away keys and a throw-away user configuration."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from edge_asr_deploy.pack.requirements import requirements
from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import export
from tests.support.loopback import SECOND, Loopback
from tests.support.voice import voice

# The platform of this machine, which stands for the board.
HERE = f"linux_{platform.machine()}"

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here (Debian: apt install openssh-server openssh-client)")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    force = folder / "force"
    force.write_text(
        f"#!/bin/sh\n. {folder}/environment\n"
        f'case $SSH_CONNECTION in *" {SECOND} "*) XDG_CACHE_HOME="$XDG_CACHE_HOME 2";; esac\n'
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    force.chmod(0o755)
    ssh = folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    ssh.chmod(0o755)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nListenAddress {SECOND}\n"
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nForceCommand {force}\n"
    )
    if os.geteuid() == 0:
        # Debian's sshd wants this folder when root starts it; its service would make it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                assert server.stderr is not None
                pytest.skip(f"sshd does not start here: {server.stderr.read().decode().strip()}")
            time.sleep(0.05)
        yield Loopback(port, folder, ssh)
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def board(sshd: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """A board with nothing on it; the user's key and the board's host key are those that are right."""
    key = (sshd.folder / "host.pub").read_text()
    (sshd.folder / "known").write_text(f"[127.0.0.1]:{sshd.port},[{SECOND}]:{sshd.port} {key}")
    sshd.configure(
        f"IdentityFile {sshd.folder}/key",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {sshd.folder}/known",
        "GlobalKnownHostsFile /dev/null",
    )
    sshd.environment(XDG_CACHE_HOME=str(tmp_path / "board"))
    monkeypatch.setenv("PATH", f"{sshd.ssh.parent}{os.pathsep}{os.environ['PATH']}")
    return sshd


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder that the board keeps its things in."""
    return tmp_path / "board" / "edge-deploy"


@pytest.fixture
def there_too(tmp_path: Path) -> Path:
    """The folder of the second board."""
    return tmp_path / "board 2" / "edge-deploy"


@pytest.fixture
def prepared(board: Loopback, there: Path, there_too: Path) -> Loopback:
    """Boards whose environment is made already: it is the one that the tests run in."""
    found = subprocess.run(["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True)
    python = found.stdout.decode().strip()
    key = hashlib.sha256(f"{python}\n{requirements(HERE)}".encode()).hexdigest()[:16]
    for folder in (there, there_too):
        binary = folder / "environments" / key / "bin" / "python"
        binary.parent.mkdir(parents=True)
        binary.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        binary.chmod(0o755)
        (binary.parent.parent / "ready").touch()
    return board


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Whisper that says something to any sound."""
    return export("whisper", tmp_path_factory.mktemp("board bundle"), sure=True).bundle


@pytest.fixture
def clips(tmp_path: Path, bundle: Path) -> list[Path]:
    """Two clips, and a manifest whose texts are what the bundle hears."""
    transcriber = Transcriber.open(bundle)
    paths, rows = [], []
    for number in range(2):
        paths.append(tmp_path / f"clip {number}.wav")
        soundfile.write(paths[-1], voice(1 + number / 4, number), 16_000)
        text = transcriber.transcribe(read_audio(paths[-1]), "en").text
        rows.append(json.dumps({"id": str(number), "audio": paths[-1].name, "text": text, "source": "noise"}))
    (tmp_path / "noise.jsonl").write_text("\n".join(rows) + "\n")
    return paths
