"""Run a command of `edge-deploy` on boards: copy the files it needs, bring back the JSON it prints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_asr_deploy.boards.environment import check_board, make_environment
from edge_asr_deploy.boards.ssh import OPTION, Board, Connection
from edge_asr_deploy.boards.sync import Files, files_of, hashes, synchronize
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.pack.wheel import build_wheel
from edge_asr_deploy.printing import decodable, one_line

MB = 1_000_000


@dataclass(frozen=True)
class Answer:
    """One board's answer: `output` is the JSON that the command printed (None without any), `code` its exit code.

    `messages` are its lines on standard error, each prefixed with the board's name. Paths in `output` and `messages`
    are those of this machine.
    """

    board: str
    code: int
    output: Any
    messages: tuple[str, ...]


def run_on(
    boards: Sequence[str], arguments: Sequence[str | Path | Files], messages: Console, keep_audio: bool = False
) -> list[Answer]:
    """Run `edge-deploy ARGUMENTS` on every board at once. Returns one answer per board, in the order of `boards`.

    `arguments` begin with the command's name and must make it print JSON. A Path among them (a bundle, an audio file)
    is copied to each board that lacks it, and the command there gets the copy's path. `Files` do the same for files
    from several folders. Audio and its transcripts are removed there after the run, unless `keep_audio`. A failure on
    one board is in that board's answer (code 2) and does not stop the others. UserError, before any board is contacted,
    for a malformed address, a board named twice or a missing local file.

    >>> run_on(["pi@raspberrypi"], ["transcribe", Path("bundle"), Path("a.wav"), "--json"], Console())  # doctest: +SKIP
    """
    addresses = [Board.parse(board) for board in boards]
    for name in boards:
        if list(boards).count(name) > 1:
            raise UserError(OPTION, name, "is given twice; name every board once")
    words = [
        files_of(argument, str(number)) if isinstance(argument, Path) else argument
        for number, argument in enumerate(arguments)
    ]
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        copied_files = [word for word in words if isinstance(word, Files)]
        sha256s = hashes([wheel, *(path for files in copied_files for path in files.contents.values())])
        connections: list[Connection] = []

        def run_on_board(board: Board) -> Answer:
            try:
                with Connection(board) as connection:
                    connections.append(connection)
                    return _run(connection, words, wheel, sha256s, messages, keep_audio)
            except UserError as error:
                return Answer(board.name, 2, None, (str(error),))

        with ThreadPoolExecutor(len(addresses)) as pool:
            try:
                return list(pool.map(run_on_board, addresses))
            except BaseException:
                # After Ctrl-C the threads still wait for their boards; closing the connections ends them.
                for connection in connections:
                    connection.close()
                raise


def _run(
    connection: Connection,
    words: Sequence[str | Files],
    wheel: Path,
    sha256s: Mapping[Path, str],
    messages: Console,
    keep_audio: bool,
) -> Answer:
    name = connection.board.name
    platform = check_board(connection)
    speech = {path for word in words if isinstance(word, Files) and word.is_speech for path in word.contents.values()}
    connection.ask("speech", files=sorted({sha256s[path] for path in speech}), keep=keep_audio)
    copied = synchronize(connection, sha256s)
    messages.print(f"{name}: {copied / MB:.1f} MB copied; preparing the environment", markup=False)
    environment = make_environment(connection, platform)
    connection.ask("package", sha256=sha256s[wheel])
    messages.print(f"{name}: running", markup=False)
    copied_files = [word for word in words if isinstance(word, Files)]
    finished = connection.ask(
        "run",
        files={place: sha256s[path] for files in copied_files for place, path in files.contents.items()},
        arguments=[{"path": word.path} if isinstance(word, Files) else word for word in words],
        package=sha256s[wheel],
        environment=environment,
    )
    # Longest paths first: one folder's path may be the beginning of another's.
    longest_first = sorted(copied_files, key=lambda files: -len(files.path))
    # The board has escaped the bytes of names that are not UTF-8.
    names = {decodable(f"{finished['job']}/{files.path}"): decodable(files.shown) for files in longest_first}
    code = finished["code"]
    lines = [one_line(line) for line in finished["messages"].splitlines() if line.strip()]
    if code and not lines:
        lines = [f"the command ended with code {code}; if that is -9, the board has too little memory"]
    try:
        output = json.loads(finished["output"])
        output = _renamed(output, names)
    except (ValueError, RecursionError):
        output = None
        if not code:
            connection.fail("the command wrote no JSON, which is a bug in edge-deploy; please report it")
    shown = tuple(f"{name}: {_renamed(line, names)}" for line in lines)
    return Answer(name, code, output, shown)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value with the board's paths replaced by those of this machine."""
    if isinstance(value, str):
        for path_on_board, local_name in names.items():
            value = value.replace(path_on_board, local_name)
        return value
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(part, names) for key, part in value.items()}
    return value
