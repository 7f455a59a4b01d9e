"""Command line interface: every command parses its arguments, calls one function, and prints the result."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

from tal_bench.errors import TalBenchError
from tal_bench.system.allocator import collect_garbage_rarely

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn every error into one line on standard error.

    Args:
        arguments: Arguments after the name of the program; those of the process by default.

    Returns:
        The exit code: 0, 2 for bad input, 1 for other failures, 130 when interrupted.
    """
    collect_garbage_rarely()
    received = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in received
    words = [word for word in received if word != "--debug"] or ["--help"]
    from tal_bench.cli.app import app
    from tal_bench.cli.text import replace_unencodable

    replace_unencodable()
    try:
        code = app(args=words, prog_name="tal-bench", standalone_mode=False)
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _explain(error, words)
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        return _explain(KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def _explain(error: BaseException, words: Sequence[str] = ()) -> int:
    """Print one line about an error, and return the exit code."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return _print_error("interrupted; run the same command again to resume", INTERRUPTED)
    if isinstance(error, TalBenchError):
        return _print_error(f"error: {error}", error.exit_code)
    if hasattr(error, "format_message"):  # typer's and click's usage errors
        return _print_error(f"error: {_usage(error, words)}", 2)
    if isinstance(error, BrokenPipeError):  # the reader of a pipe (`| head`) has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _print_error(f"internal error: {text} (run with --debug for the traceback)", 1)


def _usage(error: BaseException, words: Sequence[str]) -> str:
    """Describe a usage error in one line: the flag, the value received, and the command with the help."""
    message: str = error.format_message().strip().rstrip(".")  # type: ignore[attr-defined]
    message = re.sub(r"\(Possible options: (.*)\)", r"(did you mean \1?)", message)
    if invalid := re.match(
        r"Invalid value for '(?:-\w / )?(--[\w-]+)': (?:Value error, )?(.*)", message, re.DOTALL
    ):
        flag, problem = invalid.groups()
        message = f"{flag} {_value_of(flag, words)}: {problem}"
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if context is not None else message


def _value_of(flag: str, words: Sequence[str]) -> str:
    """Return the value of a flag on the command line; empty if it came from elsewhere."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return after
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _print_error(line: str, code: int) -> int:
    from tal_bench.cli.text import printable

    print(printable(" ".join(line.split())), file=sys.stderr)
    return code
