import pytest

from tests.matrix.results import (
    BEGIN,
    END,
    Counts,
    Result,
    counts,
    failed_tests,
    load,
    save,
    table,
    with_table,
)

PASSED = Result("24.12-3+deb13u2", "27", "3.13.5", passed=1234, failed=0, skipped=2)
FAILED = Result("26.07", "29", "3.14.0", passed=1200, failed=1, skipped=0)


def test_counts_of_a_run():
    junit = (
        '<?xml version="1.0"?><testsuites><testsuite name="pytest" errors="1" failures="2" '
        'skipped="3" tests="10"><testcase name="a"/></testsuite></testsuites>'
    )
    assert counts(junit) == Counts(passed=4, failed=3, skipped=3)


@pytest.mark.parametrize("text", ["", "<testsuites/>", "no XML"])
def test_what_is_no_run(text):
    with pytest.raises(ValueError, match="not JUnit XML"):
        counts(text)


def test_results_are_kept_in_the_suites_order(tmp_path):
    path = tmp_path / "supported.json"
    assert load(path) == {}
    save(path, {"sid": FAILED, "trixie": PASSED})
    assert list(load(path).items()) == [("trixie", PASSED), ("sid", FAILED)]


def test_the_table_shows_where_everything_passed():
    lines = table({"sid": FAILED, "trixie": PASSED}).splitlines()
    assert lines[2:] == ["| trixie | 24.12 | 27 | 3.13 | 1,234 passed, 2 skipped |"]


def test_what_ran_nothing_is_not_supported():
    assert not Result("23.01", "25", "3.11.2", passed=0, failed=0, skipped=9).supported


def test_the_readme_keeps_what_stands_around_the_table():
    readme = f"before\n\n{BEGIN}an old table\n{END}\nafter\n"
    written = with_table(readme, {"trixie": PASSED})
    assert written == f"before\n\n{BEGIN}\n{table({'trixie': PASSED})}\n{END}\nafter\n"
    assert with_table(written, {"trixie": PASSED}) == written


@pytest.mark.parametrize("readme", ["nothing", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_a_place_for_it(readme):
    with pytest.raises(ValueError, match="no place"):
        with_table(readme, {})


def test_what_failed_first_and_passed_at_a_second_run_is_told():
    junit = (
        '<testsuites><testsuite tests="3" failures="1" errors="2">'
        '<testcase classname="tests.e2e.test_a" name="x[1]"><failure/></testcase>'
        '<testcase classname="tests.e2e.test_a" name="y"><error/></testcase>'
        '<testcase classname="tests.e2e.test_a" name="y"><error/></testcase>'
        '<testcase classname="tests.bridge.test_b" name="z"/></testsuite></testsuites>'
    )
    assert failed_tests(junit) == {"tests/e2e/test_a.py": {"x[1]", "y"}}
    found = Result("26.07", "29", "3.14.0", passed=10, failed=0, skipped=0, again=2)
    assert "| 10 passed, 2 of them at a second run |" in table({"sid": found})
