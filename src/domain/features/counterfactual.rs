//! What if: the row of a request with one reason taken away, so that the model can say what the score would have been.

use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::policy::reason::Reason;

/// What the score would have been without one reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counterfactual {
    /// The reason that is taken away.
    pub without: Reason,
    /// The score without it, 0 to 100.
    pub points: u8,
}

impl Counterfactual {
    /// In words, such as `from a known device the score would have been 12`.
    pub fn sentence(&self) -> String {
        let Self { without, points } = self;
        format!("{} the score would have been {points}", supposed(*without))
    }
}

/// `row` as it would be without `reason`: the features that give it, and those that cannot hold without it, take the
/// values of somebody familiar. What is missing stays missing, and nothing becomes riskier than it was.
pub fn without(row: &FeatureVector, reason: Reason) -> FeatureVector {
    let schema = FeatureSchema::current();
    let mut changed = row.clone();
    for feature in Feature::ALL {
        let entry = schema.entry(feature);
        let value = row.value(feature);
        if value.is_nan() || !(entry.reason == reason || depends(feature, reason)) {
            continue;
        }
        let familiar = familiar(feature, entry.clip.0);
        let is_safer = f32::from(entry.monotone) * (value - familiar) >= 0.0;
        if is_safer {
            changed.set(feature, familiar);
        }
    }
    changed
}

/// Features with a reason of their own that a familiar device, network or country takes away as well.
fn depends(feature: Feature, reason: Reason) -> bool {
    match reason {
        Reason::UnfamiliarDevice => feature == Feature::NoveltyCombined,
        Reason::UnfamiliarAddress | Reason::UnfamiliarNetwork => {
            feature == Feature::NoveltyCombined
        }
        Reason::UnfamiliarDeviceAndNetwork => matches!(
            feature,
            Feature::DeviceCookie
                | Feature::SurpriseCookie
                | Feature::LlrAsn
                | Feature::SurpriseAsn
        ),
        Reason::UnfamiliarCountry => feature == Feature::CountryConcurrent,
        _ => false,
    }
}

/// What the feature is when everything is as ever; `lowest` where that is the end of its range.
fn familiar(feature: Feature, lowest: f32) -> f32 {
    match feature {
        Feature::LlrAddress
        | Feature::LlrAsn
        | Feature::LlrCountry
        | Feature::LlrAgent
        | Feature::LlrPlatform
        | Feature::LlrLanguage
        | Feature::LlrTls => -1.0,
        Feature::HourSurprise => 2.0,
        Feature::M2mHourSurprise => 3.0,
        Feature::AsnRarity | Feature::AgentRarity | Feature::TlsRarity => 3.0,
        Feature::CountryRarity | Feature::LanguageRarity => 1.5,
        Feature::AddressFailureRatio
        | Feature::AsnFailureRatio
        | Feature::AsnFailureRatio24h
        | Feature::AgentFailureRatio
        | Feature::AgentFailureRatio24h
        | Feature::TenantFailureRatio => 0.1,
        Feature::UserAddresses24h | Feature::AddressUsers1h | Feature::TokenAsns24h => {
            std::f32::consts::LN_2
        }
        // A dozen logins, the latest half a day ago.
        Feature::UserHistory | Feature::UserGapHours => 2.5,
        Feature::AddressTrust => 0.7,
        Feature::TokenKeyBinding => 0.5,
        Feature::TokenGapRatio | Feature::M2mRateRatio | Feature::M2mVolumeRatio => 0.0,
        _ => lowest,
    }
}

/// The supposition that takes `reason` away.
pub fn supposed(reason: Reason) -> &'static str {
    match reason {
        Reason::AccountUnderAttack => "without failed attempts on the account",
        Reason::AgentVelocity => "without failures from this browser",
        Reason::AnonymizingNetwork => "from a home network",
        Reason::ClientChanged => "from the program that the token was issued to",
        Reason::ConcurrentCountry => "without a login elsewhere shortly before",
        Reason::CredentialStuffing => "without other usernames from this address",
        Reason::DistantLocation => "from a known place",
        Reason::DistantFromIssue => "from where the token was issued",
        Reason::DormantAccount => "with a login lately",
        Reason::HiddenParameters => "with parameters that can be seen",
        Reason::ImpossibleTravel => "without the journey",
        Reason::IpVelocity => "without failures from this address",
        Reason::KeyChanged => "with the key of the token",
        Reason::ManyAddresses => "without other addresses on the account",
        Reason::ManyNetworks => "from one network",
        Reason::NetworkVelocity => "without failures from this network",
        Reason::NewAccount => "for a known account",
        Reason::PublicClient => "with a client that authenticates itself",
        Reason::RareAgent => "with a common browser",
        Reason::RareLanguage => "with a common language",
        Reason::RareCountry => "from a common country",
        Reason::RareNetwork => "from a common network",
        Reason::RiskyLogin => "after a login without risk",
        Reason::ScopeWidened => "with the scopes of the login",
        Reason::ScriptedAgent => "from a browser",
        Reason::TenantUnderAttack => "in quiet times",
        Reason::TlsMismatch => "with a handshake that fits the browser",
        Reason::TokenReused => "with a token that was not used up",
        Reason::TokenVelocity => "with fewer uses of the token",
        Reason::TrustedAddress => "from another address",
        Reason::UnfamiliarAddress => "from a known address",
        Reason::UnfamiliarAgent => "from a known browser",
        Reason::UnfamiliarCountry => "from a known country",
        Reason::UnfamiliarDevice => "from a known device",
        Reason::UnfamiliarDeviceAndNetwork => "from a known device on a known network",
        Reason::UnfamiliarLanguage => "in a known language",
        Reason::UnfamiliarNetwork => "from a known network",
        Reason::UnusualHour => "at a usual hour",
        Reason::UnusualPace => "at the usual time",
        Reason::UnusualRate => "at the usual rate",
        Reason::UnusualScope => "with the usual scopes",
        _ => "without that",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_a_feature_has_a_supposition() {
        for entry in FeatureSchema::current().entries() {
            assert_ne!(supposed(entry.reason), "without that", "{}", entry.reason);
        }
    }

    #[test]
    fn a_known_device_takes_its_group_away_and_nothing_else() {
        let mut row = FeatureVector::missing();
        row.set(Feature::DeviceCookie, 1.0);
        row.set(Feature::NoveltyCombined, 1.0);
        row.set(Feature::LlrCountry, 2.0);
        let known = without(&row, Reason::UnfamiliarDevice);
        assert_eq!(known.value(Feature::DeviceCookie), 0.0);
        assert_eq!(known.value(Feature::NoveltyCombined), 0.0);
        assert_eq!(known.value(Feature::LlrCountry), 2.0);
        // What was not seen is not supposed either.
        assert!(known.value(Feature::SurpriseCookie).is_nan());
    }

    #[test]
    fn nothing_becomes_riskier() {
        let schema = FeatureSchema::current();
        for share in [0.0, 0.2, 0.5, 1.0] {
            let mut row = FeatureVector::missing();
            for feature in Feature::ALL {
                let (low, high) = schema.entry(feature).clip;
                row.set(feature, low + share * (high - low));
            }
            for reason in Reason::ALL {
                let changed = without(&row, *reason);
                for feature in Feature::ALL {
                    let step = changed.value(feature) - row.value(feature);
                    let direction = f32::from(schema.entry(feature).monotone);
                    assert!(step * direction <= 0.0, "{} {reason}", feature.name());
                }
            }
        }
    }

    #[test]
    fn the_sentence_reads_as_one() {
        let known = Counterfactual {
            without: Reason::UnfamiliarDevice,
            points: 12,
        };
        assert_eq!(
            known.sentence(),
            "from a known device the score would have been 12"
        );
    }
}
