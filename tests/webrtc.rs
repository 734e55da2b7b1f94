//! Calls over WebRTC: a client in this process, real sockets on the loopback.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::UdpSocket;
use voxline::client::webrtc::{End, Endpoint, OfferError, PatchError, Patched, Settings};
use voxline::clock;
use voxline::core::latency::Measure;
use voxline::core::port::{
    ClientEvent, CloseReason, Fault, FromClient, Json, Notice, Played, State, ToClient,
};

use crate::support::call::{Session, call, endpoint};
use crate::support::network::{Network, Weather};
use crate::support::peer::{Peer, within};
use crate::support::speech::{packets, speech};

const EVENTS: &[&str] = &["oai-events"];
const ALL: &[&str] = &["oai-events", "voxline", "voxline.timing"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn sound_from_the_microphone_arrives_as_pcm() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, EVENTS).await;
    let pcm = &speech()[..24_000];
    let began = clock::now();
    for (index, packet) in (0_u32..).zip(packets(pcm)) {
        peer.speak(packet, 7_000 + index * 960).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 40 * 960 {
        let (payload, received) = session.sound().await;
        assert_eq!(payload.len(), 960);
        assert!(received >= began && received <= clock::now());
        heard.extend(payload);
    }
    let loudest = heard
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs())
        .max();
    assert!(loudest > Some(1000), "{loudest:?}");
}

#[tokio::test]
async fn played_sound_becomes_rtp_on_the_playout_timeline() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    let due = clock::now();
    for position in [0, 20, 40, 400, 420] {
        session.play(ms(position), due).await;
    }
    let first = peer.hear().await.header;
    assert!(first.marker);
    let mut seen = Vec::new();
    for step in 1..5 {
        let header = peer.hear().await.header;
        assert_eq!(
            header.sequence_number,
            first.sequence_number.wrapping_add(step)
        );
        assert_eq!(header.ssrc, first.ssrc);
        let ticks = header.timestamp.wrapping_sub(first.timestamp);
        seen.push((ticks, header.marker));
    }
    assert_eq!(
        seen,
        [(960, false), (1920, false), (19_200, true), (20_160, false)]
    );
}

#[tokio::test]
async fn each_played_packet_is_measured_at_the_socket() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    let late = clock::now() - Duration::from_secs(100);
    for position in [0, 20, 40] {
        session.play(ms(position), late).await;
    }
    for _ in 0..3 {
        peer.hear().await;
    }
    let samples = session.samples.lock().unwrap();
    assert_eq!(samples.len(), 3);
    for sample in samples.iter() {
        assert_eq!(sample.measure, Measure::PacketOut);
        assert!(sample.took >= Duration::from_secs(100), "{sample:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_flush_drops_what_is_handed_over_and_not_sent() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    // The leg runs on this thread: it sees all of these at once.
    let due = clock::now();
    let frame = |position| {
        let payload = vec![0; 960].into();
        let format = voxline::core::audio::Format::Pcm;
        let frame = voxline::core::audio::Frame { format, payload };
        ToClient::Play {
            frame,
            position,
            due,
            first: false,
        }
    };
    session.to_leg.try_send(frame(ms(0))).unwrap();
    session.to_leg.try_send(frame(ms(20))).unwrap();
    session.to_leg.try_send(ToClient::Flush).unwrap();
    session.to_leg.try_send(frame(ms(60))).unwrap();
    session.to_leg.try_send(frame(ms(80))).unwrap();
    let first = peer.hear().await.header;
    let second = peer.hear().await.header;
    assert!(first.marker && !second.marker);
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 960);
    assert!(peer.sound.try_recv().is_err());
}

#[tokio::test]
async fn events_travel_both_ways() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, EVENTS).await;
    let text = r#"{"type":"response.create"}"#;
    peer.send("oai-events", text).await;
    let event = FromClient::Event(ClientEvent::CreateResponse, Json::from(text));
    assert_eq!(session.heard().await, event);

    let text = r#"{"type":"session.created","event_id":"event_1"}"#;
    session.say(ToClient::Event(Json::from(text))).await;
    assert_eq!(peer.message("oai-events").await, text);
}

#[tokio::test]
async fn events_from_before_the_channel_opens_arrive_in_order() {
    let endpoint = endpoint();
    let mut peer = Peer::new(EVENTS).await;
    let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let session = Session::start(leg);
    for number in 0..50 {
        session
            .say(ToClient::Event(Json::from(format!(r#"{{"n":{number}}}"#))))
            .await;
    }
    peer.connect(&answer).await;
    for number in 0..50 {
        assert_eq!(
            peer.message("oai-events").await,
            format!(r#"{{"n":{number}}}"#)
        );
    }
}

#[tokio::test]
async fn a_client_that_never_takes_its_events_is_overrun() {
    let endpoint = endpoint();
    let peer = Peer::new(EVENTS).await;
    let (_, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let mut session = Session::start(leg);
    let event = Json::from("x".repeat(100_000));
    while session
        .to_leg
        .send(ToClient::Event(event.clone()))
        .await
        .is_ok()
    {}
    assert_eq!(session.heard().await, FromClient::Hangup);
    assert_eq!(session.end().await, End::Overrun);
}

#[tokio::test]
async fn a_client_without_data_channels_misses_events_and_nothing_else() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, &[]).await;
    for _ in 0..20 {
        session
            .say(ToClient::Event(Json::from("x".repeat(100_000))))
            .await;
    }
    session.play(ms(0), clock::now()).await;
    peer.hear().await;
    for (index, packet) in (0_u32..).zip(packets(&speech()[..4_800])) {
        peer.speak(packet, index * 960).await;
    }
    session.sound().await;
}

#[tokio::test]
async fn what_is_not_an_event_is_the_session_s_to_answer_and_the_call_goes_on() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, ALL).await;
    let unknown = r#"{"type":"no.such.event","event_id":"mine"}"#;
    for (label, text, says) in [
        ("oai-events", "not json", "not JSON"),
        ("oai-events", unknown, "no.such.event"),
        ("voxline", r#"{"type":"response.create"}"#, "voxline.ping"),
    ] {
        peer.send(label, text).await;
        let FromClient::Rejected(fault) = session.heard().await else {
            panic!("{text} is an event");
        };
        assert!(fault.message.contains(says), "{}", fault.message);
        session.say(ToClient::Fault(fault)).await;
        assert!(peer.message("oai-events").await.contains(says));
    }
    peer.send_bytes("oai-events", b"{}").await;
    let told = session.heard().await;
    assert!(
        matches!(&told, FromClient::Rejected(fault) if fault.message.contains("binary")),
        "{told:?}"
    );
    peer.send("oai-events", r#"{"type":"response.cancel"}"#)
        .await;
    assert!(matches!(
        session.heard().await,
        FromClient::Event(ClientEvent::Other, _)
    ));
}

#[tokio::test]
async fn a_large_event_arrives_whole_and_one_that_cannot_is_reported() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    let large = "x".repeat(60_000);
    session
        .say(ToClient::Event(Json::from(large.clone())))
        .await;
    assert!(peer.message("oai-events").await == large);
    session
        .say(ToClient::Event(Json::from("x".repeat(300_000))))
        .await;
    assert!(peer.message("oai-events").await.contains("event_too_large"));
}

#[tokio::test]
async fn notices_go_to_a_voxline_channel_only() {
    let endpoint = endpoint();
    let fault = || ToClient::Fault(Fault::server("after", "Last."));
    let notice = || ToClient::Notice(Notice::State(State::Listening));

    let (mut plain, session) = call(&endpoint, EVENTS).await;
    session.say(notice()).await;
    session.say(fault()).await;
    assert!(plain.message("oai-events").await.contains("after"));

    let (mut modern, session) = call(&endpoint, ALL).await;
    session.say(notice()).await;
    assert!(modern.message("voxline").await.contains("voxline.state"));
}

#[tokio::test]
async fn a_ping_is_answered_on_the_channel_it_came_on() {
    let endpoint = endpoint();
    let (mut peer, _session) = call(&endpoint, ALL).await;
    for label in ["voxline", "voxline.timing"] {
        peer.send(label, r#"{"type":"voxline.ping","id":7}"#).await;
        let (from, text) = within("a pong", peer.messages.recv()).await.unwrap();
        assert_eq!(
            (from.as_str(), text.as_str()),
            (label, r#"{"type":"voxline.pong","id":7}"#)
        );
    }
}

#[tokio::test]
async fn a_playout_report_names_a_position_on_the_timeline() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, ALL).await;
    session.play(ms(3_000), clock::now()).await;
    let timestamp = peer.hear().await.header.timestamp;
    let sent = clock::now();
    let report = format!(
        r#"{{"type":"voxline.playout","rtp_timestamp":{timestamp},"age_ms":100,"output_latency_ms":30}}"#
    );
    peer.send("voxline.timing", &report).await;
    let FromClient::Played(Played { position, at, .. }) = session.heard().await else {
        panic!("not a report");
    };
    // Opus looks 6.5 ms ahead: the sound of a packet is so much older.
    assert_eq!(position, ms(3_000 - 30) - Duration::from_micros(6_500));
    assert!(at >= sent - ms(100) && at <= clock::now() - ms(100));
}

#[tokio::test]
async fn hanging_up_ends_the_leg() {
    let endpoint = endpoint();
    let (peer, mut session) = call(&endpoint, EVENTS).await;
    peer.hang_up().await;
    assert_eq!(session.heard().await, FromClient::Hangup);
    assert_eq!(session.end().await, End::HungUp);
}

#[tokio::test]
async fn a_client_of_voxline_may_come_back_after_closing_its_connection() {
    let endpoint = endpoint();
    let (peer, mut session) = call(&endpoint, ALL).await;
    peer.hang_up().await;
    while let Some(message) = session.from_leg.recv().await {
        assert_ne!(message, FromClient::Hangup);
    }
    assert_eq!(session.end().await, End::Lost);
}

#[tokio::test]
async fn the_end_of_the_session_reaches_the_client_after_its_last_event() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    session.say(ToClient::Event(Json::from("the last"))).await;
    session.say(ToClient::Close(CloseReason::Expired)).await;
    assert_eq!(session.end().await, End::Released);
    assert_eq!(peer.message("oai-events").await, "the last");
    assert_eq!(
        within("closing", peer.closed.recv()).await.as_deref(),
        Some("oai-events")
    );
}

#[tokio::test]
async fn a_leg_ends_with_its_session_and_what_it_said_last_is_sent() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    session.say(ToClient::Event(Json::from("the last"))).await;
    assert_eq!(session.drop_ends().await, End::Released);
    assert_eq!(peer.message("oai-events").await, "the last");
}

#[tokio::test]
async fn a_cancelled_leg_ends_whatever_its_session_does() {
    let endpoint = endpoint();
    let (_peer, session) = call(&endpoint, EVENTS).await;
    session.cancel.cancel();
    let (_to_leg, end) = (session.to_leg.clone(), session.end().await);
    assert_eq!(end, End::Released);
}

#[tokio::test]
async fn a_cancelled_session_still_says_its_last() {
    let endpoint = endpoint();
    let (mut peer, session) = call(&endpoint, EVENTS).await;
    session.cancel.cancel();
    tokio::task::yield_now().await;
    session.say(ToClient::Event(Json::from("the last"))).await;
    session.say(ToClient::Close(CloseReason::Shutdown)).await;
    assert_eq!(session.end().await, End::Released);
    assert_eq!(peer.message("oai-events").await, "the last");
}

#[tokio::test]
async fn a_slow_session_slows_the_client_down_and_loses_nothing() {
    const COUNT: usize = 2000;
    let endpoint = endpoint();
    let (peer, mut session) = call(&endpoint, EVENTS).await;
    let padding = "x".repeat(1000);
    for number in 0..COUNT {
        let event = format!(r#"{{"type":"response.create","n":{number},"pad":"{padding}"}}"#);
        peer.send("oai-events", &event).await;
    }
    for number in 0..COUNT {
        let FromClient::Event(_, json) = session.heard().await else {
            panic!("not an event");
        };
        assert!(json.as_str().contains(&format!(r#""n":{number},"#)));
    }
}

#[tokio::test]
async fn calls_on_the_one_port_do_not_mix() {
    let endpoint = endpoint();
    let (mut ann, mut ann_session) = call(&endpoint, EVENTS).await;
    let (mut bob, mut bob_session) = call(&endpoint, EVENTS).await;
    ann.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    bob.send("oai-events", r#"{"type":"response.cancel"}"#)
        .await;
    let kind = |message| {
        let FromClient::Event(kind, _) = message else {
            panic!("{message:?}");
        };
        kind
    };
    assert_eq!(kind(ann_session.heard().await), ClientEvent::CreateResponse);
    assert_eq!(kind(bob_session.heard().await), ClientEvent::Other);

    ann_session.play(ms(0), clock::now()).await;
    bob_session.play(ms(0), clock::now()).await;
    let (to_ann, to_bob) = (ann.hear().await.header.ssrc, bob.hear().await.header.ssrc);
    assert_ne!(to_ann, to_bob);

    ann.hang_up().await;
    assert_eq!(ann_session.end().await, End::HungUp);
    bob.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    assert_eq!(kind(bob_session.heard().await), ClientEvent::CreateResponse);
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    let endpoint = endpoint();
    let (mut peer, mut session) = call(&endpoint, EVENTS).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = endpoint.addresses()[0];
    for first in 0..=255_u8 {
        for length in [1, 12, 20, 100, 1400] {
            let mut datagram = vec![first; length];
            stranger.send_to(&datagram, port).await.unwrap();
            datagram[length - 1] = 0;
            stranger.send_to(&datagram, port).await.unwrap();
        }
    }
    peer.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    assert!(matches!(session.heard().await, FromClient::Event(..)));
    session.play(ms(0), clock::now()).await;
    peer.hear().await;
}

#[tokio::test]
async fn an_answer_names_the_shared_port_and_nothing_else() {
    let endpoint = endpoint();
    let peer = Peer::new(EVENTS).await;
    let (answer, _leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let port = endpoint.addresses()[0].port();
    let candidates: Vec<_> = answer
        .lines()
        .filter(|line| line.starts_with("a=candidate"))
        .collect();
    assert!(!candidates.is_empty());
    for line in candidates {
        assert!(
            line.ends_with(&format!(" 127.0.0.1 {port} typ host")),
            "{line}"
        );
    }
    for needed in [
        "a=setup:passive",
        "a=msid:",
        "useinbandfec=1",
        "opus/48000/2",
    ] {
        assert!(answer.contains(needed), "{needed} is not in {answer}");
    }
}

#[tokio::test]
async fn behind_a_nat_the_announced_address_is_named() {
    let endpoint = Endpoint::bind(Settings {
        announced: Some([203, 0, 113, 9].into()),
        ..Settings::default()
    })
    .unwrap();
    let peer = Peer::new(EVENTS).await;
    let (answer, _leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    assert!(answer.contains(" 203.0.113.9 "));
    assert!(!answer.contains(" 127.0.0.1 "));
}

#[tokio::test]
async fn on_every_interface_the_loopback_is_announced_too() {
    let endpoint = Endpoint::bind(Settings {
        listen: ([0, 0, 0, 0], 0).into(),
        ..Settings::default()
    })
    .unwrap();
    let last = endpoint.addresses().last().unwrap();
    assert!(last.ip().is_loopback());
    assert!(
        endpoint
            .addresses()
            .iter()
            .all(|address| !address.ip().is_unspecified())
    );
}

#[tokio::test]
async fn a_port_on_every_ipv6_address_takes_ipv4_calls() {
    let Ok(endpoint) = Endpoint::bind(Settings {
        listen: (Ipv6Addr::UNSPECIFIED, 0).into(),
        announced: Some(Ipv4Addr::LOCALHOST.into()),
        ..Settings::default()
    }) else {
        // This machine has no IPv6.
        return;
    };
    let (peer, mut session) = call(&endpoint, EVENTS).await;
    peer.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    assert!(matches!(session.heard().await, FromClient::Event(..)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_connects_ends_by_itself() {
    let endpoint = endpoint();
    let peer = Peer::new(EVENTS).await;
    let (_, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let began = clock::now();
    let mut session = Session::start(leg);
    // `within` would give up first: time passes as fast as nothing happens.
    assert_eq!(session.from_leg.recv().await, None);
    let waited = clock::now() - began;
    assert!(waited <= Settings::default().connect_timeout, "{waited:?}");
    assert!(
        waited >= Settings::default().connect_timeout - Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_call_lasts_as_long_as_something_is_heard_of_it() {
    let endpoint = Endpoint::bind(Settings {
        media_idle: ms(500),
        ..Settings::default()
    })
    .unwrap();
    let relay = endpoint.addresses()[0];
    let network = Network::before(relay, Weather::FINE).await;
    let mut peer = Peer::new(EVENTS).await;
    let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let session = Session::start(leg);
    peer.connect(&network.reroute(&answer, relay)).await;
    let mut every_frame = tokio::time::interval(ms(20));
    for index in 0..50 {
        every_frame.tick().await;
        peer.speak(vec![0xf8, 0xff, 0xfe], index * 960).await;
    }
    assert!(!session.to_leg.is_closed());
    drop(network);
    assert_eq!(session.end().await, End::Lost);
}

#[tokio::test]
async fn an_ice_restart_from_another_address_keeps_the_call() {
    let endpoint = endpoint();
    let relay = endpoint.addresses()[0];
    let home = Network::before(relay, Weather::FINE).await;
    let street = Network::before(relay, Weather::FINE).await;
    let mut peer = Peer::new(EVENTS).await;
    let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let control = leg.control();
    let mut session = Session::start(leg);
    peer.connect(&home.reroute(&answer, relay)).await;
    let before = control.etag().unwrap();
    let mut talk = Talk::default();
    for _ in 0..25 {
        talk.frame(&mut peer, &session).await;
    }

    let wish = peer.restart().await;
    let patched = control.patch(&wish, None).unwrap();
    let Patched::Restarted { fragment, etag } = patched.clone() else {
        panic!("{patched:?}");
    };
    assert_ne!(etag, before);
    assert_eq!(control.etag(), Some(etag));
    let port = format!(" 127.0.0.1 {} typ host", relay.port());
    for needed in ["a=mid:0", port.as_str(), "a=end-of-candidates"] {
        assert!(fragment.contains(needed), "{needed} is not in {fragment}");
    }
    // An answer that was lost is given again.
    assert_eq!(control.patch(&wish, None), Ok(patched));

    peer.restarted(&street.reroute(&answer, relay), &fragment)
        .await;
    within("sound by the new way", async {
        while street.carried().contains(&0) {
            talk.frame(&mut peer, &session).await;
        }
    })
    .await;
    let carried = [0, 1].map(|way| home.carried()[way] + street.carried()[way]);
    let [up, down] = carried.map(|carried| usize::from(talk.frames) - carried);
    println!("an ICE restart: {up} packets lost on the way up, {down} on the way down");

    // From here on, the old way is not needed.
    drop(home);
    let (frames, [up, down]) = (talk.frames, street.carried());
    while talk.frames < frames + 25 {
        talk.frame(&mut peer, &session).await;
    }
    within("all of the sound", async {
        while street.carried() != [up + 25, down + 25] {
            tokio::time::sleep(ms(5)).await;
        }
    })
    .await;
    peer.send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    assert!(matches!(session.heard().await, FromClient::Event(..)));
}

/// Sound both ways at its own pace.
#[derive(Default)]
struct Talk {
    frames: u16,
}

impl Talk {
    async fn frame(&mut self, peer: &mut Peer, session: &Session) {
        tokio::time::sleep(ms(20)).await;
        let index = u32::from(self.frames);
        peer.speak(vec![0xf8, 0xff, 0xfe], index * 960).await;
        session.play(ms(20) * index, clock::now()).await;
        self.frames += 1;
    }
}

#[tokio::test]
async fn candidates_that_trickle_in_are_read_and_nothing_is_sent_to_them() {
    let endpoint = endpoint();
    let peer = Peer::new(EVENTS).await;
    let offer = peer.offer().await;
    let (_, leg) = endpoint.answer(&offer).await.unwrap();
    let control = leg.control();
    let etag = control.etag();
    let _session = Session::start(leg);
    let bait = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let line = |name: &str| offer.lines().find(|line| line.starts_with(name)).unwrap();
    let fragment = format!(
        "{}\r\n{}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 127.0.0.1 {} typ host\r\na=end-of-candidates\r\n",
        line("a=ice-ufrag:"),
        line("a=ice-pwd:"),
        bait.local_addr().unwrap().port(),
    );
    assert_eq!(control.patch(&fragment, None), Ok(Patched::Trickled));
    assert_eq!(control.etag(), etag);
    let silence = tokio::time::timeout(ms(300), bait.recv(&mut [0; 2048])).await;
    assert!(silence.is_err());
}

#[tokio::test]
async fn a_restart_needs_a_call_that_is_connected_and_not_over() {
    let endpoint = endpoint();
    let mut peer = Peer::new(EVENTS).await;
    let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let control = leg.control();
    let session = Session::start(leg);
    let wish = "a=ice-ufrag:another\r\na=ice-pwd:another-password-of-ours\r\n";
    let error = control.patch(wish, None).unwrap_err();
    assert_eq!((&error, error.status()), (&PatchError::NotConnected, 409));

    peer.connect(&answer).await;
    assert!(matches!(
        control.patch(wish, None),
        Ok(Patched::Restarted { .. })
    ));
    assert_eq!(
        control.patch("nonsense", None),
        Err(PatchError::NotFragment { line: 1 })
    );

    session.cancel.cancel();
    session.end().await;
    let error = control.patch(wish, None).unwrap_err();
    assert_eq!((&error, error.status()), (&PatchError::Gone, 404));
    assert_eq!(control.etag(), None);
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_until_one_ends() {
    let endpoint = Endpoint::bind(Settings {
        max_calls: 1,
        ..Settings::default()
    })
    .unwrap();
    let (peer, other) = (Peer::new(EVENTS).await, Peer::new(EVENTS).await);
    let (offer, later) = (peer.offer().await, other.offer().await);
    let (_, leg) = endpoint.answer(&offer).await.unwrap();
    let error = endpoint.answer(&later).await.unwrap_err();
    assert_eq!(error, OfferError::TooManyCalls { limit: 1 });
    assert_eq!(error.status(), 429);
    drop(leg);
    endpoint.answer(&later).await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn no_task_survives_a_call() {
    let endpoint = endpoint();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let (peer, session) = call(&endpoint, ALL).await;
    session.cancel.cancel();
    session.end().await;
    peer.hang_up().await;
    drop(peer);
    settle(before, tasks).await;

    // Nor does a task survive a leg that was never run.
    let peer = Peer::new(EVENTS).await;
    let (_, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    drop(leg);
    peer.hang_up().await;
    drop(peer);
    settle(before, tasks).await;
}

/// Aborted tasks are gone once the scheduler has seen them.
async fn settle(expected: usize, tasks: impl Fn() -> usize) {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks(), expected);
}
