"""Writes the models under tests/data/models/: each misbehaves in one way that the gateway must withstand or refuse.

`nan`, `range` and `slow` pass every check at load and misbehave on one combination only: a scripted agent without a known
device cookie. The golden rows have a browser with a known cookie, and the monotone sweep moves one feature at a time, so that
neither meets it; a request from a command-line client does. Every run gives the same bytes; `--check` compares.

    training/.venv/bin/python training/make_test_models.py [--check]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import additive
import export_starter

DIR = additive.ROOT / "tests" / "data" / "models"
FILE = "model.onnx"
# About 1 us per round in ONNX Runtime on one core: some 6 s, interruptible between rounds only.
SLOW_ROUNDS = 6_000_000


def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


class Base:
    """The starter model and the golden rows that stay clear of the trigger."""

    def __init__(self) -> None:
        self.schema = additive.Schema.read()
        self.version, shapes, bias, typical = export_starter.read_starter(self.schema)
        self.weights = additive.Additive.of(self.schema, shapes, bias)
        self.features = len(self.schema.names)
        names, rows = export_starter.golden_rows(self.schema, typical, [])
        rows = np.concatenate([rows, np.full((1, self.features), np.nan, np.float32)])
        for feature in ("device_cookie", "scripted_agent"):
            rows[:, self.schema.names.index(feature)] = 0.0
        self.names, self.rows = names + ["missing"], rows

    def props(self, **changes: str) -> dict[str, str]:
        return additive.metadata(self.schema, self.version, "made to misbehave; for tests only", **changes)

    def trigger(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """`triggered` bool [N, 1]: a scripted agent without a known device cookie."""
        initializers = [
            constant("scripted_index", [self.schema.names.index("scripted_agent")], np.int64),
            constant("cookie_index", [self.schema.names.index("device_cookie")], np.int64),
            constant("scripted_bar", 0.99, np.float32),
            constant("cookie_bar", 0.25, np.float32),
        ]
        nodes = [
            node("Gather", ["present", "scripted_index"], "scripted", axis=1),
            node("Gather", ["present", "cookie_index"], "cookie", axis=1),
            node("Greater", ["scripted", "scripted_bar"], "is_scripted"),
            node("Greater", ["cookie", "cookie_bar"], "is_unknown"),
            node("And", ["is_scripted", "is_unknown"], "triggered"),
        ]
        return nodes, initializers

    def steered(self, replacement: float) -> bytes:
        """The starter model with `replacement` as its probability when triggered."""
        nodes, initializers = self.weights.nodes()
        more, constants = self.trigger()
        nodes[-1] = node("Sigmoid", ["logit"], "honest_probability")
        nodes += more + [node("Where", ["triggered", "replacement", "honest_probability"], "probability")]
        initializers += constants + [constant("replacement", replacement, np.float32)]
        return additive.serialize(additive.model(nodes, initializers, self.features, self.props()))

    def slow(self) -> bytes:
        """The starter model behind a loop that runs for seconds when triggered and not at all otherwise."""
        nodes, initializers = self.weights.nodes()
        more, constants = self.trigger()
        body = helper.make_graph(
            [node("Identity", ["keep_on"], "keep_on_out"), node("Mul", ["state", "decay"], "state_out")],
            "round",
            [
                helper.make_tensor_value_info("round", TensorProto.INT64, []),
                helper.make_tensor_value_info("keep_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
            ],
            [
                helper.make_tensor_value_info("keep_on_out", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state_out", TensorProto.FLOAT, []),
            ],
        )
        nodes[-1] = node("Add", ["logit", "nothing"], "late_logit")
        nodes[-1:-1] = more + [
            node("Cast", ["triggered"], "triggered_count", to=TensorProto.INT64),
            node("ReduceMax", ["triggered_count"], "any_triggered", keepdims=0),
            node("Mul", ["any_triggered", "rounds_when_triggered"], "rounds"),
            node("Loop", ["rounds", "always", "start"], "end_state", body=body),
            node("Mul", ["end_state", "zero"], "nothing"),
        ]
        nodes.append(node("Sigmoid", ["late_logit"], "probability"))
        initializers += constants + [
            constant("rounds_when_triggered", SLOW_ROUNDS, np.int64),
            constant("always", True, np.bool_),
            constant("start", 1.0, np.float32),
            constant("decay", 0.9999, np.float32),
        ]
        return additive.serialize(additive.model(nodes, initializers, self.features, self.props()))

    def network(self) -> tuple[bytes, np.ndarray, np.ndarray]:
        """A small monotone neural network; contributions are zeros, since it cannot give any."""
        chance = np.random.Generator(np.random.PCG64(7))
        low, high = np.array(self.schema.clip, np.float64).T
        direction = np.array(self.schema.monotone, np.float64)
        first = np.abs(chance.normal(0.0, 0.6, (self.features, 8))) * np.where(direction < 0, -1.0, 1.0)[:, None]
        first /= (high - low)[:, None]
        arrays = {
            "first_weight": first.astype(np.float32),
            "first_bias": chance.normal(-1.0, 0.5, 8).astype(np.float32),
            "second_weight": np.abs(chance.normal(0.0, 0.3, (8, 1))).astype(np.float32),
            "second_bias": np.array([-3.0], np.float32),
        }
        nodes = [
            node("IsNaN", ["features"], "is_missing"),
            node("Where", ["is_missing", "cold_start", "features"], "present"),
            node("Gemm", ["present", "first_weight", "first_bias"], "first"),
            node("Relu", ["first"], "hidden"),
            node("Gemm", ["hidden", "second_weight", "second_bias"], "logit"),
            node("Sigmoid", ["logit"], "probability"),
            node("Mul", ["present", "zero"], "contributions"),
        ]
        initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        initializers += [
            numpy_helper.from_array(self.weights.cold_start, "cold_start"),
            constant("zero", 0.0, np.float32),
        ]
        data = additive.serialize(additive.model(nodes, initializers, self.features, self.props()))
        wide = {name: array.astype(np.float64) for name, array in arrays.items()}
        present = np.where(np.isnan(self.rows), self.weights.cold_start, self.rows).astype(np.float64)
        hidden = np.maximum(present @ wide["first_weight"] + wide["first_bias"], 0.0)
        logit = (hidden @ wide["second_weight"] + wide["second_bias"])[:, 0]
        return data, 1.0 / (1.0 + np.exp(-logit)), np.zeros_like(present)

    def plain(self, **changes: str) -> bytes:
        nodes, initializers = self.weights.nodes()
        return additive.serialize(additive.model(nodes, initializers, self.features, self.props(**changes)))

    def falling(self) -> tuple[bytes, additive.Additive]:
        """The starter model in which a greater distance lowers the risk."""
        weight = self.weights.seg_weight.copy()
        weight[self.schema.names.index("geo_km")] *= -1.0
        weights = additive.Additive(**{**vars(self.weights), "seg_weight": weight})
        nodes, initializers = weights.nodes()
        return additive.serialize(additive.model(nodes, initializers, self.features, self.props())), weights

    def narrow(self) -> bytes:
        """One feature less than the schema has, with metadata that hides it."""
        short = {name: array[:-1] if name != "bias" else array for name, array in vars(self.weights).items()}
        nodes, initializers = additive.Additive(**short).nodes()
        return additive.serialize(additive.model(nodes, initializers, self.features - 1, self.props()))

    def external(self) -> bytes:
        """Weights that would be read from another file."""
        nodes, initializers = self.weights.nodes()
        made = additive.model(nodes, initializers, self.features, self.props())
        for tensor in made.graph.initializer:
            if tensor.name == "seg_weight":
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value="weights.bin")
        return additive.serialize(made)

    def foreign(self) -> bytes:
        """An operator that is not part of standard ONNX."""
        nodes, initializers = self.weights.nodes()
        nodes[-1] = node("Sigmoid", ["smooth"], "probability")
        nodes.insert(-1, helper.make_node("QuickGelu", ["logit"], ["smooth"], name="smooth", domain="com.microsoft"))
        return additive.serialize(
            additive.model(nodes, initializers, self.features, self.props(), domains=("com.microsoft",))
        )


def outputs() -> dict[Path, bytes]:
    """Every file with its content."""
    base = Base()
    probability, contributions = base.weights.evaluate(base.rows)
    honest = (probability, contributions)
    names = base.schema.names
    swapped = additive.json.dumps([names[1], names[0], *names[2:]], separators=(",", ":"))
    network, network_probability, network_contributions = base.network()
    falling, falling_weights = base.falling()
    loadable = {
        "nan": (base.steered(float("nan")), *honest),
        "range": (base.steered(1.5), *honest),
        "slow": (base.slow(), *honest),
        "network": (network, network_probability, network_contributions),
        "not_monotone": (falling, *falling_weights.evaluate(base.rows)),
    }
    for name, (data, want_probability, want_contributions) in loadable.items():
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        got_probability, got_contributions = session.run(["probability", "contributions"], {"features": base.rows})
        assert np.abs(got_probability[:, 0] - want_probability).max() < 1e-5, name
        assert np.abs(got_contributions - want_contributions).max() < 1e-5, name
    models = loadable | {
        "wrong_names": (base.plain(feature_names=swapped), *honest),
        "wrong_schema": (base.plain(feature_schema_sha256="0" * 64), *honest),
        "wrong_shape": (base.narrow(), *honest),
        "external_data": (base.external(), *honest),
        "foreign_operator": (base.foreign(), *honest),
    }
    files = {}
    for name, (data, want_probability, want_contributions) in models.items():
        head = "For tests only. Written by training/make_test_models.py."
        files[DIR / name / FILE] = data
        files[DIR / name / "manifest.toml"] = additive.manifest(
            base.schema, [additive.Listed("login", base.version, FILE, data)], head
        ).encode()
        files[DIR / name / "golden.json"] = additive.golden(
            base.version, base.names[:12], base.rows[:12], want_probability[:12], want_contributions[:12]
        ).encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files in place instead of writing them")
    check = parser.parse_args().check
    files = outputs()
    stale = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(additive.ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[path])
    if check and stale:
        print("run training/make_test_models.py without --check", file=sys.stderr)
        return 1
    print(f"{len(files) - len(stale)} of {len(files)} files were up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
