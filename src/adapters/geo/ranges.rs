//! Tables of address ranges, read from CSV and searched by bisection: operators, and kinds of network.
//!
//! A line is `first,last,VALUE,TEXT`; only the last field may be quoted, with `""` for a quote. Both IP versions may be
//! in one file, in any order. A later range that begins inside an earlier one ends the earlier one.

use crate::adapters::geo::GeoProblem;
use crate::adapters::geo::kind_by_name;
use crate::adapters::geo::records::Operator;
use crate::adapters::geo::records::shared_name;
use crate::domain::signals::network::NetworkKind;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

/// The most ranges that one file may hold.
const MAX_RANGES: usize = 4_000_000;

/// Operators by range. The names are held once each: hundreds of thousands of ranges belong to fewer operators.
#[derive(Debug)]
pub(super) struct OperatorTable {
    ranges: RangeTable<u32>,
    operators: Vec<Operator>,
}

/// Kinds of network by range.
#[derive(Debug)]
pub(super) struct KindTable {
    ranges: RangeTable<NetworkKind>,
}

/// Disjoint ranges in ascending order, each with a value, one list for each IP version.
#[derive(Debug)]
struct RangeTable<T> {
    v4: Vec<Range<u32, T>>,
    v6: Vec<Range<u128, T>>,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug)]
struct Range<A, T> {
    first: A,
    last: A,
    value: T,
}

/// The fields of one line.
struct Line<'a> {
    first: IpAddr,
    last: IpAddr,
    value: &'a str,
    text: Cow<'a, str>,
}

impl OperatorTable {
    /// Reads `first,last,asn,organization`.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, GeoProblem> {
        let mut operators: Vec<Operator> = Vec::new();
        let mut known: HashMap<u32, u32> = HashMap::new();
        let ranges = RangeTable::read(&bytes, |line| {
            let asn = line
                .value
                .parse()
                .map_err(|_| "a number of an autonomous system in the third field")?;
            if let Some(index) = known.get(&asn) {
                return Ok(*index);
            }
            let organization = shared_name(&line.text);
            let kind = kind_by_name(organization.as_deref());
            let index = u32::try_from(operators.len()).map_err(|_| "fewer autonomous systems")?;
            operators.push(Operator {
                asn,
                organization,
                kind,
            });
            known.insert(asn, index);
            Ok(index)
        })?;
        operators.shrink_to_fit();
        Ok(Self { ranges, operators })
    }

    /// Who runs the network of `address`.
    pub(super) fn find(&self, address: IpAddr) -> Option<&Operator> {
        let index = self.ranges.find(address)?;
        self.operators.get(usize::try_from(index).ok()?)
    }
}

impl KindTable {
    /// Reads `first,last,kind,provider`.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, GeoProblem> {
        let ranges = RangeTable::read(&bytes, |line| match line.value {
            "residential" => Ok(NetworkKind::Residential),
            "vpn" => Ok(NetworkKind::Vpn),
            "hosting" => Ok(NetworkKind::Hosting),
            "tor" => Ok(NetworkKind::Tor),
            _ => Err("`hosting`, `vpn`, `tor` or `residential` in the third field"),
        })?;
        Ok(Self { ranges })
    }

    /// The kind of the range that `address` is in.
    pub(super) fn find(&self, address: IpAddr) -> Option<NetworkKind> {
        self.ranges.find(address)
    }
}

impl<T: Copy> RangeTable<T> {
    fn read(
        bytes: &[u8],
        mut value_of: impl FnMut(&Line<'_>) -> Result<T, &'static str>,
    ) -> Result<Self, GeoProblem> {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let fault = |expected| GeoProblem::Line {
                line: index + 1,
                expected,
            };
            let raw = std::str::from_utf8(raw)
                .map_err(|_| fault("UTF-8"))?
                .trim_end_matches('\r');
            if raw.is_empty() {
                continue;
            }
            let line = Line::parse(raw).map_err(fault)?;
            let value = value_of(&line).map_err(fault)?;
            match (line.first, line.last) {
                (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                    v4.push(Range {
                        first: u32::from(first),
                        last: u32::from(last),
                        value,
                    });
                }
                (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                    v6.push(Range {
                        first: u128::from(first),
                        last: u128::from(last),
                        value,
                    });
                }
                _ => return Err(fault("two addresses of one IP version in ascending order")),
            }
            if v4.len() + v6.len() > MAX_RANGES {
                return Err(GeoProblem::TooManyRanges { limit: MAX_RANGES });
            }
        }
        if v4.is_empty() && v6.is_empty() {
            return Err(GeoProblem::Empty);
        }
        Ok(Self {
            v4: disjoint(v4, |first| first.checked_sub(1)),
            v6: disjoint(v6, |first| first.checked_sub(1)),
        })
    }

    fn find(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(v4) => find(&self.v4, u32::from(v4)),
            IpAddr::V6(v6) => find(&self.v6, u128::from(v6)),
        }
    }
}

impl<'a> Line<'a> {
    fn parse(raw: &'a str) -> Result<Self, &'static str> {
        let mut fields = raw.splitn(4, ',');
        let mut field = || fields.next().ok_or("four fields");
        let (first, last, value, text) = (field()?, field()?, field()?, field()?);
        Ok(Self {
            first: first.parse().map_err(|_| "an address in the first field")?,
            last: last.parse().map_err(|_| "an address in the second field")?,
            value,
            text: unquoted(text)?,
        })
    }
}

/// The text of a CSV field that may be quoted.
fn unquoted(field: &str) -> Result<Cow<'_, str>, &'static str> {
    let Some(rest) = field.strip_prefix('"') else {
        return Ok(Cow::Borrowed(field));
    };
    let inner = rest.strip_suffix('"').ok_or("a closing quote at the end")?;
    if inner.contains('"') {
        Ok(Cow::Owned(inner.replace("\"\"", "\"")))
    } else {
        Ok(Cow::Borrowed(inner))
    }
}

/// Sorts ranges and shortens those that a later one cuts into.
fn disjoint<A: Copy + Ord, T: Copy>(
    mut ranges: Vec<Range<A, T>>,
    before: impl Fn(A) -> Option<A>,
) -> Vec<Range<A, T>> {
    // Stable: of two ranges with the same begin, the one that comes later in the file stays.
    ranges.sort_by_key(|range| range.first);
    let mut kept: Vec<Range<A, T>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        while let Some(previous) = kept
            .last_mut()
            .filter(|previous| previous.last >= range.first)
        {
            match before(range.first) {
                Some(end) if end >= previous.first => previous.last = end,
                _ => {
                    kept.pop();
                }
            }
        }
        kept.push(range);
    }
    kept.shrink_to_fit();
    kept
}

fn find<A: Copy + Ord, T: Copy>(ranges: &[Range<A, T>], address: A) -> Option<T> {
    let after = ranges.partition_point(|range| range.first <= address);
    let range = ranges.get(after.checked_sub(1)?)?;
    (address <= range.last).then_some(range.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> KindTable {
        KindTable::read(text.as_bytes().to_vec()).unwrap()
    }

    fn kind(table: &KindTable, address: &str) -> Option<NetworkKind> {
        table.find(address.parse().unwrap())
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let table = kinds("192.0.2.16,192.0.2.31,vpn,A\n2001:db8::,2001:db8::ff,tor,B\n");
        assert_eq!(kind(&table, "192.0.2.15"), None);
        assert_eq!(kind(&table, "192.0.2.16"), Some(NetworkKind::Vpn));
        assert_eq!(kind(&table, "192.0.2.31"), Some(NetworkKind::Vpn));
        assert_eq!(kind(&table, "192.0.2.32"), None);
        assert_eq!(kind(&table, "2001:db8::ff"), Some(NetworkKind::Tor));
        assert_eq!(kind(&table, "2001:db8::100"), None);
    }

    #[test]
    fn the_first_and_the_last_address_there_is_are_found() {
        let table = kinds("0.0.0.0,0.0.0.0,vpn,A\n255.255.255.255,255.255.255.255,tor,B\n");
        assert_eq!(kind(&table, "0.0.0.0"), Some(NetworkKind::Vpn));
        assert_eq!(kind(&table, "255.255.255.255"), Some(NetworkKind::Tor));
        assert_eq!(kind(&table, "127.0.0.1"), None);
    }

    #[test]
    fn a_later_range_ends_the_one_it_begins_in() {
        let table = kinds("192.0.2.0,192.0.2.255,hosting,A\n192.0.2.64,192.0.2.127,vpn,B\n");
        assert_eq!(kind(&table, "192.0.2.63"), Some(NetworkKind::Hosting));
        assert_eq!(kind(&table, "192.0.2.64"), Some(NetworkKind::Vpn));
        assert_eq!(kind(&table, "192.0.2.128"), None);
    }

    #[test]
    fn of_two_ranges_with_the_same_begin_the_later_line_stays() {
        let table = kinds("0.0.0.0,0.0.0.255,hosting,A\n0.0.0.0,0.0.0.15,vpn,B\n");
        assert_eq!(kind(&table, "0.0.0.3"), Some(NetworkKind::Vpn));
    }

    #[test]
    fn a_quoted_organization_may_hold_commas_and_quotes() {
        let text = "192.0.2.0,192.0.2.255,64496,\"Example \"\"Best\"\" Telecom, Inc.\"\r\n";
        let table = OperatorTable::read(text.as_bytes().to_vec()).unwrap();
        let operator = table.find("192.0.2.9".parse().unwrap()).unwrap();
        assert_eq!(
            operator.organization.as_deref(),
            Some("Example \"Best\" Telecom, Inc.")
        );
        assert_eq!(operator.asn, 64496);
    }

    #[test]
    fn a_bad_line_is_named() {
        let cases: [(&[u8], &str); 8] = [
            (
                b"192.0.2.0,192.0.2.1,vpn,A\nx,192.0.2.9,vpn,A",
                "line 2: an address in the first field expected",
            ),
            (
                b"192.0.2.0,y,vpn,A",
                "line 1: an address in the second field expected",
            ),
            (b"192.0.2.0,192.0.2.1,vpn", "line 1: four fields expected"),
            (
                b"192.0.2.0,192.0.2.1,office,A",
                "line 1: `hosting`, `vpn`, `tor` or `residential` in the third field expected",
            ),
            (
                b"192.0.2.9,192.0.2.1,vpn,A",
                "line 1: two addresses of one IP version in ascending order expected",
            ),
            (
                b"192.0.2.9,2001:db8::,vpn,A",
                "line 1: two addresses of one IP version in ascending order expected",
            ),
            (
                b"192.0.2.0,192.0.2.1,vpn,\"A",
                "line 1: a closing quote at the end expected",
            ),
            (b"\xff\xfe", "line 1: UTF-8 expected"),
        ];
        for (text, message) in cases {
            assert_eq!(
                KindTable::read(text.to_vec()).unwrap_err().to_string(),
                message
            );
        }
        assert_eq!(
            KindTable::read(b"\n\n".to_vec()).unwrap_err().to_string(),
            "is empty"
        );
    }
}
