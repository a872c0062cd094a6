"""Scoring estimates against truth: metrics, `evaluate`, the report page."""

from dsac.evaluation.evaluation import Evaluation, FrameResult, evaluate, evaluate_poses
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

__all__ = [
    "THRESHOLDS",
    "Evaluation",
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
]
