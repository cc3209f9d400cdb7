//! Bytes in lower-case hexadecimal (RFC 4648, section 8): one spelling for each value, so that equal texts are equal bytes.

use data_encoding::HEXLOWER;

/// `bytes` in hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Writes `bytes` in hexadecimal behind `line`.
pub fn push(line: &mut Vec<u8>, bytes: &[u8]) {
    let before = line.len();
    line.resize(before + HEXLOWER.encode_len(bytes.len()), b'0');
    if let Some(room) = line.get_mut(before..) {
        HEXLOWER.encode_mut(bytes, room);
    }
}

/// The `N` bytes that `digits` are; `None` for another number of them, and for capital letters.
pub fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The library panics where the length is another one.
    if digits.len() != 2 * N {
        return None;
    }
    let length = HEXLOWER.decode_mut(digits, &mut bytes).ok()?;
    (length == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = encode(&all);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"));
        assert_eq!(decode::<256>(text.as_bytes()).unwrap().to_vec(), all);
        let mut line = b"mac:".to_vec();
        push(&mut line, &[0xab, 0x0c]);
        push(&mut line, &[]);
        assert_eq!(line, b"mac:ab0c");
    }

    #[test]
    fn another_spelling_is_none() {
        for digits in [
            "", "ab", "abcd12", "AB0c", "ab0g", " b0c", "+b0c", "ab\u{e9}",
        ] {
            assert_eq!(decode::<2>(digits.as_bytes()), None, "{digits}");
        }
        assert_eq!(decode::<2>(b"ab0c"), Some([0xab, 0x0c]));
        assert_eq!(decode::<0>(b""), Some([]));
    }
}
