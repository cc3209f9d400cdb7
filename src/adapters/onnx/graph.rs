//! The few fields of an ONNX file that are looked at before ONNX Runtime sees it, and the rules of what may stand there.
//!
//! Field numbers are those of `onnx.proto` (ONNX IR version 9); fields that are not listed are skipped. Nothing here
//! evaluates anything. The file is hostile until proven otherwise: prost bounds the nesting, the caller the size.

use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::kind::RequestKind;
use prost::Message;

/// `TensorProto.DataType.FLOAT`.
pub(crate) const TYPE_FLOAT: i32 = 1;
/// `TensorProto.DataType.INT64`.
pub(crate) const TYPE_INT64: i32 = 7;
/// `TensorProto.DataLocation.EXTERNAL`.
const LOCATION_EXTERNAL: i32 = 1;

/// The model's one input.
pub(crate) const INPUT: &str = "features";
/// The output with the probability of an attack.
pub(crate) const PROBABILITY: &str = "probability";
/// The output with one contribution per feature.
pub(crate) const CONTRIBUTIONS: &str = "contributions";

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Property>,
    #[prost(message, repeated, tag = "20")]
    training_info: Vec<Opaque>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Opaque>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<SparseTensor>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(crate) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "3")]
    pub(crate) i: i64,
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensor>,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub(crate) float_data: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    pub(crate) int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Property>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// `SparseTensorProto`.
#[derive(Clone, PartialEq, Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

/// `TypeProto`; anything but a tensor is left out.
#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
struct TensorKind {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`; without a value the dimension is free.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
struct Property {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A message whose presence is all that matters.
#[derive(Clone, PartialEq, Message)]
struct Opaque {}

/// Why a file is not a model of the contract.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContractError {
    /// The file is no ONNX model.
    #[error("is not an ONNX model: {0}")]
    Encoding(String),
    /// Weights would be read from another file.
    #[error("keeps the tensor `{0}` outside of the file; expected all data inside")]
    ExternalData(String),
    /// The model brings functions or training graphs of its own.
    #[error("has {0}; expected a plain graph")]
    Extra(&'static str),
    /// An input or output is missing, superfluous or of another type.
    #[error("has {0}")]
    Interface(String),
    /// The metadata do not fit the schema of this build or the manifest.
    #[error("says `{found}` for `{key}` in its metadata; expected `{expected}`")]
    Metadata {
        /// The key in `metadata_props`.
        key: &'static str,
        /// What this build or the manifest says.
        expected: String,
        /// What the model says, shortened.
        found: String,
    },
    /// An operator outside of the standard set.
    #[error(
        "uses the operator `{operator}` of the domain `{domain}`; expected standard operators only"
    )]
    Operator {
        /// The operator, or `*` when only the domain is imported.
        operator: String,
        /// Its domain.
        domain: String,
    },
}

impl Model {
    /// Reads a model and checks it against the contract: standard operators only, all data inside, the one input and
    /// the two outputs, and metadata that fit this build's schema, `kind` and `version`.
    pub(crate) fn read(
        bytes: &[u8],
        kind: RequestKind,
        version: &str,
    ) -> Result<Self, ContractError> {
        let model =
            Self::decode(bytes).map_err(|error| ContractError::Encoding(error.to_string()))?;
        model.check_operators()?;
        model.check_interface()?;
        model.check_metadata(kind, version)?;
        Ok(model)
    }

    /// For which kind of request a model says it is, logins if nothing it can be, and its version; empty when it says none.
    pub(crate) fn says(bytes: &[u8]) -> Result<(RequestKind, String), ContractError> {
        let model =
            Self::decode(bytes).map_err(|error| ContractError::Encoding(error.to_string()))?;
        let kind = RequestKind::from_name(model.metadata("model_kind"));
        Ok((
            kind.unwrap_or(RequestKind::Login),
            model.metadata("model_version").to_owned(),
        ))
    }

    fn check_operators(&self) -> Result<(), ContractError> {
        if !self.functions.is_empty() {
            return Err(ContractError::Extra("functions of its own"));
        }
        if !self.training_info.is_empty() {
            return Err(ContractError::Extra("training graphs"));
        }
        for set in &self.opset_import {
            check_domain("*", &set.domain)?;
        }
        self.graph.as_ref().map_or(Ok(()), Graph::check)
    }

    fn check_interface(&self) -> Result<(), ContractError> {
        let Some(graph) = &self.graph else {
            return Err(ContractError::Interface("no graph".to_owned()));
        };
        expect_values("inputs", &graph.input, &[(INPUT, Feature::COUNT)])?;
        expect_values(
            "outputs",
            &graph.output,
            &[(PROBABILITY, 1), (CONTRIBUTIONS, Feature::COUNT)],
        )
    }

    fn check_metadata(&self, kind: RequestKind, version: &str) -> Result<(), ContractError> {
        let schema = FeatureSchema::current();
        let names: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        let expected = [
            ("schema_version", schema.version.to_string()),
            ("model_kind", kind.as_str().to_owned()),
            ("model_version", version.to_owned()),
            ("feature_schema_sha256", FeatureSchema::digest()),
        ];
        for (key, expected) in expected {
            let found = self.metadata(key);
            if found != expected {
                return Err(ContractError::Metadata {
                    key,
                    expected,
                    found: shorten(found),
                });
            }
        }
        // Compared as a list, so that the spacing of the JSON does not matter.
        let found = self.metadata("feature_names");
        if serde_json::from_str::<Vec<String>>(found)
            .ok()
            .is_none_or(|list| list != names)
        {
            let expected = format!("the {} names of the schema in its order", names.len());
            return Err(ContractError::Metadata {
                key: "feature_names",
                expected,
                found: shorten(found),
            });
        }
        Ok(())
    }

    /// The version of the standard operators that the model is written in.
    pub(crate) fn operator_set(&self) -> Option<i64> {
        let mut sets = self.opset_import.iter();
        sets.find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"))
            .map(|set| set.version)
    }

    /// Every entry of the metadata.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.metadata_props.iter();
        pairs.map(|property| (property.key.clone(), property.value.clone()))
    }

    /// An entry of the metadata; empty when there is none.
    pub(crate) fn metadata(&self, key: &str) -> &str {
        self.metadata_props
            .iter()
            .find(|property| property.key == key)
            .map_or("", |property| &property.value)
    }
}

impl Graph {
    /// Recursion is bounded: prost refuses messages nested deeper than its limit of 100.
    fn check(&self) -> Result<(), ContractError> {
        self.initializer.iter().try_for_each(Tensor::check)?;
        self.sparse_initializer
            .iter()
            .try_for_each(SparseTensor::check)?;
        for node in &self.node {
            check_domain(&node.op_type, &node.domain)?;
            for attribute in &node.attribute {
                attribute
                    .t
                    .iter()
                    .chain(&attribute.tensors)
                    .try_for_each(Tensor::check)?;
                attribute
                    .sparse_tensor
                    .iter()
                    .chain(&attribute.sparse_tensors)
                    .try_for_each(SparseTensor::check)?;
                attribute
                    .g
                    .iter()
                    .chain(&attribute.graphs)
                    .try_for_each(Graph::check)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    fn check(&self) -> Result<(), ContractError> {
        if self.data_location == LOCATION_EXTERNAL || !self.external_data.is_empty() {
            return Err(ContractError::ExternalData(shorten(&self.name)));
        }
        Ok(())
    }
}

impl SparseTensor {
    fn check(&self) -> Result<(), ContractError> {
        self.values
            .iter()
            .chain(&self.indices)
            .try_for_each(Tensor::check)
    }
}

fn check_domain(operator: &str, domain: &str) -> Result<(), ContractError> {
    if matches!(domain, "" | "ai.onnx") {
        return Ok(());
    }
    Err(ContractError::Operator {
        operator: shorten(operator),
        domain: shorten(domain),
    })
}

/// `values` are exactly the float tensors `expected`, each with a free (or single) row dimension and that many columns.
fn expect_values(
    what: &str,
    values: &[ValueInfo],
    expected: &[(&str, usize)],
) -> Result<(), ContractError> {
    let names: Vec<_> = values.iter().map(|value| value.name.as_str()).collect();
    if names.len() != expected.len() {
        let wanted: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        let text = format!(
            "the {what} `{}`; expected `{}`",
            shorten(&names.join(", ")),
            wanted.join(", ")
        );
        return Err(ContractError::Interface(text));
    }
    for (name, columns) in expected {
        let Some(value) = values.iter().find(|value| value.name == *name) else {
            let text = format!(
                "the {what} `{}`; expected `{name}` among them",
                shorten(&names.join(", "))
            );
            return Err(ContractError::Interface(text));
        };
        let tensor = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        if tensor.is_none_or(|tensor| tensor.elem_type != TYPE_FLOAT) {
            return Err(ContractError::Interface(format!(
                "`{name}` of another type; expected a float tensor"
            )));
        }
        let dims: Option<Vec<_>> = tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| shape.dim.iter().map(|dim| dim.value).collect());
        let fits = match dims.as_deref() {
            Some([rows, found]) => {
                rows.is_none_or(|rows| rows == 1) && *found == i64::try_from(*columns).ok()
            }
            Some(_) | None => false,
        };
        if !fits {
            let found: Vec<_> = dims
                .unwrap_or_default()
                .into_iter()
                .map(|dim| dim.map_or("N".to_owned(), |dim| dim.to_string()))
                .collect();
            let text = format!(
                "`{name}` of shape [{}]; expected [N, {columns}]",
                shorten(&found.join(", "))
            );
            return Err(ContractError::Interface(text));
        }
    }
    Ok(())
}

/// Text from the file, fit for a message.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(CHARS_MAX)
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn starter() -> Vec<u8> {
        std::fs::read("tests/data/models/starter/risk-login-0.1.0.onnx").unwrap()
    }

    fn of(kind: &str) -> Vec<u8> {
        std::fs::read(format!("tests/data/models/{kind}/model.onnx")).unwrap()
    }

    #[test]
    fn the_shipped_model_keeps_the_contract() {
        let model = Model::read(&starter(), RequestKind::Login, "0.1.0").unwrap();
        assert_eq!(model.graph.unwrap().node.len(), 12);
    }

    #[test]
    fn each_breach_has_its_own_error() {
        let fault = |kind| Model::read(&of(kind), RequestKind::Login, "0.1.0").unwrap_err();
        assert_eq!(
            fault("external_data"),
            ContractError::ExternalData("seg_weight".into())
        );
        assert!(
            matches!(fault("foreign_operator"), ContractError::Operator { domain, .. } if domain == "com.microsoft")
        );
        assert!(matches!(
            fault("wrong_names"),
            ContractError::Metadata {
                key: "feature_names",
                ..
            }
        ));
        assert!(matches!(
            fault("wrong_schema"),
            ContractError::Metadata {
                key: "feature_schema_sha256",
                ..
            }
        ));
        assert_eq!(
            fault("wrong_shape"),
            ContractError::Interface("`features` of shape [N, 76]; expected [N, 77]".into())
        );
    }

    #[test]
    fn another_version_than_the_manifests_is_refused() {
        let fault = Model::read(&starter(), RequestKind::Login, "0.2.0").unwrap_err();
        assert!(matches!(
            fault,
            ContractError::Metadata {
                key: "model_version",
                ..
            }
        ));
    }

    #[test]
    fn external_data_in_a_nested_graph_is_found() {
        let tensor = Tensor {
            name: "inner".into(),
            data_location: LOCATION_EXTERNAL,
            ..Default::default()
        };
        let inner = Graph {
            initializer: vec![tensor],
            ..Default::default()
        };
        let attribute = Attribute {
            g: Some(inner),
            ..Default::default()
        };
        let node = Node {
            attribute: vec![attribute],
            ..Default::default()
        };
        let outer = Graph {
            node: vec![node],
            ..Default::default()
        };
        assert_eq!(
            outer.check(),
            Err(ContractError::ExternalData("inner".into()))
        );
    }

    #[test]
    fn nothing_at_all_is_not_a_model() {
        assert_eq!(
            Model::read(&[], RequestKind::Login, "0.1.0"),
            Err(ContractError::Interface("no graph".into()))
        );
        assert!(matches!(
            Model::read(b"<html>", RequestKind::Login, "0.1.0"),
            Err(ContractError::Encoding(_))
        ));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            drop(Model::read(&bytes, RequestKind::Login, "0.1.0"));
        }

        #[test]
        fn a_damaged_model_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = starter();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            drop(Model::read(&bytes, RequestKind::Login, "0.1.0"));
        }
    }
}
