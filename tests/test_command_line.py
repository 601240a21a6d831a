"""python -m fastgd: what it takes, and what it prints."""

import pytest

import fastgd
from fastgd import __main__ as command


def test_help_says_what_it_does_and_does_nothing(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert "python -m fastgd" in printed and "pipelines" in printed and "diabetes" not in printed


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        command.main(["--version"])
    assert capsys.readouterr().out == f"fastgd {fastgd.__version__}\n"


@pytest.mark.parametrize("argument", ["digits", "--fast"])
def test_an_unknown_argument_is_refused(argument, capsys):
    with pytest.raises(SystemExit) as left:
        command.main([argument])
    printed = capsys.readouterr()
    assert left.value.code == 2 and argument in printed.err and not printed.out


@pytest.mark.filterwarnings("ignore")  # as the command itself does
def test_the_table_has_a_row_for_every_estimator(monkeypatch, capsys):
    monkeypatch.setattr(command, "CONTESTS", {"diabetes": command.CONTESTS["diabetes"]})
    command.main([])
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line.split() for line in printed.splitlines() if line.startswith("diabetes")}
    assert set(lines) == {"GDRegressor", "SGDRegressor"}
    defaults, tuned = float(lines["GDRegressor"][2]), float(lines["GDRegressor"][5])
    assert 0.4 < defaults < 0.6 and 0.4 < tuned < 0.6  # R^2 of linear models of these data
