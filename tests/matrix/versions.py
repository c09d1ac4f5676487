"""Prints the versions of what the tests run on, as JSON; runs inside the container."""

import json
import os
import platform
import subprocess
import sys

from bridge.embedded_node import installation

#: What runs, as it names itself; a node's start would tell no more.
QUERY = """
ok = application:load(ejabberd),
{ok, Version} = application:get_key(ejabberd, vsn),
io:format("~ts ~ts", [Version, erlang:system_info(otp_release)]), halt().
"""


def main() -> None:
    """ejabberd, otp and python."""
    found = installation.find()
    answer = subprocess.run(
        (found.erl, "-noinput", "-eval", QUERY),
        env={**os.environ, "ERL_LIBS": found.libraries, "ERL_FLAGS": found.flags},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    ejabberd, otp = answer.stdout.split()
    versions = {"ejabberd": ejabberd, "otp": otp, "python": platform.python_version()}
    json.dump(versions, sys.stdout)


if __name__ == "__main__":
    main()
