"""``make semantic``: every experiment is a command, and its report a part of one page."""

import pytest

from bench import semantic
from parity_tests.trained import run
from parity_tests.wings import WINGS


def test_a_report_is_embedded():
    """Headings go down a level, pictures are found from the folder above, addresses stay."""
    page = semantic.embedded("# One\n\n![a](a.png) [b](https://b) [c](#c)\n\n## Two\nno # heading\n", "part")
    assert page == "## One\n\n![a](part/a.png) [b](https://b) [c](#c)\n\n### Two\nno # heading\n"


@pytest.mark.parametrize("name", semantic.EXPERIMENTS)
def test_options_are_those_of_the_command(name, tmp_path, capsys):
    """Every size is understood: it comes as far as the folder, in which something else stands."""
    (tmp_path / f"{name}.json").write_text("{")
    for size, options in semantic.EXPERIMENTS[name].items():
        assert run(WINGS[1], name, *options.split(), "--out", tmp_path) == 2, size
        assert "unrecognized" not in (said := capsys.readouterr().err) and said.startswith("error: "), said


@pytest.mark.nightly
def test_the_page_holds_every_report(tmp_path):
    assert semantic.main(["--out", str(tmp_path), "--size", "tiny"]) == 0
    page = (tmp_path / "report.md").read_text()
    for name in semantic.EXPERIMENTS:
        assert f"]({name}/" in page and f"(#{name})" in page
    assert semantic.main(["--out", str(tmp_path), "--size", "tiny"]) == 0  # nothing is done again


def test_unknown_names_are_refused(capsys):
    assert semantic.main(["--only", "concept"]) == 2
    assert "'concept'" in capsys.readouterr().err
