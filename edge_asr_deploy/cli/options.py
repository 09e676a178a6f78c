"""Makes a command's parameters from its options model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from edge_asr_deploy.cli.numbers import numbers
from edge_asr_deploy.options import Given, givens

Leaderboard = Annotated[
    bool, typer.Option("--leaderboard", help="Also count errors as the live Open ASR leaderboard does.")
]


def with_options(model: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `options` by one command line option for each field of an options model.

    The command is then called with an instance of the model that holds the values from the command line.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == "options":
                parameters += [_parameter(given) for given in givens(model)]
            else:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters.append(parameter.replace(annotation=hints[parameter.name], kind=kind))

        def run(**values: Any) -> None:
            chosen = {given.field: _value(given, values.pop(given.field)) for given in givens(model)}
            command(options=model(**chosen), **values)

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        # typer reads both the signature and the annotations.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameter(given: Given) -> inspect.Parameter:
    option = given.option
    names = [given.name] if option.name or option.switch else []
    about = typer.Option(*names, help=option.help, metavar=option.metavar, min=option.least, max=option.most)
    kind, default = given.type, given.default
    if get_origin(kind) is tuple:
        if option.commas:
            kind, default = str, ",".join(f"{value:g}" for value in default)
        else:
            kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
    return inspect.Parameter(
        given.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, about]
    )


def _value(given: Given, value: Any) -> Any:
    if get_origin(given.type) is not tuple:
        return value
    if given.option.commas:
        return numbers(given.name, value, get_args(given.type)[0])
    return tuple(value or ())
