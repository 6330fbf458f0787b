"""Hand-crafted features and classical classifiers, the peers that every result is compared with."""

from discern.baselines.table import BASELINES, Baseline, Fitted

__all__ = ["BASELINES", "Baseline", "Fitted"]
