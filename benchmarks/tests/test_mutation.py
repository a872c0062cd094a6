"""The runner of faults tells what tests catch from what they do not, and when it cannot tell."""

from __future__ import annotations

from pathlib import Path

import mutation
import pytest
from mutation_faults import FAULTS, Fault

TESTS = ("tests/test_sums.py",)
CAUGHT = Fault("a difference", "return a + b", "return a - b", TESTS)
MISSED = Fault("a product", "return a * b", "return a + b", TESTS)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package with tests."""
    for folder in ("dsac", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dsac" / "__init__.py").touch()
    source = "def add(a, b):\n    return a + b\n\n\ndef times(a, b):\n    return a * b\n"
    (tmp_path / "dsac" / "sums.py").write_text(source)
    (tmp_path / "tests" / "test_sums.py").write_text(
        "from dsac.sums import add, times\n\n\n"
        "def test_sums():\n    assert add(1, 2) == 3\n\n\ndef test_products():\n    assert times(2, 2) == 4\n"
    )
    monkeypatch.setattr(mutation, "CHECKOUT", tmp_path)
    return tmp_path


def test_a_fault_that_survives_is_told_from_one_that_is_caught(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkout / "dsac" / "sums.py").read_bytes()
    assert mutation.main([], [CAUGHT, MISSED]) == 1
    out, err = capsys.readouterr()
    assert "| a difference | dsac/sums.py | tests/test_sums.py::test_sums |" in out
    assert "| a product | dsac/sums.py | **survives** |" in out
    assert "[2/2] a product" in err and "1 of 2 caught" in err
    assert (checkout / "dsac" / "sums.py").read_bytes() == before


def test_only_what_is_asked_for_is_planted(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation.main(["--only", "a difference"], [CAUGHT, MISSED]) == 0
    assert "a product" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        mutation.main(["--only", "a quotient"], [CAUGHT, MISSED])
    assert "got a quotient" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["return a / b", "def "], ids=["gone", "twice"])
def test_a_fault_without_its_one_place_is_an_error(
    checkout: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mutation.main([], [CAUGHT, Fault("moved", text, "", TESTS)]) == 2
    assert "moved: expected its text exactly once" in capsys.readouterr().err


def test_tests_that_fail_without_a_fault_catch_none(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "tests" / "test_sums.py").write_text("def test_nothing():\n    assert False\n")
    assert mutation.main([], [CAUGHT]) == 2
    assert "test_nothing fails without any fault" in capsys.readouterr().err


def test_a_module_that_cannot_be_imported_is_not_a_fault_that_is_caught(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mutation.main([], [Fault("nonsense", "return a + b", "return a +", TESTS)]) == 2
    assert "cannot be run" in capsys.readouterr().err


def test_ctrl_c_ends_with_the_table_so_far(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, runs = mutation.first_failure, iter(range(3))

    def interrupted(*arguments):
        if next(runs) == 2:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(mutation, "first_failure", interrupted)
    assert mutation.main([], [CAUGHT, MISSED]) == 130
    out = capsys.readouterr().out
    assert "| a difference |" in out and "a product" not in out


def test_every_fault_has_its_place_in_the_package_and_tests_that_exist() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 18
    for fault in FAULTS:
        mutation.locate(fault, mutation.CHECKOUT / "dsac")
        for test in fault.tests:
            assert (mutation.CHECKOUT / test.split("::")[0]).exists(), test
