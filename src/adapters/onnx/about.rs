//! What a model file says of itself, for people: nothing here is checked or believed.

use crate::adapters::onnx::MODEL_BYTES_MAX;
use crate::adapters::onnx::graph::Model;
use crate::adapters::onnx::manifest;
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;

/// What a model file says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct About {
    /// The length of the file.
    pub bytes: usize,
    /// Nodes of the graph.
    pub nodes: usize,
    /// The version of the standard operators; `None` when it names none.
    pub operator_set: Option<i64>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

impl About {
    pub(super) fn of(model: &Model, bytes: usize) -> Self {
        Self {
            bytes,
            nodes: model.graph.as_ref().map_or(0, |graph| graph.node.len()),
            operator_set: model.operator_set(),
            metadata: model.properties().collect(),
        }
    }
}

/// What the file says of itself; `None` when it cannot be read as a model at all.
pub fn about(file: &Path) -> Option<About> {
    let bytes = manifest::read_bounded(file, MODEL_BYTES_MAX).ok()?;
    let model = Model::decode(bytes.as_slice()).ok()?;
    Some(About::of(&model, bytes.len()))
}
