//! WebRTC calls, as far as HTTP carries them.

use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{BEARER, KEY, MODEL, PATIENCE, Relay};

/// What a browser offers: sound both ways, and a data channel.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Xq2k\r\na=ice-pwd:0123456789abcdef01234567\r\n\
    a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:\
    43:F0:A1:58:D0:A1:2C:19:08\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=msid:- mic\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:0 PCMU/8000\r\na=ssrc:1001 cname:voice\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Xq2k\r\na=ice-pwd:0123456789abcdef01234567\r\n\
    a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:\
    43:F0:A1:58:D0:A1:2C:19:08\r\n\
    a=setup:actpass\r\na=mid:1\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

#[tokio::test]
async fn a_form_with_offer_and_session_is_answered() {
    let relay = Relay::start(&[]).await;
    let session = json!({"type": "realtime", "model": MODEL, "instructions": "Be brief."});
    let answer = post(&relay).multipart(form(OFFER, &session)).send().await;
    answered(answer.unwrap()).await;
}

#[tokio::test]
async fn a_bare_offer_is_answered_with_and_without_a_model() {
    let relay = Relay::start(&[]).await;
    for query in ["", "?model=gpt-realtime-2.1-mini"] {
        let answer = Client::new()
            .post(relay.url(&format!("/v1/realtime/calls{query}")))
            .bearer_auth(KEY)
            .header("content-type", "application/sdp; charset=utf-8")
            .body(OFFER)
            .send()
            .await;
        answered(answer.unwrap()).await;
    }
}

#[tokio::test]
async fn a_call_is_hung_up_once() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    for way in ["POST", "DELETE"] {
        let location = answered(offer(&relay, OFFER).send().await.unwrap()).await;
        let refused = offer(&relay, OFFER).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let hang_up = || match way {
            "POST" => Client::new().post(relay.url(&format!("{location}/hangup"))),
            _ => Client::new().delete(relay.url(&location)),
        };
        let answer = hang_up().bearer_auth(KEY).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.text().await.unwrap(), "");
        gone(&relay).await;
        let answer = hang_up().bearer_auth(KEY).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(error(answer).await["code"], "call_not_found");
    }
}

#[tokio::test]
async fn a_full_relay_says_when_to_come_back() {
    let relay = Relay::start(&[("limits.sessions", "1")]).await;
    let mut client = relay.connect().await;
    client.event_of("session.created").await;
    let answer = offer(&relay, OFFER).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert_eq!(error(answer).await["code"], "rate_limit_exceeded");
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused() {
    let relay = Relay::start(&[("limits.sdp", "4KiB"), ("limits.body", "8KiB")]).await;
    let large = OFFER.to_owned() + &"a=x\r\n".repeat(1000);
    let session = json!({"type": "realtime", "model": MODEL});
    let wide = json!({"type": "realtime", "model": MODEL, "instructions": "x".repeat(9000)});
    for request in [
        offer(&relay, &large),
        post(&relay).multipart(form(&large, &session)),
        post(&relay).multipart(form(OFFER, &wide)),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(error(answer).await["code"], "request_too_large");
    }
    answered(offer(&relay, OFFER).send().await.unwrap()).await;
}

#[tokio::test]
async fn an_error_does_not_repeat_a_long_mistake() {
    let relay = Relay::start(&[]).await;
    let long = "x".repeat(100_000);
    for session in [
        json!({"type": long}),
        json!({"type": "realtime", "model": {"name": long}}),
        json!({"type": "realtime", "model": long}),
    ] {
        let request = post(&relay).multipart(form(OFFER, &session));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.text().await.unwrap().len() < 512);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let relay = Relay::start(&[]).await;
    let session = |session: Value| post(&relay).multipart(form(OFFER, &session));
    let text = |name: &'static str, text: &str| Form::new().text(name, text.to_owned());
    let silent = OFFER.replace("m=audio 9", "m=video 9");
    for (request, status, code, param) in [
        (
            post(&relay).body(OFFER),
            415,
            "unsupported_content_type",
            None,
        ),
        (
            post(&relay).json(&json!({})),
            415,
            "unsupported_content_type",
            None,
        ),
        (
            offer(&relay, ""),
            400,
            "missing_required_parameter",
            Some("sdp"),
        ),
        (offer(&relay, "hello"), 400, "invalid_offer", Some("sdp")),
        (offer(&relay, &silent), 400, "invalid_offer", Some("sdp")),
        (
            post(&relay).multipart(text("sdp", OFFER)),
            400,
            "missing_required_parameter",
            Some("session"),
        ),
        (
            post(&relay).multipart(text("session", "{")),
            400,
            "invalid_json",
            Some("session"),
        ),
        (
            post(&relay)
                .header("content-type", "multipart/form-data; boundary=x")
                .body("--x\r\nbroken"),
            400,
            "invalid_request",
            None,
        ),
        (
            Client::new()
                .post(relay.url("/v1/realtime/calls?model=a&model=b"))
                .bearer_auth(KEY),
            400,
            "invalid_request",
            None,
        ),
        (
            Client::new()
                .delete(relay.url("/v1/realtime/calls/%ff"))
                .bearer_auth(KEY),
            400,
            "invalid_request",
            None,
        ),
        (session(json!([])), 400, "invalid_type", Some("session")),
        (
            session(json!({"model": MODEL})),
            400,
            "missing_required_parameter",
            Some("session.type"),
        ),
        (
            session(json!({"type": "translation"})),
            400,
            "invalid_value",
            Some("session.type"),
        ),
        (
            session(json!({"type": "realtime", "model": 5})),
            400,
            "invalid_type",
            Some("session.model"),
        ),
        (
            session(json!({"type": "realtime", "model": MODEL, "volume": 11})),
            400,
            "unknown_parameter",
            Some("session.volume"),
        ),
    ] {
        let answer = request.send().await.unwrap();
        let got = answer.status();
        let error = error(answer).await;
        assert_eq!(got, status, "{error}");
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["param"].as_str(), param, "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_a_bad_gateway() {
    let nowhere = [("openai.base_url", "http://127.0.0.1:9/v1")];
    let relay = Relay::start(&nowhere).await;
    let answer = offer(&relay, OFFER).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(error(answer).await["code"], "provider_unreachable");

    let relay = Relay::start(&[("sim.fault", "unauthorized")]).await;
    let answer = offer(&relay, OFFER).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(error(answer).await["code"], "provider_credential_refused");
}

fn post(relay: &Relay) -> RequestBuilder {
    Client::new()
        .post(relay.url("/v1/realtime/calls"))
        .header("authorization", BEARER)
}

fn offer(relay: &Relay, sdp: &str) -> RequestBuilder {
    post(relay)
        .header("content-type", "application/sdp")
        .body(sdp.to_owned())
}

fn form(sdp: &str, session: &Value) -> Form {
    let part = |text: String, kind| Part::text(text).mime_str(kind).unwrap();
    Form::new()
        .part("sdp", part(sdp.to_owned(), "application/sdp"))
        .part("session", part(session.to_string(), "application/json"))
}

/// Checks that it is an answer to an offer, and returns the call's location.
async fn answered(answer: Response) -> String {
    let status = answer.status();
    let headers = answer.headers().clone();
    let body = answer.text().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(headers["content-type"], "application/sdp");
    assert!(body.starts_with("v=0\r\n"), "{body}");
    assert!(body.contains("a=candidate:"), "{body}");
    let location = headers["location"].to_str().unwrap();
    assert!(
        location.starts_with("/v1/realtime/calls/rtc_"),
        "{location}"
    );
    location.to_owned()
}

async fn error(answer: Response) -> Value {
    let body: Value = answer.json().await.unwrap();
    body["error"].clone()
}

/// Waits until no session is left, for less than it takes a call to give up by itself.
async fn gone(relay: &Relay) {
    let waiting = async {
        loop {
            let metrics = reqwest::get(relay.url("/metrics")).await.unwrap();
            if metrics
                .text()
                .await
                .unwrap()
                .contains("voxline_sessions 0\n")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the call ends");
}
