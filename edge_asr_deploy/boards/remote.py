"""A command of `edge-deploy` on boards: what it needs is copied there, what it says in JSON comes back."""

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

MB = 1_000_000


@dataclass(frozen=True)
class Answer:
    """What one board answered: `output` is the command's JSON (None where it wrote none), `code` its exit code.

    `messages` are its lines for people, each led by the board's name. Paths in both are those of this machine.
    """

    board: str
    code: int
    output: Any
    messages: tuple[str, ...]


def run_on(boards: Sequence[str], arguments: Sequence[str | Path | Files], messages: Console) -> list[Answer]:
    """Run `edge-deploy ARGUMENTS` on every board at once; one answer each, in their order.

    `arguments` begin with the command's name and make it print JSON. A Path among them (bundle, audio) is copied to
    the board where it is missing, and the command is given its place there; `Files` are for what lies scattered here.
    What goes wrong on one board is in its answer (code 2) and does not stop the others. UserError, before any board is
    asked, for an address that is none, a board named twice and a file that is missing here.

    >>> run_on(["pi@raspberrypi"], ["transcribe", Path("bundle"), Path("a.wav"), "--json"], Console())  # doctest: +SKIP
    """
    addresses = [Board.parse(board) for board in boards]
    for name in {name for name in boards if list(boards).count(name) > 1}:
        raise UserError(OPTION, name, "is given twice; name every board once")
    words = [
        files_of(argument, str(number)) if isinstance(argument, Path) else argument
        for number, argument in enumerate(arguments)
    ]
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        known = hashes([wheel, *(path for word in words if isinstance(word, Files) for path in word.contents.values())])
        connections: list[Connection] = []

        def one(board: Board) -> Answer:
            try:
                with Connection(board) as connection:
                    connections.append(connection)
                    return _run(connection, words, wheel, known, messages)
            except UserError as error:
                return Answer(board.name, 2, None, (str(error),))

        with ThreadPoolExecutor(len(addresses)) as pool:
            try:
                return list(pool.map(one, addresses))
            except BaseException:
                # Ctrl-C: without their connections the threads come to an end.
                for connection in connections:
                    connection.close()
                raise


def _run(
    connection: Connection, words: Sequence[str | Files], wheel: Path, known: Mapping[Path, str], messages: Console
) -> Answer:
    name = connection.board.name
    platform = check_board(connection)
    copied = synchronize(connection, known)
    messages.print(f"{name}: {copied / MB:.1f} MB copied; preparing the environment", markup=False)
    environment = make_environment(connection, platform)
    connection.ask("package", sha256=known[wheel])
    messages.print(f"{name}: running", markup=False)
    ran = connection.ask(
        "run",
        files={
            place: known[path] for word in words if isinstance(word, Files) for place, path in word.contents.items()
        },
        arguments=[{"path": word.path} if isinstance(word, Files) else word for word in words],
        package=known[wheel],
        environment=environment,
    )
    # The longest first: a folder's path may begin another's.
    places = sorted((word for word in words if isinstance(word, Files)), key=lambda word: -len(word.path))
    names = {f"{ran['job']}/{word.path}": word.shown for word in places}
    lines = [line.removeprefix("edge-deploy: ") for line in ran["messages"].splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    if ran["code"] and not lines:
        lines = [f"the command ended there with code {ran['code']}; if that is -9, there was too little memory"]
    try:
        output = json.loads(ran["output"])
    except json.JSONDecodeError:
        output = None
        if not ran["code"]:
            connection.fail("the command wrote no JSON; that is a fault of this program")
    shown = tuple(f"{name}: {_renamed(line, names)}" for line in lines)
    return Answer(name, ran["code"], _renamed(output, names), shown)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value with the board's paths replaced by those of this machine."""
    if isinstance(value, str):
        for there, here in names.items():
            value = value.replace(there, here)
        return value
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(part, names) for key, part in value.items()}
    return value
