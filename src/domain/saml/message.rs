//! From a parameter to XML and back. What is read comes from anybody: sizes are bounded before and after inflation, and
//! the parser knows neither document types nor entities of its own.

use crate::domain::saml::Binding;
use crate::domain::saml::SamlError;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use roxmltree::Document;
use roxmltree::Node;
use roxmltree::ParsingOptions;
use std::io::Read;
use std::io::Write;

pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(super) const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Base64 as the identity server takes it: with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The XML in a parameter.
pub(super) fn decode(value: &str, binding: Binding, bytes_max: usize) -> Result<String, SamlError> {
    let compact: String = value
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    let bytes = LENIENT.decode(compact).map_err(|_| SamlError::Base64)?;
    let message = match binding {
        Binding::Post => bytes,
        Binding::Redirect => inflate(&bytes, bytes_max)?,
    };
    if message.len() > bytes_max {
        return Err(SamlError::Length);
    }
    String::from_utf8(message).map_err(|_| SamlError::Xml)
}

/// At most one byte more than is taken: a bomb is not unpacked to find out how large it is.
fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, SamlError> {
    let limit = u64::try_from(bytes_max).map_or(u64::MAX, |max| max.saturating_add(1));
    let mut message = Vec::new();
    DeflateDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut message)
        .map_err(|_| SamlError::Deflate)?;
    Ok(message)
}

/// A parameter with this XML in it.
pub(super) fn encode(xml: &str, binding: Binding) -> Option<String> {
    Some(match binding {
        Binding::Post => STANDARD.encode(xml),
        Binding::Redirect => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(xml.as_bytes()).ok()?;
            STANDARD.encode(encoder.finish().ok()?)
        }
    })
}

/// The document. One with a document type is refused, also an empty one.
pub(super) fn parse(xml: &str, nodes_max: u32) -> Result<Document<'_>, SamlError> {
    if xml.contains("<!DOCTYPE") {
        return Err(SamlError::Xml);
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: nodes_max,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(xml, options).map_err(|_| SamlError::Xml)
}

/// Whether a node is the element of that name.
pub(super) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(namespace)
        && node.tag_name().name() == name
}

/// Whether an attribute says yes (`xs:boolean`).
pub(super) fn is_set(node: Node<'_, '_>, name: &str) -> bool {
    node.attribute(name)
        .is_some_and(|value| matches!(value.trim(), "true" | "1"))
}

/// The text of an element, without the space around it. One with a comment or anything else in it is refused: readers
/// differ in what is left of it.
pub(super) fn whole_text(node: Node<'_, '_>) -> Result<String, SamlError> {
    let mut children = node.children();
    match (children.next(), children.next()) {
        (None, _) => Ok(String::new()),
        (Some(text), None) if text.is_text() => {
            Ok(text.text().unwrap_or_default().trim().to_owned())
        }
        _ => Err(SamlError::Ambiguous),
    }
}

/// Text as the content of an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
