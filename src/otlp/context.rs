//! Reads where a client's own trace is: the headers `traceparent` and `tracestate`, as W3C's Trace
//! Context (level 2) has them.
//!
//! **Invariant:** what is not exactly of the form is as if it were not there.

use reqwest::header::HeaderMap;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// How many vendors may say something in a `tracestate`.
const MEMBERS: usize = 32;

/// The span of a client's that a conversation belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    /// Whether the client keeps its trace.
    pub(crate) sampled: bool,
    /// What its vendors have said, handed on unread.
    pub(crate) state: String,
}

impl Parent {
    /// Finds it among the headers of a request.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).into_iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let state = headers
            .get_all(TRACESTATE)
            .into_iter()
            .map(|value| value.to_str().ok())
            .collect::<Option<Vec<_>>>();
        let state = state.map(|values| values.join(","));

        Some(Self {
            state: state.filter(|state| is_state(state)).unwrap_or_default(),
            ..Self::parse(value)?
        })
    }

    /// Reads `version-trace-span-flags`, and of versions to come what they have in common with it.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let [version] = hex(fields.next()?)?;
        let trace = hex(fields.next()?)?;
        let span = hex(fields.next()?)?;
        let [flags] = hex(fields.next()?)?;
        let is_known = match version {
            0 => fields.next().is_none(),
            u8::MAX => false,
            _ => true,
        };
        let is_valid = is_known && trace != [0; 16] && span != [0; 8];

        is_valid.then(|| Self {
            trace,
            span,
            sampled: flags & 1 == 1,
            state: String::new(),
        })
    }
}

/// Reads bytes in lower-case hexadecimal digits.
fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * BYTES || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }

    Some(bytes)
}

/// Tells whether every member is `key=value`, and none of them says something twice.
fn is_state(text: &str) -> bool {
    let members = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']));
    let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    let mut keys = vec![];
    for member in &members {
        let Some((key, value)) = member.split_once('=') else {
            return false;
        };
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }

    members.len() <= MEMBERS
}

fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    let first = bytes.next();
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_more = |byte: u8| is_first(byte) || b"_-*/@".contains(&byte);

    key.len() <= 256 && first.is_some_and(is_first) && bytes.all(is_more)
}

fn is_value(value: &str) -> bool {
    let is_fine = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=';

    (1..=256).contains(&value.len()) && value.bytes().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[(&'static str, &str)]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_parent_is_read() {
        let parent = of(&[(TRACEPARENT, GOOD)]).unwrap();
        assert_eq!(parent.trace[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!(
            parent.span,
            [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
        );
        assert!(parent.sampled);
        assert_eq!(parent.state, "");
    }

    #[test]
    fn only_the_last_bit_of_the_flags_says_that_it_is_sampled() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = format!("{}{flags}", &GOOD[..53]);
            assert_eq!(
                of(&[(TRACEPARENT, &text)]).unwrap().sampled,
                sampled,
                "{flags}"
            );
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        for more in ["", "-", "-what-the-future-will-be-like"] {
            let text = format!("cc{}{more}", &GOOD[2..]);
            assert!(of(&[(TRACEPARENT, &text)]).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for text in [
            "",
            "00",
            &GOOD[..54],
            &GOOD.to_uppercase(),
            &format!("{GOOD}-"),
            &format!("{GOOD}-more"),
            &format!(" {GOOD}"),
            &format!("ff{}", &GOOD[2..]),
            &format!("0{}", &GOOD[2..]),
            &format!("cc{}more", &GOOD[2..]),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("4bf9", "+bf9"),
            &GOOD.replace("4bf9", "bf9"),
            &GOOD.replace('-', "_"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(TRACEPARENT, text.parse().unwrap());
            // HTTP itself takes blanks off both ends, before this is read.
            assert_eq!(Parent::of(&headers), None, "{text:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(TRACEPARENT, GOOD), (TRACEPARENT, GOOD)]), None);
    }

    #[test]
    fn vendors_words_are_handed_on_if_all_of_them_are_well_formed() {
        let state = |values: &[&str]| {
            let mut all = vec![(TRACEPARENT, GOOD)];
            all.extend(values.iter().map(|value| (TRACESTATE, *value)));
            of(&all).unwrap().state
        };
        assert_eq!(state(&["congo=t61rcWkgMzE"]), "congo=t61rcWkgMzE");
        assert_eq!(state(&["a=1,b@c=2", "d=3"]), "a=1,b@c=2,d=3");
        assert_eq!(state(&["a=1, ,b=2"]), "a=1, ,b=2");
        let many: Vec<_> = (0..33).map(|vendor| format!("v{vendor}=1")).collect();
        for wrong in ["a", "a=", "A=1", "a=1,a=2", "a=1;b=2=3", &many.join(",")] {
            assert_eq!(state(&[wrong]), "", "{wrong:?}");
        }
    }
}
