"""A later start reads, folds and parses nothing again, says the same, and notices what changed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

from edge_asr_deploy.bundle import verification
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup import cache as kept
from edge_asr_deploy.runtime.startup import optimized_graphs as optimized
from edge_asr_deploy.runtime.startup import token_texts
from edge_asr_deploy.runtime.startup import verified_bundles as known
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import Exported

Noise = Callable[..., NDArray[np.float32]]
ONE_THREAD = SessionSettings(threads=1)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "startup"))
    return tmp_path / "startup"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The model files that sessions are made from, as they are made."""
    paths: list[Path] = []
    real = onnxruntime.InferenceSession

    def session(path: Path, *options: object, **more: object) -> onnxruntime.InferenceSession:
        paths.append(Path(path))
        return real(path, *options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return paths


@pytest.fixture(params=["whisper", "moonshine"])
def exported(request: pytest.FixtureRequest) -> Exported:
    found: Exported = request.getfixturevalue(request.param)
    return found


def words(transcriber: Transcriber, sound: NDArray[np.float32]) -> tuple[tuple[int, ...], str]:
    transcript = transcriber.transcribe(sound, "en")
    return transcript.tokens, transcript.text


def test_every_start_says_the_same(
    exported: Exported, noise: Noise, opened: list[Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kept.VARIABLE, "off")
    plain = words(Transcriber.open(exported.bundle, ONE_THREAD, vad=False), noise(3))
    assert {path.parent for path in opened} == {exported.bundle}
    monkeypatch.setenv(kept.VARIABLE, str(root))
    assert words(Transcriber.open(exported.bundle, ONE_THREAD, vad=False), noise(3)) == plain
    opened.clear()
    assert words(Transcriber.open(exported.bundle, ONE_THREAD, vad=False), noise(3)) == plain
    assert len(plain[0]) > 3 and plain[1]
    assert all(path.is_relative_to(root) for path in opened) and len(opened) == 2


def test_a_later_start_reads_no_file_to_verify_it(whisper: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known.verified_bundle(whisper.bundle, verify=True)
    monkeypatch.setattr(verification, "verify", lambda folder: pytest.fail("read again"))
    assert known.verified_bundle(whisper.bundle, verify=True) == first
    assert set(first.contents) == {"encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json"}


def test_a_changed_bundle_is_noticed_and_nothing_of_it_kept(
    whisper: Exported, tmp_path: Path, opened: list[Path], root: Path
) -> None:
    folder = Path(shutil.copytree(whisper.bundle, tmp_path / "bundle"))
    Transcriber.open(folder, ONE_THREAD, vad=False)
    config = folder / "generation_config.json"
    config.write_bytes(config.read_bytes().replace(b"\n", b" ", 1))
    with pytest.raises(UserError, match="was changed since the export"):
        Transcriber.open(folder, ONE_THREAD, vad=False)
    opened.clear()
    Transcriber.open(folder, ONE_THREAD, verify=False, vad=False)
    assert {path.parent for path in opened} == {folder}


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_graph_is_made_again(whisper: Exported, noise: Noise, root: Path, name: str, damage: str) -> None:
    plain = words(Transcriber.open(whisper.bundle, ONE_THREAD, vad=False), noise(2))
    files = [*root.glob(f"graphs/*/{name}")]
    assert len(files) == 2
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 64
        path.unlink()
        if damage != "gone":
            path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    assert words(Transcriber.open(whisper.bundle, ONE_THREAD, vad=False), noise(2)) == plain
    assert [*root.glob(f"graphs/*/{name}")] == files


def test_an_entry_that_onnxruntime_refuses_is_replaced_by_the_bundles_own_graph(
    whisper: Exported, noise: Noise, root: Path
) -> None:
    plain = words(Transcriber.open(whisper.bundle, ONE_THREAD, vad=False), noise(2))
    for path in root.glob("graphs/*/model.onnx"):
        path.write_bytes(b"no graph")
        index = kept.read_index(path.parent / kept.INDEX)
        kept._describe(path.parent, index["about"])  # as if it had been written so
    assert words(Transcriber.open(whisper.bundle, ONE_THREAD, vad=False), noise(2)) == plain
    assert words(Transcriber.open(whisper.bundle, ONE_THREAD, vad=False), noise(2)) == plain


def test_what_graphs_depend_on_makes_entries_of_their_own(whisper: Exported, root: Path) -> None:
    for level in (None, 1):
        Transcriber.open(whisper.bundle, SessionSettings(threads=1, accuracy_level=level), vad=False)
    assert len([*root.glob("graphs/*")]) == 4
    Transcriber.open(whisper.bundle, SessionSettings(threads=2, accuracy_level=1, spinning=False), vad=False)
    assert len([*root.glob("graphs/*")]) == 4


def test_another_onnxruntime_or_processor_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    before = optimized.describe("encoder_model.onnx", ONE_THREAD, "a" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "__version__", "0.1")
        other_runtime = optimized.describe("encoder_model.onnx", ONE_THREAD, "a" * 64)
    monkeypatch.setattr(optimized, "cpu_features", lambda: CpuFeatures("aarch64", frozenset({"asimddp"})))
    other_cpu = optimized.describe("encoder_model.onnx", ONE_THREAD, "a" * 64)
    assert len({before, other_runtime, other_cpu}) == 3


def test_processes_that_start_at_once_say_the_same(whisper: Exported, root: Path) -> None:
    program = f"""
import numpy as np
from pathlib import Path
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber
sound = np.random.default_rng(0).normal(size=32000).astype(np.float32) * 0.1
print(Transcriber.open(Path({str(whisper.bundle)!r}), SessionSettings(1), vad=False).transcribe(sound, "en").tokens)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = [process.communicate() for process in running]
    assert len({out for out, _ in answers}) == 1 and answers[0][0].strip(), answers
    assert len([*root.glob("graphs/*")]) == 2


def test_without_a_place_to_keep_anything_it_starts_all_the_same(
    whisper: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: Noise
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "file" / "startup"))
    assert Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(noise(1), "en").tokens


def test_a_later_start_imports_no_pydantic_and_no_openssl(whisper: Exported) -> None:
    Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    program = f"""
import sys
from pathlib import Path
from edge_asr_deploy.runtime.transcriber import Transcriber
Transcriber.open(Path({str(whisper.bundle)!r}))
print(sorted({{"pydantic", "hashlib", "edge_asr_deploy.bundle.manifest"}} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


def byte_level() -> Tokenizer:
    """Every byte is a token."""
    built = Tokenizer(models.BPE({text: number for number, text in enumerate(sorted(ByteLevel.alphabet()))}, []))
    built.decoder = decoders.ByteLevel()
    return built


def words_with_spaces() -> Tokenizer:
    built = Tokenizer(models.WordLevel({f"▁w{n}": n for n in range(20)} | {"<0xE2>": 20, "<0x82>": 21, "<0xAC>": 22}))
    built.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return built


def without_decoder() -> Tokenizer:
    return Tokenizer(models.WordLevel({f"w{n}": n for n in range(20)}))


def metaspace() -> Tokenizer:
    """Of a kind that only the tokenizers package joins."""
    built = Tokenizer(models.WordLevel({f"▁w{n}": n for n in range(20)}))
    built.decoder = decoders.Metaspace()
    return built


@pytest.mark.parametrize("build", [byte_level, words_with_spaces, without_decoder, metaspace])
def test_token_texts_decode_as_the_tokenizer(build: Callable[[], Tokenizer], tmp_path: Path) -> None:
    tokenizer = build()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens(["plain"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    token_texts.write(tmp_path / "tokenizer.json", tmp_path)
    cached = token_texts.TokenTexts.read(tmp_path)
    generator = np.random.default_rng(0)
    size = tokenizer.get_vocab_size()
    for _ in range(500):
        # Beyond the vocabulary, too: heads are padded.
        tokens = generator.integers(0, size + 3, size=generator.integers(0, 12)).tolist()
        assert cached.decode(tokens) == tokenizer.decode(tokens)


@pytest.mark.parametrize("build", [byte_level, words_with_spaces])
def test_a_later_start_does_not_load_the_tokenizer(build: Callable[[], Tokenizer], tmp_path: Path) -> None:
    build().save(str(tmp_path / "tokenizer.json"))
    program = (
        "import sys; from edge_asr_deploy.runtime.transcriber import TextDecoder;"
        f"from pathlib import Path; TextDecoder(Path({str(tmp_path)!r}), 'a' * 64)([1, 2]);"
        "print('tokenizers' in sys.modules)"
    )
    (tmp_path / "tokenizer_config.json").write_text("{}")
    said = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert [one.stdout.strip() for one in said] == ["True", "False"], said[-1].stderr


def test_a_file_that_comes_after_the_first_start_is_seen_where_it_matters(whisper: Exported, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(whisper.bundle, bundle)
    Transcriber.open(bundle, ONE_THREAD, vad=False)
    for name in (".gitattributes", "README.md"):
        (bundle / name).write_text("edited")
        Transcriber.open(bundle, ONE_THREAD, vad=False)
    (bundle / "added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match=r"added_tokens\.json: is not in the manifest"):
        Transcriber.open(bundle, ONE_THREAD, vad=False)


def test_a_foreign_graph_does_not_become_the_graph_of_the_bundle(
    whisper: Exported, moonshine: Exported, tmp_path: Path, noise: Noise
) -> None:
    """A bundle that names another graph for its target: refused, and the good one says what it said."""
    sound = noise(1)
    said = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en").tokens
    foreign = tmp_path / "foreign"
    shutil.copytree(whisper.bundle, foreign)
    shutil.copytree(moonshine.bundle, tmp_path / "x")
    text = (foreign / "manifest.json").read_text()
    for name in ("../x/encoder_model.onnx", str(tmp_path / "x" / "encoder_model.onnx"), "added.onnx"):
        shutil.copy(moonshine.bundle / "encoder_model.onnx", foreign / "added.onnx")
        changed = json.loads(text)
        changed["targets"]["generic"]["encoder"] = name
        (foreign / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(UserError):
            Transcriber.open(foreign, ONE_THREAD, vad=False)
    # Whoever asks for no verification gets what is there, and nothing of it is kept.
    Transcriber.open(foreign, ONE_THREAD, verify=False, vad=False)
    assert Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en").tokens == said


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_byte_of_the_cache_changes_nothing(whisper: Exported, noise: Noise, root: Path, seed: int) -> None:
    sound = noise(1)
    said = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en")
    generator = random.Random(seed)
    path = generator.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    for _ in range(2):
        again = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en")
        assert (again.tokens, again.text) == (said.tokens, said.text)


def test_a_note_of_any_depth_is_no_note(whisper: Exported, root: Path) -> None:
    Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    [note] = (root / "verified").glob("*.json")
    for content in (b"[" * 200_000, b'{"stamps": ' * 100_000, b"", b"\xff"):
        note.write_bytes(content)
        Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
