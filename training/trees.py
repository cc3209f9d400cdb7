"""Boosted trees as an ONNX graph and how long one row takes: the form that was not shipped, beside the one that was.

Only the report needs it. The graph is written by hand from LightGBM's own dump: thresholds are rounded down to float32,
which decides every float32 value as the exact threshold would, so that both give the same number.
"""

import statistics
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass

import lightgbm
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import additive

ROWS = 200
ROUNDS = 25
MODES = {"<=": "BRANCH_LEQ"}


class Unknown(Exception):
    """A split of a kind that this graph does not know."""


@dataclass(frozen=True)
class Latency:
    """Microseconds for one row."""

    p50: float
    p90: float


def float_down(value: float) -> float:
    """The greatest float32 that is not above `value`."""
    with np.errstate(over="ignore"):  # what parts missing values from all others lies beyond float32
        near = np.float32(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def nodes_of(tree: dict) -> Iterator[dict]:
    """The nodes of one tree in depth-first order, each with its number and those of its branches."""
    pending, count = [tree["tree_structure"]], 0
    numbered = {id(pending[0]): 0}
    while pending:
        node = pending.pop()
        found = {"id": numbered[id(node)], "node": node, "branches": None}
        if "split_feature" in node:
            branches = (node["left_child"], node["right_child"])
            for branch in branches:
                count += 1
                numbered[id(branch)] = count
            found["branches"] = tuple(numbered[id(branch)] for branch in branches)
            pending += reversed(branches)
        yield found


def ensemble(model: lightgbm.Booster) -> dict[str, list]:
    """The attributes of the operator `TreeEnsembleRegressor` of ONNX's ai.onnx.ml, which adds up the leaves."""
    found: dict[str, list] = {name: [] for name in (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
        "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids", "target_weights",
    )}
    for number, tree in enumerate(model.dump_model()["tree_info"]):
        for entry in nodes_of(tree):
            node, branches = entry["node"], entry["branches"]
            found["nodes_treeids"].append(number)
            found["nodes_nodeids"].append(entry["id"])
            if branches is None:
                values = (0, 0.0, "LEAF", 0, 0, 0)
                found["target_treeids"].append(number)
                found["target_nodeids"].append(entry["id"])
                found["target_ids"].append(0)
                found["target_weights"].append(float(node["leaf_value"]))
            else:
                if node["decision_type"] not in MODES or node["missing_type"] == "Zero":
                    raise Unknown(f"`{node['decision_type']}` with missing values as `{node['missing_type']}`")
                # Without missing values in training LightGBM takes NaN for 0.
                left = node["default_left"] if node["missing_type"] == "NaN" else 0.0 <= node["threshold"]
                values = (node["split_feature"], float_down(node["threshold"]), MODES[node["decision_type"]], *branches, int(left))
            names = ("featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
            for name, value in zip(names, values):
                found[f"nodes_{name}"].append(value)
    return found


def onnx_of(model: lightgbm.Booster) -> bytes:
    """`features` float [N, F] to `probability` [N, 1]. There is no output for contributions."""
    graph = helper.make_graph(
        [
            helper.make_node("TreeEnsembleRegressor", ["features"], ["logit"], domain="ai.onnx.ml", n_targets=1, **ensemble(model)),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", model.num_feature()])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1])],
    )
    opsets = [helper.make_opsetid("", additive.OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=additive.IR_VERSION, producer_name="riskgate-training")
    onnx.checker.check_model(made, full_check=True)
    return additive.serialize(made)


def session(encoded: bytes) -> onnxruntime.InferenceSession:
    """As the gateway sets it up: one thread, no spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])


def timed(call: Callable[[np.ndarray], object], rows: np.ndarray) -> Latency:
    """How long `call` takes for one row, over `rows` one by one, several times over."""
    taken = []
    for _ in range(ROUNDS):
        for at in range(len(rows)):
            row = rows[at : at + 1]
            begun = time.perf_counter_ns()
            call(row)
            taken.append((time.perf_counter_ns() - begun) / 1000.0)
    taken.sort()
    return Latency(statistics.median(taken), taken[int(0.9 * len(taken))])


def latencies(own: bytes, booster: lightgbm.Booster, rows: np.ndarray, columns: list[int]) -> dict[str, dict]:
    """One row through the shipped graph with its contributions, and through the trees. `columns` are those that the trees see."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]
    fewer = np.ascontiguousarray(chosen[:, columns])
    encoded = onnx_of(booster)
    mine, trees = session(own), session(encoded)
    # Not more than float32 arithmetic: the same trees, and not something like them.
    exact = 1.0 / (1.0 + np.exp(-booster.predict(fewer, raw_score=True, num_threads=1)))
    found = trees.run(["probability"], {"features": fewer})[0][:, 0]
    both = ["probability", "contributions"]
    return {
        "difference": float(np.abs(found - exact).max()),
        "trees": booster.num_trees(),
        "bytes": {"additive": len(own), "trees": len(encoded)},
        "microseconds": {
            "additive, ONNX Runtime, probability and contributions": vars(timed(lambda row: mine.run(both, {"features": row}), chosen)),
            "trees, ONNX Runtime, probability alone": vars(timed(lambda row: trees.run(["probability"], {"features": row}), fewer)),
            "trees, LightGBM's own predict": vars(timed(lambda row: booster.predict(row, num_threads=1), fewer)),
            "trees, LightGBM's own predict with contributions": vars(
                timed(lambda row: booster.predict(row, pred_contrib=True, num_threads=1), fewer[:20])
            ),
        },
    }
