//! Values that must not show, and the forms in which they could.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use std::fmt::Write as _;

/// Pieces of a value that are shorter say nothing of it.
const PIECE_BYTES_MIN: usize = 12;

/// What a value is, and its forms.
struct Mark {
    what: String,
    forms: Vec<String>,
}

/// All values that were used.
#[derive(Default)]
pub(super) struct Marks(Vec<Mark>);

impl Marks {
    /// `value` must not show anywhere. `what` names it in a failure.
    pub(super) fn add(&mut self, what: &str, value: &str) {
        assert!(
            value.len() >= 8,
            "{what} is too short to be looked for: {value}"
        );
        let mut forms = forms(value);
        // A token shows also by its claims or its signature; its header is that of all of them.
        let parts: Vec<&str> = value.split('.').collect();
        if let [_, claims, signature] = parts.as_slice()
            && claims.len() > 2 * PIECE_BYTES_MIN
        {
            forms.extend([(*claims).to_owned(), (*signature).to_owned()]);
        }
        self.0.push(Mark {
            what: what.to_owned(),
            forms,
        });
    }

    /// What of them is in `bytes`.
    pub(super) fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let found = self.0.iter().filter_map(|mark| {
            let form = mark
                .forms
                .iter()
                .find(|form| text.contains(form.as_str()))?;
            let at = text.find(form.as_str())?;
            let from = text.floor_char_boundary(at.saturating_sub(160));
            let to = text.ceil_char_boundary((at + form.len() + 60).min(text.len()));
            Some(format!("{} as `{form}`: …{}…", mark.what, &text[from..to]))
        });
        found.collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// As it is, escaped for a URL or a form, in Base64 at whatever place of a longer text, in hexadecimal, and its longest
/// piece of letters and digits.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![
        value.to_owned(),
        utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        form_urlencoded::byte_serialize(value.as_bytes()).collect(),
    ];
    let hex = value.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a text takes more text");
        hex
    });
    forms.extend([hex.to_uppercase(), hex]);
    for before in 0..3_usize {
        let longer = [&vec![b'x'; before][..], value.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(&longer);
        // The digits at both ends depend on what stands beside the value.
        let inner = &encoded[(before * 8).div_ceil(6)..longer.len() * 8 / 6];
        forms.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
    }
    let pieces = value.split(|letter: char| !letter.is_ascii_alphanumeric());
    let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
    if longest.len() >= PIECE_BYTES_MIN && !value.contains('.') {
        forms.push(longest.to_owned());
    }
    forms.sort();
    forms.dedup();
    forms
}

#[test]
fn a_value_is_found_in_every_form() {
    let value = "zq7 pass/wört+1?";
    let mut marks = Marks::default();
    marks.add("it", value);
    for text in [
        format!("a={value}&b"),
        format!("a={}", utf8_percent_encode(value, NON_ALPHANUMERIC)),
        "a=zq7+pass%2Fw%C3%B6rt%2B1%3F".to_owned(),
        format!(
            "Basic {}",
            STANDARD_NO_PAD.encode(format!("client:{value}"))
        ),
        format!(
            "Basic {}",
            STANDARD_NO_PAD.encode(format!("clien:{value}."))
        ),
        format!("Basic {}", STANDARD_NO_PAD.encode(format!("{value}::"))),
        "7A71372070617373".to_owned() + "2F77C3B67274" + "2B313F",
    ] {
        assert_eq!(marks.found_in(text.as_bytes()).len(), 1, "{text}");
    }
    assert!(marks.found_in(b"zq7 pass").is_empty());
}
