//! Offers, good and bad, through the door that they come by.

mod support;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::runtime::{Builder, Handle};
use voxline::client::webrtc::{OfferError, Settings};
use voxline::core::port::FaultKind;

use crate::support::call::endpoint;

/// What Chromium 156 offers for a microphone and a data channel.
const CHROMIUM: &str = include_str!("support/chromium.sdp");

#[tokio::test]
async fn a_browser_is_answered_with_opus_and_fec_and_a_passive_role() {
    let (answer, _leg) = endpoint().answer(CHROMIUM).await.unwrap();
    for line in [
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=setup:passive",
        "a=sendrecv",
        "a=rtcp-mux",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ] {
        assert!(
            answer.lines().any(|found| found == line),
            "{line} is not in\n{answer}"
        );
    }
    assert!(answer.contains("\r\na=msid:voxline "), "{answer}");
}

#[tokio::test]
async fn the_payload_type_is_the_one_that_was_offered() {
    let firefox = CHROMIUM
        .replace("SAVPF 111", "SAVPF 109")
        .replace(":111 ", ":109 ");
    let (answer, _leg) = endpoint().answer(&firefox).await.unwrap();
    assert!(answer.contains("a=rtpmap:109 opus/48000/2"), "{answer}");
}

#[tokio::test]
async fn a_camera_is_declined_and_the_rest_is_answered() {
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 0.0.0.0\na=ice-ufrag:uv18\n\
        a=ice-pwd:Njr0DIwn9jcQ4hkrcFjVlWEe\na=fingerprint:sha-256 21:39:AB:E8:5C:E9:38:AC:80:04:\
        33:68:EE:3F:D6:64:CC:B9:A6:78:22:9F:89:F8:A4:4F:7A:34:6C:9E:89:73\na=setup:actpass\n\
        a=mid:2\na=sendrecv\na=rtcp-mux\na=rtpmap:96 VP8/90000\n";
    let offer = CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + video;
    let (answer, _leg) = endpoint().answer(&offer).await.unwrap();
    assert!(answer.contains("\r\nm=video 0 "), "{answer}");
    assert!(answer.contains("\r\nm=audio 9 "), "{answer}");
}

#[tokio::test]
async fn a_refused_offer_is_told_why_in_openai_s_shape() {
    let endpoint = endpoint();
    let without = |from: &str, to: &str| CHROMIUM.replace(from, to);
    let large = " ".repeat(Settings::default().max_offer + 1);
    let cases = [
        (String::new(), 400, "`v=0`"),
        ("{\"sdp\":\"v=0\"}".into(), 400, "line 1"),
        (large, 413, "at most 65536"),
        (
            without("m=audio", "m=video"),
            400,
            "no active audio section",
        ),
        (
            without("m=audio 9", "m=audio 0"),
            400,
            "no active audio section",
        ),
        (without("opus/48000/2", "speex/16000"), 400, "lacks Opus"),
        (without("ice-ufrag", "x"), 400, "a=ice-ufrag"),
        (without("fingerprint", "x"), 400, "a=fingerprint"),
    ];
    for (offer, status, says) in cases {
        let error = endpoint.answer(&offer).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        let fault = error.fault();
        assert_eq!(fault.kind, FaultKind::InvalidRequest);
        assert_eq!(fault.param.as_deref(), Some("sdp"));
        assert!(fault.message.contains(says), "{}", fault.message);
    }
}

/// One thing done to the lines of an offer.
#[derive(Clone, Debug)]
enum Mutation {
    Remove(Index),
    Double(Index),
    Swap(Index, Index),
    Cut(Index, Index),
    /// Puts this text somewhere into a line.
    Insert(Index, Index, String),
    /// Replaces what follows the first `:` or `=` of a line.
    Value(Index, String),
}

impl Mutation {
    fn apply(self, lines: &mut Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let count = lines.len();
        match self {
            Self::Remove(at) => drop(lines.remove(at.index(count))),
            Self::Double(at) => lines.insert(at.index(count), lines[at.index(count)].clone()),
            Self::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
            Self::Cut(at, length) => {
                let line = &mut lines[at.index(count)];
                *line = line.chars().take(length.index(line.len() + 1)).collect();
            }
            Self::Insert(at, place, text) => {
                let line = &mut lines[at.index(count)];
                let place = place.index(line.chars().count() + 1);
                let (head, tail): (Vec<_>, Vec<_>) = line
                    .chars()
                    .enumerate()
                    .partition(|(index, _)| *index < place);
                let chars = |part: Vec<(usize, char)>| part.into_iter().map(|(_, c)| c);
                *line = chars(head).chain(text.chars()).chain(chars(tail)).collect();
            }
            Self::Value(at, text) => {
                let line = &mut lines[at.index(count)];
                *line = match line.split_once(':') {
                    Some((key, _)) => format!("{key}:{text}"),
                    None => line.chars().take(2).chain(text.chars()).collect(),
                };
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let text = || {
        prop_oneof![
            "\\PC{0,12}",
            "[0-9]{1,25}",
            select(vec![
                "0",
                "-1",
                "65536",
                "4294967296",
                "active",
                "passive",
                "inactive",
                "111"
            ])
            .prop_map(String::from),
        ]
    };
    prop_oneof![
        at().prop_map(Mutation::Remove),
        at().prop_map(Mutation::Double),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (at(), at()).prop_map(|(at, length)| Mutation::Cut(at, length)),
        (at(), at(), text()).prop_map(|(at, place, text)| Mutation::Insert(at, place, text)),
        (at(), text()).prop_map(|(at, text)| Mutation::Value(at, text)),
    ]
}

/// Has an offer answered on a runtime of its own, and fails if that leaves a task behind.
fn answer(offer: &str) -> Result<String, OfferError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let endpoint = endpoint();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let answer = endpoint.answer(offer).await.map(|(answer, _leg)| answer);
        // Aborted tasks are gone once the scheduler has seen them.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks(), before, "a task is left");
        answer
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in "(?s).{0,200}") {
        prop_assert_eq!(answer(&text).unwrap_err().status(), 400);
        let described = format!("v=0\r\n{text}");
        prop_assert_eq!(answer(&described).unwrap_err().status(), 400);
    }

    #[test]
    fn a_mangled_offer_is_answered_or_refused_and_leaves_nothing(
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut lines: Vec<String> = CHROMIUM.lines().map(String::from).collect();
        for mutation in mutations {
            mutation.apply(&mut lines);
        }
        match answer(&lines.join("\r\n")) {
            Ok(answer) => prop_assert!(answer.contains("a=candidate:"), "{}", answer),
            Err(error) => prop_assert!(error.status() < 500, "{}", error),
        }
    }
}
