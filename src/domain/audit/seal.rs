//! The keys of an audit log as they are kept: the seal, which goes forward with each boot, and the two keys with which the
//! log is checked. Where they are kept is not known here.

use crate::domain::audit::chain::BootKey;
use crate::domain::audit::chain::HASH_BYTES;
use crate::domain::audit::chain::node_name;
use crate::domain::audit::mark::PublicKey;
use crate::domain::audit::mark::Signer;
use crate::domain::hex;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// The version of the forms below.
const FORM: u32 = 1;

/// What a boot begins with.
#[derive(Clone, Eq, PartialEq)]
pub struct Seal {
    /// The node.
    pub node: String,
    /// The boot, counted from 0.
    pub boot: u64,
    /// From which its MAC keys follow.
    pub key: BootKey,
    /// The private key of its first signature.
    pub seed: [u8; HASH_BYTES],
}

/// With what an auditor checks every line of a node: from it all keys follow. It must not stay on the machine.
#[derive(Clone, Eq, PartialEq)]
pub struct AuditorKey {
    /// The node.
    pub node: String,
    /// The key of boot 0.
    pub key: BootKey,
    /// The public key of its first signature.
    pub public: PublicKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealForm {
    riskgate_audit_seal: u32,
    node: String,
    boot: u64,
    key: String,
    seed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditorForm {
    riskgate_auditor_key: u32,
    node: String,
    key: String,
    public_key: String,
}

impl Seal {
    /// The seal of a node that has never run.
    pub fn first(node: &str, key: [u8; HASH_BYTES], seed: [u8; HASH_BYTES]) -> Self {
        Self {
            node: node.to_owned(),
            boot: 0,
            key: BootKey::new(key),
            seed,
        }
    }

    /// The seal of the next boot, which signs with another key. Nothing of this one follows from it.
    pub fn next(&self, seed: [u8; HASH_BYTES]) -> Self {
        Self {
            node: self.node.clone(),
            boot: self.boot + 1,
            key: self.key.next(),
            seed,
        }
    }

    /// What the auditor gets; `None` when this is not the first boot, or the library does not take the seed.
    pub fn auditor(&self) -> Option<AuditorKey> {
        (self.boot == 0).then_some(())?;
        Some(AuditorKey {
            node: self.node.clone(),
            key: self.key.clone(),
            public: Signer::of_seed(&self.seed)?.public(),
        })
    }

    /// As it is kept.
    pub fn to_text(&self) -> String {
        text(&SealForm {
            riskgate_audit_seal: FORM,
            node: self.node.clone(),
            boot: self.boot,
            key: hex::encode(self.key.expose()),
            seed: hex::encode(&self.seed),
        })
    }

    /// From what is kept; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let form: SealForm = serde_json::from_str(text).ok()?;
        (form.riskgate_audit_seal == FORM && node_name(&form.node)).then_some(())?;
        Some(Self {
            node: form.node,
            boot: form.boot,
            key: BootKey::new(hex::decode(form.key.as_bytes())?),
            seed: hex::decode(form.seed.as_bytes())?,
        })
    }
}

impl AuditorKey {
    /// As it is kept.
    pub fn to_text(&self) -> String {
        text(&AuditorForm {
            riskgate_auditor_key: FORM,
            node: self.node.clone(),
            key: hex::encode(self.key.expose()),
            public_key: self.public.to_string(),
        })
    }

    /// From what is kept; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let form: AuditorForm = serde_json::from_str(text).ok()?;
        (form.riskgate_auditor_key == FORM && node_name(&form.node)).then_some(())?;
        Some(Self {
            node: form.node,
            key: BootKey::new(hex::decode(form.key.as_bytes())?),
            public: PublicKey::parse(&form.public_key)?,
        })
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({}, boot {})", self.node, self.boot)
    }
}

impl fmt::Debug for AuditorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditorKey({}, {})", self.node, self.public)
    }
}

fn text(form: &impl Serialize) -> String {
    // Plain data: it always has a JSON form.
    serde_json::to_string(form).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_and_keys_keep_their_form() {
        let first = Seal::first("edge-1", [1; 32], [2; 32]);
        assert_eq!(Seal::parse(&first.to_text()), Some(first.clone()));
        let auditor = first.auditor().unwrap();
        assert_eq!(AuditorKey::parse(&auditor.to_text()), Some(auditor.clone()));
        let second = first.next([3; 32]);
        assert_eq!((second.boot, second.key.clone()), (1, auditor.key.after(1)));
        assert_eq!(second.auditor(), None);
        for other in [
            "",
            "{}",
            &first.to_text().replace("edge-1", "edge 1"),
            &first.to_text().replace("0202", "02"),
            &first.to_text().replace(":1,", ":2,"),
        ] {
            assert_eq!(Seal::parse(other), None, "{other}");
        }
        let printed = format!("{first:?} {auditor:?}");
        assert!(!printed.contains("0101"), "{printed}");
    }
}
