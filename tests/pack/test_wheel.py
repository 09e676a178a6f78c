"""The running package as a wheel, and the pinned list beside it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edge_asr_deploy
from edge_asr_deploy.pack.requirements import MACHINES, download_wheels, pins, pip_fault, requirements
from edge_asr_deploy.pack.wheel import build_wheel
from edge_asr_deploy.recipe.files import shipped

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {canonicalize_name(pin.name): pin.version for pin in pins("linux_aarch64")}
# What packages ask for and nothing on a board loads; tests/test_import.py shows that.
LEFT_OUT = {
    "onnx": {"onnx", "ml-dtypes", "protobuf"},
    "onnxruntime": {"flatbuffers", "packaging", "protobuf"},
    "tokenizers": {"huggingface-hub", "hf-xet", "fsspec", "filelock", "tqdm", "packaging"}
    | {"requests", "urllib3", "charset-normalizer", "idna", "certifi"},
    "whisper-normalizer": {"text2num", "indic-numtowords"},
    "soundfile": {"pycparser"},
    "jiwer": {"click"},
}
# Bytes unpacked, without bytecode. Of x86-64's 182 MB onnxruntime and numpy are 133; onnx and its two come on top.
LIMITS = {"linux_aarch64": 163_000_000, "linux_x86_64": 250_000_000}


def test_it_runs_from_the_wheel_alone(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "package")
    program = "import edge_asr_deploy; print(edge_asr_deploy.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "package")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == str(tmp_path / "package" / "edge_asr_deploy" / "__init__.py")


def test_it_holds_the_package_as_it_runs_and_its_data(tmp_path: Path) -> None:
    root = Path(edge_asr_deploy.__file__).parent
    with zipfile.ZipFile(build_wheel(tmp_path)) as opened:
        names = set(opened.namelist())
        assert opened.read("edge_asr_deploy/bundle/manifest.py") == (root / "bundle" / "manifest.py").read_bytes()
        [record] = [name for name in names if name.endswith(".dist-info/RECORD")]
        listed = {line.split(",")[0] for line in opened.read(record).decode().splitlines()}
    assert listed == names
    assert {"edge_asr_deploy/py.typed", "edge_asr_deploy/pack/run.sh", "edge_asr_deploy/boards/agent.py"} < names
    recipes = {f"edge_asr_deploy/recipe/shipped/{path.relative_to(shipped())}" for path in shipped().rglob("*.yaml")}
    assert recipes and {name for name in names if name.endswith(".yaml")} == recipes
    assert not [name for name in names if "__pycache__" in name]


def test_the_same_code_gives_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert build_wheel(tmp_path).read_bytes() == build_wheel(tmp_path / "again").read_bytes()


def needed(requirement: Requirement) -> set[str]:
    """Everything that a requirement brings along here."""
    distribution = metadata.distribution(requirement.name)
    found = {canonicalize_name(requirement.name)}
    for text in distribution.requires or []:
        further = Requirement(text)
        extras = ["", *requirement.extras]
        if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
            found |= needed(further)
    return found


def test_all_that_a_board_needs_is_pinned_and_no_more() -> None:
    pytest.importorskip("transformers", reason="the pins are those of the versions that the exporter is tested with")
    base = [Requirement(text) for text in PROJECT["dependencies"]]
    left_out = set().union(*LEFT_OUT.values())
    assert set().union(*map(needed, base)) - left_out == PINNED.keys()
    for name, some in LEFT_OUT.items():
        assert some <= needed(Requirement(name)), "what nobody asks for is not left out"
    assert not {"torch", "transformers", "optimum", "datasets"} & PINNED.keys()


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["export"]])
def test_the_pins_are_what_the_package_asks_for(text: str) -> None:
    requirement = Requirement(text)
    version = PINNED.get(canonicalize_name(requirement.name))
    assert version is None or requirement.specifier.contains(version)


def test_pips_reason_is_one_line() -> None:
    log = "Looking\nERROR: Could not find it\nERROR: No matching distribution found for numpy==0\n[notice] new pip\n"
    assert pip_fault(log) == "No matching distribution found for numpy==0"
    assert pip_fault("") == "pip gave no reason"


@pytest.mark.real
@pytest.mark.parametrize("platform", MACHINES)
def test_the_runtime_install_is_small(tmp_path: Path, platform: str) -> None:
    total = 0
    for wheel in [*download_wheels(platform, ["3.11"], tmp_path), build_wheel(tmp_path)]:
        with zipfile.ZipFile(wheel) as opened:
            total += sum(member.file_size for member in opened.infolist())
    assert total < LIMITS[platform], f"{total / 1e6:.1f} MB"


@pytest.mark.real
@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("machine", MACHINES.values())
def test_there_is_a_wheel_of_everything(tmp_path: Path, machine: str, python: str) -> None:
    listed = tmp_path / "requirements.txt"
    platform = next(name for name, one in MACHINES.items() if one == machine)
    listed.write_text(requirements(platform))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--only-binary=:all:"]
    command += ["--target", str(tmp_path / "x"), "--python-version", python, "--requirement", str(listed)]
    tags = ["manylinux2014", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34"]
    command += [word for tag in tags for word in ("--platform", f"{tag}_{machine}")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
