"""The node's directory of contributed modules, and what attach keeps in it.

    MODULES/sources/mod_megaphone/    what module_install compiles
    MODULES/mod_megaphone/            what it installs, the options file among it
    MODULES/.megaphone/staging/       new sources, until they are whole
    MODULES/.megaphone/previous/      the sources that an upgrade replaces, until it has worked
    MODULES/.megaphone/options.yml    the options of before, for as long as ext_mod has deleted them
    MODULES/.megaphone/record.json    which directories attach has made

`kill -9` at any moment leaves either the old or the new; the next attach or detach takes it from
there. What stands in `previous` and `options.yml` is therefore never overwritten: it is the state
before the *first* of several interrupted runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.attach.configuration import MODULE
from bridge.attach.identity import acting_as
from bridge.attach.package import OPTIONS_FILE, Package, load
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.attach.node_process import NodeProcess

#: Packages lie two levels down in it: ext_mod looks for `*/*.spec`, `sources/*/*.spec` and
#: `*/conf/*.yml`, hidden names included, and must find none here.
_PRIVATE: Final = ".megaphone"


class ModuleDirectory:
    """CONTRIB_MODULES_PATH of one node; every access as the node's user."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self.root = node.modules
        self.sources = self.root / "sources" / MODULE
        self.library = self.root / MODULE
        self.private = self.root / _PRIVATE
        self._staging = self.private / "staging" / MODULE
        self._previous = self.private / "previous" / MODULE
        self._options = self.private / "options.yml"
        self._record = self.private / "record.json"

    def refuse_unwritable(self) -> None:
        """Refuses when the node's user could not write here.

        Raises:
            CommandError: PERMISSION.
        """
        nearest = self.root / "sources"
        with acting_as(self._node):
            while not nearest.exists() and nearest != nearest.parent:
                nearest = nearest.parent
            writable = os.access(nearest, os.W_OK | os.X_OK, effective_ids=True)
            for path in (self.root, self.sources, self.library, self.private):
                if path.is_dir() and not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                    writable, nearest = False, path
        if not writable:
            raise CommandError(
                f"user {self._node.user} cannot write {nearest}, where the node keeps its modules",
                f"chown -R {self._node.user} {nearest}, or set CONTRIB_MODULES_PATH in "
                "ejabberdctl.cfg and restart the node",
                ExitStatus.PERMISSION,
            )
        if not self._node.sees(nearest):
            raise CommandError(
                f"the node sees another {nearest} than this process (a private /tmp, a container)",
                "set CONTRIB_MODULES_PATH in ejabberdctl.cfg to a directory that both see",
                ExitStatus.PERMISSION,
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second attach or detach away.

        Raises:
            CommandError: FAILURE when one is running.
        """
        with acting_as(self._node):
            self._make_directories()
            descriptor = os.open(self.private, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CommandError(
                    "another attach or detach of this node is running",
                    "wait until it has ended",
                    ExitStatus.FAILURE,
                ) from error
            with acting_as(self._node):
                _remove(self._staging.parent)
            yield
        finally:
            os.close(descriptor)

    def installed_sources(self) -> dict[str, bytes]:
        """The sources that are there, to compare; empty when there are none."""
        with acting_as(self._node), contextlib.suppress(CommandError, OSError):
            return dict(load(self.sources).files)
        return {}

    def options(self) -> str | None:
        """The text of the options file in force, or of the one that an interrupted run saved."""
        with acting_as(self._node):
            for file in (self.library / OPTIONS_FILE, self._options):
                with contextlib.suppress(OSError):
                    return file.read_text(encoding="utf-8")
        return None

    def save_options(self) -> None:
        """Copies the options file aside, before ext_mod deletes it."""
        installed = self.library / OPTIONS_FILE
        with acting_as(self._node):
            if installed.is_file() and not self._options.exists():
                _write(self._options, installed.read_bytes())

    def put(self, package: Package, options: str) -> None:
        """Puts new sources in place: written aside, then renamed.

        Raises:
            CommandError: PERMISSION or FAILURE; the old ones are then still in place.
        """
        try:
            with acting_as(self._node):
                _remove(self._staging.parent)
                files = {**package.files, OPTIONS_FILE: options.encode()}
                for name, content in files.items():
                    _write(self._staging / name, content)
                if self.sources.exists():
                    if self._previous.exists():
                        _remove(self.sources)
                    else:
                        self._previous.parent.mkdir(exist_ok=True)
                        self.sources.rename(self._previous)
                self._staging.rename(self.sources)
                _remove(self._staging.parent)
        except OSError as error:
            raise _failed("written", error) from error

    def put_back(self) -> bool:
        """Takes back the sources and options of before.

        Returns:
            Whether there were any.
        """
        try:
            with acting_as(self._node):
                if not self._previous.exists():
                    _remove(self.sources)
                    return False
                _remove(self.sources)
                self._previous.rename(self.sources)
                if self._options.exists():
                    _remove(self.sources / "ebin")
                    _write(self.sources / OPTIONS_FILE, self._options.read_bytes())
                return True
        except OSError as error:
            raise _failed("restored", error) from error

    @property
    def unsettled(self) -> bool:
        """Whether an interrupted run has left what it kept for a rollback."""
        with acting_as(self._node):
            return self._previous.exists() or self._options.exists()

    def settle(self) -> None:
        """Forgets what was kept for a rollback."""
        with acting_as(self._node):
            _remove(self._previous.parent)
            self._options.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes everything of Megaphone's, and the directories that attach made, if empty.

        Raises:
            CommandError: PERMISSION or FAILURE.
        """
        try:
            with acting_as(self._node):
                made = self._made()
                _remove(self.sources)
                _remove(self.library)
                _remove(self.private)
                for directory in sorted(made, key=lambda path: len(path.parts), reverse=True):
                    with contextlib.suppress(OSError):
                        directory.rmdir()
        except OSError as error:
            raise _failed("removed", error) from error

    def _make_directories(self) -> None:
        wanted = self.private
        missing = []
        for directory in (self.root / "sources", self.root, *self.root.parents):
            if directory.exists():
                if directory != self.root / "sources" and directory != self.root:
                    break
            else:
                missing.append(directory)
        try:
            wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
            if missing:
                made = self._made() | set(missing)
                _write(self._record, json.dumps({"made": sorted(map(str, made))}).encode())
            (self.root / "sources").mkdir(exist_ok=True)
        except OSError as error:
            raise _failed("made", error) from error

    def _made(self) -> set[Path]:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            return {Path(name) for name in record["made"]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()


def _write(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _failed(done: str, error: OSError) -> CommandError:
    denied = isinstance(error, PermissionError)
    return CommandError(
        f"{error.filename or 'the module directory'} cannot be {done}: {error.strerror}",
        "give it to ejabberd's user, then try again" if denied else "mend that, then try again",
        ExitStatus.PERMISSION if denied else ExitStatus.FAILURE,
    )
