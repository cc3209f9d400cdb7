//! The feature schema. The list lives in `conf/model/features.toml`, which the trainer reads too; this module checks at
//! first use that the compiled list and the file agree, and a test makes a difference fail the build.

use crate::domain::hex;
use crate::domain::kind::RequestKind;
use crate::domain::policy::reason::Reason;
use serde::Deserialize;
use sha2::Digest;
use sha2::Sha256;
use std::sync::LazyLock;

const SOURCE: &str = include_str!("../../../conf/model/features.toml");

/// What the schema file says of one feature.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureEntry {
    /// The name, as in the model's metadata.
    pub name: String,
    /// The kinds of request for which it is computed.
    #[serde(default = "login_only")]
    pub kinds: Vec<RequestKind>,
    /// Lowest and highest value.
    pub clip: (f32, f32),
    /// What the model takes in place of a missing value.
    pub cold_start: f32,
    /// +1 when the risk may only grow with the value, -1 when it may only shrink, 0 when it is free.
    pub monotone: i8,
    /// The reason that a positive contribution gives.
    pub reason: Reason,
    /// The definition in words.
    pub meaning: String,
}

/// The whole schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSchema {
    /// Grows with every change of the list.
    pub version: u32,
    #[serde(rename = "feature")]
    entries: Vec<FeatureEntry>,
}

macro_rules! features {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// A feature, in the order of the model's input. Definitions are in `conf/model/features.toml`.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[expect(missing_docs, reason = "the schema file defines each feature in words")]
        pub enum Feature { $($variant),+ }

        impl Feature {
            /// All features in order.
            pub const ALL: [Feature; Feature::COUNT] = [$(Feature::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($name),+].len();

            /// The name in the schema and in the model.
            pub fn name(self) -> &'static str {
                match self { $(Feature::$variant => $name),+ }
            }
        }
    };
}

features! {
    LlrAddress => "llr_address",
    LlrAsn => "llr_asn",
    LlrCountry => "llr_country",
    LlrAgent => "llr_agent",
    LlrPlatform => "llr_platform",
    LlrLanguage => "llr_language",
    SurpriseCookie => "surprise_cookie",
    SurpriseAddress => "surprise_address",
    SurpriseAgent => "surprise_agent",
    SurpriseAsn => "surprise_asn",
    DeviceCookie => "device_cookie",
    NoveltyCombined => "novelty_combined",
    CountryConcurrent => "country_concurrent",
    GeoKm => "geo_km",
    GeoSpeed => "geo_speed",
    NetworkKind => "network_kind",
    HourSurprise => "hour_surprise",
    AsnRarity => "asn_rarity",
    CountryRarity => "country_rarity",
    AgentRarity => "agent_rarity",
    TlsMismatch => "tls_mismatch",
    ScriptedAgent => "scripted_agent",
    AddressFailures10m => "address_failures_10m",
    AddressFailures24h => "address_failures_24h",
    PrefixFailures1h => "prefix_failures_1h",
    AddressUsers1h => "address_users_1h",
    AddressFailureRatio => "address_failure_ratio",
    AsnFailureRatio => "asn_failure_ratio",
    AgentFailureRatio => "agent_failure_ratio",
    TenantFailureRatio => "tenant_failure_ratio",
    AddressTrust => "address_trust",
    UserFailures10m => "user_failures_10m",
    UserFailures24h => "user_failures_24h",
    UserAddresses24h => "user_addresses_24h",
    UserHistory => "user_history",
    UserGapHours => "user_gap_hours",
    ParametersHidden => "parameters_hidden",
    LlrTls => "llr_tls",
    SurpriseTls => "surprise_tls",
    LanguageRarity => "language_rarity",
    TlsRarity => "tls_rarity",
    AsnFailureRatio24h => "asn_failure_ratio_24h",
    AgentFailureRatio24h => "agent_failure_ratio_24h",
    NewcomerAsn => "newcomer_asn",
    NewcomerCountry => "newcomer_country",
    NewcomerLanguage => "newcomer_language",
    NewcomerTls => "newcomer_tls",
    NewcomerAgentFailures => "newcomer_agent_failures",
    TokenAddressNew => "token_address_new",
    TokenAsnNew => "token_asn_new",
    TokenCountryNew => "token_country_new",
    TokenAsnChange => "token_asn_change",
    TokenAgentChange => "token_agent_change",
    TokenTlsChange => "token_tls_change",
    TokenIssueKm => "token_issue_km",
    TokenGapRatio => "token_gap_ratio",
    TokenRate10m => "token_rate_10m",
    TokenAsns24h => "token_asns_24h",
    TokenReuse => "token_reuse",
    TokenLoginRisk => "token_login_risk",
    TokenScopeWidening => "token_scope_widening",
    TokenPublicClient => "token_public_client",
    TokenKeyBinding => "token_key_binding",
    M2mAddressNew => "m2m_address_new",
    M2mPrefixNew => "m2m_prefix_new",
    M2mAsnNew => "m2m_asn_new",
    M2mCountryNew => "m2m_country_new",
    M2mAgentNew => "m2m_agent_new",
    M2mTlsNew => "m2m_tls_new",
    M2mNetworkKindNew => "m2m_network_kind_new",
    M2mScopesNew => "m2m_scopes_new",
    M2mScopeSurprise => "m2m_scope_surprise",
    M2mRateZ => "m2m_rate_z",
    M2mRateRatio => "m2m_rate_ratio",
    M2mGapShort => "m2m_gap_short",
    M2mHourSurprise => "m2m_hour_surprise",
    M2mVolumeRatio => "m2m_volume_ratio",
}

impl Feature {
    /// The position in the model's input.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The feature of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl FeatureSchema {
    /// The schema that this build was made with.
    pub fn current() -> &'static FeatureSchema {
        static CURRENT: LazyLock<FeatureSchema> = LazyLock::new(|| {
            // INVARIANT: the file is compiled in and `the_file_and_the_code_agree` parses it in every test run, so
            // that the empty schema below is never served.
            toml::from_str(SOURCE).unwrap_or(FeatureSchema {
                version: 0,
                entries: Vec::new(),
            })
        });
        &CURRENT
    }

    /// The SHA-256 of the schema file in hexadecimal; a model names the one that it was made for.
    pub fn digest() -> String {
        hex::encode(&Sha256::digest(SOURCE))
    }

    /// What the file says of `feature`.
    pub fn entry(&self, feature: Feature) -> &FeatureEntry {
        static NONE: LazyLock<FeatureEntry> = LazyLock::new(|| FeatureEntry {
            name: String::new(),
            kinds: Vec::new(),
            clip: (f32::MIN, f32::MAX),
            cold_start: 0.0,
            monotone: 0,
            reason: Reason::ScoreUnavailable,
            meaning: String::new(),
        });
        self.entries.get(feature.index()).unwrap_or(&NONE)
    }

    /// The features of requests of `kind`, in order.
    pub fn features_of(&self, kind: RequestKind) -> impl Iterator<Item = Feature> {
        Feature::ALL
            .into_iter()
            .filter(move |feature| self.entry(*feature).kinds.contains(&kind))
    }

    /// All entries in order.
    pub fn entries(&self) -> &[FeatureEntry] {
        &self.entries
    }
}

fn login_only() -> Vec<RequestKind> {
    vec![RequestKind::Login]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_code_agree() {
        let schema: FeatureSchema = toml::from_str(SOURCE).unwrap();
        let names: Vec<_> = schema
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        let compiled: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        assert_eq!(names, compiled);
        assert_eq!(schema.version, 3);
    }

    #[test]
    fn entries_make_sense() {
        for entry in FeatureSchema::current().entries() {
            let (low, high) = entry.clip;
            assert!(
                low < high && (low..=high).contains(&entry.cold_start),
                "{}",
                entry.name
            );
            assert!((-1..=1).contains(&entry.monotone), "{}", entry.name);
            assert!(!entry.meaning.is_empty(), "{}", entry.name);
            assert!(!entry.kinds.is_empty(), "{}", entry.name);
        }
    }
}
