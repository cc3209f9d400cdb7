//! What a message to a service provider hands over, and what it says of the authentication.

use crate::domain::front_channel::posted;
use crate::domain::saml::Binding;
use crate::domain::saml::SamlError;
use crate::domain::saml::message::ASSERTION;
use crate::domain::saml::message::PROTOCOL;
use crate::domain::saml::message::decode;
use crate::domain::saml::message::is;
use crate::domain::saml::message::parse;
use crate::domain::saml::message::whole_text;
use crate::domain::time::Timestamp;
use roxmltree::Node;

/// The longest response in bytes, decoded; it is held as a whole in a page of at most this size anyway.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;
/// Elements and texts of a response: a user may have thousands of roles.
const RESPONSE_NODES_MAX: u32 = 65_536;
/// The parameters that carry a message.
const MESSAGES: [&str; 2] = ["SAMLResponse", "SAMLRequest"];
/// The parameter that carries a reference to one.
const ARTIFACT: &str = "SAMLart";
/// Statements of an assertion that are read.
const STATEMENTS_MAX: usize = 16;

/// What a message hands over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Handed {
    /// No assertion: an error, or a message of a logout.
    Nothing,
    /// An assertion that says this.
    Assertion(AuthnStatement),
    /// An assertion that only the service provider can read.
    Encrypted,
    /// A reference, by which the service provider fetches the assertion itself (SAML Bindings section 3.6).
    Artifact,
}

/// What an assertion says of the authentication.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct AuthnStatement {
    /// The context classes. The identity server writes one statement for each that it passes on.
    pub contexts: Vec<String>,
    /// When the user was authenticated: the earliest of its statements; `None` when one does not say.
    pub at: Option<Timestamp>,
    /// When the assertion was made.
    pub issued: Option<Timestamp>,
    /// The name of the user.
    pub subject: Option<String>,
}

impl std::fmt::Debug for AuthnStatement {
    /// Without the user.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthnStatement")
            .field("contexts", &self.contexts)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl AuthnStatement {
    /// When the user was authenticated, where that is more than the moment at which the assertion was made: some versions
    /// of the identity server write that moment into both, which says nothing of the authentication.
    pub fn authenticated(&self) -> Option<Timestamp> {
        let at = self.at?;
        (at < self.issued?).then_some(at)
    }
}

impl Handed {
    /// What a redirect hands over.
    ///
    /// # Errors
    /// Nobody can say.
    pub fn in_location(location: &str) -> Result<Self, SamlError> {
        let (rest, fragment) = location.split_once('#').unwrap_or((location, ""));
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let pairs = |text: &str| -> Vec<(String, String)> {
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect()
        };
        let fields = [pairs(query), pairs(fragment)].concat();
        // In a query a message is deflated; the identity server does not do so with all of them.
        Self::among(&fields, |value| {
            Self::read(value, Binding::Redirect).or_else(|_| Self::read(value, Binding::Post))
        })
    }

    /// What a page hands over that posts itself.
    ///
    /// # Errors
    /// Nobody can say.
    pub fn in_page(page: &str) -> Result<Self, SamlError> {
        let fields = posted(page).map_or(Vec::new(), |(_, fields)| fields);
        let names = || MESSAGES.into_iter().chain([ARTIFACT]);
        let is_there = names().any(|name| fields.iter().any(|(found, _)| found == name));
        // It speaks of a message and has none that could be found.
        if !is_there && names().any(|name| page.contains(name)) {
            return Err(SamlError::Ambiguous);
        }
        Self::among(&fields, |value| Self::read(value, Binding::Post))
    }

    fn among(
        fields: &[(String, String)],
        read: impl Fn(&str) -> Result<Self, SamlError>,
    ) -> Result<Self, SamlError> {
        if fields.iter().any(|(name, _)| name == ARTIFACT) {
            return Ok(Self::Artifact);
        }
        let mut messages = fields
            .iter()
            .filter(|(name, _)| MESSAGES.contains(&name.as_str()));
        match (messages.next(), messages.next()) {
            (None, _) => Ok(Self::Nothing),
            (Some((_, value)), None) => read(value),
            (Some(_), Some(_)) => Err(SamlError::Ambiguous),
        }
    }

    /// Reads the value of `SAMLResponse`, or of a `SAMLRequest` that the identity server sends.
    ///
    /// # Errors
    /// It is no message, or one of which nobody can say what it hands over.
    pub fn read(value: &str, binding: Binding) -> Result<Self, SamlError> {
        let xml = decode(value, binding, RESPONSE_BYTES_MAX)?;
        let document = parse(&xml, RESPONSE_NODES_MAX)?;
        let root = document.root_element();
        if is(root, PROTOCOL, "LogoutResponse") || is(root, PROTOCOL, "LogoutRequest") {
            return Ok(Self::Nothing);
        }
        if !is(root, PROTOCOL, "Response") {
            return Err(SamlError::Ambiguous);
        }
        let everywhere = |name| {
            root.descendants()
                .filter(move |node| is(*node, ASSERTION, name))
                .count()
        };
        if everywhere("EncryptedAssertion") > 0 {
            return Ok(Self::Encrypted);
        }
        let assertion = root
            .children()
            .find(|child| is(*child, ASSERTION, "Assertion"));
        match (assertion, everywhere("Assertion")) {
            (None, 0) => Ok(Self::Nothing),
            (Some(assertion), 1) => statement(assertion).map(Self::Assertion),
            // One within another, or several: it is not said which one the service provider takes.
            _ => Err(SamlError::Ambiguous),
        }
    }
}

fn statement(assertion: Node<'_, '_>) -> Result<AuthnStatement, SamlError> {
    let mut said = AuthnStatement {
        issued: assertion.attribute("IssueInstant").and_then(instant),
        subject: child(assertion, "Subject")
            .and_then(|subject| child(subject, "NameID"))
            .map(whole_text)
            .transpose()?
            .filter(|name| !name.is_empty()),
        ..AuthnStatement::default()
    };
    let mut instants = Vec::new();
    for statement in assertion
        .children()
        .filter(|child| is(*child, ASSERTION, "AuthnStatement"))
        .take(STATEMENTS_MAX)
    {
        instants.push(statement.attribute("AuthnInstant").and_then(instant));
        let class = child(statement, "AuthnContext")
            .and_then(|context| child(context, "AuthnContextClassRef"));
        if let Some(class) = class {
            said.contexts.push(whole_text(class)?);
        }
    }
    let known: Option<Vec<Timestamp>> = instants.into_iter().collect();
    said.at = known.and_then(|known| known.into_iter().min());
    Ok(said)
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| is(*child, ASSERTION, name))
}

/// An `xs:dateTime` with a time zone, as the specification asks for (SAML Core section 1.3.3).
fn instant(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.trim().parse().ok()?;
    Some(Timestamp(at.as_millisecond()))
}
