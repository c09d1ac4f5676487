"""Import direction, and the parts that must not know of I/O."""

import dis
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

#: What each package must not import: `bridge` -> `metrics` -> `erlang_port`, never back.
FORBIDDEN = {
    "erlang_port": {"metrics", "bridge"},
    "metrics": {"bridge"},
}

#: Bytes in, values out: no event loop, no sockets, no processes, no files.
SANS_IO = ("erlang_port/etf", "erlang_port/frames.py", "erlang_port/protocol.py")
IO_MODULES = {"asyncio", "io", "multiprocessing", "os", "pathlib", "select", "selectors", "signal"}
IO_MODULES |= {"socket", "ssl", "subprocess", "threading"}


def imported(path: Path) -> Iterator[str]:
    """The packages that a module names in its imports, wherever they stand.

    Read from the compiled code: Python 3.11's ast.parse fails with SystemError when a garbage
    collection in the midst of it runs somebody's destructor.
    """
    pending = [compile(path.read_bytes(), str(path), "exec")]
    while pending:
        code = pending.pop()
        pending += [value for value in code.co_consts if isinstance(value, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                assert instruction.argval, f"{path}: relative import"
                yield instruction.argval.partition(".")[0]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_go_one_way(root, package):
    modules = sorted((root / package).rglob("*.py"))
    assert modules
    for module in modules:
        assert not FORBIDDEN[package].intersection(imported(module)), module


@pytest.mark.parametrize("place", SANS_IO)
def test_the_core_of_the_port_knows_of_no_io(root, place):
    path = root / place
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert modules
    for module in modules:
        assert not IO_MODULES.intersection(imported(module)), module


def test_the_core_of_the_port_brings_no_event_loop():
    program = (
        "import sys, erlang_port.etf, erlang_port.frames, erlang_port.protocol\n"
        "sys.exit('asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_import_is_seen_wherever_it_stands(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "if TYPE_CHECKING:\n    import a.b\n"
        "def f():\n    from c.d import e\n    class G:\n        import h\n"
    )
    assert set(imported(module)) == {"a", "c", "h"}
