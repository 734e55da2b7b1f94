//! Calls over WebRTC: a device and the embedded provider, and who joins them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use voxline::core::port::{FromVoice, Output, ToVoice};
use voxline::media::FRAME_SAMPLES;
use voxline::provider::calls::Calls;
use voxline::provider::realtime::{self, Target};
use voxline::provider::{Patience, Upstream};
use voxline::sim::Settings;
use voxline::wire::realtime::Pinned;

use crate::device::{Peer, within};
use crate::schema::faults;
use crate::speech::packets;
use crate::support::{Client, Provider, fast, http, silence, slow, speech};

const MODEL: &str = "gpt-realtime-2.1";
const EVENTS: &str = "oai-events";

/// A device in a call.
struct Call {
    device: Peer,
    id: String,
    seen: Vec<Value>,
    /// Frames spoken.
    spoken: u32,
}

impl Call {
    async fn place(provider: &Provider, session: Value) -> Self {
        Self::with_channels(provider, session, &[EVENTS]).await
    }

    async fn with_channels(provider: &Provider, mut session: Value, labels: &[&str]) -> Self {
        session["type"] = "realtime".into();
        session["model"] = MODEL.into();
        let mut device = Peer::new(labels).await;
        let request = post(provider).multipart(form(&device.offer().await, &session));
        let (id, answer) = placed(request.send().await.unwrap()).await;
        device.connect(&answer).await;
        Self {
            device,
            id,
            seen: Vec::new(),
            spoken: 0,
        }
    }

    async fn send(&self, event: Value) {
        self.device.send(EVENTS, &event.to_string()).await;
    }

    async fn next(&mut self) -> Value {
        let text = self.device.message(EVENTS).await;
        let event: Value = serde_json::from_str(&text).unwrap();
        self.seen.push(event.clone());
        event
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            assert_ne!(event["type"], "error", "{event}");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Speaks at the pace of speech.
    async fn speak(&mut self, pcm: &[i16]) {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for packet in packets(pcm) {
            pace.tick().await;
            self.device.speak(packet, self.spoken * 960).await;
            self.spoken += 1;
        }
    }

    /// The types of what was seen, without the parts of answers.
    fn story(&self) -> Vec<&str> {
        let kinds = self.seen.iter().filter_map(|event| event["type"].as_str());
        kinds.filter(|kind| !kind.ends_with(".delta")).collect()
    }
}

#[tokio::test]
async fn a_spoken_turn_is_answered_with_sound_and_events_without_sound() {
    let provider = Provider::start(fast());
    let detection = json!({"type": "server_vad", "silence_duration_ms": 200});
    let session = json!({"audio": {"input": {"turn_detection": detection}}});
    let mut call = Call::place(&provider, session).await;
    let created = call.next().await;
    assert_eq!(created["type"], "session.created");
    assert_eq!(created["session"]["model"], MODEL);
    let detection = &created["session"]["audio"]["input"]["turn_detection"];
    assert_eq!(detection["silence_duration_ms"], 200, "{created}");

    call.speak(&speech()[..72 * FRAME_SAMPLES]).await;
    call.speak(&silence(Duration::from_millis(900))).await;
    call.device.hear().await;
    call.until("output_audio_buffer.stopped").await;

    let story = call.story();
    let place = |kind: &str| {
        let found = story.iter().position(|seen| *seen == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {story:?}"))
    };
    let order = [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "response.created",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
    ];
    assert!(order.map(place).is_sorted(), "{story:?}");
    assert!(place("response.done") < place("output_audio_buffer.stopped"));
    let delta = "response.output_audio.delta";
    assert!(call.seen.iter().all(|event| event["type"] != delta));
    let wrong = faults(&call.seen);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn an_answer_that_is_spoken_over_is_cut_and_truncated_by_the_provider() {
    let provider = Provider::start(slow());
    let mut call = Call::place(&provider, json!({})).await;
    call.send(json!({"type": "response.create"})).await;
    call.until("output_audio_buffer.started").await;
    for _ in 0..25 {
        call.device.hear().await;
    }
    call.speak(&speech()[..60 * FRAME_SAMPLES]).await;
    let cleared = call.until("output_audio_buffer.cleared").await;
    let done = call.until("response.done").await;
    assert_eq!(done["response"]["status"], "cancelled");
    assert_eq!(done["response"]["id"], cleared["response_id"]);
    let told = call.seen.iter();
    let truncated = told.filter(|event| event["type"] == "conversation.item.truncated");
    let heard = match truncated.map(|event| event["audio_end_ms"].as_u64()).next() {
        Some(heard) => heard,
        None => call.until("conversation.item.truncated").await["audio_end_ms"].as_u64(),
    };
    assert!(heard.is_some_and(|heard| heard >= 300), "{heard:?}");
    let wrong = faults(&call.seen);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn who_joins_from_beside_sees_the_same_and_can_act() {
    let provider = Provider::start(fast());
    let mut call = Call::place(&provider, json!({"instructions": "Be brief."})).await;
    call.until("session.created").await;
    let mut beside = join(&provider, &call.id).await;
    let created = beside.expect("session.created").await;
    assert_eq!(created["session"]["instructions"], "Be brief.");

    beside.send(json!({"type": "response.create"})).await;
    call.device.hear().await;
    for kind in ["response.done", "output_audio_buffer.stopped"] {
        let (mut theirs, mut ours) = (beside.until(kind).await, call.until(kind).await);
        // Each is told by itself of what the provider plays.
        for event in [&mut theirs, &mut ours] {
            assert!(event["event_id"].take().is_string());
        }
        assert_eq!(theirs, ours);
    }
    let wrong = faults(&beside.seen);
    assert!(wrong.is_empty(), "{wrong:?}");

    let update = json!({"type": "realtime", "instructions": "Be long."});
    beside
        .send(json!({"type": "session.update", "session": update}))
        .await;
    let updated = call.until("session.updated").await;
    assert_eq!(updated["session"]["instructions"], "Be long.");
}

#[tokio::test]
async fn a_relay_sets_up_a_call_for_a_device_and_joins_it() {
    let provider = Provider::start(fast());
    let upstream = Upstream {
        base_url: format!("http://{}/v1", provider.addr),
        api_key: "sk-test".to_owned(),
    };
    let calls = Calls::new(upstream.clone(), Patience::default());
    let mut device = Peer::new(&[EVENTS]).await;
    let session = json!({"type": "realtime", "model": MODEL}).to_string();
    let created = calls.create(&device.offer().await, &session).await.unwrap();
    let mut link = realtime::open(
        &upstream,
        &Target::Call(created.call.clone()),
        &Pinned::default(),
        Patience::default(),
        Arc::new(|_| {}),
    )
    .await
    .unwrap();
    device.connect(&created.answer).await;

    let event = json!({"type": "response.create"}).to_string();
    link.outbox
        .send(ToVoice::Event(event.into()))
        .await
        .unwrap();
    device.hear().await;
    let first = within("its session", link.inbox.recv()).await.unwrap();
    assert!(matches!(first, FromVoice::Session(..)), "{first:?}");
    let mut played = Vec::new();
    while played.len() < 2 {
        let message = within("the answer's end", link.inbox.recv()).await.unwrap();
        assert!(!matches!(message, FromVoice::Audio { .. }));
        if let FromVoice::Output(output, ..) = message {
            played.push(output);
        }
    }
    assert_eq!(played, [Output::Started, Output::Stopped]);

    calls.hang_up(&created.call).await.unwrap();
    let mut last = None;
    while let Some(message) = within("the link's end", link.inbox.recv()).await {
        last = Some(message);
    }
    assert!(matches!(last, Some(FromVoice::Down(_))), "{last:?}");
    // It has ended, and that is all that was wanted.
    calls.hang_up(&created.call).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_hung_up_ends_for_everyone() {
    let provider = Provider::start(fast());
    let mut call = Call::place(&provider, json!({})).await;
    let mut beside = join(&provider, &call.id).await;
    beside.expect("session.created").await;

    let answer = hang_up(&provider, &call.id).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "");
    assert_eq!(beside.closed().await.code, CloseCode::Normal);
    let closed = within("closing", call.device.closed.recv()).await;
    assert_eq!(closed.as_deref(), Some(EVENTS));
    gone(&provider, &call.id).await;
}

#[tokio::test]
async fn a_device_that_hangs_up_ends_its_call() {
    let provider = Provider::start(fast());
    let call = Call::place(&provider, json!({})).await;
    let mut beside = join(&provider, &call.id).await;
    beside.expect("session.created").await;
    call.device.hang_up().await;
    assert_eq!(beside.closed().await.code, CloseCode::Normal);
    gone(&provider, &call.id).await;
}

#[tokio::test]
async fn calls_end_with_the_provider() {
    let provider = Provider::start(slow());
    let mut call = Call::place(&provider, json!({})).await;
    let mut beside = join(&provider, &call.id).await;
    call.send(json!({"type": "response.create"})).await;
    beside.until("output_audio_buffer.started").await;
    provider.cancel.cancel();
    assert_eq!(beside.closed().await.code, CloseCode::Restart);
    within("closing", call.device.closed.recv()).await;
    provider.ended().await;
}

#[tokio::test]
async fn a_provider_knows_no_events_but_openais() {
    let provider = Provider::start(fast());
    let labels = [EVENTS, "voxline"];
    let mut call = Call::with_channels(&provider, json!({}), &labels).await;
    let closed = within("closing", call.device.closed.recv()).await;
    assert_eq!(closed.as_deref(), Some("voxline"));
    call.send(json!({"type": "response.create"})).await;
    call.until("output_audio_buffer.stopped").await;
}

#[tokio::test]
async fn an_offer_by_itself_makes_a_call_of_the_model_or_the_secret_that_comes_with_it() {
    let provider = Provider::start(fast());
    let device = Peer::new(&[EVENTS]).await;
    let offer = device.offer().await;
    let bare = |query: &str, key: &str| {
        http()
            .post(url(&provider, query))
            .bearer_auth(key)
            .header("content-type", "application/sdp")
            .body(offer.clone())
    };
    let answer = bare(&format!("?model={MODEL}"), "sk-test").send().await;
    placed(answer.unwrap()).await;

    let secrets = format!("http://{}/v1/realtime/client_secrets", provider.addr);
    let request = http().post(secrets).bearer_auth("sk-test");
    let made: Value = request.send().await.unwrap().json().await.unwrap();
    let secret = made["value"].as_str().unwrap();
    let (id, _) = placed(bare("", secret).send().await.unwrap()).await;

    // It opens sessions and nothing else.
    let request = http().post(url(&provider, &format!("/{id}/hangup")));
    let answer = request.bearer_auth(secret).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let mut request = provider.request(&format!("?call_id={id}"));
    let key = format!("Bearer {secret}").parse().unwrap();
    request.headers_mut().insert("authorization", key);
    let mut beside = provider.dial(request).await;
    let error = beside.expect("error").await;
    assert_eq!(error["error"]["param"], "call_id");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_in_openais_shape() {
    let provider = Provider::start(Settings {
        api_key: Some("sk-test".to_owned()),
        ..fast()
    });
    let offer = &Peer::new(&[EVENTS]).await.offer().await;
    let session = &json!({"type": "realtime", "model": MODEL});
    let keyless = http().post(url(&provider, ""));
    let silent = offer.replace("m=audio", "m=video");
    let long = "a=x\r\n".repeat(20_000);
    let bare = |body: &str| {
        let request = post(&provider).header("content-type", "application/sdp");
        request.body(body.to_owned())
    };
    let with = |session: Value| post(&provider).multipart(form(offer, &session));
    let cases = [
        (
            keyless.multipart(form(offer, session)),
            401,
            "invalid_api_key",
        ),
        (
            http()
                .post(url(&provider, ""))
                .bearer_auth("sk-wrong")
                .multipart(form(offer, session)),
            401,
            "invalid_api_key",
        ),
        (post(&provider), 415, "unsupported_content_type"),
        (bare(""), 400, "missing_required_parameter"),
        (bare(offer), 400, "missing_required_parameter"),
        (bare(&long), 413, "request_too_large"),
        (
            post(&provider).multipart(Form::new().text("sdp", offer.clone())),
            400,
            "missing_required_parameter",
        ),
        (
            post(&provider).multipart(Form::new().text("session", session.to_string())),
            400,
            "missing_required_parameter",
        ),
        (with(json!([])), 400, "invalid_type"),
        (
            with(json!({"model": MODEL})),
            400,
            "missing_required_parameter",
        ),
        (
            with(json!({"type": "realtime"})),
            400,
            "missing_required_parameter",
        ),
        (
            with(json!({"type": "transcription", "model": MODEL})),
            400,
            "invalid_value",
        ),
        (
            with(json!({"type": "realtime", "model": "gpt-4o"})),
            400,
            "invalid_model",
        ),
        (
            with(json!({"type": "realtime", "model": MODEL, "voice": "x"})),
            400,
            "unknown_parameter",
        ),
        (
            post(&provider).multipart(form(&silent, session)),
            400,
            "invalid_offer",
        ),
        (hang_up(&provider, "rtc_none"), 404, "call_id_not_found"),
    ];
    for (request, status, code) in cases {
        let answer = request.send().await.unwrap();
        let got = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            (got.as_u16(), &body["error"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
        assert!(body["error"]["message"].is_string());
    }
    let mut nobody = join(&provider, "rtc_none").await;
    let error = nobody.expect("error").await;
    assert_eq!(error["error"]["code"], "call_id_not_found");
    assert_eq!(u16::from(nobody.closed().await.code), 4000);
}

#[tokio::test]
async fn there_are_as_many_calls_as_sessions() {
    let provider = Provider::start(Settings {
        max_sessions: 1,
        ..fast()
    });
    let session = json!({"type": "realtime", "model": MODEL});
    let offer = Peer::new(&[EVENTS]).await.offer().await;
    let request = || post(&provider).multipart(form(&offer, &session));
    let (id, _) = placed(request().send().await.unwrap()).await;
    assert!(request().send().await.unwrap().status().as_u16() >= 429);
    hang_up(&provider, &id).send().await.unwrap();
    gone(&provider, &id).await;
    let mut answer = request().send().await.unwrap();
    while answer.status() != 201 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = request().send().await.unwrap();
    }
}

async fn join(provider: &Provider, call: &str) -> Client {
    let request = provider.request(&format!("?call_id={call}"));
    provider.dial(request).await
}

/// Waits until a call is not known any more.
async fn gone(provider: &Provider, call: &str) {
    within("the call's end", async {
        while hang_up(provider, call).send().await.unwrap().status() != 404 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn url(provider: &Provider, rest: &str) -> String {
    format!("http://{}/v1/realtime/calls{rest}", provider.addr)
}

fn post(provider: &Provider) -> RequestBuilder {
    http().post(url(provider, "")).bearer_auth("sk-test")
}

fn hang_up(provider: &Provider, call: &str) -> RequestBuilder {
    let url = url(provider, &format!("/{call}/hangup"));
    http().post(url).bearer_auth("sk-test")
}

fn form(offer: &str, session: &Value) -> Form {
    let part = |text: String, kind| Part::text(text).mime_str(kind).unwrap();
    Form::new()
        .part("sdp", part(offer.to_owned(), "application/sdp"))
        .part("session", part(session.to_string(), "application/json"))
}

/// Returns the call's name and the answer.
async fn placed(response: Response) -> (String, String) {
    let status = response.status();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let (kind, location) = (header("content-type"), header("location"));
    let body = response.text().await.unwrap();
    assert_eq!(status, 201, "{body}");
    assert_eq!(kind.as_deref(), Some("application/sdp"));
    let location = location.unwrap();
    let id = location.strip_prefix("/v1/realtime/calls/").unwrap();
    assert!(id.starts_with("rtc_"), "{id}");
    assert!(body.starts_with("v=0\r\n"), "{body}");
    (id.to_owned(), body)
}
