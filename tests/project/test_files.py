"""What must stand in no file of the project."""

import re

#: Paths of the machines that it was written on; put together here so that this file holds none.
MACHINE_PATHS = [
    re.compile("/" + "work/(main|shared)"),
    re.compile(r"/\." + "pyenv/"),
    re.compile("/tmp/" + "bash_jobs"),
]


def texts(root, files):
    for name in files:
        try:
            yield name, (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_no_file_names_a_path_of_a_developers_machine(root, files):
    own = re.escape(str(root))
    patterns = (
        [*MACHINE_PATHS, re.compile(own + r"(/|\b)")] if own.count("/") > 1 else MACHINE_PATHS
    )
    found = [
        f"{name}: {match[0]}"
        for name, text in texts(root, files)
        for pattern in patterns
        if (match := pattern.search(text))
    ]
    assert found == []


def test_text_files_end_with_one_newline_and_have_no_trailing_blanks(root, files):
    kinds = {".py", ".erl", ".hrl", ".md", ".toml", ".yml", ".txt", ".in", ".spec"}
    wrong = [
        str(name)
        for name, text in texts(root, files)
        if name.suffix in kinds
        and text
        and (
            not text.endswith("\n")
            or text.endswith("\n\n")
            or re.search(r"[ \t]$", text, re.MULTILINE)
        )
    ]
    assert wrong == []
