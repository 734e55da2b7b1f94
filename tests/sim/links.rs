//! The relay's own links to the embedded provider.

use std::sync::Arc;

use serde_json::{Value, json};
use voxline::core::audio::Format;
use voxline::core::port::{FromVoice, ToVoice, VoiceSession};
use voxline::core::resilience::BreakerConfig;
use voxline::gateway::{Gateway, Opening};
use voxline::provider::realtime::Link;
use voxline::provider::{OpenError, Patience, Upstream};
use voxline::wire::realtime::Carrier;

use crate::device::{Peer, within};
use crate::support::{Provider, append_event, fast, speech};

#[tokio::test]
async fn a_transcription_comes_configured_and_says_what_was_said() {
    let provider = Provider::start(fast());
    let input = json!({"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}});
    let session = json!({"audio": {"input": input}});
    let opening = Opening::transcription(session, Carrier::WebSocket).unwrap();
    let mut link = gateway(&provider).open(&opening).await.unwrap();

    let (voice, created) = session_of(&mut link).await;
    assert_eq!(created["type"], "session.created");
    assert_eq!(created["session"]["type"], "transcription");
    let detection = &created["session"]["audio"]["input"]["turn_detection"];
    assert_eq!(detection["silence_duration_ms"], 500);
    assert!(!voice.responds && !voice.interrupts, "{voice:?}");

    for frame in speech().chunks(480) {
        let event = append_event(frame).to_string();
        link.outbox
            .send(ToVoice::Event(event.into()))
            .await
            .unwrap();
    }
    let transcript = loop {
        if let FromVoice::Transcribed { text, .. } = link.inbox.recv().await.unwrap() {
            break text.0;
        }
    };
    assert!(transcript.starts_with("[speech, "), "{transcript}");
}

#[tokio::test]
async fn a_webrtc_link_has_the_relays_format_whatever_the_client_wants() {
    let provider = Provider::start(fast());
    for session in [
        Value::Null,
        json!({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}),
    ] {
        let model = "gpt-realtime-2.1".to_owned();
        let opening = Opening::conversation(model, session, Carrier::WebRtc).unwrap();
        let mut link = gateway(&provider).open(&opening).await.unwrap();

        let (voice, _) = session_of(&mut link).await;
        assert_eq!((voice.input, voice.output), (Format::Pcm, Format::Pcm));
    }
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused_in_the_providers_words() {
    let provider = Provider::start(fast());
    let session = json!({"instructions": "Answer."});
    let opening = Opening::transcription(session, Carrier::WebSocket).unwrap();

    let Err(OpenError::Refused(fault)) = gateway(&provider).open(&opening).await else {
        panic!("not refused");
    };

    assert_eq!(fault.code, "unknown_parameter");
    assert_eq!(fault.param.as_deref(), Some("session.instructions"));
}

#[tokio::test]
async fn a_call_is_created_for_a_device_joined_from_beside_and_ended() {
    let provider = Provider::start(fast());
    let gateway = gateway(&provider);
    let mut device = Peer::new(&["oai-events"]).await;
    let session = json!({"type": "realtime", "instructions": "Be brief."});
    let model = "gpt-realtime-2.1-mini".to_owned();
    let opening = Opening::conversation(model, session, Carrier::WebRtc).unwrap();

    let offer = device.offer().await;
    let created = gateway.create_call(&offer, &opening).await.unwrap();
    let mut link = (gateway.open(&Opening::sideband(created.call.clone())).await).unwrap();

    let (_, event) = session_of(&mut link).await;
    assert_eq!(event["type"], "session.created");
    assert_eq!(event["session"]["model"], "gpt-realtime-2.1-mini");
    assert_eq!(event["session"]["instructions"], "Be brief.");
    // The device hears what the one beside it asks for.
    device.connect(&created.answer).await;
    let ask = json!({"type": "response.create"}).to_string();
    link.outbox.send(ToVoice::Event(ask.into())).await.unwrap();
    device.hear().await;

    gateway.hang_up(&created.call).await.unwrap();
    within("the end of the link", async {
        while let Some(message) = link.inbox.recv().await {
            if let FromVoice::Down(_) = message {
                break;
            }
        }
    })
    .await;
    gateway.hang_up(&created.call).await.unwrap();
    let sideband = Opening::sideband(created.call);
    within("the end of the call", async {
        loop {
            match gateway.open(&sideband).await {
                Err(error) if error.is_unknown_call() => break,
                // It is about to end.
                Ok(_) | Err(_) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_offer_that_is_none_is_refused_in_the_providers_words() {
    let provider = Provider::start(fast());
    let model = "gpt-realtime-2.1".to_owned();
    let opening = Opening::conversation(model, Value::Null, Carrier::WebRtc).unwrap();

    let gateway = gateway(&provider);
    let refused = gateway.create_call("v=0 nonsense", &opening).await;

    assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
}

fn gateway(provider: &Provider) -> Gateway {
    let upstream = Upstream {
        base_url: format!("http://{}/v1", provider.addr),
        api_key: "sk-test".to_owned(),
    };
    Gateway::new(
        upstream,
        Patience::default(),
        BreakerConfig::default(),
        Arc::new(|_| {}),
    )
}

/// Returns what a link says first.
async fn session_of(link: &mut Link) -> (VoiceSession, Value) {
    match link.inbox.recv().await {
        Some(FromVoice::Session(voice, json)) => {
            (voice, serde_json::from_str(json.as_str()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}
