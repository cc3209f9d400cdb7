"""Models that the shipped one is compared with on the same rows. They need their libraries and are never shipped."""

import lightgbm
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression

THREADS = 1


def boosted(
    rows: np.ndarray, label: np.ndarray, weight: np.ndarray, monotone: list[int] | None, seed: int = 1
) -> lightgbm.LGBMClassifier:
    """Gradient-boosted trees, free or within the directions of the schema."""
    options = {} if monotone is None else {"monotone_constraints": monotone, "monotone_constraints_method": "intermediate"}
    model = lightgbm.LGBMClassifier(
        n_estimators=250,
        num_leaves=31,
        learning_rate=0.06,
        min_child_samples=40,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        reg_lambda=1.0,
        n_jobs=THREADS,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
        **options,
    )
    return model.fit(rows, label, sample_weight=weight)


def logistic(rows: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[LogisticRegression, np.ndarray, np.ndarray]:
    """Logistic regression on standardised values."""
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    model = LogisticRegression(C=1.0, max_iter=500)
    return model.fit((rows - mean) / spread, label, sample_weight=weight), mean, spread


def isolation(rows: np.ndarray, seed: int = 1) -> IsolationForest:
    """An unsupervised detector: how easily a row is separated from unlabelled ones. Sees no label."""
    return IsolationForest(n_estimators=200, max_samples=1024, random_state=seed, n_jobs=THREADS).fit(rows)


def margin(model: lightgbm.LGBMClassifier, rows: np.ndarray) -> np.ndarray:
    """Log-odds of boosted trees."""
    return model.predict(rows, raw_score=True, num_threads=THREADS)
