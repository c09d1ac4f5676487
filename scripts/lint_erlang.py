"""Compiles every Erlang file with warnings as errors, and runs dialyzer over mod_megaphone.

What mod_megaphone exports has a -spec.

The PLT holds what mod_megaphone calls: OTP and ejabberd with its libraries. Debian's beams carry
abstract code, so dialyzer knows ejabberd's own types and functions, and an unknown function or type
is an error. It is made once for each version of OTP and ejabberd (some minutes), under .cache.

    lint_erlang.py [--no-dialyzer]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.cli.errors import CommandError
from bridge.embedded_node import installation

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".cache/erlang"

#: Applications of OTP and modules whose directories go into the PLT.
OTP: Final = ("erts", "kernel", "stdlib", "crypto", "compiler", "mnesia", "public_key", "ssl")
LIBRARIES: Final = ("ejabberd", "xmpp", "fxml", "p1_utils", "jiffy", "yconf", "p1_server")

#: What Debian's ejabberd was compiled with is what module_install compiles with on the node.
QUERY: Final = """
Where = fun(M) -> case code:which(M) of
    F when is_list(F) -> [filename:dirname(F)]; _ -> [] end end,
Definitions = case beam_lib:chunks(code:which(ext_mod), [debug_info]) of
    {ok, {_, [{debug_info, {debug_info_v1, _, {_, Options}}}]}} ->
        [case D of {d, N} -> {N, true}; {d, N, V} -> {N, V} end
         || D <- Options, is_tuple(D), element(1, D) =:= d];
    _ -> []
end,
{ok, Version} = case application:load(ejabberd) of
    ok -> application:get_key(ejabberd, vsn); _ -> {ok, "unknown"} end,
Say = fun(Key, Texts) -> [io:format("~s ~ts~n", [Key, Text]) || Text <- Texts] end,
Say(otp, [io_lib:format("~0p", [{erlang:system_info(otp_release), erlang:system_info(version)}])]),
Say(ejabberd, [Version]),
Say(libraries, lists:usort(lists:flatmap(Where, [LIBRARIES]))),
Say(otp_libraries, [filename:join(code:lib_dir(A), "ebin") || A <- [OTP],
    is_list(code:lib_dir(A))]),
Say(definitions, [io_lib:format("~ts=~0p", [N, V]) || {N, V} <- Definitions]),
halt().
"""


@dataclass(frozen=True, slots=True)
class Erlang:
    """What the installed ejabberd is made of."""

    otp: str
    ejabberd: str
    libraries: list[str]
    otp_libraries: list[str]
    #: NAME=VALUE of each macro.
    definitions: list[str]


def main() -> int:
    """Lints; the exit status of the first tool that was not content."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--no-dialyzer", action="store_true", help="compile only")
    arguments = parser.parse_args()
    try:
        found = installation.find()
    except CommandError as error:
        sys.stderr.write(f"lint_erlang: {error}\n")
        return 1
    environment = {**os.environ, "ERL_LIBS": found.libraries, "ERL_FLAGS": found.flags}
    erlang = _ask(found.erl, environment)
    beams = _fresh(CACHE / "ebin")
    sources = sorted((ROOT / "mod_megaphone/src").glob("*.erl"))
    # What tests and benchmarks export is for EUnit or one caller.
    if status := _compile(sources, beams, erlang, environment, "+warn_missing_spec"):
        return status
    others = [f for folder in ("tests", "bench") for f in sorted((ROOT / folder).rglob("*.erl"))]
    if status := _compile(others, _fresh(CACHE / "ebin-others"), erlang, environment):
        return status
    if arguments.no_dialyzer or not sources:
        return 0
    plt = _plt(erlang, environment)
    return _dialyze(["--plt", str(plt), "-Wunknown", "-r", str(beams)], environment)


def _ask(erl: Path, environment: dict[str, str]) -> Erlang:
    query = QUERY.replace("[LIBRARIES]", f"[{', '.join(LIBRARIES)}]")
    query = query.replace("[OTP]", f"[{', '.join(OTP)}]")
    answer = subprocess.run(
        [str(erl), "-noinput", "-eval", query],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    told: dict[str, list[str]] = {}
    for line in answer.stdout.splitlines():
        key, _, value = line.partition(" ")
        told.setdefault(key, []).append(value)
    return Erlang(
        otp=told["otp"][0],
        ejabberd=told["ejabberd"][0],
        libraries=told["libraries"],
        otp_libraries=told["otp_libraries"],
        definitions=told.get("definitions", []),
    )


def _compile(
    sources: list[Path], beams: Path, erlang: Erlang, environment: dict[str, str], *options: str
) -> int:
    if not sources:
        return 0
    includes = [str(ROOT / "mod_megaphone/include")]
    includes += [str(Path(library).parent / "include") for library in erlang.libraries]
    command = ["erlc", "-Werror", "+debug_info", *options, "-o", str(beams)]
    command += [word for include in includes for word in ("-I", include)]
    command += [f"-D{definition}" for definition in erlang.definitions]
    command += [str(source.relative_to(ROOT)) for source in sources]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _plt(erlang: Erlang, environment: dict[str, str]) -> Path:
    """The PLT for this OTP and this ejabberd, made when it is missing."""
    directories = [*erlang.otp_libraries, *erlang.libraries]
    key = hashlib.sha256(repr((erlang, directories)).encode()).hexdigest()[:16]
    plt = CACHE / f"{key}.plt"
    if plt.is_file():
        return plt
    sys.stdout.write("making dialyzer's PLT for this OTP and ejabberd; this takes some minutes\n")
    sys.stdout.flush()
    part = plt.with_suffix(".part")
    # What dialyzer finds to say about ejabberd itself is not ours; status 2 means just that.
    status = subprocess.run(
        ["dialyzer", "--build_plt", "--quiet", "--output_plt", str(part), "-r", *directories],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
    ).returncode
    if status not in {0, 2} or not part.is_file():
        raise SystemExit(f"lint_erlang: dialyzer made no PLT (status {status})")
    for old in CACHE.glob("*.plt"):
        old.unlink()
    part.replace(plt)
    return plt


def _dialyze(arguments: list[str], environment: dict[str, str]) -> int:
    return subprocess.run(
        ["dialyzer", *arguments], cwd=ROOT, env=environment, check=False
    ).returncode


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


if __name__ == "__main__":
    sys.exit(main())
