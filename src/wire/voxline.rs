//! `voxline.v1`: what a client that asks for more than OpenAI's events says and hears.
//!
//! Over WebRTC a client opens two more data channels beside `oai-events`: `voxline` (reliable,
//! ordered; the relay's `voxline.*` events) and `voxline.timing` (unordered, no retransmits;
//! playout reports and pings, which are worthless when late). Over WebSocket it offers the
//! subprotocol `voxline.v1`, and the events share the one stream. With `voxline.playout` beside it
//! the relay owns the playback, as over WebRTC, and sends sound as `voxline.audio`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::port::{FromClient, Received, Stats};

/// The subprotocol by which a WebSocket client asks for `voxline.*` events.
pub const SUBPROTOCOL: &str = "voxline.v1";

/// The subprotocol by which it asks the relay to own the playback, beside the other.
pub const PLAYOUT_SUBPROTOCOL: &str = "voxline.playout";

/// Tells a client whose sound the relay plays to drop what it has not played.
pub const FLUSH: &str = r#"{"type":"voxline.flush"}"#;

/// The close code by which a client leaves one connection of several to its session: it has not
/// hung up.
pub const LEFT: u16 = 4001;

/// A report older than this says nothing about now.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A device's clock that says more than this, ten years, is none.
const LATEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The longest event id that a client may acknowledge; providers' are much shorter.
const MAX_EVENT_ID: usize = 512;

/// The longest token that a client may present.
pub const MAX_TOKEN: usize = 4096;

/// Said by a client that speaks `voxline.v1`.
#[derive(Clone, Debug, PartialEq)]
pub enum FromDevice {
    /// `{"type":"voxline.playout","rtp_timestamp":u32,"at_ms":f64,"output_latency_ms":f64}`, or
    /// with `"position_ms":f64` where sound comes as `voxline.audio`: what was played out last,
    /// when that was (or with `"age_ms":f64`, how long ago), and the delay between there and the
    /// ear.
    Playout {
        place: Place,
        when: When,
        output_latency: Duration,
    },
    /// `{"type":"voxline.ping","id":u64}`; answered by `{"type":"voxline.pong","id":u64}`. With
    /// `"every_ms":f64` the client promises to be heard of so often. With
    /// `"last":{"id":u64,"sent_ms":f64,"received_ms":f64}` it tells when it sent an earlier one,
    /// and received the answer.
    Ping(Ping),
    /// For the session: `{"type":"voxline.token_ack","token_id":"…"}`, a `voxline.token` has
    /// arrived and is kept; `{"type":"voxline.token_present","token":"…"}`, one that the client
    /// has fetched by itself; `{"type":"voxline.ack","event_id":"…","received":u64}`, so many
    /// events that are not `voxline.*` have come on this connection, that one last;
    /// `{"type":"voxline.stats",…}`, how its sound is (see [`Stats`]);
    /// `{"type":"voxline.heard","position_ms":f64}`, the ear has got to there, and hears nothing
    /// of what was sent for later.
    Said(FromClient),
}

/// A device asks whether the relay is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ping {
    pub id: u64,
    pub every: Option<Duration>,
    pub last: Option<Last>,
}

/// An earlier ping by the device's own clock: times since a moment of its choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Last {
    pub id: u64,
    pub sent: Duration,
    /// When its answer came.
    pub received: Duration,
}

/// When something was so on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// So long before the report was sent.
    Age(Duration),
    /// By its own clock.
    At(Duration),
}

/// Where on the timeline of what it plays a device is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// What `RTCRtpReceiver.getSynchronizationSources()` says.
    Rtp(u32),
    /// The place in the session's own timeline.
    Position(Duration),
}

/// Parses a `voxline.*` message; `None` if it is not one, or makes no sense.
pub fn decode(text: &str) -> Option<FromDevice> {
    let said = match serde_json::from_str(text).ok()? {
        Message::Playout {
            rtp_timestamp,
            position_ms,
            age_ms,
            at_ms,
            output_latency_ms,
        } => {
            return Some(FromDevice::Playout {
                place: match (rtp_timestamp, position_ms) {
                    (Some(timestamp), None) => Place::Rtp(timestamp),
                    (None, Some(position)) => Place::Position(millis(position)?),
                    (None, None) | (Some(_), Some(_)) => return None,
                },
                when: match at_ms {
                    Some(at) => When::At(clock(at)?),
                    None => When::Age(span(age_ms)?),
                },
                output_latency: span(output_latency_ms)?,
            });
        }
        Message::Ping { id, every_ms, last } => {
            let every = match every_ms {
                Some(every) => Some(millis(every)?),
                None => None,
            };
            let last = match last {
                Some(last) => Some(Last {
                    id: last.id,
                    sent: clock(last.sent_ms)?,
                    received: clock(last.received_ms)?,
                }),
                None => None,
            };
            return Some(FromDevice::Ping(Ping { id, every, last }));
        }
        Message::Stats(counts) => FromClient::Stats(counts.stats()),
        Message::Ack { event_id, received } => FromClient::Acknowledged {
            received,
            last: (event_id.len() <= MAX_EVENT_ID).then(|| event_id.into())?,
        },
        Message::Heard { position_ms } => FromClient::Heard(millis(position_ms)?),
        Message::TokenAck { token_id } => FromClient::TokenAcknowledged(token_id.into()),
        Message::TokenPresent { token } if token.len() > MAX_TOKEN => return None,
        Message::TokenPresent { token } => FromClient::TokenPresented(token.into()),
    };

    Some(FromDevice::Said(said))
}

/// Encodes the answer to a ping.
pub fn pong(id: u64) -> String {
    format!(r#"{{"type":"voxline.pong","id":{id}}}"#)
}

/// Encodes sound for a client whose sound the relay plays: PCM at 24 kHz.
pub fn audio(position: Duration, payload: &[u8]) -> String {
    let position = position.as_secs_f64() * 1000.0;
    let audio = STANDARD.encode(payload);

    format!(r#"{{"type":"voxline.audio","position_ms":{position},"audio":"{audio}"}}"#)
}

/// Adds to a `voxline.session` which RTP timestamp is the beginning of the timeline on a leg.
pub fn with_origin(session: &str, origin: u32) -> String {
    let mut event: Value = serde_json::from_str(session).unwrap_or_default();
    event["rtp_origin"] = json!(origin);

    event.to_string()
}

/// A time of a device's own clock.
fn clock(millis: f64) -> Option<Duration> {
    self::millis(millis).filter(|time| *time <= LATEST)
}

fn span(millis: f64) -> Option<Duration> {
    self::millis(millis).filter(|span| *span <= MAX_AGE)
}

fn millis(millis: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(millis / 1000.0).ok()
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Message {
    #[serde(rename = "voxline.playout")]
    Playout {
        rtp_timestamp: Option<u32>,
        position_ms: Option<f64>,
        #[serde(default)]
        age_ms: f64,
        at_ms: Option<f64>,
        #[serde(default)]
        output_latency_ms: f64,
    },
    #[serde(rename = "voxline.ping")]
    Ping {
        id: u64,
        every_ms: Option<f64>,
        last: Option<Answered>,
    },
    #[serde(rename = "voxline.stats")]
    Stats(Counts),
    #[serde(rename = "voxline.ack")]
    Ack { event_id: String, received: u64 },
    #[serde(rename = "voxline.heard")]
    Heard { position_ms: f64 },
    #[serde(rename = "voxline.token_ack")]
    TokenAck { token_id: String },
    #[serde(rename = "voxline.token_present")]
    TokenPresent { token: String },
}

#[derive(Deserialize)]
struct Answered {
    id: u64,
    sent_ms: f64,
    received_ms: f64,
}

/// What browsers count (`RTCInboundRtpStreamStats`), each if the device knows it.
#[derive(Deserialize)]
struct Counts {
    capture_ms: Option<f64>,
    jitter_buffer_ms: Option<f64>,
    output_latency_ms: Option<f64>,
    #[serde(default)]
    packets_received: u64,
    /// Duplicates make this less than nothing (RFC 3550, section 6.4.1).
    #[serde(default)]
    packets_lost: i64,
    #[serde(default)]
    total_samples: u64,
    #[serde(default)]
    concealed_samples: u64,
}

impl Counts {
    /// What makes no sense is left out.
    fn stats(&self) -> Stats {
        Stats {
            capture: self.capture_ms.and_then(span),
            jitter_buffer: self.jitter_buffer_ms.and_then(span),
            output_latency: self.output_latency_ms.and_then(span),
            received: Received {
                packets: self.packets_received,
                lost: self.packets_lost.max(0).unsigned_abs(),
                samples: self.total_samples,
                concealed: self.concealed_samples,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_playout_report_says_when_and_how_late() {
        let text = r#"{"type":"voxline.playout","rtp_timestamp":4294967295,"age_ms":12.5,"output_latency_ms":20}"#;

        let expected = FromDevice::Playout {
            place: Place::Rtp(u32::MAX),
            when: When::Age(Duration::from_micros(12_500)),
            output_latency: Duration::from_millis(20),
        };
        assert_eq!(decode(text), Some(expected));
    }

    #[test]
    fn where_the_relay_plays_a_report_names_a_position() {
        let text = r#"{"type":"voxline.playout","position_ms":1500.5}"#;

        let expected = FromDevice::Playout {
            place: Place::Position(Duration::from_micros(1_500_500)),
            when: When::Age(Duration::ZERO),
            output_latency: Duration::ZERO,
        };
        assert_eq!(decode(text), Some(expected));
    }

    #[test]
    fn what_a_client_says_of_itself_is_for_the_session() {
        let ack = r#"{"type":"voxline.ack","event_id":"e7","received":7}"#;
        let heard = r#"{"type":"voxline.heard","position_ms":20}"#;

        let acknowledged = FromClient::Acknowledged {
            received: 7,
            last: "e7".into(),
        };
        assert_eq!(decode(ack), Some(FromDevice::Said(acknowledged)));
        let position = FromClient::Heard(Duration::from_millis(20));
        assert_eq!(decode(heard), Some(FromDevice::Said(position)));
        let every = Some(Duration::from_secs(1));
        assert_eq!(
            decode(r#"{"type":"voxline.ping","id":1,"every_ms":1000}"#),
            Some(FromDevice::Ping(Ping {
                id: 1,
                every,
                last: None
            }))
        );
    }

    #[test]
    fn a_device_tells_its_own_times() {
        let ping = r#"{"type":"voxline.ping","id":7,"every_ms":1000,"sent_ms":1234.5,
            "last":{"id":6,"sent_ms":734.25,"received_ms":761}}"#;
        let playout = r#"{"type":"voxline.playout","rtp_timestamp":1,"at_ms":1e9,"age_ms":5}"#;

        let last = Last {
            id: 6,
            sent: Duration::from_micros(734_250),
            received: Duration::from_millis(761),
        };
        assert_eq!(
            decode(ping),
            Some(FromDevice::Ping(Ping {
                id: 7,
                every: Some(Duration::from_secs(1)),
                last: Some(last),
            }))
        );
        let when = When::At(Duration::from_secs(1_000_000));
        assert!(
            matches!(decode(playout), Some(FromDevice::Playout { when: told, .. }) if told == when)
        );
    }

    #[test]
    fn a_device_tells_of_its_sound_and_what_makes_no_sense_is_left_out() {
        let text = r#"{"type":"voxline.stats","capture_ms":12.5,"jitter_buffer_ms":-1,
            "packets_lost":-3,"packets_received":900,"concealed_samples":480,"total_samples":48000}"#;

        let stats = Stats {
            capture: Some(Duration::from_micros(12_500)),
            received: Received {
                packets: 900,
                lost: 0,
                samples: 48_000,
                concealed: 480,
            },
            ..Stats::default()
        };
        assert_eq!(
            decode(text),
            Some(FromDevice::Said(FromClient::Stats(stats)))
        );
    }

    #[test]
    fn sound_has_a_position() {
        let text = audio(Duration::from_millis(1_020), &[0, 1, 2]);
        assert_eq!(
            text,
            r#"{"type":"voxline.audio","position_ms":1020,"audio":"AAEC"}"#
        );
    }

    #[test]
    fn what_is_said_of_tokens_is_for_the_session() {
        let ack = r#"{"type":"voxline.token_ack","token_id":"t1"}"#;
        let present = r#"{"type":"voxline.token_present","token":"ek_x"}"#;

        let acknowledged = FromClient::TokenAcknowledged("t1".into());
        assert_eq!(decode(ack), Some(FromDevice::Said(acknowledged)));
        let presented = FromClient::TokenPresented("ek_x".into());
        assert_eq!(decode(present), Some(FromDevice::Said(presented)));

        let endless = format!(
            r#"{{"type":"voxline.token_present","token":"{}"}}"#,
            "x".repeat(MAX_TOKEN + 1)
        );
        assert_eq!(decode(&endless), None);
    }

    #[test]
    fn a_senseless_report_is_no_report() {
        for text in [
            r#"{"type":"voxline.playout","rtp_timestamp":-1}"#,
            r#"{"type":"voxline.playout","rtp_timestamp":1,"age_ms":-5}"#,
            r#"{"type":"voxline.playout","rtp_timestamp":1,"age_ms":1e300}"#,
            r#"{"type":"voxline.playout","rtp_timestamp":1,"age_ms":10001}"#,
            r#"{"type":"voxline.playout","rtp_timestamp":1,"position_ms":1}"#,
            r#"{"type":"voxline.playout"}"#,
            r#"{"type":"voxline.heard","position_ms":-1}"#,
            r#"{"type":"voxline.ack","event_id":"e","received":-1}"#,
            r#"{"type":"voxline.ping","id":1,"every_ms":-1}"#,
            r#"{"type":"voxline.ping"}"#,
            r#"{"type":"voxline.ping","id":1,"last":{"id":0,"sent_ms":-1,"received_ms":1}}"#,
            r#"{"type":"voxline.ping","id":1,"last":{"id":0,"sent_ms":1,"received_ms":1e300}}"#,
            r#"{"type":"voxline.playout","rtp_timestamp":1,"at_ms":-1}"#,
            r#"{"type":"response.create"}"#,
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = decode(&text);
        }
    }
}
