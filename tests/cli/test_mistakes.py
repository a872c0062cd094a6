"""A wrong input or option of every verb: one line that says what was expected, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Fails, Run


@pytest.fixture
def fails_here(
    room: Path, blank_map: Path, photo: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> Fails:
    """`fails` in a folder with `room`, `blank.dsac`, `photo.jpg` and what is named like them and is not."""
    folder = room.parent
    (folder / "empty").mkdir()
    (folder / "text.dsac").write_text("dear diary")
    (folder / "text.jpg").write_text("no image")
    (folder / "half.jpg").write_bytes(photo.read_bytes()[:2000])
    (folder / "half.dsac").write_bytes(blank_map.read_bytes()[:2000])
    (folder / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0\n")
    monkeypatch.chdir(folder)
    return fails


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("info none.dsac", "none.dsac: expected a map file, found nothing"),
        ("info empty", "empty: expected a map file, found a folder"),
        ("info text.dsac", "text.dsac: expected a map file, got something else"),
        ("info half.dsac", "half.dsac: expected a map file, got something else or half of one"),
        ("localize none.dsac photo.jpg", "none.dsac: expected a map file, found nothing"),
        ("localize text.dsac photo.jpg", "text.dsac: expected a map file, got something else"),
        ("localize blank.dsac none.jpg --output new.txt", "none.jpg: expected an image"),
        ("localize blank.dsac empty --output new.txt", "empty: expected a folder with images, found none"),
        ("localize blank.dsac half.jpg --focal-px 100 --output new.txt", "half.jpg: the image is truncated"),
        ("localize blank.dsac text.dsac --focal-px 100 --output new.txt", "text.dsac: expected an image"),
        ("localize blank.dsac", "no images given"),
        ("evaluate none.dsac room", "none.dsac: expected a map file, found nothing"),
        ("evaluate text.dsac room", "text.dsac: expected a map file, got something else"),
        ("evaluate blank.dsac none", "none: expected a folder with images and poses"),
        ("evaluate blank.dsac empty", "empty: expected a folder with images and poses"),
        ("evaluate blank.dsac half.jpg", "half.jpg: expected a folder with images and poses"),
        ("evaluate --poses none.txt --truth poses.txt", "none.txt: no such file"),
        ("evaluate --poses poses.txt --truth none.txt", "none.txt: no such file"),
        ("evaluate --poses text.dsac --truth poses.txt", "text.dsac, line 1: expected `name"),
        ("evaluate --poses poses.txt --truth half.jpg", "half.jpg: expected a text file"),
        ("evaluate --poses empty --truth poses.txt", "empty: Is a directory"),
        ("evaluate --poses none.txt", "needs --truth FILE"),
        ("evaluate blank.dsac", "evaluate needs MAP and SCENE"),
        ("evaluate", "evaluate needs MAP and SCENE, or --poses FILE --truth FILE"),
        ("fine-tune none.dsac room", "none.dsac: expected a map file, found nothing"),
        ("fine-tune empty room", "empty: expected a file to write, got a folder"),
        ("fine-tune text.dsac room", "text.dsac: expected a map file, got something else"),
        ("fine-tune blank.dsac none", "none: expected a folder with images and poses"),
        ("fine-tune blank.dsac text.jpg --output new.dsac", "text.jpg: expected a folder with images"),
        ("map none new.dsac", "none: expected a folder with images and poses"),
        ("map empty new.dsac", "empty: expected a folder with images and poses"),
        ("map text.dsac new.dsac", "text.dsac: expected a folder with images and poses"),
        ("map synthetic new.dsac --truth slam", "synthetic: expected a truth among exact, got slam"),
        ("map synthetic new.dsac --max-gap 0.1", "synthetic: max_gap is for poses that are found by time"),
        ("map room new.dsac --max-gap 0.1", "room: max_gap is for poses that are found by time"),
        ("evaluate --poses poses.txt --truth poses.txt --max-gap 0.1", "--max-gap: expected with a map"),
        ("demo --folder photo.jpg", "photo.jpg: cannot be created (File exists)"),
        ("demo --folder photo.jpg/new", "photo.jpg/new: cannot be created (Not a directory)"),
        ("bench solver --inputs none", "none: expected a folder with files input_r*.npz"),
    ],
)
def test_a_wrong_input_is_named(fails_here: Fails, command: str, expected: str) -> None:
    assert expected in fails_here(*command.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("map room new.dsac --steps 0", "steps: expected more than 0, got 0"),
        ("map room new.dsac --steps 100000000000000000000", "--steps: expected a number of at most 64 bits"),
        ("map room new.dsac --minutes -1", "minutes: expected more than 0, got -1"),
        ("map room new.dsac --minutes nan", "--minutes: expected a finite number, got nan"),
        ("map room new.dsac --minutes inf", "--minutes: expected a finite number, got inf"),
        ("map room new.dsac --minutes 1 --steps 5", "minutes: expected either steps or minutes, got both"),
        ("map room new.dsac --views 0", "num_views: expected more than 0, got 0"),
        ("map room new.dsac --buffer-size 0", "buffer_size: expected more than 0, got 0"),
        ("map room new.dsac --buffer-size 100000000000000 --views 3", "not enough memory"),
        ("map room new.dsac --landmarks -1", "num_landmarks: expected 0 or more, got -1"),
        ("map room new.dsac --seed -1", "seed: expected 0 or more, got -1"),
        ("map room new.dsac --seed 9223372036854775808", "--seed: expected a number of at most 64 bits"),
        ("map room new.dsac --resume", "new.dsac.checkpoint: nothing to resume"),
        ("map room new.dsac --width 0.5", "width: expected with --regressor dsac or dsac-star only"),
        ("map room new.dsac --regressor dsac --width nan", "--width: expected a finite number, got nan"),
        ("map room new.dsac --regressor dsac --width inf", "--width: expected a finite number, got inf"),
        ("map room new.dsac --regressor dsac --width 0", "width: expected more than 0"),
        (
            "map room new.dsac --regressor dsac --views 5",
            "views: expected with the shared encoder only",
        ),
        ("map room new.dsac --regressor dsac-star --steps 0", "steps: expected more than 0, got 0"),
        ("fine-tune blank.dsac room --steps 0", "steps: expected more than 0, got 0"),
        ("fine-tune blank.dsac room --learning-rate nan", "--learning-rate: expected a finite number, got nan"),
        ("fine-tune blank.dsac room --learning-rate inf", "--learning-rate: expected a finite number, got inf"),
        ("fine-tune blank.dsac room --learning-rate 0", "learning_rate: expected more than 0, got 0"),
        ("fine-tune blank.dsac room --views-per-frame 0", "views_per_frame: expected more than 0, got 0"),
        ("fine-tune blank.dsac room --scoring luck", "scoring: expected soft-count or score-network, got luck"),
        ("fine-tune blank.dsac room --seed -1", "seed: expected 0 or more, got -1"),
        ("fine-tune blank.dsac room --resume", "blank.dsac.tuning: nothing to resume"),
        ("localize blank.dsac photo.jpg --focal-px inf", "--focal-px: expected a finite number, got inf"),
        ("localize blank.dsac photo.jpg --focal-px 0", "focal_px: expected a positive focal length"),
        (
            "localize blank.dsac photo.jpg --camera PINHOLE,inf,96,9,9,64,48",
            "expected MODEL,WIDTH,HEIGHT,PARAMS...",
        ),
        (
            "localize blank.dsac photo.jpg --camera PINHOLE,nan,96,9,9,64,48",
            "expected MODEL,WIDTH,HEIGHT,PARAMS...",
        ),
        ("localize blank.dsac photo.jpg --camera PINHOLE,128,96,inf,9,64,48", "expected finite values"),
        ("localize blank.dsac photo.jpg --camera PINHOLE,128,96,9,9,nan,48", "expected finite values"),
        ("bench solver --frames 0", "frames: expected 1 or more, got 0"),
        ("bench solver --repeats -3", "repeats: expected 1 or more, got -3"),
    ],
)
def test_an_option_that_means_nothing_is_named(fails_here: Fails, command: str, expected: str) -> None:
    assert expected in fails_here(*command.split())


@pytest.mark.parametrize("verb", ["demo", "map", "fine-tune", "localize", "evaluate", "info", "bench"])
def test_a_value_of_another_kind_shows_the_verbs_help(run: Run, verb: str) -> None:
    code, out, err = run(verb, "--no-such-option", "nonsense")
    assert code == 2 and err and not out
