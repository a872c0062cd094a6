"""What the README shows works: its commands and its Python are run, in order, on a small synthetic room."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import dsac.cli
from dsac.rooms import synthetic_scene, write_scene

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


# Minutes of mapping become steps: on a loaded machine fewer would be made in the time than a photo needs.
IN_STEPS = {"--minutes 1 ": "--steps 30 --views 24 ", "minutes=0.5": "steps=30, num_views=24"}


def _blocks(language: str) -> list[str]:
    blocks = "\0".join(re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL))
    for minutes, steps in IN_STEPS.items():
        blocks = blocks.replace(minutes, steps)
    return blocks.split("\0")


def test_what_the_readme_shows_takes_minutes():
    assert all(minutes in README for minutes in IN_STEPS)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A folder that holds `demo/room`, as `make demo` leaves it, with fewer frames."""
    folder = tmp_path_factory.mktemp("readme")
    write_scene(synthetic_scene(num_mapping=24, num_query=3), folder / "demo" / "room")
    return folder


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_order(room, monkeypatch, capfd):
    monkeypatch.chdir(room)
    commands = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("dsac ")]
    assert len(commands) >= 4
    for line in commands:
        _, *arguments = shlex.split(line, comments=True)
        assert dsac.cli.main(arguments) == 0, f"{line}\n{capfd.readouterr().err}"
    assert (room / "poses.txt").read_text().count("query-000.jpg") == 1


@pytest.mark.slow
def test_the_python_of_the_readme_runs(room, monkeypatch, capfd):
    monkeypatch.chdir(room)
    blocks = _blocks("python")
    assert blocks
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["answer"].success.item()


def test_the_two_commands_of_the_readme_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    shown = re.findall(r"^(?:    )?make ([\w-]+)", README, flags=re.MULTILINE)
    assert {"demo", "test"} <= set(shown) <= set(targets)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_every_place_that_a_page_links_to_exists(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()) if "://" not in link]
    for link in links:
        file, _, place = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not place or place in _places(target), link


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.]+)", README))
    assert {page for page in PAGES if page not in linked} <= {"docs/architecture.md"}  # CONTRIBUTING's


def _places(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
