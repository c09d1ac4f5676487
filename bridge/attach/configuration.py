"""The node's configuration as its next boot will read it, searched for what attach must not meet.

Rules of ejabberd (23.01 to 26.07), each tried on a node: a module named in the configuration and
not installed keeps the node from booting; the same module in a contributed file and in ejabberd.yml
makes every reload fail; relative names in `include_config_file` start at the node's working
directory; of two contributed files with one base name, the one in CONTRIB_MODULES_CONF_DIR counts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import yaml

from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bridge.attach.node_process import NodeProcess

MODULE: Final = "mod_megaphone"

#: Files that are read before the configuration counts as a loop of includes.
FILE_LIMIT: Final = 500

#: Nodes of one YAML file that are looked at; aliases can make a small file endless.
NODE_LIMIT: Final = 1_000_000

#: What the YAML of ejabberd takes for false (econf:bool/0).
_FALSE: Final = frozenset({"false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a configuration file."""

    file: Path
    line: int
    option: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class Configuration:
    """What was found."""

    #: Where mod_megaphone or a listener of it is named, outside of its own contributed file.
    mentions: list[Place] = field(default_factory=list)
    #: Where contributed modules are forbidden.
    forbidden: list[Place] = field(default_factory=list)
    #: Virtual hosts whose own `modules` take the place of everybody's.
    replaced: list[Place] = field(default_factory=list)
    #: The operator's own file for mod_megaphone in CONTRIB_MODULES_CONF_DIR.
    own_file: Path | None = None


def read(node: NodeProcess) -> Configuration:
    """Reads every file that the node would read when it boots.

    Raises:
        CommandError: PERMISSION for a file that this user may not read, CONFIGURATION for one that
            is not there or is not YAML; the message names the file and the line.
    """
    found = Configuration()
    main = node.configuration
    if main.suffix not in {".yml", ".yaml"}:
        raise CommandError(
            f"{main} is not YAML, and ejabberd loads contributed modules only beside YAML",
            "convert it to ejabberd.yml",
            ExitStatus.CONFIGURATION,
        )
    pending = [main]
    seen: set[Path] = set()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        if len(seen) > FILE_LIMIT:
            raise CommandError(
                f"{main} includes more than {FILE_LIMIT} files",
                "look for an include_config_file that includes itself",
                ExitStatus.CONFIGURATION,
            )
        document = _compose(file)
        if document is not None:
            pending += [node.directory / name for name in _includes(document)]
            _search(file, document, found)
    for file in _contributed(node):
        if file.stem == MODULE:
            if file.parent == node.modules_configuration:
                found.own_file = file
        elif (document := _compose(file)) is not None:
            _search(file, document, found)
    return found


def refuse_mentions(found: Configuration, purpose: str) -> None:
    """Refuses when the configuration names mod_megaphone.

    Args:
        found: The configuration.
        purpose: What the mention stands in the way of, for the message.

    Raises:
        CommandError: CONFIGURATION, with file and line.
    """
    if found.mentions:
        place = found.mentions[0]
        raise CommandError(
            f"{place} names {place.option}: {purpose}",
            "remove it there; Megaphone's options belong to the file that attach writes "
            "(megaphone attach --option KEY=VALUE)",
            ExitStatus.CONFIGURATION,
        )


def refuse_forbidden(found: Configuration) -> None:
    """Refuses when contributed modules are not allowed.

    Raises:
        CommandError: CONFIGURATION, with file and line.
    """
    if found.forbidden:
        raise CommandError(
            f"{found.forbidden[0]} says allow_contrib_modules: false",
            "set it to true, then run: ejabberdctl reload_config",
            ExitStatus.CONFIGURATION,
        )


def _contributed(node: NodeProcess) -> list[Path]:
    files: dict[str, Path] = {}
    places = [node.modules_configuration]
    with contextlib.suppress(OSError):  # Nothing may have been installed yet.
        places += [entry / "conf" for entry in sorted(node.modules.iterdir())]
    for place in places:
        try:
            entries = sorted(place.iterdir())
        except PermissionError as error:
            raise CommandError(
                f"this user may not read {place}", "run megaphone as root", ExitStatus.PERMISSION
            ) from error
        except OSError:
            continue
        for file in entries:
            if file.suffix in {".yml", ".yaml"}:
                files.setdefault(file.stem, file)
    return list(files.values())


def _compose(file: Path) -> yaml.Node | None:
    try:
        return yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    except PermissionError as error:
        raise CommandError(
            f"this user may not read {file}",
            "run megaphone as root, or as ejabberd's user",
            ExitStatus.PERMISSION,
        ) from error
    except OSError as error:
        raise CommandError(
            f"{file} cannot be read: {error.strerror}",
            "ejabberd would not boot with it; mend the configuration first",
            ExitStatus.CONFIGURATION,
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark is not None else str(file)
        problem = getattr(error, "problem", None) or type(error).__name__
        raise CommandError(
            f"{place} is not YAML that can be read: {problem}",
            "ejabberd would not boot with it; mend the configuration first",
            ExitStatus.CONFIGURATION,
        ) from error


def _top(document: yaml.Node, option: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    if isinstance(document, yaml.MappingNode):
        for key, value in document.value:
            if isinstance(key, yaml.ScalarNode) and key.value == option:
                yield key, value


def _includes(document: yaml.Node) -> Iterator[str]:
    for _key, value in _top(document, "include_config_file"):
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for item in items:
            if isinstance(item, yaml.ScalarNode):
                yield item.value
            elif isinstance(item, yaml.MappingNode):
                for name, _options in item.value:
                    if isinstance(name, yaml.ScalarNode):
                        yield name.value


def _search(file: Path, document: yaml.Node, found: Configuration) -> None:
    found.mentions += [
        Place(file, node.start_mark.line + 1, node.value) for node in _mentions(document)
    ]
    for _key, value in _top(document, "allow_contrib_modules"):
        if isinstance(value, yaml.ScalarNode) and value.value.lower() in _FALSE:
            found.forbidden.append(Place(file, value.start_mark.line + 1, "allow_contrib_modules"))
    for _key, hosts in _top(document, "host_config"):
        for host, options in hosts.value if isinstance(hosts, yaml.MappingNode) else ():
            for key, _value in _top(options, "modules"):
                found.replaced.append(Place(file, key.start_mark.line + 1, str(host.value)))


def _mentions(document: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Yields every scalar that is the module's name, or a `module:` of its listeners.

    Searching everything, rather than `modules` alone, covers host_config, append_host_config,
    macros, keywords and install_contrib_modules.
    """
    pending: list[tuple[yaml.Node, str]] = [(document, "")]
    seen: set[int] = set()
    while pending and len(seen) <= NODE_LIMIT:
        node, key = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if node.value == MODULE or (key == "module" and node.value.startswith("megaphone")):
                yield node
        elif isinstance(node, yaml.SequenceNode):
            pending += [(item, key) for item in reversed(node.value)]
        elif isinstance(node, yaml.MappingNode):
            for name, value in reversed(node.value):
                text = name.value if isinstance(name, yaml.ScalarNode) else ""
                if text != "log_modules_fully":
                    pending += [(value, text), (name, "")]
