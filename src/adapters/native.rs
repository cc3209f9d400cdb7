//! The risk model without a runtime: evaluates the one additive graph of the starter and its successors.
//!
//! The weights are read out of the ONNX file itself, so that model and fallback cannot diverge. Any other graph is
//! refused; this is no general evaluator and must not become one.

use crate::adapters::onnx::graph::CONTRIBUTIONS;
use crate::adapters::onnx::graph::ContractError;
use crate::adapters::onnx::graph::Graph;
use crate::adapters::onnx::graph::INPUT;
use crate::adapters::onnx::graph::Model;
use crate::adapters::onnx::graph::Node;
use crate::adapters::onnx::graph::PROBABILITY;
use crate::adapters::onnx::graph::TYPE_FLOAT;
use crate::adapters::onnx::graph::TYPE_INT64;
use crate::adapters::onnx::graph::Tensor;
use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::risk::ModelOutput;
use crate::domain::risk::RiskScore;
use crate::domain::time::Deadline;
use crate::flow::ports::ModelError;
use crate::flow::ports::ModelIdentity;
use crate::flow::ports::RiskModel;

/// Segments of one feature's shape at most; the file size bounds it too.
const SEGMENTS_MAX: usize = 64;
/// The nodes of the additive graph.
const NODES: usize = 12;

/// The additive model: `contribution = offset + sum of weight * clip((x - from) / width, 0, 1)` per feature, and
/// `probability = sigmoid(bias + sum of contributions)`.
#[derive(Clone, Debug)]
pub struct NativeModel {
    identity: ModelIdentity,
    shapes: Vec<FeatureShape>,
    bias: f32,
}

/// How one feature contributes.
#[derive(Clone, Debug)]
struct FeatureShape {
    cold_start: f32,
    offset: f32,
    segments: Vec<Segment>,
}

/// One linear piece.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: f32,
    inverse_width: f32,
    weight: f32,
}

/// Why there is no native evaluator for a model.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NativeError {
    /// The file does not keep the contract of a risk model.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The graph is another one.
    #[error("is not of the additive form: {0}")]
    Form(String),
}

impl NativeModel {
    /// The evaluator of the model in `bytes`, an ONNX file that says it is `identity.version` for `kind`.
    pub fn from_bytes(
        bytes: &[u8],
        kind: RequestKind,
        identity: ModelIdentity,
    ) -> Result<Self, NativeError> {
        let model = Model::read(bytes, kind, &identity.version)?;
        Self::from_model(&model, identity)
    }

    /// The evaluator of a model that was read already.
    pub(crate) fn from_model(model: &Model, identity: ModelIdentity) -> Result<Self, NativeError> {
        let graph = model.graph.as_ref().ok_or_else(|| form("no graph"))?;
        if graph.node.len() != NODES {
            return Err(form(format!(
                "{} nodes instead of {NODES}",
                graph.node.len()
            )));
        }
        let pattern = Pattern { graph };
        // From the output back to the input; each step names the operator and its constant operands.
        let logit = pattern.unary(PROBABILITY, "Sigmoid")?;
        let (total, bias) = pattern.binary(logit, "Add")?;
        pattern.reduction(total, CONTRIBUTIONS, 1, 1)?;
        let (relative, offset) = pattern.binary(CONTRIBUTIONS, "Add")?;
        let weighted = pattern.reduced(relative, 2, 0)?;
        let (within, weight) = pattern.binary(weighted, "Mul")?;
        let position = pattern.clip_to_unit(within)?;
        let (above, inverse_width) = pattern.binary(position, "Mul")?;
        let (spread, from) = pattern.binary(above, "Sub")?;
        let (present, axis) = pattern.binary(spread, "Unsqueeze")?;
        pattern.expect_integers(axis, &[2])?;
        let cold_start = pattern.substitute(present)?;

        let bias = match pattern.floats(bias, &[1, 1])?.as_slice() {
            [bias] => *bias,
            _ => return Err(form("a bias that is not one number")),
        };
        let segments = pattern.segments(from)?;
        let table = [Feature::COUNT, segments];
        let rows = pattern
            .floats(cold_start, &[Feature::COUNT])?
            .into_iter()
            .zip(pattern.floats(offset, &[Feature::COUNT])?)
            .zip(pattern.floats(from, &table)?.chunks(segments))
            .zip(pattern.floats(inverse_width, &table)?.chunks(segments))
            .zip(pattern.floats(weight, &table)?.chunks(segments))
            .map(
                |((((cold_start, offset), from), inverse_width), weight)| FeatureShape {
                    cold_start,
                    offset,
                    segments: from
                        .iter()
                        .zip(inverse_width)
                        .zip(weight)
                        .map(|((&from, &inverse_width), &weight)| Segment {
                            from,
                            inverse_width,
                            weight,
                        })
                        // The table is padded to the longest shape; a segment without weight adds nothing.
                        .filter(|segment| segment.weight != 0.0)
                        .collect(),
                },
            )
            .collect();
        Ok(Self {
            identity,
            shapes: rows,
            bias,
        })
    }

    /// The log-odds of a typical legitimate login; with the contributions it adds up to the logit of the score.
    pub fn bias(&self) -> f32 {
        self.bias
    }

    /// Scores one row. Takes well under a microsecond.
    pub fn evaluate(&self, features: &FeatureVector) -> Result<ModelOutput, ModelError> {
        let mut contributions = [0.0_f32; Feature::COUNT];
        for ((slot, shape), &value) in contributions
            .iter_mut()
            .zip(&self.shapes)
            .zip(features.as_slice())
        {
            *slot = shape.contribution(value);
        }
        let logit = contributions.iter().sum::<f32>() + self.bias;
        let probability = 1.0 / (1.0 + (-logit).exp());
        checked(probability, contributions)
    }
}

impl RiskModel for NativeModel {
    fn run(
        &self,
        features: &FeatureVector,
        _deadline: Deadline,
    ) -> Result<ModelOutput, ModelError> {
        self.evaluate(features)
    }

    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }
}

impl FeatureShape {
    fn contribution(&self, value: f32) -> f32 {
        let value = if value.is_nan() {
            self.cold_start
        } else {
            value
        };
        let relative: f32 = self
            .segments
            .iter()
            .map(|segment| {
                ((value - segment.from) * segment.inverse_width).clamp(0.0, 1.0) * segment.weight
            })
            .sum();
        relative + self.offset
    }
}

/// Matches the graph step by step, from the outputs back.
struct Pattern<'g> {
    graph: &'g Graph,
}

impl<'g> Pattern<'g> {
    /// The node that makes `output`, which must be `operator` with a single output.
    fn node(&self, output: &str, operator: &str) -> Result<&'g Node, NativeError> {
        self.graph
            .node
            .iter()
            .find(|node| matches!(node.output.as_slice(), [name] if name == output))
            .filter(|node| node.op_type == operator)
            .ok_or_else(|| form(format!("`{output}` is not made by {operator}")))
    }

    fn unary(&self, output: &str, operator: &str) -> Result<&'g str, NativeError> {
        match self.node(output, operator)?.input.as_slice() {
            [input] => Ok(input),
            _ => Err(form(format!("`{output}` needs one operand"))),
        }
    }

    /// The variable and the constant operand, in this order.
    fn binary(&self, output: &str, operator: &str) -> Result<(&'g str, &'g str), NativeError> {
        match self.node(output, operator)?.input.as_slice() {
            [variable, constant] => Ok((variable, constant)),
            _ => Err(form(format!("`{output}` needs two operands"))),
        }
    }

    /// `output` is the sum of the returned value over `axis`.
    fn reduced(&self, output: &str, axis: i64, keepdims: i64) -> Result<&'g str, NativeError> {
        let (summed, axes) = self.binary(output, "ReduceSum")?;
        self.expect_integers(axes, &[axis])?;
        let node = self.node(output, "ReduceSum")?;
        // The default of ReduceSum is 1 (ONNX operator set 13).
        let kept = node
            .attribute
            .iter()
            .find(|attribute| attribute.name == "keepdims")
            .map_or(1, |kept| kept.i);
        if kept != keepdims {
            return Err(form(format!("`{output}` keeps other dimensions")));
        }
        Ok(summed)
    }

    fn reduction(
        &self,
        output: &str,
        of: &str,
        axis: i64,
        keepdims: i64,
    ) -> Result<(), NativeError> {
        if self.reduced(output, axis, keepdims)? != of {
            return Err(form(format!("`{output}` is not the sum of `{of}`")));
        }
        Ok(())
    }

    fn clip_to_unit(&self, output: &str) -> Result<&'g str, NativeError> {
        let [clipped, low, high] = self.node(output, "Clip")?.input.as_slice() else {
            return Err(form(format!("`{output}` needs both bounds")));
        };
        if self.floats(low, &[])? != [0.0] || self.floats(high, &[])? != [1.0] {
            return Err(form(format!("`{output}` is not clipped to 0..1")));
        }
        Ok(clipped)
    }

    /// `output` is the input with each missing value replaced by the returned constant.
    fn substitute(&self, output: &str) -> Result<&'g str, NativeError> {
        let [condition, replacement, otherwise] = self.node(output, "Where")?.input.as_slice()
        else {
            return Err(form(format!("`{output}` needs three operands")));
        };
        if otherwise != INPUT || self.unary(condition, "IsNaN")? != INPUT {
            return Err(form(format!(
                "`{output}` does not replace missing values of `{INPUT}`"
            )));
        }
        Ok(replacement)
    }

    fn tensor(&self, name: &str) -> Result<&'g Tensor, NativeError> {
        self.graph
            .initializer
            .iter()
            .find(|tensor| tensor.name == name)
            .ok_or_else(|| form(format!("`{name}` is not a constant")))
    }

    /// How many segments the table `name` has per feature.
    fn segments(&self, name: &str) -> Result<usize, NativeError> {
        match self.tensor(name)?.dims.as_slice() {
            [_, segments] => usize::try_from(*segments)
                .ok()
                .filter(|count| (1..=SEGMENTS_MAX).contains(count)),
            _ => None,
        }
        .ok_or_else(|| {
            form(format!(
                "`{name}` is not a table with 1 to {SEGMENTS_MAX} columns"
            ))
        })
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, NativeError> {
        let tensor = self.tensor(name)?;
        let dims: Option<Vec<_>> = tensor
            .dims
            .iter()
            .map(|dim| usize::try_from(*dim).ok())
            .collect();
        if tensor.data_type != TYPE_FLOAT || dims.as_deref() != Some(shape) {
            return Err(form(format!(
                "`{name}` is not a float tensor of shape {shape:?}"
            )));
        }
        let values = if tensor.raw_data.is_empty() {
            tensor.float_data.clone()
        } else {
            words(&tensor.raw_data).ok_or_else(|| form(format!("`{name}` ends within a number")))?
        };
        if values.len() != shape.iter().product::<usize>()
            || !values.iter().all(|value| value.is_finite())
        {
            return Err(form(format!("`{name}` is not filled with finite numbers")));
        }
        Ok(values)
    }

    fn expect_integers(&self, name: &str, expected: &[i64]) -> Result<(), NativeError> {
        let tensor = self.tensor(name)?;
        let raw: Vec<_> = tensor
            .raw_data
            .chunks(8)
            .filter_map(|chunk| chunk.try_into().ok())
            .map(i64::from_le_bytes)
            .collect();
        let found = if tensor.raw_data.is_empty() {
            &tensor.int64_data
        } else {
            &raw
        };
        if tensor.data_type != TYPE_INT64 || found != expected {
            return Err(form(format!("`{name}` is not {expected:?}")));
        }
        Ok(())
    }
}

/// The output, if it is a probability with finite contributions.
pub(crate) fn checked(
    probability: f32,
    contributions: [f32; Feature::COUNT],
) -> Result<ModelOutput, ModelError> {
    match RiskScore::new(probability) {
        Some(score) if contributions.iter().all(|value| value.is_finite()) => Ok(ModelOutput {
            score,
            contributions,
        }),
        Some(_) | None => Err(ModelError::Output),
    }
}

/// Little-endian floats, as ONNX keeps them in `raw_data`.
fn words(raw: &[u8]) -> Option<Vec<f32>> {
    raw.chunks(4)
        .map(|chunk| chunk.try_into().ok().map(f32::from_le_bytes))
        .collect()
}

fn form(text: impl Into<String>) -> NativeError {
    NativeError::Form(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn identity() -> ModelIdentity {
        ModelIdentity {
            version: "0.1.0".into(),
            digest: String::new(),
        }
    }

    fn starter_bytes() -> Vec<u8> {
        std::fs::read("tests/data/models/starter/risk-login-0.1.0.onnx").unwrap()
    }

    fn starter() -> NativeModel {
        NativeModel::from_bytes(&starter_bytes(), RequestKind::Login, identity()).unwrap()
    }

    fn changed(change: impl FnOnce(&mut Graph)) -> Result<NativeModel, NativeError> {
        let mut model = Model::read(&starter_bytes(), RequestKind::Login, "0.1.0").unwrap();
        change(model.graph.as_mut().unwrap());
        NativeModel::from_bytes(&model.encode_to_vec(), RequestKind::Login, identity())
    }

    #[test]
    fn contributions_and_bias_add_up_to_the_logit() {
        let output = starter().evaluate(&FeatureVector::missing()).unwrap();
        let logit = output.contributions.iter().sum::<f32>() + starter().bias();
        let probability = output.score.probability();
        assert!((logit - (probability / (1.0 - probability)).ln()).abs() < 1e-5);
        assert!(
            (15..30).contains(&output.score.points()),
            "{}",
            output.score.points()
        );
    }

    #[test]
    fn an_absurd_value_saturates_and_an_infinite_one_is_missing() {
        let score = |first: f32| {
            let mut values = [0.0; Feature::COUNT];
            values[0] = first;
            starter()
                .evaluate(&FeatureVector::from_slice(&values).unwrap())
                .unwrap()
                .score
        };
        assert_eq!(score(1e30), score(8.0));
        assert_eq!(score(f32::INFINITY), score(f32::NAN));
        assert_eq!(score(f32::NEG_INFINITY), score(f32::NAN));
        assert_ne!(score(8.0), score(f32::NAN));
    }

    #[test]
    fn only_finite_probabilities_pass() {
        let flat = [0.0; Feature::COUNT];
        for bad in [f32::NAN, f32::INFINITY, -0.1, 1.5] {
            assert_eq!(checked(bad, flat), Err(ModelError::Output));
        }
        let mut holed = flat;
        holed[3] = f32::NAN;
        assert_eq!(checked(0.5, holed), Err(ModelError::Output));
        assert_eq!(checked(0.5, flat).unwrap().score.points(), 50);
    }

    #[test]
    fn another_graph_is_refused() {
        for kind in ["network", "nan", "slow"] {
            let bytes = std::fs::read(format!("tests/data/models/{kind}/model.onnx")).unwrap();
            let refused =
                NativeModel::from_bytes(&bytes, RequestKind::Login, identity()).unwrap_err();
            assert!(
                refused
                    .to_string()
                    .starts_with("is not of the additive form: "),
                "{kind}: {refused}"
            );
        }
    }

    #[test]
    fn a_graph_of_the_same_size_with_another_operator_is_refused() {
        let refused = changed(|graph| graph.node[11].op_type = "Tanh".into()).unwrap_err();
        assert_eq!(refused, form("`probability` is not made by Sigmoid"));
        let refused = changed(|graph| graph.node[4].op_type = "Div".into()).unwrap_err();
        assert_eq!(refused, form("`position` is not made by Mul"));
        let refused = changed(|graph| graph.node[9].input[0] = "relative".into()).unwrap_err();
        assert_eq!(refused, form("`total` is not the sum of `contributions`"));
        let refused = changed(|graph| graph.node[3].input.swap(0, 1)).unwrap_err();
        assert_eq!(refused, form("`knot_lo` is not made by Unsqueeze"));
    }

    #[test]
    fn constants_that_do_not_fit_are_refused() {
        let find = |graph: &mut Graph, name: &str| {
            graph
                .initializer
                .iter()
                .position(|t| t.name == name)
                .unwrap()
        };
        let refused = changed(|graph| {
            let at = find(graph, "offset");
            graph.initializer[at].raw_data.truncate(10);
        });
        assert_eq!(refused.unwrap_err(), form("`offset` ends within a number"));
        let refused = changed(|graph| {
            let at = find(graph, "bias");
            graph.initializer[at].raw_data = f32::NAN.to_le_bytes().to_vec();
        });
        assert_eq!(
            refused.unwrap_err(),
            form("`bias` is not filled with finite numbers")
        );
        let refused = changed(|graph| {
            let at = find(graph, "seg_weight");
            graph.initializer[at].dims = vec![-1, i64::MAX];
        });
        assert_eq!(
            refused.unwrap_err(),
            form("`seg_weight` is not a float tensor of shape [77, 5]")
        );
        let refused = changed(|graph| {
            let at = find(graph, "one");
            graph.initializer[at].raw_data = 2.0_f32.to_le_bytes().to_vec();
        });
        assert_eq!(
            refused.unwrap_err(),
            form("`within_segment` is not clipped to 0..1")
        );
    }

    proptest! {
        #[test]
        fn every_row_in_range_is_answered(values in proptest::collection::vec(prop_oneof![Just(f32::NAN), -10.0_f32..20.0], Feature::COUNT)) {
            let mut row = FeatureVector::missing();
            for (feature, value) in Feature::ALL.into_iter().zip(values) {
                row.set(feature, value);
            }
            let output = starter().evaluate(&row).unwrap();
            prop_assert!(output.contributions.iter().all(|value| value.is_finite()));
        }
    }
}
