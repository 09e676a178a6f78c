"""The command line `edge-deploy`: one file per command, which parses options, calls one function and prints."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from edge_asr_deploy.cli import (
    analyze,
    arrange,
    bench,
    card,
    check,
    cost,
    doctor,
    evaluate,
    export,
    fit,
    inspect,
    listen,
    pack,
    publish,
    report,
    serve,
    sign,
    summary,
    sweep,
    transcribe,
    verify,
)
from edge_asr_deploy.cli.errors import error_line, notes_as_lines, terminated_as_exit, unexpected_line
from edge_asr_deploy.cli.output import escape_outputs
from edge_asr_deploy.errors import UserError

# Packages that only an extra installs; all others belong to the base install.
EXPORTING = ("torch", "transformers", "optimum", "safetensors", "datasets", "huggingface_hub", "onnx_ir", "ml_dtypes")
SERVING = ("starlette", "uvicorn", "python_multipart", "wyoming", "zeroconf")
EXTRAS = dict.fromkeys(EXPORTING, "[export]") | dict.fromkeys(SERVING, "[serve]") | {"sounddevice": "[live]"}


class Interrupted(Exception):
    """Ctrl-C. typer would take a KeyboardInterrupt and end without a word."""


class Commands(TyperGroup):
    """The commands, from which Ctrl-C comes back as an exception of ours."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Interrupted after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Low-bit Whisper and Moonshine for small boards: quantize, export, prove on ONNX Runtime.",
)
app.command("export")(export.command)
app.command("arrange")(arrange.command)
app.command("analyze")(analyze.command)
app.command("fit")(fit.command)
app.command("transcribe")(transcribe.command)
app.command("listen")(listen.command)
app.command("evaluate")(evaluate.command)
app.command("inspect")(inspect.command)
app.command("cost")(cost.command)
app.command("bench")(bench.command)
app.command("doctor")(doctor.command)
app.command("check")(check.command)
app.command("pack")(pack.command)
app.command("publish")(publish.command)
app.command("sign")(sign.command)
app.command("serve")(serve.command)
app.command("verify")(verify.command)
app.command("summary")(summary.command)
app.command("report")(report.command)
app.command("card")(card.command)
app.command("sweep")(sweep.command)


def main() -> None:
    """Run the command line.

    Exit codes: 0 for success, 1 when a gate failed, 2 for bad usage or input. An error of the user is one line on
    stderr, never a traceback.
    """
    escape_outputs()
    try:
        with notes_as_lines(), terminated_as_exit():
            app()
    except UserError as error:
        # Imported only here, because rich takes 3 MB that a transcription does not need.
        from edge_asr_deploy.cli.console import console

        console(stderr=True, soft_wrap=True).print(error_line(error), style="red", markup=False)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == __package__.partition(".")[0]:
            raise
        remedy = f'pip install "edge-asr-deploy{EXTRAS.get(package, "")}"'
        print(error_line(f"{package}: is not installed, but this command needs it; {remedy}"), file=sys.stderr)
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt):
        print(error_line("interrupted; no file was left half-written"), file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        print(unexpected_line(error), file=sys.stderr)
        sys.exit(2)
