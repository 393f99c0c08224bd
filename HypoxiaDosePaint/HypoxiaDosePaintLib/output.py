"""Where a run writes: a hidden folder beside the target that becomes the target only when everything is there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from HypoxiaMapperLib.errors import OutputError


def require_free(out: Path) -> None:
    """Refuse an output that exists, before any work is done.

    Raises
    ------
    OutputError
        If ``out`` is a file or a folder that is not empty, or no folder can be made there.
    """
    try:
        taken = out.is_file() or (out.is_dir() and any(out.iterdir()))
        above = next(folder for folder in out.absolute().parents if folder.exists())
        writable = above.is_dir() and os.access(above, os.W_OK)
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise OutputError(f"Output {out} cannot be made: {error.strerror}.", "Choose another --out.") from error
    if taken:
        raise OutputError(f"Output {out} exists already.", "Nothing is overwritten: choose another folder with --out.")
    if not writable:
        raise OutputError(f"Output {out} cannot be made in {above}.", "Choose another --out, in a folder of yours.")


@contextmanager
def staged_output(out: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``out`` when the block ends well, and removed when it does not.

    Raises
    ------
    OutputError
        If the output exists, cannot be written, or the disk is full.
    """
    require_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputError(f"Cannot write to {out.parent}: {error.strerror}.", "Choose another --out.") from error
    try:
        yield stage
        require_free(out)
        if out.is_dir():
            out.rmdir()
        stage.chmod(0o755)
        stage.rename(out)
    except OSError as error:
        raise OutputError(*disk_message(out, error)) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def disk_message(out: Path, error: OSError) -> tuple[str, str]:
    """Message and hint for a failed write; libraries wrap the system's error, so its cause is looked at."""
    cause: BaseException | None = error
    while isinstance(cause, OSError) and cause.errno is None:
        cause = cause.__cause__ or cause.__context__
    known = cause if isinstance(cause, OSError) else error
    if known.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full while writing {out} ({known.strerror}); nothing was kept.",
            "Free some space and run again.",
        )
    return f"{out} cannot be written: {known.strerror or known}; nothing was kept.", "Check space and permissions."
