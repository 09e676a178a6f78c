"""One archive with all that runs a bundle; what happens to it on the way is noticed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.pack import archive
from edge_asr_deploy.pack.archive import Packed, pack, run_script
from edge_asr_deploy.pack.requirements import MACHINES, Pin, pins
from edge_asr_deploy.pack.sbom import bill_of_materials
from edge_asr_deploy.pack.verify import verify
from tests.support.fakes import write_bundle

Members = dict[str, tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "w4")
    return tmp_path / "w4"


def make(bundle: Path, output: Path, overwrite: bool = False) -> Packed:
    return pack(bundle, output, "linux_aarch64", ["3.11"], False, overwrite)


@pytest.fixture
def packed(bundle: Path, tmp_path: Path) -> Path:
    make(bundle, tmp_path / "pi.tar.gz")
    return tmp_path / "pi.tar.gz"


def test_it_holds_what_runs_the_bundle(packed: Path, bundle: Path) -> None:
    with tarfile.open(packed) as opened:
        names = opened.getnames()
        run = opened.getmember("pi/run")
    inside = {name.removeprefix("pi/") for name in names}
    assert {f"bundle/{path.name}" for path in bundle.iterdir()} < inside
    assert {"run", "requirements.txt", "SHA256SUMS"} < inside
    assert [name for name in inside if name.startswith("wheels/edge_asr_deploy-")]
    assert run.mode == 0o755


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_users_umask_decides_who_may_read_an_archive(bundle: Path, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        make(bundle, tmp_path / "pi.tar.gz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "pi.tar.gz").stat().st_mode) == mode


def test_the_bill_of_materials_names_everything_that_runs(packed: Path, bundle: Path) -> None:
    with tarfile.open(packed) as opened:
        contents = {name: opened.extractfile(name).read() for name in opened.getnames()}  # type: ignore[union-attr]
    document = json.loads(contents["pi/sbom.cdx.json"])
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    components = {one["name"]: one for one in document["components"]}
    assert len({one["bom-ref"] for one in document["components"]}) == len(components)
    [wheel] = [name for name in contents if name.startswith("pi/wheels/edge_asr_deploy-")]
    digest = hashlib.sha256(contents[wheel]).hexdigest()
    assert components["edge-asr-deploy"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    pinned = re.findall(r"^([\w-]+)==([\w.]+)", contents["pi/requirements.txt"].decode(), re.MULTILINE)
    assert {(name, components[name]["version"]) for name, _ in pinned} == set(pinned)
    for one in components.values():
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["hashes"] and all(re.fullmatch(r"[0-9a-f]{64}", each["content"]) for each in one["hashes"])
    made = document["metadata"]["component"]
    assert made["hashes"][0]["content"] == bundle_hash(read_manifest(bundle))
    assert made["pedigree"]["ancestors"][0]["hashes"][0]["content"] == read_manifest(bundle).model.sha256


def test_a_packed_wheel_has_its_own_hash_there(bundle: Path, tmp_path: Path) -> None:
    """`pydantic` is not `pydantic-core`."""
    for name in ("pydantic-2.14.3-py3-none-any.whl", "pydantic_core-2.50.4-cp311-x.whl"):
        (tmp_path / name).write_text(name)
    listed = [Pin("pydantic-core", "2.50.4", ("0" * 64,)), Pin("pydantic", "2.14.3", ("1" * 64,))]
    wheels = sorted(tmp_path.glob("*.whl"))
    document = json.loads(bill_of_materials(read_manifest(bundle), listed, wheels))
    found = {one["name"]: [each["content"] for each in one["hashes"]] for one in document["components"]}
    digests = [hashlib.sha256(wheel.name.encode()).hexdigest() for wheel in wheels]
    assert (found["pydantic"], found["pydantic-core"]) == ([digests[0]], [digests[1]])


@pytest.mark.parametrize("platform", MACHINES)
def test_every_package_has_hashes(platform: str) -> None:
    listed = pins(platform)
    assert len(listed) > 20 and {"onnxruntime", "numpy", "tokenizers"} <= {pin.name for pin in listed}
    for pin in listed:
        assert pin.sha256s and all(re.fullmatch(r"[0-9a-f]{64}", one) for one in pin.sha256s), pin.name


def test_wheels_are_installed_by_their_hashes_only() -> None:
    script = run_script("linux_aarch64", ["3.11"], True).decode()
    assert '--require-hashes --requirement "$here/requirements.txt"' in script
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


def test_equal_bundles_give_equal_archives(packed: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    for path in bundle.iterdir():
        os.utime(path, (0, 0))
    again = make(bundle, tmp_path / "again" / "pi.tar.gz")
    assert (tmp_path / "again" / "pi.tar.gz").read_bytes() == packed.read_bytes()
    assert again.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()


def test_a_good_archive_and_a_good_bundle(packed: Path, bundle: Path) -> None:
    found = verify(packed)
    assert found.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    with tarfile.open(packed) as opened:
        assert found.files == len(opened.getnames())
    assert verify(bundle).sha256 == bundle_hash(read_manifest(bundle))
    ran = CliRunner().invoke(app, ["verify", str(packed)])
    assert ran.exit_code == 0 and found.sha256 in ran.stdout


def alter(path: Path, change: Callable[[Members], None]) -> None:
    with tarfile.open(path) as opened:
        members = {}
        for member in opened:
            file = opened.extractfile(member)
            members[member.name] = (member, b"" if file is None else file.read())
    change(members)
    with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as written:
        for member, content in members.values():
            member.size = len(content) if member.isreg() else 0
            written.addfile(member, io.BytesIO(content))


def added(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Members], None]:
    def change(members: Members) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        members["added"] = (member, b"")

    return change


def changed(name: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        member, content = members[name]
        members[name] = (member, content[:-1] + bytes([content[-1] ^ 1]))

    return change


def consistent(members: Members) -> None:
    """A changed graph whose hash is put into the list: the bundle's own manifest tells."""
    name = "pi/bundle/encoder_model.onnx"
    before = hashlib.sha256(members[name][1]).hexdigest().encode()
    changed(name)(members)
    after = hashlib.sha256(members[name][1]).hexdigest().encode()
    member, sums = members["pi/SHA256SUMS"]
    members["pi/SHA256SUMS"] = (member, sums.replace(before, after))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("pi/bundle/encoder_model.onnx"), "encoder_model.onnx: was changed"),
        (changed("pi/run"), "pi.tar.gz: run: was changed"),
        (consistent, "encoder_model.onnx: is not what the bundle's manifest says"),
        (lambda members: members.pop("pi/requirements.txt"), "requirements.txt: is missing"),
        (lambda members: members.pop("pi/SHA256SUMS"), "has no SHA256SUMS"),
        (added("pi/more.txt"), "more.txt: is not in SHA256SUMS"),
        (added("pi/run"), "pi/run: is in the archive twice"),
        (added("pi/../../evil"), "would be unpacked outside"),
        (added("/etc/evil"), "would be unpacked outside"),
        (added("other/evil"), "lies outside the folder `pi`"),
        (added("pi/link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (added("pi/link", tarfile.LNKTYPE, "pi/run"), "is a link"),
        (added("pi/device", tarfile.CHRTYPE), "no plain file"),
    ],
)
def test_what_is_wrong_with_an_archive_is_one_line(packed: Path, change: Callable[[Members], None], said: str) -> None:
    alter(packed, lambda members: None)
    verify(packed)
    alter(packed, change)
    with pytest.raises(UserError) as caught:
        verify(packed)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.999])
def test_an_archive_that_is_cut_short(packed: Path, kept: float) -> None:
    content = packed.read_bytes()
    packed.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match="cut short"):
        verify(packed)


def test_a_flipped_bit_anywhere_in_the_stream(packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    for place in (len(content) // 3, len(content) // 2, len(content) - 5):
        broken = bytearray(content)
        broken[place] ^= 4
        packed.write_bytes(broken)
        with pytest.raises(UserError):
            verify(packed)


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.tar.gz").write_text("no archive")
    for path, said in ((tmp_path / "text.tar.gz", "no .tar.gz"), (tmp_path / "absent", "no such file")):
        with pytest.raises(UserError, match=said):
            verify(path)


def test_a_damaged_bundle_is_not_packed(bundle: Path, tmp_path: Path) -> None:
    (bundle / "encoder_model.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match="encoder_model"):
        make(bundle, tmp_path / "pi.tar.gz")
    assert list(tmp_path.iterdir()) == [bundle]


def test_wishes_that_cannot_be(bundle: Path, packed: Path, tmp_path: Path) -> None:
    before = packed.read_bytes()
    for output, platform, said in (
        (packed, "linux_aarch64", "exists already"),
        (tmp_path / "pi.zip", "linux_aarch64", r"ends in \.tar\.gz"),
        (tmp_path / "no" / "pi.tar.gz", "linux_aarch64", "folder does not exist"),
        (tmp_path / "a.tar.gz", "linux_armv7l", "choose linux_aarch64 or linux_x86_64"),
    ):
        with pytest.raises(UserError, match=said):
            pack(bundle, output, platform, ["3.11"], False, False)
    assert packed.read_bytes() == before
    make(bundle, packed, overwrite=True)


def test_a_full_disk_leaves_the_old_archive(packed: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = packed.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_add", full)
    with pytest.raises(UserError, match="disk full"):
        make(bundle, packed, overwrite=True)
    assert packed.read_bytes() == before
    assert {path.name for path in packed.parent.iterdir()} == {"w4", "pi.tar.gz"}


def unpack(packed: Path, folder: Path) -> Path:
    with tarfile.open(packed) as opened:
        opened.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


def ran(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return subprocess.run([str(folder / "run"), *arguments], capture_output=True, text=True, env=environment)


def test_the_script_says_what_is_missing(bundle: Path, tmp_path: Path) -> None:
    machine = os.uname().machine
    other = "linux_aarch64" if machine == "x86_64" else "linux_x86_64"
    pack(bundle, tmp_path / "other.tar.gz", other, ["3.11"], False, False)
    answer = ran(unpack(tmp_path / "other.tar.gz", tmp_path), "a.wav")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"this machine is {machine}" in answer.stderr

    folder = unpack(tmp_path / "other.tar.gz", tmp_path / "more")
    (folder / "run").write_bytes(run_script(f"linux_{machine}", ["2.7"], True))
    answer = ran(folder, "a.wav")
    assert answer.returncode == 2 and "the wheels are for 2.7" in answer.stderr
    (folder / "run").write_bytes(run_script(f"linux_{machine}", ["3.11"], False))
    answer = ran(folder, "a.wav")
    assert answer.returncode == 2 and "a file is damaged" in answer.stderr, "the script itself is in the list"
    assert not (folder / ".venv").exists()
    without = tmp_path / "bin"
    without.mkdir()
    for name in ("uname", "dirname", "sh"):
        (without / name).symlink_to(shutil.which(name) or name)
    answer = ran(folder, "a.wav", PATH=str(without))
    assert answer.returncode == 2 and "there is no python3" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.real
def test_the_script_transcribes_without_internet(tmp_path: Path) -> None:
    """With the wheels of this machine's own platform, in an environment that has no index."""
    import numpy as np
    import soundfile

    from edge_asr_deploy.runtime.audio.reading import read_audio
    from edge_asr_deploy.runtime.transcriber import Transcriber
    from tests.support.exported import export

    bundle = export("whisper", tmp_path / "model").bundle
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).normal(size=16_000), 16_000)
    python = subprocess.run(
        ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    ).stdout.strip()
    pack(bundle, tmp_path / "here.tar.gz", f"linux_{os.uname().machine}", [python], True, False)
    verify(tmp_path / "here.tar.gz")
    folder = unpack(tmp_path / "here.tar.gz", tmp_path / "un packed")
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1"}
    for _ in range(2):
        answer = ran(folder, str(tmp_path / "a.wav"), "--language", "en", **nowhere)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip() == Transcriber.open(bundle).transcribe(read_audio(tmp_path / "a.wav"), "en").text
