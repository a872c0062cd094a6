"""`dsac evaluate`: table, page, CSV file and figures, of a map or of estimates."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from command_line import Fails, Run


def test_evaluate_writes_table_report_and_csv(corner: Path, run: Run, tmp_path: Path) -> None:
    report, table = tmp_path / "report.html", tmp_path / "report.csv"
    code, out, _ = run("evaluate", corner / "corner.dsac", corner / "scene", "--report", report, "--csv", table)
    assert code == 0
    assert "ms an image" in out and f"report: {report}\n" in out and f"table: {table}\n" in out
    page = report.read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    queries = (corner / "scene" / "query.txt").read_text().split()
    assert [row["name"] for row in rows] == queries and len(queries) == 6
    assert queries[0] in page  # among the images with the largest errors


def test_evaluate_draws_the_evidence(corner: Path, run: Run, tmp_path: Path) -> None:
    report, table, figures = tmp_path / "report.html", tmp_path / "report.csv", tmp_path / "new" / "figures"
    options = ("--report", report, "--csv", table, "--figures", figures)
    code, out, _ = run("evaluate", corner / "corner.dsac", corner / "scene", *options)
    assert code == 0 and "evidence.html" in "".join(out.split())
    expected = {"inlier_ratios.svg", "accuracy.svg", "times.svg", "evidence.csv", "evidence.html"}
    assert {path.name for path in figures.iterdir()} == expected
    rows = list(csv.DictReader((figures / "evidence.csv").read_text().splitlines()))
    assert len(rows) == 6
    # a map that was made in seconds has inliers, and outliers that spoil the naive fit
    assert all(0.1 < float(row["inlier_ratio"]) < 1 for row in rows)
    worse = [float(row["naive_fit_translation_cm"]) > float(row["argmax_translation_cm"]) for row in rows]
    assert sum(worse) >= 5


def test_figures_need_depth(corner: Path, fails: Fails, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(corner / "scene", scene, ignore=shutil.ignore_patterns("depth*"))
    report, table = tmp_path / "a.html", tmp_path / "a.csv"
    files = ("--report", report, "--csv", table, "--figures", tmp_path / "figures")
    line = fails("evaluate", corner / "corner.dsac", scene, *files)
    assert "figures need query images with poses and depth" in line


def test_evaluate_scores_a_poses_file(corner: Path, run: Run, tmp_path: Path) -> None:
    truth = corner / "scene" / "poses.txt"
    lines = truth.read_text().splitlines()
    broken = lines[1].split()
    broken[5] = "nan"
    (tmp_path / "estimates.txt").write_text("\n".join([lines[0], " ".join(broken), *lines[2:]]) + "\n")
    code, out, err = run("evaluate", "--poses", tmp_path / "estimates.txt", "--truth", truth)
    assert code == 0
    assert "91.7" in out  # 11 of 12
    assert f"1 of 12 poses are NaN or infinite, left out: {broken[0]}" in " ".join(err.split())


def test_a_scene_without_queries_cannot_be_evaluated(room: Path, blank_map: Path, fails: Fails) -> None:
    assert f"{room}: expected query images, found none" in fails("evaluate", blank_map, room)


def test_queries_are_scored_with_their_depth_when_asked(
    corner: Path, run: Run, fails: Fails, tmp_path: Path
) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(corner / "scene", scene, ignore=shutil.ignore_patterns("depth*"))
    files = ("--report", tmp_path / "a.html", "--csv", tmp_path / "a.csv")
    line = fails("evaluate", corner / "corner.dsac", scene, "--query-depth", *files)
    assert "expected query images with depth, they have none" in line
    assert "--query-depth: expected with a map" in fails(
        "evaluate", "--query-depth", "--poses", scene / "poses.txt", "--truth", scene / "poses.txt"
    )
    errors = []
    for options in ((), ("--query-depth",)):
        code, _, _ = run("evaluate", corner / "corner.dsac", corner / "scene", *options, *files)
        rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
        assert code == 0 and len(rows) == 6
        errors.append([row for row in rows])
    assert errors[0] != errors[1]
