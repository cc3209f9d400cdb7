//! The kind of a network from the name of the organization that runs it.
//!
//! A guess, made only where no range list names the address: hosting companies, commercial VPNs and the operators of
//! Tor exits often say what they are in their name, and the large ones that do not are listed. It errs towards
//! residential: a name that says nothing makes nobody suspicious.

use crate::domain::signals::network::NetworkKind;

/// Associations that run mostly Tor exits. Words of the name, in order.
const TOR_OPERATORS: &[&str] = &[
    "emerald onion",
    "f3 netze",
    "foundation for applied privacy",
    "nos oignons",
    "quintex alliance",
    "stiftung erneuerbare freiheit",
    "zwiebelfreunde",
];

/// Commercial VPNs, and companies whose networks are mostly their exits.
const VPN_OPERATORS: &[&str] = &[
    "31173 services",
    "cyberghost",
    "expressvpn",
    "ipvanish",
    "m247",
    "mullvad",
    "nordvpn",
    "packethub",
    "performive",
    "private internet access",
    "proton ag",
    "protonvpn",
    "surfshark",
    "tefincom",
    "windscribe",
];

/// Hosting companies and content networks whose name does not say so.
const HOSTING_OPERATORS: &[&str] = &[
    "akamai",
    "alibaba",
    "amazon com",
    "amazon data services",
    "aruba s p a",
    "bunnycdn",
    "bunnyway",
    "buyvm",
    "cdn77",
    "choopa",
    "colocrossing",
    "contabo",
    "datacamp",
    "digitalocean",
    "equinix",
    "fastly",
    "frantech",
    "g core labs",
    "gcore",
    "glesys",
    "google llc",
    "gthost",
    "hetzner",
    "interserver",
    "ionos",
    "leaseweb",
    "limestone networks",
    "linode",
    "melbikomas",
    "microsoft corporation",
    "multacom",
    "oracle corporation",
    "ovh",
    "psychz networks",
    "quadranet",
    "rackspace",
    "scalaxy",
    "scaleway",
    "sharktech",
    "softlayer",
    "tencent",
    "the constant company",
    "upcloud",
    "vultr",
    "zenlayer",
];

/// Words that name the trade.
const HOSTING_WORDS: &[&str] = &[
    "cdn",
    "cloud",
    "clouds",
    "colo",
    "colocation",
    "datacenter",
    "datacenters",
    "datacentre",
    "datacentres",
    "datacentrum",
    "dedicated",
    "host",
    "hosted",
    "hoster",
    "hosts",
    "rechenzentrum",
    "server",
    "servers",
    "vds",
    "vps",
];

/// Beginnings and ends of words that name the trade: `Hostinger`, `EGIHosting`, `BlueVPS`, `Belcloud`.
const HOSTING_PREFIXES: &[&str] = &[
    "cloud",
    "hosting",
    "hostpapa",
    "hostroyale",
    "server4",
    "vps",
];
const HOSTING_SUFFIXES: &[&str] = &[
    "cloud",
    "datacenter",
    "datacenters",
    "hosting",
    "servers",
    "vps",
];

/// Pairs of words that name the trade.
const HOSTING_PHRASES: &[&str] = &["data center", "data centers", "data centre", "data centres"];

/// The kind that a name suggests.
pub(super) fn classify(organization: &str) -> NetworkKind {
    let name = Name::of(organization);
    if name.has_phrase(TOR_OPERATORS) {
        return NetworkKind::Tor;
    }
    if name.has_phrase(VPN_OPERATORS) || name.words().any(|word| word.ends_with("vpn")) {
        return NetworkKind::Vpn;
    }
    if name.has_phrase(HOSTING_OPERATORS)
        || name.has_phrase(HOSTING_PHRASES)
        || name.words().any(names_hosting)
    {
        return NetworkKind::Hosting;
    }
    NetworkKind::Residential
}

fn names_hosting(word: &str) -> bool {
    HOSTING_WORDS.binary_search(&word).is_ok()
        || HOSTING_PREFIXES
            .iter()
            .any(|prefix| word.starts_with(prefix))
        || HOSTING_SUFFIXES.iter().any(|suffix| word.ends_with(suffix))
}

/// A name in lower case, its words separated and surrounded by single spaces, all else gone.
struct Name(String);

impl Name {
    fn of(text: &str) -> Self {
        let mut name = String::with_capacity(text.len() + 2);
        name.push(' ');
        for character in text.chars() {
            if character.is_alphanumeric() {
                name.extend(character.to_lowercase());
            } else if !name.ends_with(' ') {
                name.push(' ');
            }
        }
        if !name.ends_with(' ') {
            name.push(' ');
        }
        Self(name)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    /// Whether one of the phrases is there as whole words.
    fn has_phrase(&self, phrases: &[&str]) -> bool {
        self.0.match_indices(' ').any(|(space, _)| {
            let rest = self.0.get(space + 1..).unwrap_or_default();
            phrases.iter().any(|phrase| {
                rest.strip_prefix(phrase)
                    .is_some_and(|after| after.starts_with(' '))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_list_is_sorted_for_its_search() {
        assert!(HOSTING_WORDS.is_sorted());
    }

    #[test]
    fn names_that_say_what_they_are() {
        for name in [
            "Amazon.com, Inc.",
            "OVH SAS",
            "Hetzner Online GmbH",
            "Belcloud LTD",
            "EGIHosting",
            "Hostinger International Limited",
            "UAB Cherry Servers",
            "BlueVPS OU",
            "H5 Data Centers",
            "LeaseWeb Netherlands B.V.",
            "Cloudflare, Inc.",
            "FranTech Solutions",
        ] {
            assert_eq!(classify(name), NetworkKind::Hosting, "{name}");
        }
        for name in [
            "M247 Europe SRL",
            "Proton AG",
            "PacketHub S.A.",
            "Windscribe",
            "Example VPN B.V.",
            "FastVPN Ltd",
        ] {
            assert_eq!(classify(name), NetworkKind::Vpn, "{name}");
        }
        for name in [
            "Emerald Onion",
            "F3 Netze e.V.",
            "Foundation for Applied Privacy",
        ] {
            assert_eq!(classify(name), NetworkKind::Tor, "{name}");
        }
    }

    #[test]
    fn names_that_only_look_alike() {
        for name in [
            "Deutsche Telekom AG",
            "Comcast Cable Communications, LLC",
            "Google Fiber Inc.",
            "Colombia Telecomunicaciones S.A. ESP",
            "Observer Media Group",
            "Youth Hostel Association",
            "Norwegian Telecom",
            "Toronto Hydro",
            "",
            "...",
        ] {
            assert_eq!(classify(name), NetworkKind::Residential, "{name}");
        }
    }
}
