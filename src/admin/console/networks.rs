//! A map of the networks that a user came from, by country: what is usual, what is not, and where decisions were stricter.
//! Drawn here from what records hold; places are not, so it is a map of relations and no geography.

use crate::admin::console::layout;
use crate::domain::trail::Entry;
use crate::domain::trail::user;
use crate::domain::trail::user::Network;
use maud::Markup;
use maud::html;
use std::collections::BTreeMap;

/// Networks that are drawn, the most frequent ones.
const NETWORKS_MAX: usize = 14;
/// The longest name in the drawing, in characters.
const NAME_CHARS_MAX: usize = 34;
const ROW: usize = 26;
const TOP: usize = 12;
const WIDTH: usize = 640;

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The map; nothing where the records name no network.
pub(super) fn map(entries: &[Entry]) -> Markup {
    let (networks, others) = networks(entries);
    if networks.is_empty() {
        return html! {};
    }
    let countries = countries(&networks);
    let height = TOP * 2 + networks.len() * ROW;
    let most = networks.iter().map(|one| one.requests).max().unwrap_or(1);
    let says = format!(
        "{} in {}; the list of this user's decisions has the figures",
        counted(networks.len() + others, "network", "networks"),
        counted(countries.len(), "country", "countries")
    );
    html! {
        h2 { "From where" }
        svg width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(says) {
            @for (country, first, last) in &countries {
                @let middle = (row(*first) + row(*last)) / 2;
                @for (place, network) in networks.iter().enumerate().take(last + 1).skip(*first) {
                    @let thick = 1.5 + 8.0 * network.requests as f64 / most as f64;
                    path class=(if network.challenged > 0 { "way c4" } else { "way c1" }) stroke-width=(format!("{thick:.1}"))
                        d=(format!("M 92 {middle} C 190 {middle}, 190 {y}, 282 {y}", y = row(place))) {}
                }
                circle class="mark" cx="88" cy=(middle) r="4" {}
                text x="76" y=(middle + 4) text-anchor="end" { (short(country)) }
            }
            @for (place, network) in networks.iter().enumerate() {
                circle class=(if network.challenged > 0 { "c4" } else { "c1" }) cx="288" cy=(row(place)) r="5" {}
                text x="302" y=(row(place) + 4) {
                    (short(network.prefix))
                    @if !network.kind.is_empty() { " " (short(&layout::words(network.kind))) }
                    ": " (counted(network.requests, "request", "requests"))
                    @if network.challenged > 0 { ", " (network.challenged) " stricter" }
                }
            }
        }
        p class="soft" {
            "A line is a network; the thicker it is, the more requests came from there."
            " Colours are verdicts: what came of each, and whether the mode acted on it, is in the timeline."
            @if others > 0 { " " (others) " networks with fewer requests are left out." }
        }
        (super::chart::legend(&[
            ("c1", "no verdict but allow"),
            ("c4", "some stricter: step up, review or block"),
        ]))
    }
}

fn row(place: usize) -> usize {
    TOP + place * ROW + ROW / 2
}

/// The networks by country, both the most frequent first, and how many are left out.
fn networks(entries: &[Entry]) -> (Vec<Network<'_>>, usize) {
    let mut networks = user::networks(entries);
    let others = networks.len().saturating_sub(NETWORKS_MAX);
    networks.truncate(NETWORKS_MAX);
    let mut by_country: BTreeMap<&str, usize> = BTreeMap::new();
    for network in &networks {
        *by_country.entry(network.country).or_default() += network.requests;
    }
    networks.sort_by_key(|one| {
        let all = by_country.get(one.country).copied().unwrap_or(0);
        (
            std::cmp::Reverse(all),
            one.country,
            std::cmp::Reverse(one.requests),
        )
    });
    (networks, others)
}

/// Each country with its first and its last row.
fn countries<'e>(networks: &[Network<'e>]) -> Vec<(&'e str, usize, usize)> {
    let mut countries: Vec<(&str, usize, usize)> = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        match countries.last_mut() {
            Some((country, _, last)) if *country == network.country => *last = place,
            _ => countries.push((network.country, place, place)),
        }
    }
    countries
}

fn short(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(country: &str, prefix: &str, verdict: &str) -> Entry {
        Entry {
            country: Some(country.to_owned()),
            prefix: Some(prefix.to_owned()),
            verdict: Some(verdict.to_owned()),
            ..Entry::default()
        }
    }

    #[test]
    fn networks_stand_together_by_country_the_usual_ones_first() {
        let mut entries = vec![entry("CH", "192.0.2.0/24", "allow"); 3];
        entries.push(entry("DE", "198.51.100.0/24", "block"));
        entries.push(entry("CH", "203.0.113.0/24", "allow"));
        entries.push(Entry::default());
        let (found, others) = networks(&entries);
        let places: Vec<_> = found
            .iter()
            .map(|one| (one.country, one.requests, one.challenged))
            .collect();
        assert_eq!(
            (places, others),
            (vec![("CH", 3, 0), ("CH", 1, 0), ("DE", 1, 1)], 0)
        );
        assert_eq!(countries(&found), [("CH", 0, 1), ("DE", 2, 2)]);
        let drawn = map(&entries).into_string();
        assert!(drawn.contains("3 networks in 2 countries"), "{drawn}");
        assert!(drawn.contains("1 stricter"), "{drawn}");
    }

    #[test]
    fn a_map_is_bounded_and_nothing_can_leave_it() {
        assert!(map(&[Entry::default()]).into_string().is_empty());
        let hostile = "</svg><script>alert(1)</script>";
        let entries: Vec<Entry> = (0..100)
            .map(|number| entry(hostile, &format!("{number}{hostile}"), hostile))
            .collect();
        let drawn = map(&entries).into_string();
        assert!(!drawn.contains("<script"), "{drawn}");
        assert_eq!(drawn.matches("<path").count(), NETWORKS_MAX);
        assert!(drawn.contains("86 networks with fewer requests"), "{drawn}");
    }
}
