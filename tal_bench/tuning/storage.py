"""Where Optuna keeps trials for those who want to look at them: a database, or a journal file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tal_bench.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"
"""In the study's folder, where no other storage is given."""
OFF = "off"
HEARTBEAT, GRACE = 30, 120
"""Seconds between two signs of life of a running trial, and after which it counts as dead."""
FLAG = "--storage"
DRIVERS = {
    "postgresql://": "postgresql+psycopg://",
    "postgres://": "postgresql+psycopg://",
}


def database_url(given: str) -> str | None:
    """The URL with the driver that we install, or none where a file is meant.

    Raises:
        InputError: not a URL of a database, or its driver is not installed.
    """
    if "://" not in given:
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    for prefix, full in DRIVERS.items():
        if given.startswith(prefix):
            given = full + given.removeprefix(prefix)
    try:
        make_url(given).get_dialect().import_dbapi()
    except ImportError as error:
        hint = "pip install 'tal-bench[cluster]'" if given.startswith("postgresql") else "install it"
        raise InputError(f"its driver is not installed: {error.name}", where=FLAG, hint=hint) from None
    except (SQLAlchemyError, ValueError) as error:
        hint = "give postgresql://USER:PASSWORD@HOST/DATABASE, sqlite:///FILE, a journal file, or off"
        raise InputError(f"not a database's URL: {error}", where=FLAG, hint=hint) from None
    return given


def open_storage(given: str) -> BaseStorage:
    """The storage; its tables are made where they are missing.

    Raises:
        Exception: of any kind, where a database does not answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database_url(given)
    if url is None:
        return _journal(Path(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats, since years
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True},  # a connection that was lost is replaced
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
        )


def _journal(file: Path) -> BaseStorage:
    """A journal, of which a half-written end is cut off; its lock goes with the process that holds it."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class Lock(JournalFileOpenLock):
        own = FileLock(f"{file}.lock")

        def acquire(self) -> bool:
            self.own.acquire()
            return True

        def release(self) -> None:
            Path(self.own.lock_file).unlink(missing_ok=True)  # those who wait for it notice
            self.own.release()

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(str(file))
    with lock.own:
        content = file.read_bytes() if file.exists() else b""
        if not content.endswith(b"\n"):
            file.write_bytes(content[: content.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
