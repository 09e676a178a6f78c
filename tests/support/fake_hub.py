"""A Hub of folders: README.md with configurations, parquet files with the audio's bytes, as `datasets` writes them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile
from numpy.typing import NDArray


def flac(samples: NDArray[Any], rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


def write_split(folder: Path, configuration: str, split: str, rows: list[dict[str, Any]]) -> None:
    """One more split; the value of `audio` in `rows` is the bytes of a file."""
    import datasets

    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "audio"}
    plain = datasets.Dataset.from_dict(
        {**columns, "audio": [{"bytes": row["audio"], "path": f"{index}.flac"} for index, row in enumerate(rows)]}
    )
    features = datasets.Features({**plain.features, "audio": datasets.Audio(sampling_rate=16_000)})
    path = folder / configuration / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain.cast(features).to_parquet(str(path))
    _write_readme(folder)


def _write_readme(folder: Path) -> None:
    lines = ["---", "configs:"]
    for configuration in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines += [f"- config_name: {configuration.name}", "  data_files:"]
        for file in sorted(configuration.glob("*.parquet")):
            split = file.name.split("-0")[0]
            lines += [f"  - split: {split}", f"    path: {configuration.name}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


class FakeHub:
    """Stands in for the Hub: `folder/owner--name` is a repository; notes what is asked, and can fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.probe_fails: Exception | None = None
        self.load_fails: Exception | None = None
        self.breaks_after: int | None = None

    def repository(self, name: str) -> Path:
        path = self.folder / name.replace("/", "--")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def install(self, monkeypatch: Any) -> None:
        import datasets

        load = datasets.load_dataset

        def dataset_info(api: Any, name: str, timeout: float) -> None:
            self.asked.append(name)
            if self.probe_fails is not None:
                raise self.probe_fails

        def load_dataset(name: str, configuration: str, *, split: str, streaming: bool) -> Any:
            assert streaming
            if self.load_fails is not None:
                raise self.load_fails
            rows = load(str(self.repository(name)), configuration, split=split, streaming=True)
            return rows if self.breaks_after is None else Breaking(rows, self.breaks_after)

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        # After a shuffled stream `datasets` waits 5 s for Arrow's threads; for files of a few kB that is too long.
        monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


class Breaking:
    """A stream whose line goes dead after so many rows, counted from the first that is there."""

    def __init__(self, rows: Any, after: int) -> None:
        self.rows, self.after = rows, after

    def cast_column(self, name: str, feature: Any) -> Breaking:
        return Breaking(self.rows.cast_column(name, feature), self.after)

    def skip(self, number: int) -> Breaking:
        return Breaking(self.rows.skip(number), self.after - number)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from islice(self.rows, self.after)
        raise ConnectionError("the line went dead")
