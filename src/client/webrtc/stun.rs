//! STUN as ICE uses it: binding requests, and the successes that answer them (RFC 8489; the
//! attributes are those of RFC 8445, section 16.1).
//!
//! **Invariants.** What [`Binding::is_signed_by`] accepts was made by someone who knows the
//! password, up to the last bit that [`Binding`] tells of. What is written here carries
//! MESSAGE-INTEGRITY and FINGERPRINT.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

pub(crate) const HEADER: usize = 20;

const MAGIC_COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

const TAG: usize = 20;
const CHECKSUM: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Pairs a response with its request.
pub(crate) type Transaction = [u8; 12];

/// A binding request, or the success that answers one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Binding<'a> {
    pub(crate) class: Class,
    pub(crate) transaction: Transaction,
    /// The user name fragments of a request: of who is to receive it, of who has sent it.
    pub(crate) names: Option<(&'a str, &'a str)>,
    /// Whether a request chooses the pair of addresses that it travels between.
    pub(crate) nominates: bool,
    /// What the signature covers, and the signature.
    signed: Option<(&'a [u8], &'a [u8])>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    Request,
    Success,
}

impl<'a> Binding<'a> {
    /// Returns `None` for whatever is neither of the two.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, mut attributes) = datagram.split_at_checked(HEADER)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = header else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u32::from_be_bytes([*c0, *c1, *c2, *c3]) != MAGIC_COOKIE || length != attributes.len() {
            return None;
        }
        let mut binding = Self {
            class: match u16::from_be_bytes([*t0, *t1]) {
                REQUEST => Class::Request,
                SUCCESS => Class::Success,
                _ => return None,
            },
            transaction: transaction.try_into().ok()?,
            names: None,
            nominates: false,
            signed: None,
        };
        while let [t0, t1, l0, l1, rest @ ..] = attributes {
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let value = rest.get(..length)?;
            match u16::from_be_bytes([*t0, *t1]) {
                USERNAME => binding.names = Some(std::str::from_utf8(value).ok()?.split_once(':')?),
                USE_CANDIDATE => binding.nominates = true,
                MESSAGE_INTEGRITY => {
                    let covered = datagram.len() - attributes.len();
                    binding.signed = Some((&datagram[..covered], value));
                    // What follows is not covered (RFC 8489, section 14.5).
                    break;
                }
                _ => {}
            }
            attributes = rest.get(length.next_multiple_of(4)..)?;
        }
        Some(binding)
    }

    pub(crate) fn is_signed_by(&self, password: &str) -> bool {
        let Some((covered, tag)) = self.signed else {
            return false;
        };
        let message = with_length_for(covered, ATTRIBUTE_HEADER + TAG);
        hmac::verify(&key(password), &message, tag).is_ok()
    }
}

/// Writes a check of the controlled side, signed for its receiver.
pub(crate) fn check(
    transaction: Transaction,
    receiver: &str,
    sender: &str,
    password: &str,
) -> Vec<u8> {
    finished(request(transaction, receiver, sender), password)
}

/// The same, as the controlling side sends it to choose the pair.
#[cfg(test)]
pub(crate) fn nominating(
    transaction: Transaction,
    receiver: &str,
    sender: &str,
    password: &str,
) -> Vec<u8> {
    let mut message = request(transaction, receiver, sender);
    attribute(&mut message, USE_CANDIDATE, &[]);
    finished(message, password)
}

fn request(transaction: Transaction, receiver: &str, sender: &str) -> Vec<u8> {
    // RFC 8445, section 5.1.2.1: as a peer-reflexive candidate.
    const OWN_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

    let mut message = header(REQUEST, transaction);
    attribute(
        &mut message,
        USERNAME,
        format!("{receiver}:{sender}").as_bytes(),
    );
    attribute(
        &mut message,
        ICE_CONTROLLED,
        &rand::random::<u64>().to_be_bytes(),
    );
    attribute(&mut message, PRIORITY, &OWN_PRIORITY.to_be_bytes());
    message
}

/// Writes the success that answers a check from this address.
pub(crate) fn success(transaction: Transaction, from: SocketAddr, password: &str) -> Vec<u8> {
    let mut message = header(SUCCESS, transaction);
    attribute(&mut message, XOR_MAPPED_ADDRESS, &xored(from, transaction));
    finished(message, password)
}

fn header(kind: u16, transaction: Transaction) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend(kind.to_be_bytes());
    message.extend([0, 0]);
    message.extend(MAGIC_COOKIE.to_be_bytes());
    message.extend(transaction);
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    message.extend(kind.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn finished(message: Vec<u8>, password: &str) -> Vec<u8> {
    let mut message = with_length_for(&message, ATTRIBUTE_HEADER + TAG);
    let tag = hmac::sign(&key(password), &message);
    attribute(&mut message, MESSAGE_INTEGRITY, tag.as_ref());

    let mut message = with_length_for(&message, ATTRIBUTE_HEADER + CHECKSUM);
    let checksum = crc32(&message) ^ 0x5354_554e;
    attribute(&mut message, FINGERPRINT, &checksum.to_be_bytes());
    message
}

/// Sums and signatures are taken over a header that counts them in.
fn with_length_for(message: &[u8], following: usize) -> Vec<u8> {
    let length = message.len() - HEADER + following;
    let mut message = message.to_vec();
    message[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    message
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// RFC 8489, section 14.2.
fn xored(address: SocketAddr, transaction: Transaction) -> Vec<u8> {
    let mask = [&MAGIC_COOKIE.to_be_bytes()[..], &transaction].concat();
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let plain = address.port().to_be_bytes().into_iter().zip(&mask);
    let port = plain.map(|(byte, mask)| byte ^ mask);
    let ip = ip.into_iter().zip(&mask).map(|(byte, mask)| byte ^ mask);
    [0, family].into_iter().chain(port).chain(ip).collect()
}

/// The sum of ITU V.42, as FINGERPRINT uses it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    /// RFC 5769, section 2.1: a request by someone else's code.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\
        \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    #[test]
    fn a_request_by_others_is_understood_and_its_signature_checked() {
        let request = Binding::parse(SAMPLE_REQUEST).unwrap();
        assert_eq!(request.class, Class::Request);
        assert_eq!(request.names, Some(("evtj", "h6vY")));
        assert!(!request.nominates);
        assert!(request.is_signed_by(PASSWORD));
        assert!(!request.is_signed_by("another"));
    }

    #[test]
    fn the_checksum_is_the_one_of_others() {
        let (covered, sum) = SAMPLE_REQUEST.split_at(SAMPLE_REQUEST.len() - 8);
        assert_eq!((crc32(covered) ^ 0x5354_554e).to_be_bytes(), sum[4..]);
    }

    #[test]
    fn one_flipped_bit_breaks_the_signature() {
        let check = check([7; 12], "evtj", "h6vY", PASSWORD);
        assert!(Binding::parse(&check).unwrap().is_signed_by(PASSWORD));
        let integrity = check.len() - (ATTRIBUTE_HEADER + CHECKSUM);
        for bit in 0..integrity * 8 {
            let mut bad = check.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let accepted = Binding::parse(&bad).is_some_and(|it| it.is_signed_by(PASSWORD));
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn a_success_tells_the_address_that_it_answers() {
        let from: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let success = success(transaction, from, PASSWORD);
        let parsed = Binding::parse(&success).unwrap();
        assert_eq!(
            (parsed.class, parsed.transaction),
            (Class::Success, transaction)
        );
        assert!(parsed.is_signed_by(PASSWORD));
        // RFC 5769, section 2.2: the same address.
        let mapped = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        assert_eq!(&success[HEADER..HEADER + 12], mapped);
    }

    #[test]
    fn the_library_reads_what_is_written_here() {
        use rtc::stun::fingerprint::FINGERPRINT;
        use rtc::stun::message::{Getter, Message};
        use rtc::stun::xoraddr::XorMappedAddress;

        let from: SocketAddr = "[2001:db8::7]:32853".parse().unwrap();
        for raw in [
            success([7; 12], from, PASSWORD),
            check([7; 12], "evtj", "h6vY", PASSWORD),
        ] {
            let mut message = Message {
                raw,
                ..Default::default()
            };
            message.decode().unwrap();
            FINGERPRINT.check(&message).unwrap();
            let mut mapped = XorMappedAddress::default();
            if mapped.get_from(&message).is_ok() {
                assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_is_too_strange(datagram: Vec<u8>, cut in 0..200_usize, at in 0..108_usize) {
            let read = |datagram: &[u8]| {
                Binding::parse(datagram).is_some_and(|it| it.is_signed_by(PASSWORD))
            };
            read(&datagram);
            read(&SAMPLE_REQUEST[..cut.min(SAMPLE_REQUEST.len())]);
            let mut mangled = SAMPLE_REQUEST.to_vec();
            let end = mangled.len().min(at + datagram.len());
            let count = end.saturating_sub(at);
            mangled[at.min(end)..end].copy_from_slice(&datagram[..count]);
            read(&mangled);
        }
    }
}
