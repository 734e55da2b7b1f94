//! The offer as it may be handed to the WebRTC library, and the answer as it may leave.
//!
//! **Invariants.** An [`Offer`] has an audio section with Opus, ICE credentials and a DTLS
//! fingerprint, and no candidates: the relay sends nothing to an address that has not sent a
//! valid check first. An announced answer names the shared port and no other address.

use std::net::SocketAddr;

use crate::client::webrtc::ice::Credentials;
use crate::core::port::Fault;

/// A browser offers two sections (sound and events), or three with a camera.
pub(crate) const MAX_SECTIONS: usize = 8;

/// Why an offer was not answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OfferError {
    #[error("the SDP offer has {size} bytes; at most {limit} are accepted")]
    TooLarge { size: usize, limit: usize },
    #[error(
        "line {line} of the SDP offer is not `<letter>=<value>`, or the first one is not `v=0` \
         (RFC 8866): send `RTCPeerConnection.localDescription.sdp` as it is"
    )]
    NotSdp { line: usize },
    #[error("the SDP offer has {count} media sections; at most {MAX_SECTIONS} are accepted")]
    TooManySections { count: usize },
    #[error(
        "the SDP offer has no active audio section: add a microphone track or an audio \
         transceiver before creating the offer"
    )]
    NoAudio,
    #[error("the audio section of the SDP offer lacks Opus (`a=rtpmap:111 opus/48000/2`)")]
    NoOpus,
    #[error("the SDP offer has no ICE credentials (`a=ice-ufrag` and `a=ice-pwd`, RFC 8839)")]
    NoIceCredentials,
    #[error("the SDP offer has no DTLS fingerprint (`a=fingerprint`, RFC 8122)")]
    NoFingerprint,
    #[error("the SDP offer cannot be answered: {reason}")]
    Unanswerable { reason: String },
    #[error(
        "{limit} calls are in progress, and the relay takes no more at a time: try again later"
    )]
    TooManyCalls { limit: usize },
    /// The cause is in the log.
    #[error("the relay could not answer the SDP offer, by no fault of the offer: try again")]
    Internal,
}

impl OfferError {
    /// The HTTP status that tells the caller the same.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::NotSdp { .. }
            | Self::TooManySections { .. }
            | Self::NoAudio
            | Self::NoOpus
            | Self::NoIceCredentials
            | Self::NoFingerprint
            | Self::Unanswerable { .. } => 400,
            Self::TooManyCalls { .. } => 429,
            Self::Internal => 500,
        }
    }

    /// The same for the body of the response, in OpenAI's shape.
    pub fn fault(&self) -> Fault {
        let message = self.to_string();
        match self {
            Self::TooLarge { .. } => Fault::invalid("offer_too_large", message).at("sdp"),
            Self::NotSdp { .. }
            | Self::TooManySections { .. }
            | Self::NoAudio
            | Self::NoOpus
            | Self::NoIceCredentials
            | Self::NoFingerprint
            | Self::Unanswerable { .. } => Fault::invalid("invalid_offer", message).at("sdp"),
            Self::TooManyCalls { .. } => Fault::invalid("too_many_calls", message),
            Self::Internal => Fault::server("internal_error", message),
        }
    }
}

/// An SDP offer that is worth answering.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Offer {
    sdp: String,
    ice: Credentials,
}

impl Offer {
    pub(crate) fn parse(text: &str, limit: usize) -> Result<Self, OfferError> {
        if text.len() > limit {
            let size = text.len();
            return Err(OfferError::TooLarge { size, limit });
        }
        let lines: Vec<&str> = text.trim_end().lines().collect();
        check_syntax(&lines)?;

        let count = lines.iter().filter(|line| line.starts_with("m=")).count();
        if count > MAX_SECTIONS {
            return Err(OfferError::TooManySections { count });
        }
        let mut audio = sections(&lines)
            .filter(|section| is_active(section, "audio"))
            .peekable();
        if audio.peek().is_none() {
            return Err(OfferError::NoAudio);
        }
        if !audio.any(|section| opus(section).is_some()) {
            return Err(OfferError::NoOpus);
        }
        let ice = credentials(&lines).ok_or(OfferError::NoIceCredentials)?;
        if values(&lines, "fingerprint").all(str::is_empty) {
            return Err(OfferError::NoFingerprint);
        }
        Ok(Self {
            sdp: without_candidates(&lines),
            ice,
        })
    }

    /// The client's side of ICE.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.ice
    }

    pub(crate) fn into_string(self) -> String {
        self.sdp
    }
}

/// The library's answer, as far as the relay itself reads it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// With every candidate replaced by the addresses at which the shared port is reached.
    pub(crate) sdp: String,
    /// The payload type under which Opus was agreed.
    pub(crate) opus: u8,
    /// Whether data channels were agreed.
    pub(crate) events: bool,
    /// The section with the candidates, as far as a fragment has it (RFC 8840).
    pub(crate) section: String,
}

impl Answer {
    /// Returns `None` if the library agreed to no Opus, or gathered nothing.
    pub(crate) fn announce(sdp: &str, addresses: &[SocketAddr]) -> Option<Self> {
        let lines: Vec<&str> = sdp.trim_end().lines().collect();
        let audio = sections(&lines).find(|section| is_active(section, "audio"))?;
        let announced = with_candidates(&lines, addresses)?;
        Some(Self {
            opus: opus(audio)?,
            events: sections(&lines).any(|section| is_active(section, "application")),
            section: gathered(&announced),
            sdp: announced,
        })
    }
}

fn check_syntax(lines: &[&str]) -> Result<(), OfferError> {
    let well_formed = |line: &&str| {
        let bytes = line.as_bytes();
        bytes.len() >= 2 && bytes[0].is_ascii_lowercase() && bytes[1] == b'='
    };
    if lines.first() != Some(&"v=0") {
        return Err(OfferError::NotSdp { line: 1 });
    }
    match lines.iter().position(|line| !well_formed(line)) {
        Some(index) => Err(OfferError::NotSdp { line: index + 1 }),
        None => Ok(()),
    }
}

/// Splits a description into its media sections; each starts with its `m=` line.
fn sections<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a [&'a str]> {
    lines
        .chunk_by(|_, next| !next.starts_with("m="))
        .filter(|section| section[0].starts_with("m="))
}

/// Whether the section carries `media` and is not rejected (port 0).
fn is_active(section: &[&str], media: &str) -> bool {
    let mut fields = section[0]["m=".len()..].split(' ');
    fields.next() == Some(media) && fields.next().is_some_and(|port| port != "0")
}

/// Returns the payload type of Opus that the section's `m=` line lists.
fn opus(section: &[&str]) -> Option<u8> {
    let listed = |payload_type: &str| {
        let mut formats = section[0].split(' ').skip(3);
        formats.any(|format| format == payload_type)
    };
    section.iter().find_map(|line| {
        let (payload_type, codec) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let is_opus = codec.trim_end().eq_ignore_ascii_case("opus/48000/2");
        let number = payload_type.parse().ok().filter(|number| *number < 128)?;
        (is_opus && listed(payload_type)).then_some(number)
    })
}

/// Returns the first credentials in there: all sections of a bundle have the same.
pub(crate) fn credentials(lines: &[&str]) -> Option<Credentials> {
    let mut ufrag = values(lines, "ice-ufrag").filter(|ufrag| (4..=256).contains(&ufrag.len()));
    let mut password =
        values(lines, "ice-pwd").filter(|password| (22..=256).contains(&password.len()));
    Some(Credentials {
        ufrag: ufrag.next()?.into(),
        password: password.next()?.into(),
    })
}

/// Returns what an attribute is said to be.
pub(crate) fn values<'a>(lines: &[&'a str], attribute: &str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| {
        let value = line.strip_prefix("a=")?.strip_prefix(attribute)?;
        value.strip_prefix(':').map(str::trim_end)
    })
}

fn without_candidates(lines: &[&str]) -> String {
    let kept = lines.iter().filter(|line| !is_candidate(line));
    kept.flat_map(|line| [line, "\r\n"]).collect()
}

/// Puts the host candidates of `addresses` where the first candidate of each section was.
fn with_candidates(lines: &[&str], addresses: &[SocketAddr]) -> Option<String> {
    let candidates: String = (0u32..)
        .zip(addresses)
        .map(|(index, address)| {
            // RFC 8445, section 5.1.2.1: type preference of a host, earlier addresses first.
            let priority = (126 << 24) | ((65_535 - index) << 8) | 255;
            let (ip, port) = (address.ip(), address.port());
            format!(
                "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n",
                index + 1
            )
        })
        .chain(["a=end-of-candidates\r\n".into()])
        .collect();

    let mut out = String::new();
    let mut gathered = false;
    for section in lines.chunk_by(|_, next| !next.starts_with("m=")) {
        let first = section.iter().position(|line| is_candidate(line));
        gathered |= first.is_some();
        for (index, line) in section.iter().enumerate() {
            if Some(index) == first {
                out.push_str(&candidates);
            }
            if !is_candidate(line) {
                out.push_str(line);
                out.push_str("\r\n");
            }
        }
    }
    gathered.then_some(out)
}

/// Returns the first section that has candidates, without what does not concern ICE.
fn gathered(sdp: &str) -> String {
    let lines: Vec<&str> = sdp.lines().collect();
    let section = sections(&lines).find(|section| section.iter().any(|line| is_candidate(line)));
    let concerned =
        |line: &&&str| line.starts_with("m=") || line.starts_with("a=mid:") || is_candidate(line);
    let lines = section.unwrap_or_default().iter().filter(concerned);
    lines.flat_map(|line| [line, "\r\n"]).collect()
}

fn is_candidate(line: &str) -> bool {
    line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA\r\n\
        a=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n";

    fn parse(offer: &str) -> Result<Offer, OfferError> {
        Offer::parse(offer, 4096)
    }

    #[test]
    fn an_offer_loses_its_candidates_and_nothing_else() {
        let kept = OFFER.replace("a=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n", "");
        assert_eq!(parse(OFFER).unwrap().into_string(), kept);
    }

    #[test]
    fn bare_line_feeds_are_accepted() {
        assert_eq!(parse(&OFFER.replace("\r\n", "\n")), parse(OFFER));
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        let cases = [
            ("v=0", "hello", OfferError::NotSdp { line: 1 }),
            ("s=-", "something", OfferError::NotSdp { line: 3 }),
            ("m=audio 9", "m=video 9", OfferError::NoAudio),
            ("m=audio 9", "m=audio 0", OfferError::NoAudio),
            ("opus/48000/2", "L16/48000/2", OfferError::NoOpus),
            ("SAVPF 111", "SAVPF 96", OfferError::NoOpus),
            ("a=ice-ufrag:abcd", "a=x", OfferError::NoIceCredentials),
            (
                "0123456789012345678901",
                "short",
                OfferError::NoIceCredentials,
            ),
            ("a=fingerprint:", "a=x:", OfferError::NoFingerprint),
        ];
        for (from, to, error) in cases {
            assert_eq!(
                parse(&OFFER.replace(from, to)),
                Err(error),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn an_oversized_offer_is_told_the_limit() {
        let error = Offer::parse(OFFER, 100).unwrap_err();
        assert_eq!(error.status(), 413);
        assert!(error.to_string().contains("at most 100"), "{error}");
    }

    #[test]
    fn an_offer_with_endless_sections_is_refused() {
        let offer = OFFER.to_owned() + &"m=audio 9 x 0\r\n".repeat(8);
        assert_eq!(parse(&offer), Err(OfferError::TooManySections { count: 9 }));
    }

    #[test]
    fn an_answer_names_the_shared_port_in_order_of_preference() {
        let addresses = [
            "192.0.2.1:3478".parse().unwrap(),
            "127.0.0.1:3478".parse().unwrap(),
        ];
        let answer = Answer::announce(OFFER, &addresses).unwrap();
        let candidates: Vec<_> = answer
            .sdp
            .lines()
            .filter(|line| line.contains("candidate"))
            .collect();
        assert_eq!(
            candidates,
            [
                "a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host",
                "a=candidate:2 1 udp 2130706175 127.0.0.1 3478 typ host",
                "a=end-of-candidates",
            ]
        );
        assert_eq!((answer.opus, answer.events), (111, false));
        let (section, rest) = answer.section.split_once("\r\n").unwrap();
        assert_eq!(section, "m=audio 9 UDP/TLS/RTP/SAVPF 111 0");
        assert_eq!(rest, candidates.join("\r\n") + "\r\n");
    }
}
