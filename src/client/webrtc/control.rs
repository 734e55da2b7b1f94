//! What can be asked of a call while it runs: ICE restarts, by `PATCH` on its URL (RFC 9725,
//! section 4.3; the bodies are those of RFC 8840).
//!
//! **Invariants.** A fragment changes nothing but ICE. Candidates are read and not used: the relay
//! sends nothing to an address that has not sent a valid check first. A request that is repeated
//! gets the same answer.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::webrtc::ice::{Credentials, Restart};
use crate::client::webrtc::mux::Port;
use crate::client::webrtc::sdp;
use crate::core::port::Fault;

/// The media type of fragments.
pub const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The largest fragment, in bytes. A browser's has one or two thousand.
pub const MAX_FRAGMENT: usize = 16 * 1024;

/// Reaches a call while it runs, and keeps nothing of it alive.
#[derive(Clone, Debug)]
pub struct Control {
    port: Weak<Port>,
    /// What a fragment of ours has beside the credentials: the section with our candidates.
    section: String,
    /// To the leg: where the ear of a client is that restarts ICE.
    ears: mpsc::Sender<Duration>,
}

/// What became of a fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Patched {
    /// It had candidates, or nothing: there is nothing to answer (204).
    Trickled,
    /// ICE is restarted: our fragment (200), and the entity tag of the new ICE session.
    Restarted { fragment: String, etag: String },
}

/// Why a fragment was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatchError {
    #[error("the SDP fragment has {size} bytes; at most {limit} are accepted")]
    TooLarge { size: usize, limit: usize },
    #[error(
        "line {line} of the SDP fragment is not an `a=` line, or an `m=` line with candidates \
         after it (RFC 8840, section 9)"
    )]
    NotFragment { line: usize },
    #[error(
        "line {line} of the SDP fragment is not a candidate (`a=candidate:<foundation> \
         <component> <transport> <priority> <address> <port> typ <type>`, RFC 8839)"
    )]
    NotCandidate { line: usize },
    #[error(
        "the SDP fragment has `a=ice-ufrag` (4 to 256 characters) without `a=ice-pwd` (22 to \
         256), or the reverse, or several of one that differ: one of each restarts ICE, none \
         adds candidates"
    )]
    Credentials,
    #[error("the call is not connected yet: to begin again, hang up and send a new offer")]
    NotConnected,
    #[error("the call has ended: send a new offer")]
    Gone,
}

impl Control {
    pub(crate) fn new(port: Weak<Port>, section: String, ears: mpsc::Sender<Duration>) -> Self {
        Self {
            port,
            section,
            ears,
        }
    }

    /// Names the ICE session that began last, as a strong entity tag; `None` once the call is over.
    pub fn etag(&self) -> Option<String> {
        self.port.upgrade().map(|port| tag(&port.ufrag()))
    }

    /// Takes a fragment of a client that has heard all up to `heard` of the timeline, and nothing
    /// of what came after, if it says so: then sound waits for the new session.
    /// With new credentials of the client's it restarts ICE; sound and events
    /// flow as before until the client uses the new session, and then there.
    pub fn patch(&self, fragment: &str, heard: Option<Duration>) -> Result<Patched, PatchError> {
        let credentials = read(fragment)?;
        let port = self.port.upgrade().ok_or(PatchError::Gone)?;
        if heard.is_some() && credentials.is_some() {
            // At once: the path may be there before the session knows.
            port.hush(true);
        }
        let restart = credentials.map(|remote| port.restart(remote).ok_or(PatchError::Gone));
        if !matches!(restart, Some(Ok(Restart::Prepared { .. }))) {
            port.hush(false);
        }
        match restart.transpose()? {
            None | Some(Restart::Unchanged) => Ok(Patched::Trickled),
            Some(Restart::Unconnected) => Err(PatchError::NotConnected),
            Some(Restart::Prepared { local, .. }) => {
                let Credentials { ufrag, password } = &local;
                let section = &self.section;
                tracing::debug!("ICE restarts");
                if let Some(heard) = heard {
                    // A leg that has not taken the one before knows enough.
                    let _ = self.ears.try_send(heard);
                }
                Ok(Patched::Restarted {
                    fragment: format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n{section}"),
                    etag: tag(ufrag),
                })
            }
        }
    }
}

impl PatchError {
    /// The HTTP status that tells the caller the same.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::NotFragment { .. } | Self::NotCandidate { .. } | Self::Credentials => 400,
            Self::NotConnected => 409,
            Self::Gone => 404,
        }
    }

    /// The same for the body of the response, in OpenAI's shape.
    pub fn fault(&self) -> Fault {
        let code = match self {
            Self::TooLarge { .. } => "fragment_too_large",
            Self::NotFragment { .. } | Self::NotCandidate { .. } | Self::Credentials => {
                "invalid_fragment"
            }
            Self::NotConnected => "call_not_connected",
            Self::Gone => "call_not_found",
        };
        Fault::invalid(code, self.to_string())
    }
}

fn tag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

/// Returns the credentials in a fragment, if it has any.
fn read(fragment: &str) -> Result<Option<Credentials>, PatchError> {
    if fragment.len() > MAX_FRAGMENT {
        return Err(PatchError::TooLarge {
            size: fragment.len(),
            limit: MAX_FRAGMENT,
        });
    }
    let lines: Vec<&str> = fragment.trim_end().lines().map(str::trim_end).collect();
    let mut section = false;
    for (line, text) in (1..).zip(&lines) {
        section |= text.starts_with("m=");
        if let Some(candidate) = text.strip_prefix("a=candidate:") {
            if !section {
                return Err(PatchError::NotFragment { line });
            }
            if !is_candidate(candidate) {
                return Err(PatchError::NotCandidate { line });
            }
        } else if !text.starts_with("a=") && !text.starts_with("m=") {
            return Err(PatchError::NotFragment { line });
        }
    }
    let any = ["a=ice-ufrag:", "a=ice-pwd:"]
        .iter()
        .any(|name| lines.iter().any(|line| line.starts_with(name)));
    if !any {
        return Ok(None);
    }
    let agreed = sdp::credentials(&lines).filter(|credentials| {
        let Credentials { ufrag, password } = credentials;
        [("ice-ufrag", ufrag), ("ice-pwd", password)]
            .into_iter()
            .all(|(name, value)| sdp::values(&lines, name).all(|other| other == value))
    });
    agreed.map(Some).ok_or(PatchError::Credentials)
}

/// RFC 8839, section 5.1, as far as it can be wrong and matter.
fn is_candidate(text: &str) -> bool {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, component, _, priority, _, port, typ, _, ..] = fields[..] else {
        return false;
    };
    component.parse::<u8>().is_ok()
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
        && typ == "typ"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKLE: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=candidate:2 1 tcp 1 0a1b.local 9 typ host tcptype active\r\n\
        a=end-of-candidates\r\n";

    fn read_with(from: &str, to: &str) -> Result<Option<Credentials>, PatchError> {
        assert!(TRICKLE.contains(from), "{from}");
        read(&TRICKLE.replace(from, to))
    }

    #[test]
    fn the_credentials_of_a_fragment_are_found() {
        let found = read(TRICKLE).unwrap().unwrap();
        assert_eq!(found.ufrag, "EsAw");
        assert_eq!(found.password, "P2uYro0UCOQ4zxjKXaWCBui1");
        assert_eq!(read_with("\r\n", "\n").unwrap(), Some(found));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("a=end-of-candidates").unwrap(), None);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        use PatchError::{Credentials, NotCandidate, NotFragment};
        let cases = [
            ("m=audio 9 RTP/AVP 0", "hello", NotFragment { line: 3 }),
            ("m=audio 9 RTP/AVP 0", "a=x", NotFragment { line: 5 }),
            ("2122260223", "-1", NotCandidate { line: 5 }),
            (
                " 9 typ host tcptype",
                " 65536 typ host",
                NotCandidate { line: 6 },
            ),
            ("typ host generation", "type host", NotCandidate { line: 5 }),
            ("a=ice-ufrag:EsAw", "a=ice-ufrag:abc", Credentials),
            ("a=ice-ufrag:EsAw\r\n", "", Credentials),
            ("P2uYro0UCOQ4zxjKXaWCBui1", "short", Credentials),
            ("a=mid:0", "a=ice-ufrag:other", Credentials),
        ];
        for (from, to, error) in cases {
            assert_eq!(read_with(from, to), Err(error), "{from} -> {to}");
        }
        let large = "a=x\r\n".repeat(MAX_FRAGMENT);
        let error = read(&large).unwrap_err();
        assert_eq!(error.status(), 413);
        assert!(error.to_string().contains("16384"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s).{0,300}", lines in proptest::collection::vec(
            "[am]=(candidate:|ice-ufrag:|ice-pwd:)?[ -~]{0,40}", 0..10,
        )) {
            let _ = read(&text);
            let _ = read(&lines.join("\r\n"));
        }
    }
}
