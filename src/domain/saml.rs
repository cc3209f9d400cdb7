//! The two messages of SAML 2.0 Web Browser SSO that matter for a step-up: the request, into which the demand is written
//! (`RequestedAuthnContext`, SAML Core section 3.3.2.2.1), and the response, which says what was given
//! (`AuthnStatement`, section 2.7.2).
//!
//! Signatures are not checked here: a signed request is left alone, and a response is believed for the way that it came
//! on, from the identity server itself.

/// From a parameter to XML and back.
mod message;

/// What a response says.
mod response;

use message::ASSERTION;
use message::PROTOCOL;
use message::SIGNATURE;
use message::decode;
use message::encode;
use message::escape;
use message::is;
use message::is_set;
use message::parse;
use message::whole_text;
pub use response::AuthnStatement;
pub use response::Handed;
use roxmltree::Node;
use std::ops::Range;

/// The longest request in bytes, decoded and inflated. With its signature and a certificate it takes some KiB.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Elements, attributes apart, and texts of a request.
const REQUEST_NODES_MAX: u32 = 4_096;
/// The longest name of a service provider (SAML Core section 8.3.6), in bytes.
const ISSUER_BYTES_MAX: usize = 1_024;
/// Contexts of a request that are kept.
const CONTEXTS_MAX: usize = 16;

/// How a message travels (SAML Bindings sections 3.4 and 3.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Binding {
    /// In a query: deflated, then Base64.
    Redirect,
    /// In a form: Base64.
    Post,
}

/// A message that cannot be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SamlError {
    /// Not Base64.
    #[error("the SAML message is not Base64")]
    Base64,
    /// Not deflated data.
    #[error("the SAML message cannot be inflated")]
    Deflate,
    /// More than is taken.
    #[error("the SAML message is too long")]
    Length,
    /// Not the XML that it should be.
    #[error("the SAML message is not well-formed UTF-8 XML without a document type")]
    Xml,
    /// It says something twice, or in pieces that readers put together in different ways.
    #[error("the SAML message can be read in more than one way")]
    Ambiguous,
}

/// An `AuthnRequest`, as far as it matters here.
#[derive(Clone, Eq, PartialEq)]
pub struct AuthnRequest {
    xml: String,
    binding: Binding,
    /// The service provider.
    pub issuer: Option<String>,
    /// Whether the message carries a signature; then nothing can be changed in it.
    pub is_signed: bool,
    /// The authentication contexts that it asks for, at most 16.
    pub contexts: Vec<String>,
    /// Whether the user must be authenticated anew.
    pub forces: bool,
    /// Whether the user must not be asked anything.
    pub is_passive: bool,
}

impl std::fmt::Debug for AuthnRequest {
    /// Without the message, which may name a person.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthnRequest")
            .field("issuer", &self.issuer)
            .field("is_signed", &self.is_signed)
            .finish_non_exhaustive()
    }
}

impl AuthnRequest {
    /// Reads the value of `SAMLRequest`; `None` for another message, such as a `LogoutRequest`.
    ///
    /// # Errors
    /// The value is no message, or one that readers differ about.
    pub fn read(value: &str, binding: Binding) -> Result<Option<Self>, SamlError> {
        let xml = decode(value, binding, REQUEST_BYTES_MAX)?;
        let facts = Self::facts(&xml, binding)?;
        Ok(facts.map(|facts| Self { xml, ..facts }))
    }

    /// All of it but the message.
    fn facts(xml: &str, binding: Binding) -> Result<Option<Self>, SamlError> {
        let document = parse(xml, REQUEST_NODES_MAX)?;
        let root = document.root_element();
        if !is(root, PROTOCOL, "AuthnRequest") {
            return Ok(None);
        }
        let requested = only(root, PROTOCOL, "RequestedAuthnContext")?;
        let mut contexts = Vec::new();
        for class in requested
            .into_iter()
            .flat_map(|requested| requested.children())
            .filter(|child| is(*child, ASSERTION, "AuthnContextClassRef"))
            .take(CONTEXTS_MAX)
        {
            contexts.push(whole_text(class)?);
        }
        let issuer = only(root, ASSERTION, "Issuer")?
            .map(whole_text)
            .transpose()?
            .filter(|issuer| !issuer.is_empty());
        if issuer
            .as_deref()
            .is_some_and(|issuer| issuer.len() > ISSUER_BYTES_MAX)
        {
            return Err(SamlError::Length);
        }
        Ok(Some(Self {
            is_signed: root
                .descendants()
                .any(|node| is(node, SIGNATURE, "Signature")),
            issuer,
            contexts,
            forces: is_set(root, "ForceAuthn"),
            is_passive: is_set(root, "IsPassive"),
            binding,
            xml: String::new(),
        }))
    }

    /// The application that it is for, by the name under which the identity server registers it: a tenant may be
    /// appended to the issuer after the last `@`.
    pub fn application(&self) -> Option<&str> {
        let issuer = self.issuer.as_deref()?;
        Some(issuer.rsplit_once('@').map_or(issuer, |(name, _)| name))
    }

    /// Whether it asks for the context `acr` among others.
    pub fn asks(&self, acr: &str) -> bool {
        self.contexts.iter().any(|context| context == acr)
    }

    /// The value of `SAMLRequest` with the demand in it: the context `acr` before those that it asks for itself, and
    /// `ForceAuthn` where a session must be proved anew. `None` when the message is signed or has no place for it.
    pub fn demanding(&self, acr: &str, anew: bool) -> Option<String> {
        if self.is_signed {
            return None;
        }
        let xml = self.edited(acr, anew)?;
        let value = encode(&xml, self.binding)?;
        // What was written must read as it was meant, whatever was found around it.
        let read = Self::read(&value, self.binding).ok()??;
        let is_meant = read.contexts.first().is_some_and(|first| first == acr)
            && read.forces == (anew || self.forces)
            && (&read.issuer, read.is_passive) == (&self.issuer, self.is_passive);
        is_meant.then_some(value)
    }

    fn edited(&self, acr: &str, anew: bool) -> Option<String> {
        let document = parse(&self.xml, REQUEST_NODES_MAX).ok()?;
        let root = document.root_element();
        let classes: String = std::iter::once(acr)
            .chain(self.contexts.iter().map(String::as_str))
            .map(|class| {
                format!(
                    "<rga:AuthnContextClassRef xmlns:rga=\"{ASSERTION}\">{}</rga:AuthnContextClassRef>",
                    escape(class)
                )
            })
            .collect();
        let wanted = format!(
            "<rg:RequestedAuthnContext xmlns:rg=\"{PROTOCOL}\" Comparison=\"exact\">{classes}</rg:RequestedAuthnContext>"
        );
        let child = |name| root.children().find(|child| is(*child, PROTOCOL, name));
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        match child("RequestedAuthnContext") {
            Some(old) => edits.push((old.range(), wanted)),
            None => {
                // The schema has it before Scoping and after everything else.
                let at = match child("Scoping") {
                    Some(scoping) => scoping.range().start,
                    None => root.last_child()?.range().end,
                };
                edits.push((at..at, wanted));
            }
        }
        if anew && !self.forces {
            match root.attribute_node("ForceAuthn") {
                Some(attribute) => edits.push((attribute.range_value(), "true".to_owned())),
                None => {
                    let at = end_of_name(&self.xml, root.range().start)?;
                    edits.push((at..at, " ForceAuthn=\"true\"".to_owned()));
                }
            }
        }
        // From the back, so that the places of the others stay right.
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut xml = self.xml.clone();
        for (range, text) in edits {
            xml.get(range.clone())?;
            xml.replace_range(range, &text);
        }
        Some(xml)
    }
}

/// The child of that name; an error when there are several.
fn only<'a, 'i>(
    root: Node<'a, 'i>,
    namespace: &str,
    name: &str,
) -> Result<Option<Node<'a, 'i>>, SamlError> {
    let mut found = root.children().filter(|child| is(*child, namespace, name));
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(SamlError::Ambiguous),
    }
}

/// Where the name of the tag that begins at `start` ends.
fn end_of_name(xml: &str, start: usize) -> Option<usize> {
    let tag = xml.get(start..)?;
    let length =
        tag.find(|letter: char| letter.is_whitespace() || letter == '>' || letter == '/')?;
    Some(start + length)
}

#[cfg(test)]
mod tests;
