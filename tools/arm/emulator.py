"""An AArch64 Python with the packages of the runtime, under qemu's user-mode emulation on an x86-64 Debian machine.

    python -m tools.arm.emulator

fetches qemu, a Debian Python and the wheels of the base install into one folder (EDGE_ASR_ARM, else a folder of the
cache). apt works on lists and a package state of its own there: nothing is installed, and the machine's own packages,
architectures and settings stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from edge_asr_deploy.cache import cache_root

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edge_asr_deploy"
COUNTER = Path(__file__).with_name("counter.c")
# Part of the folder's name: raise it when the set-up changes.
LAYOUT = "2"
# What the kernel of a Raspberry Pi 4 and 5 says of its processors: implementer Arm, variant, part, features.
CPUS = {
    "cortex-a72": ("0x0", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0x4",
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
PYTHON_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")


class Unavailable(Exception):
    """The emulator cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Emulator:
    """A folder with everything: `host` (qemu), `root` (Debian's Python), `site` (wheels), `views` (a root per CPU)."""

    folder: Path

    @property
    def counts(self) -> bool:
        """Whether instructions can be counted: needs a C compiler at set-up and qemu 7."""
        return self._counter.is_file()

    def wheels_for(self, requirements: Sequence[str], target: Path) -> None:
        """Install wheels of other versions into a folder, without what they depend on."""
        [python] = (self.folder / "root/usr/lib").glob("python3.*")
        _wheels(python.name.removeprefix("python"), ["--no-deps", *requirements], target)

    def counter(self, counts: Path) -> str:
        """The plugin for `run` that writes counted instructions to the file `counts`."""
        return f"{self._counter},out={counts}"

    @property
    def _counter(self) -> Path:
        return self.folder / "counter.so"

    def run(
        self,
        cpu: str,
        arguments: Sequence[str | Path],
        plugin: str | None = None,
        timeout: float = 600,
        environment: Mapping[str, str] | None = None,
        packages: Path | None = None,
    ) -> str:
        """What the emulated Python prints for these arguments. `plugin` is qemu's: a file and its settings.

        `packages` is a folder of `wheels_for` that comes before the emulator's own.

        RuntimeError with the end of its error messages when it fails.
        """
        watched = [] if plugin is None else ["-plugin", plugin]
        qemu, python = self.folder / "host/usr/bin/qemu-aarch64", self.folder / "root/usr/bin/python3"
        settings = ["-cpu", cpu, "-L", str(self.folder / "views" / cpu), "-U", "LD_LIBRARY_PATH", *watched]
        command = [qemu, *settings, python, *arguments]
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "LD_LIBRARY_PATH": str(self.folder / "host/usr/lib/x86_64-linux-gnu"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Each run loads a graph as on its first start.
            "EDGE_ASR_STARTUP_CACHE": "off",
            "OPENBLAS_NUM_THREADS": "1",
            **(environment or {}),
        }
        with tempfile.TemporaryDirectory() as project:
            # Whether the project's modules are compiled or read moves the heap, and counts by a percent: here they are
            # compiled in every run. Those of the packages were at set-up.
            shutil.copytree(PACKAGE, Path(project, PACKAGE.name), ignore=shutil.ignore_patterns("__pycache__"))
            found = (packages, self.folder / "site", project)
            variables["PYTHONPATH"] = ":".join(str(path) for path in found if path is not None)
            ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)
        if ran.returncode:
            raise RuntimeError(f"{cpu}: exit code {ran.returncode}: {ran.stderr[-2000:]}")
        return ran.stdout


def emulator() -> Emulator:
    """The emulator, set up when first asked for. Unavailable where that cannot be done."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the emulator is set up on x86-64 machines only, not on {platform.machine()}")
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise Unavailable(f"{missing[0]} is missing: Debian's packages are needed")
    requirements = _requirements()
    system = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    determining = json.dumps([LAYOUT, system, requirements, CPUS, COUNTER.read_text()])
    parent = Path(os.environ.get("EDGE_ASR_ARM") or cache_root() / "arm").expanduser()
    folder = parent / hashlib.sha256(determining.encode()).hexdigest()[:16]
    if folder.is_dir():
        return Emulator(folder)
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    try:
        _set_up(partial, requirements)
        imports = "import numpy, onnxruntime, tokenizers, soundfile, soxr"
        Emulator(partial).run("cortex-a76", ["-c", imports], environment={"PYTHONDONTWRITEBYTECODE": ""})
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster, with the same result.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Emulator(folder)


def _requirements() -> list[str]:
    """The base install of pyproject.toml, pinned to the versions of this environment, where it has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = []
    for requirement in project["dependencies"]:
        name = requirement.partition(">=")[0]
        try:
            pinned.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            pinned.append(requirement)
    return pinned


def _set_up(folder: Path, requirements: Sequence[str]) -> None:
    _debian("amd64", ["qemu-user"], folder / "host", folder / "apt")
    _debian("arm64", PYTHON_PACKAGES, folder / "root", folder / "apt")
    shutil.rmtree(folder / "apt")
    [python] = (folder / "root/usr/lib").glob("python3.*")
    _wheels(python.name.removeprefix("python"), requirements, folder / "site")
    for cpu in CPUS:
        _view(folder, cpu)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        _command([compiler, "-O2", "-shared", "-fPIC", "-o", folder / "counter.so", COUNTER], "the counter")


def _debian(architecture: str, packages: Sequence[str], target: Path, state: Path) -> None:
    """Unpack packages and all they depend on below `target`, for any architecture, from this machine's sources."""
    own = state / architecture
    for name in ("lists/partial", "cache/archives/partial"):
        (own / name).mkdir(parents=True)
    (own / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
        "Dir::Cache": own / "cache",
        "Dir::State": own,
        "Dir::State::Lists": own / "lists",
        "Dir::State::status": own / "status",
        # The machine's own settings may clean caches that are not ours.
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    apt = ["apt-get", "-qq", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]
    _command([*apt, "update"], f"the package lists for {architecture}")
    _command([*apt, "install", "--yes", "--download-only", *packages], f"the packages for {architecture}")
    for name in ("bin", "sbin", "lib", "lib64"):
        (target / "usr" / name).mkdir(parents=True)
        (target / name).symlink_to(f"usr/{name}")
    for package in sorted((own / "cache/archives").glob("*.deb")):
        # qemu's libraries come along; what the machine itself must have stays the machine's.
        if architecture == "arm64" or not package.name.startswith(("libc6_", "libgcc-s1_", "gcc-")):
            _unpack(package, target)


def _unpack(package: Path, target: Path) -> None:
    """The files of a Debian package that run: no documentation; /lib is /usr/lib, as everywhere since Debian 12."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if parts and parts[0] in ("bin", "sbin", "lib", "lib64"):
                parts = ("usr", *parts)
            if not member.isdir() and not _left_out(parts):
                member.name = str(PurePosixPath(*parts))
                archive.extract(member, target, filter="tar")
    if process.returncode:
        raise Unavailable(f"{package.name} cannot be unpacked")


def _left_out(parts: tuple[str, ...]) -> bool:
    """Documentation, and the emulators of all other processors."""
    documentation = parts[:2] == ("usr", "share") and parts[2] in ("doc", "man", "locale")
    return documentation or (parts[:2] == ("usr", "bin") and parts[2][:5] == "qemu-" and parts[2] != "qemu-aarch64")


def _wheels(python: str, requirements: Sequence[str], target: Path) -> None:
    """Install wheels for AArch64 with this machine's pip. None is built: the base install has a wheel of everything."""
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]
    tags = [part for name in platforms for part in ("--platform", name)]
    abis = [part for name in (f"cp{python.replace('.', '')}", "abi3", "none") for part in ("--abi", name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    version_tags = ["--implementation", "cp", "--python-version", python, *abis, *tags]
    _command([*pip, "--target", target, *version_tags, *requirements], "the wheels for AArch64")


def _view(folder: Path, cpu: str) -> None:
    """The root as one CPU shows it. qemu 7 passes the machine's own /proc/cpuinfo on, which is no ARM processor's:
    onnxruntime from 1.31 on reads it and crashes. Files below qemu's -L come before the machine's."""
    view = folder / "views" / cpu
    (view / "proc").mkdir(parents=True)
    for name in ("usr", "etc", "bin", "sbin", "lib", "lib64"):
        if (folder / "root" / name).exists():
            (view / name).symlink_to(Path("../../root") / name)
    variant, part, features = CPUS[cpu]
    core = {
        "BogoMIPS": "108.00",
        "Features": features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": variant,
        "CPU part": part,
        "CPU revision": "1",
    }
    lines = [
        "\n".join(f"{key}\t: {value}" for key, value in {"processor": str(number), **core}.items())
        for number in range(os.cpu_count() or 1)
    ]
    (view / "proc/cpuinfo").write_text("\n\n".join(lines) + "\n\n")


def _command(command: Sequence[str | Path], what: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise Unavailable(f"{what} cannot be had: {reason}")


if __name__ == "__main__":
    try:
        print(emulator().folder)
    except Unavailable as error:
        sys.exit(str(error))
