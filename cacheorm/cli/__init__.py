"""The command ``cacheorm``: rows of a model, and the state of a backend, from a shell.

Exit codes: 0 done and found; 1 there is no such row; 2 wrong arguments, a model that cannot be loaded, or
stored bytes that are no row of it; 3 the backend failed. 130 and 141 are those of Ctrl-C and of a closed pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import BackendError, CacheORMError, WriteError
from .arguments import UsageError
from .commands import parser

__all__ = ["main"]

FOUND, MISSING, WRONG, FAILED = 0, 1, 2, 3
_INTERRUPTED = 130
_PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those after the command's name; ``None``: of this process.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # Values may contain characters that the terminal's encoding does not have.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        code = FOUND if options.command(options) else MISSING
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (BackendError, WriteError) as error:
        return _complain(error, FAILED)
    except (CacheORMError, UsageError) as error:
        return _complain(error, WRONG)
    return code


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"cacheorm: {error}\n")
    return code
