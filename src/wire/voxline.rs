//! `voxline.v1`: what a client that asks for more than OpenAI's events says and hears.
//!
//! Over WebRTC a client opens two more data channels beside `oai-events`: `voxline` (reliable,
//! ordered; the relay's `voxline.*` events) and `voxline.timing` (unordered, no retransmits;
//! playout reports and pings, which are worthless when late). Over WebSocket it offers the
//! subprotocol `voxline.v1`, and the events share the one stream.

use std::time::Duration;

use serde::Deserialize;

use crate::core::port::FromClient;

/// The subprotocol by which a WebSocket client asks for `voxline.*` events.
pub const SUBPROTOCOL: &str = "voxline.v1";

/// A report older than this says nothing about now.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The longest token that a client may present.
pub const MAX_TOKEN: usize = 4096;

/// Said by a client that speaks `voxline.v1`.
#[derive(Clone, Debug, PartialEq)]
pub enum FromDevice {
    /// `{"type":"voxline.playout","rtp_timestamp":u32,"age_ms":f64,"output_latency_ms":f64}`:
    /// the RTP timestamp last played out (`RTCRtpReceiver.getSynchronizationSources()`), how
    /// long ago that was, and the delay between there and the ear.
    Playout {
        rtp_timestamp: u32,
        age: Duration,
        output_latency: Duration,
    },
    /// `{"type":"voxline.ping","id":u64}`; answered by `{"type":"voxline.pong","id":u64}`.
    Ping { id: u64 },
    /// For the session: `{"type":"voxline.token_ack","token_id":"…"}`, a `voxline.token` has
    /// arrived and is kept; `{"type":"voxline.token_present","token":"…"}`, one that the client
    /// has fetched by itself.
    Said(FromClient),
}

/// Parses a `voxline.*` message; `None` if it is not one, or makes no sense.
pub fn decode(text: &str) -> Option<FromDevice> {
    match serde_json::from_str(text).ok()? {
        Message::Playout {
            rtp_timestamp,
            age_ms,
            output_latency_ms,
        } => Some(FromDevice::Playout {
            rtp_timestamp,
            age: span(age_ms)?,
            output_latency: span(output_latency_ms)?,
        }),
        Message::Ping { id } => Some(FromDevice::Ping { id }),
        Message::TokenAck { token_id } => Some(FromDevice::Said(FromClient::TokenAcknowledged(
            token_id.into(),
        ))),
        Message::TokenPresent { token } => (token.len() <= MAX_TOKEN)
            .then(|| FromDevice::Said(FromClient::TokenPresented(token.into()))),
    }
}

/// Encodes the answer to a ping.
pub fn pong(id: u64) -> String {
    format!(r#"{{"type":"voxline.pong","id":{id}}}"#)
}

fn span(millis: f64) -> Option<Duration> {
    let span = Duration::try_from_secs_f64(millis / 1000.0).ok()?;

    (span <= MAX_AGE).then_some(span)
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Message {
    #[serde(rename = "voxline.playout")]
    Playout {
        rtp_timestamp: u32,
        #[serde(default)]
        age_ms: f64,
        #[serde(default)]
        output_latency_ms: f64,
    },
    #[serde(rename = "voxline.ping")]
    Ping { id: u64 },
    #[serde(rename = "voxline.token_ack")]
    TokenAck { token_id: String },
    #[serde(rename = "voxline.token_present")]
    TokenPresent { token: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_playout_report_says_when_and_how_late() {
        let text = r#"{"type":"voxline.playout","rtp_timestamp":4294967295,"age_ms":12.5,"output_latency_ms":20}"#;

        let expected = FromDevice::Playout {
            rtp_timestamp: u32::MAX,
            age: Duration::from_micros(12_500),
            output_latency: Duration::from_millis(20),
        };
        assert_eq!(decode(text), Some(expected));
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
            r#"{"type":"voxline.ping"}"#,
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
