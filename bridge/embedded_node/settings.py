"""What a private node is made of, and the ejabberd.yml that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: The modules of a private node; `NodeSettings.modules` adds to them, changes and removes them.
MODULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "mod_adhoc": {},
    "mod_admin_extra": {},
    "mod_announce": {"access": "announce"},
    "mod_carboncopy": {},
    "mod_disco": {},
    "mod_last": {},
    "mod_offline": {},
    "mod_ping": {},
    "mod_privacy": {},
    "mod_roster": {},
    "mod_stream_mgmt": {},
}

#: Bytes of ejabberd.log before it is rotated: a test reads all of it.
LOG_SIZE: Final = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a private node is to be.

    Attributes:
        hosts: Its virtual hosts.
        modules: Options by module, over the ones above; None takes a module out.
        options: Top-level options of ejabberd.yml, over the ones below; None takes one out.
        listen: Listeners beside the one for clients.
        environment: Variables of the node, over the few that it inherits.
        erl_options: Arguments for the VM.
        ejabberdctl: The installed ejabberd to run, by its ejabberdctl; looked for when None.
    """

    hosts: Sequence[str] = ("localhost",)
    modules: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    listen: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    erl_options: Sequence[str] = ()
    ejabberdctl: str | None = None


def ejabberd_yml(settings: NodeSettings, c2s_port: int) -> dict[str, Any]:
    """The content of ejabberd.yml: clients on loopback without TLS, no federation.

    Args:
        settings: The node's settings.
        c2s_port: The TCP port for clients.
    """
    modules = {**MODULES, **settings.modules}
    document: dict[str, Any] = {
        "hosts": list(settings.hosts),
        "loglevel": "info",
        "log_rotate_size": LOG_SIZE,
        "listen": [
            {
                "port": c2s_port,
                "ip": "127.0.0.1",
                "module": "ejabberd_c2s",
                "max_stanza_size": 262144,
            },
            *(dict(listener) for listener in settings.listen),
        ],
        "auth_method": "internal",
        "auth_password_format": "plain",
        "disable_sasl_mechanisms": ["digest-md5", "X-OAUTH2"],
        "s2s_access": "none",
        "acl": {"admin": {"user": ["admin"]}},
        "access_rules": {"announce": {"allow": "admin"}},
        "api_permissions": {
            "console commands": {"from": ["ejabberd_ctl"], "who": "all", "what": "*"}
        },
        "modules": {
            name: dict(options) for name, options in modules.items() if options is not None
        },
        **settings.options,
    }
    return {option: value for option, value in document.items() if value is not None}
