"""The additive piecewise-linear model: its graph in ONNX and its plain evaluation.

Shared by the exporters. Reads the feature schema that the gateway compiles in; must not invent features of its own.
"""

import hashlib
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "conf" / "model" / "features.toml"
OPSET = 17
IR_VERSION = 9
KINDS = ("login", "token", "m2m")
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Schema:
    """conf/model/features.toml and its digest. `kinds` has the kinds of request of each feature."""

    version: int
    names: list[str]
    cold_start: list[float]
    clip: list[tuple[float, float]]
    monotone: list[int]
    kinds: list[list[str]]
    digest: str

    @staticmethod
    def read(path: Path = SCHEMA) -> "Schema":
        raw = path.read_bytes()
        data = tomllib.loads(raw.decode())
        rows = data["feature"]
        return Schema(
            version=data["version"],
            names=[row["name"] for row in rows],
            cold_start=[float(row["cold_start"]) for row in rows],
            clip=[(float(row["clip"][0]), float(row["clip"][1])) for row in rows],
            monotone=[int(row["monotone"]) for row in rows],
            kinds=[row.get("kinds", ["login"]) for row in rows],
            digest=hashlib.sha256(raw).hexdigest(),
        )


@dataclass(frozen=True)
class Shape:
    """One feature's contribution: log-odds `y` at the knots `x`, already 0 at the typical value."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Additive:
    """The arrays of the graph, in float32 as they are written: [F] and [F, B]."""

    cold_start: np.ndarray
    knot_lo: np.ndarray
    knot_inv: np.ndarray
    seg_weight: np.ndarray
    offset: np.ndarray
    bias: np.ndarray

    @staticmethod
    def of(schema: Schema, shapes: list[Shape], bias: float) -> "Additive":
        features = len(schema.names)
        segments = max(len(shape.x) - 1 for shape in shapes)
        lo = np.zeros((features, segments), np.float32)
        # A segment that only pads the table has no weight; its width must not turn an infinite value into none.
        inv = np.ones((features, segments), np.float32)
        weight = np.zeros((features, segments), np.float32)
        offset = np.zeros(features, np.float32)
        for f, shape in enumerate(shapes):
            offset[f] = shape.y[0]
            for b in range(len(shape.x) - 1):
                lo[f, b] = shape.x[b]
                inv[f, b] = 1.0 / (shape.x[b + 1] - shape.x[b])
                weight[f, b] = shape.y[b + 1] - shape.y[b]
        return Additive(
            cold_start=np.array(schema.cold_start, np.float32),
            knot_lo=lo,
            knot_inv=inv,
            seg_weight=weight,
            offset=offset,
            bias=np.array([[bias]], np.float32),
        )

    def evaluate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability [N] and contributions [N, F], in float64 from the float32 weights."""
        contributions = np.tile(self.offset.astype(np.float64), (len(rows), 1))
        # What weighs nothing adds nothing. In pieces, since all segments of all rows at once are gigabytes.
        used = np.flatnonzero(self.seg_weight.any(axis=1))
        lo, inv, weight = (part[used].astype(np.float64) for part in (self.knot_lo, self.knot_inv, self.seg_weight))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            x = np.where(np.isnan(rows[part]), self.cold_start, rows[part]).astype(np.float64)[:, used]
            t = np.clip((x[:, :, None] - lo) * inv, 0.0, 1.0)
            contributions[part][:, used] += (t * weight).sum(axis=2)
        logit = contributions.sum(axis=1) + float(self.bias[0, 0])
        return 1.0 / (1.0 + np.exp(-logit)), contributions

    def nodes(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The graph from `features` to `contributions` and `probability`."""
        initializers = [
            numpy_helper.from_array(self.cold_start, "cold_start"),
            numpy_helper.from_array(np.array([2], np.int64), "axis_segment"),
            numpy_helper.from_array(self.knot_lo, "knot_lo"),
            numpy_helper.from_array(self.knot_inv, "knot_inv"),
            numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
            numpy_helper.from_array(np.array(1.0, np.float32), "one"),
            numpy_helper.from_array(self.seg_weight, "seg_weight"),
            numpy_helper.from_array(self.offset, "offset"),
            numpy_helper.from_array(np.array([1], np.int64), "axis_feature"),
            numpy_helper.from_array(self.bias, "bias"),
        ]

        def node(op: str, inputs: list[str], output: str, **attributes: int) -> onnx.NodeProto:
            return helper.make_node(op, inputs, [output], name=output, **attributes)

        nodes = [
            node("IsNaN", ["features"], "is_missing"),
            node("Where", ["is_missing", "cold_start", "features"], "present"),
            node("Unsqueeze", ["present", "axis_segment"], "per_segment"),
            node("Sub", ["per_segment", "knot_lo"], "above_knot"),
            node("Mul", ["above_knot", "knot_inv"], "position"),
            node("Clip", ["position", "zero", "one"], "within_segment"),
            node("Mul", ["within_segment", "seg_weight"], "weighted"),
            node("ReduceSum", ["weighted", "axis_segment"], "relative", keepdims=0),
            node("Add", ["relative", "offset"], "contributions"),
            node("ReduceSum", ["contributions", "axis_feature"], "total", keepdims=1),
            node("Add", ["total", "bias"], "logit"),
            node("Sigmoid", ["logit"], "probability"),
        ]
        return nodes, initializers


def metadata(schema: Schema, version: str, note: str, kind: str = "login", **changes: str) -> dict[str, str]:
    """The metadata_props that the gateway compares with its own schema, and an honest note."""
    props = {
        "schema_version": str(schema.version),
        "model_kind": kind,
        "model_version": version,
        "feature_names": json.dumps(schema.names, separators=(",", ":")),
        "feature_schema_sha256": schema.digest,
        "monotone": json.dumps(schema.monotone, separators=(",", ":")),
        "note": note,
    }
    props.update(changes)
    return props


def model(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    features: int,
    props: dict[str, str],
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model of the contract: `features` float [N, F] to `probability` [N, 1] and `contributions` [N, F]."""
    graph = helper.make_graph(
        nodes,
        "risk",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", features])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["N", features]),
        ],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(domain, 1) for domain in domains]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="riskgate-training")
    helper.set_model_props(made, props)
    return made


def serialize(made: onnx.ModelProto) -> bytes:
    """The same bytes for the same model."""
    return made.SerializeToString(deterministic=True)


def golden(version: str, names: list[str], rows: np.ndarray, probability: np.ndarray, contributions: np.ndarray) -> str:
    """Golden vectors as JSON; `null` stands for a missing value, since JSON knows no NaN."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else float(np.float32(value))

    entries = [
        {
            "name": names[i],
            "features": [number(v) for v in rows[i]],
            "probability": round(float(probability[i]), 9),
            "contributions": [round(float(v), 9) for v in contributions[i]],
        }
        for i in range(len(rows))
    ]
    lines = ",\n".join("    " + json.dumps(entry, separators=(",", ":")) for entry in entries)
    return f'{{\n  "model_version": {json.dumps(version)},\n  "rows": [\n{lines}\n  ]\n}}\n'


@dataclass(frozen=True)
class Listed:
    """A model as the manifest lists it; `data` are the bytes of the file."""

    kind: str
    version: str
    file: str
    data: bytes
    golden: str = "golden.json"


def manifest(schema: Schema, models: list[Listed], head: str) -> str:
    """The manifest that the gateway reads beside the models."""
    entries = [
        f"\n[[model]]\n"
        f'kind = "{model.kind}"\n'
        f'file = "{model.file}"\n'
        f'sha256 = "{hashlib.sha256(model.data).hexdigest()}"\n'
        f'version = "{model.version}"\n'
        f'golden = "{model.golden}"\n'
        for model in models
    ]
    return f"# {head}\n\nschema_version = {schema.version}\n" + "".join(entries)
