"""How commands are called: options within their bounds before anything starts, and every error as one line on stderr.

Exit codes: 0 done, 1 refused or failed, 2 a command line that cannot be read, 130 interrupted.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from genalloy.core.bounds import Maybe
from genalloy.core.errors import Diverged

REFUSED, MISUSED, INTERRUPTED = 1, 2, 130


class Usage(ValueError):
    """Options that contradict each other or their bounds."""


class BoundedOption(TyperCommand):
    """A command whose options are checked against the limits of settings of the same name, before it starts."""

    def invoke(self, ctx: Any) -> Any:
        from genalloy.runs.settings import LIMITS, OPTIONS

        names = {option.removeprefix("--").replace("-", "_"): name for name, option in OPTIONS.items()}
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            bounds = LIMITS.get(names.get(str(parameter.name), str(parameter.name)))
            if bounds is None or value is None:
                continue
            shown = parameter.opts[0] if str(parameter.opts[0]).startswith("-") else str(parameter.name).upper()
            try:
                (bounds.inner if isinstance(bounds, Maybe) else bounds).check(shown, value)
            except ValueError as error:
                raise Usage(str(error)) from None
        return super().invoke(ctx)


def report_errors(app: Callable[..., Any]) -> NoReturn:
    """Run a Typer app and leave with its exit code; see the module's text."""
    try:
        stopped = app(prog_name="genalloy", standalone_mode=False)
    except Usage as error:
        _leave(error, MISUSED)
    except (ValueError, Diverged, OSError) as error:
        _leave(error, REFUSED)
    except MemoryError as error:
        _leave(f"there is not enough memory ({error}); choose smaller sizes, or fewer rows by --limit", REFUSED)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line's own, whose class has moved between versions of typer
            _leave(f"{error.format_message()} {_help(error)}", MISUSED)
        _leave(f"this is a bug: {type(error).__name__}: {error}; please report it with {_traceback()}", REFUSED)
    # Typer returns the code of `typer.Exit`, and whatever a command returns
    sys.exit(stopped if type(stopped) is int else 0)


def _leave(words: object, code: int) -> NoReturn:
    typer.secho(f"error: {' '.join(str(words).split())}", fg="red", err=True)
    sys.exit(code)


def _help(error: Any) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "")
    command = path.rpartition(" ")[2] if " " in path else ""
    return f"(`genalloy {command} --help` lists the options)" if command else "(`genalloy --help` lists the commands)"


def _traceback() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="genalloy-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(traceback.format_exc())
    return Path(file.name)
