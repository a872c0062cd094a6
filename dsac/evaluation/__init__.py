"""Scoring estimates against truth: metrics, `evaluate`, the report page."""

from dsac.evaluation.evaluation import FrameLocalizer, evaluate, evaluate_poses
from dsac.evaluation.metrics import (
    THRESHOLDS,
    PoseError,
    Summary,
    Threshold,
    camera_spacing,
    confidence_auc,
    pose_error,
    summarize,
    summary_table,
)
from dsac.evaluation.published import PublishedRow, published_rows
from dsac.evaluation.queries import with_queries
from dsac.evaluation.recording_page import write_recording_page
from dsac.evaluation.report import write_report
from dsac.evaluation.results import Evaluation, FrameResult
from dsac.evaluation.worlds import world_of

__all__ = [
    "THRESHOLDS",
    "Evaluation",
    "FrameLocalizer",
    "FrameResult",
    "PoseError",
    "PublishedRow",
    "Summary",
    "Threshold",
    "camera_spacing",
    "confidence_auc",
    "evaluate",
    "evaluate_poses",
    "pose_error",
    "published_rows",
    "summarize",
    "summary_table",
    "with_queries",
    "world_of",
    "write_recording_page",
    "write_report",
]
