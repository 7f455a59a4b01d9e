"""The command line: every command parses, calls one function, prints."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

from tal_bench.errors import TalBenchError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn every error into one line on standard error.

    Args:
        arguments: after the program's name; those of the process by default.

    Returns:
        The exit code: 0, 2 for bad input, 1 for other failures, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    words = [word for word in given if word != "--debug"] or ["--help"]
    from tal_bench.cli.app import app

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
    """Say what went wrong, on one line, and how the process should end."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return _say("interrupted; run the same command again to go on", INTERRUPTED)
    if isinstance(error, TalBenchError):
        return _say(f"error: {error}", error.exit_code)
    if hasattr(error, "format_message"):  # typer's and click's usage errors
        return _say(f"error: {_usage(error, words)}", 2)
    if isinstance(error, BrokenPipeError):  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _say(f"internal error: {text} (run with --debug for the traceback)", 1)


def _usage(error: BaseException, words: Sequence[str]) -> str:
    """A usage error in one line: the flag with the value received, and the place to look things up."""
    message: str = error.format_message().strip().rstrip(".")  # type: ignore[attr-defined]
    message = re.sub(r"\(Possible options: (.*)\)", r"(did you mean \1?)", message)
    if found := re.match(
        r"Invalid value for '(?:-\w / )?(--[\w-]+)': (?:Value error, )?(.*)", message, re.DOTALL
    ):
        flag, problem = found.groups()
        message = f"{flag} {_value_of(flag, words)}: {problem}"
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if context is not None else message


def _value_of(flag: str, words: Sequence[str]) -> str:
    """What was given for a flag, empty when it came from elsewhere."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return after
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _say(line: str, code: int) -> int:
    from tal_bench.cli.text import printable

    print(printable(" ".join(line.split())), file=sys.stderr)
    return code
