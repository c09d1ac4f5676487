"""Configuration: one TOML file and environment variables; docs/configuration.md lists every key."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names the configuration file; without it there is none.
FILE_VARIABLE: Final = "MEGAPHONE_CONFIG"

_PREFIX: Final = "MEGAPHONE_"
_NESTED: Final = "__"

_MIB: Final = 1024 * 1024


class ConfigurationError(Exception):
    """The configuration cannot be used; the text names the key and where it was set."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _default_workers() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1)


class Workers(_Section):
    """The processes that format batches."""

    count: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=_default_workers, description="worker processes"
    )
    memory_limit: Annotated[int, Field(ge=128 * _MIB)] = Field(
        default=256 * _MIB, description="bytes of address space of one worker"
    )
    batch_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="seconds that a batch or the check of a template may take"
    )
    max_retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=3, description="times a batch is formatted again after its worker ended"
    )
    queue_limit: Annotated[int, Field(ge=1 * _MIB)] = Field(
        default=64 * _MIB, description="bytes of batches that may wait for a worker"
    )


class Http(_Section):
    """The HTTP server, for reading only."""

    enabled: bool = Field(default=True, description="whether to listen at all")
    host: str = Field(default="127.0.0.1", min_length=1, description="address or name to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8470, description="TCP port; 0 takes any that is free"
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="names that requests may come for, besides loopback's and http.host",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _lower_case(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in hosts)


class Log(_Section):
    """What reaches the node's log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe level that is passed on"
    )
    format: Literal["console", "json"] = Field(
        default="console", description="how a line is written"
    )


class Sidecar(_Section):
    """How `megaphone sidecar` reaches the node; a port program needs none of it."""

    socket: Path | None = Field(default=None, description="path of the node's Unix socket")
    host: str | None = Field(
        default=None, min_length=1, description="the node's address or name, instead of `socket`"
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=8471, description="the node's TCP port, with `host`"
    )
    secret_file: Path | None = Field(
        default=None, description="file with the secret that the node has, too"
    )
    tls: bool = Field(default=False, description="whether the connection to `host` is one of TLS")
    ca_file: Path | None = Field(
        default=None, description="authorities whose certificates the node may have; the system's"
    )
    certificate_file: Path | None = Field(
        default=None, description="the sidecar's own certificate and key, where the node wants one"
    )
    server_name: str | None = Field(
        default=None, description="the name in the node's certificate; `host` otherwise"
    )
    allow_plaintext: bool = Field(
        default=False, description="whether to go beyond this machine without TLS"
    )
    identity: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")] | None = Field(
        default=None, description="what it is called; made once and kept in `state_dir` otherwise"
    )
    state_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("STATE_DIRECTORY", "/var/lib/megaphone")),
        description="directory of what it keeps; one sidecar each",
    )
    control_socket: Path = Field(
        default_factory=lambda: (
            Path(os.environ.get("RUNTIME_DIRECTORY", "/run/megaphone-sidecar")) / "control.sock"
        ),
        description="Unix socket that the command line uses, its user's only",
    )

    @property
    def configured(self) -> bool:
        """Whether there is a node to connect to."""
        return self.socket is not None or self.host is not None

    @field_validator(
        "socket", "secret_file", "ca_file", "certificate_file", "state_dir", "control_socket"
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{path} is not absolute")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.socket is not None and self.host is not None:
            raise ValueError("there are both socket and host: give one of them")
        if self.configured and self.secret_file is None:
            raise ValueError("secret_file is missing: both sides need the same secret")
        if self.host is not None and not (
            self.tls or self.allow_plaintext or _is_loopback(self.host)
        ):
            raise ValueError(
                f"{self.host} is not this machine: set tls, or allow_plaintext if the network"
                " between is yours alone"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(_Section):
    """A gen_server of the operator's own, under the name that its table has."""

    start: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="where its class is: `module:Class`"
    )
    args: Any = Field(default=None, description="what its `init` gets")
    scope: Literal["local", "global"] = Field(
        default="local", description="whether its name is the node's own, or the cluster's"
    )
    restart: Literal["permanent", "transient", "temporary"] = Field(
        default="permanent", description="when it is started again after its end"
    )
    shutdown: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5.0, description="seconds that it has to terminate"
    )


class Configuration(BaseSettings):
    """All keys with their defaults; read it with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True
    )

    workers: Workers = Field(default_factory=Workers)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)
    sidecar: Sidecar = Field(default_factory=Sidecar)
    python_path: tuple[Path, ...] = Field(
        default=(), description="directories where the modules of `servers` are, absolute"
    )
    servers: dict[Annotated[str, Field(min_length=1, max_length=255)], Server] = Field(
        default_factory=dict, description="gen_servers of the operator's own, by name"
    )

    @field_validator("python_path")
    @classmethod
    def _absolute(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            if not path.is_absolute():
                raise ValueError(f"{path} is not absolute")
        return paths

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment variables win over the file."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=os.environ.get(FILE_VARIABLE))
        return init_settings, env_settings, file


def keys(model: type[BaseModel] = Configuration, above: str = "") -> dict[str, str]:
    """List every key, dotted, with its description; `NAME` stands for what the operator names."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{above}{name}.")
        elif get_origin(field.annotation) is dict:
            found |= keys(get_args(field.annotation)[1], f"{above}{name}.NAME.")
        else:
            found[above + name] = field.description or ""
    return found


def load() -> Configuration:
    """Read the configuration.

    Raises:
        ConfigurationError: the file cannot be read, or a key is unknown or has a wrong value. It is
            one line, whatever the number of errors: the first is told.
    """
    file = os.environ.get(FILE_VARIABLE)
    if file is not None:
        _check_file(Path(file))
    _check_variables()
    try:
        return Configuration()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        unknown = first["type"] == "extra_forbidden"
        message = "there is no such key" if unknown else first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(_described(first["loc"], message, file)) from None
    except SettingsError:
        raise ConfigurationError(
            f"environment variables {_PREFIX}*: a list is written as JSON, such as '[\"a\"]'"
        ) from None


def _check_file(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            tomllib.load(opened)
    except OSError as error:
        raise ConfigurationError(f"{file} ({FILE_VARIABLE}): {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None


def _check_variables() -> None:
    """Refuse variables of ours that name no key: pydantic-settings ignores those."""
    known = {_variable(key) for key in keys()} | {FILE_VARIABLE}
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and _NESTED in name and name.upper() not in known:
            raise ConfigurationError(f"environment variable {name}: there is no such key")


def _variable(key: str) -> str:
    return _PREFIX + key.replace(".", _NESTED).upper()


def _described(location: Sequence[int | str], message: str, file: str | None) -> str:
    key = ".".join(str(part) for part in location if isinstance(part, str))
    variable = _variable(key)
    if any(name.upper() == variable for name in os.environ):
        return f"environment variable {variable}: {message}"
    if file is None:
        # Of several keys together, each of which is right by itself.
        return f"environment variables {variable}{_NESTED}*: {message}"
    return f"{file}: {key}: {message}"


def dumped(configuration: Configuration) -> dict[str, Any]:
    """Give the configuration as plain values, for the log at debug level."""
    return configuration.model_dump(mode="json")
