"""A fixed rule set as products and guides describe them: points for what is odd, added up. A baseline, never shipped.

It sees the same features as the model, so that the comparison is one of weights and shapes and not of knowledge.
"""

import numpy as np

# (feature, from this value on, points)
RULES = [
    ("device_cookie", 0.4, 20),
    ("device_cookie", 0.9, 40),
    ("llr_address", 0.5, 5),
    ("llr_asn", 0.5, 15),
    ("llr_country", 0.5, 30),
    ("llr_agent", 0.5, 10),
    ("llr_platform", 0.5, 15),
    ("geo_speed", np.log(1001.0), 40),
    ("network_kind", 0.5, 15),
    ("network_kind", 1.5, 20),
    ("network_kind", 2.5, 20),
    ("hour_surprise", 4.0, 5),
    ("tls_mismatch", 0.5, 30),
    ("scripted_agent", 0.5, 40),
    ("address_failures_10m", np.log(6.0), 25),
    ("address_users_1h", np.log(11.0), 40),
    ("user_failures_10m", np.log(6.0), 25),
    ("user_failures_24h", np.log(11.0), 15),
    ("user_gap_hours", np.log(1.0 + 90 * 24), 10),
]


def scores(rows: np.ndarray, names: list[str]) -> np.ndarray:
    """Points per row; a missing value gives none."""
    points = np.zeros(len(rows))
    for name, bar, value in RULES:
        points += np.where(rows[:, names.index(name)] >= bar, value, 0)
    return points
