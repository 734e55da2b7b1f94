//! What WHIP (RFC 9725) asks of calls beside posting and deleting them.

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::calling::heard_on;
use crate::harness::{KEY, MODEL, Relay};
use crate::support::peer::Peer;

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const CANDIDATE: &str = "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n";

#[tokio::test]
async fn a_call_restarts_ice_and_goes_on() {
    let relay = Relay::start(&[]).await;
    let mut call = Call::make(&relay).await;
    let wish = call.peer.restart().await;
    let answer = call.patch("*", &wish).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], FRAGMENT);
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(etag, call.etag);
    let fragment = answer.text().await.unwrap();
    call.peer.restarted(&call.answer, &fragment).await;
    call.peer
        .send("oai-events", r#"{"type":"response.create"}"#)
        .await;
    call.peer.hear().await;

    // What names the ICE session before is too late, and the new one is taken.
    let stale = call.patch(&call.etag, CANDIDATE).send().await.unwrap();
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(relay.metric("voxline_ice_restarts_total").await, 1);
    let trickled = call.patch(&etag, CANDIDATE).send().await.unwrap();
    assert_eq!(trickled.status(), StatusCode::NO_CONTENT);
    assert_eq!(trickled.text().await.unwrap(), "");
}

#[tokio::test]
async fn what_is_wrong_with_a_patch_is_told_and_the_call_goes_on() {
    let relay = Relay::start(&[]).await;
    let call = Call::make(&relay).await;
    let large = "a=x\r\n".repeat(4_000);
    let request = || call.request(KEY);
    for (request, status, code) in [
        (request().body(CANDIDATE), 415, "unsupported_content_type"),
        (
            request().header("content-type", FRAGMENT).body(CANDIDATE),
            428,
            "if_match_required",
        ),
        (call.patch("\"other\"", CANDIDATE), 412, "ice_session_over"),
        (
            call.patch(&format!("W/{}", call.etag), CANDIDATE),
            412,
            "ice_session_over",
        ),
        (call.patch("*", "hello"), 400, "invalid_fragment"),
        (
            call.patch("*", "a=ice-ufrag:abcd\r\n"),
            400,
            "invalid_fragment",
        ),
        (call.patch("*", &large), 413, "request_too_large"),
        (
            call.request("wrong-key").header("if-match", "*"),
            401,
            "invalid_api_key",
        ),
        (
            call.request(&relay.secret_of("bert").await)
                .header("if-match", "*"),
            404,
            "call_not_found",
        ),
    ] {
        let answer = request.send().await.unwrap();
        let got = answer.status();
        if status == 415 {
            assert_eq!(answer.headers()["accept-patch"], FRAGMENT);
        }
        let body: Value = answer.json().await.unwrap();
        assert_eq!(got, status, "{body}");
        assert_eq!(body["error"]["code"], code, "{body}");
    }
    let listed = format!("\"other\", {}", call.etag);
    for etag in [call.etag.as_str(), &listed, "*"] {
        let answer = call.patch(etag, CANDIDATE).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{etag}");
    }
}

#[tokio::test]
async fn a_session_without_ice_has_nothing_to_patch() {
    let relay = Relay::start(&[]).await;
    let query = format!("?model={MODEL}");
    let mut client = relay.connect_extended(KEY, &query).await;
    let session = client.event_of("voxline.session").await;
    let id = session["session_id"].as_str().unwrap();
    let answer = Client::new()
        .patch(relay.url(&format!("/v1/realtime/calls/{id}")))
        .bearer_auth(KEY)
        .header("if-match", "*")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "method_not_supported");
}

#[tokio::test]
async fn what_there_is_to_ask_for_is_told() {
    let relay = Relay::start(&[]).await;
    for (path, name, value) in [
        ("/v1/realtime/calls", "accept-post", "application/sdp"),
        ("/v1/realtime/calls/rtc_any", "accept-patch", FRAGMENT),
    ] {
        let request = Client::new().request(Method::OPTIONS, relay.url(path));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(answer.headers()[name], value);
        assert!(
            answer.headers()["allow"]
                .to_str()
                .unwrap()
                .contains("OPTIONS")
        );
    }
}

#[tokio::test]
async fn a_patch_reaches_the_leg_that_is_connected_whoever_is_to_take_its_place() {
    let relay = Relay::start(&[]).await;
    let mut peer = Peer::new(&["oai-events", "voxline"]).await;
    let answer = relay.offer(KEY, "", &peer.offer().await).await;
    let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
    let (url, etag) = (relay.url(&header("location")), header("etag"));
    let answer = answer.text().await.unwrap();
    peer.connect(&answer).await;
    let session = heard_on(&mut peer, "voxline", "voxline.session").await;
    let next = Peer::new(&["oai-events", "voxline"]).await;
    let resume = session["resume_token"].as_str().unwrap();
    let offered = relay.offer(resume, "", &next.offer().await).await;
    assert_eq!(offered.status(), StatusCode::CREATED);
    let next_etag = offered.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(next_etag, etag);
    let mut call = Call {
        peer,
        url,
        etag,
        answer,
    };

    let wish = call.peer.restart().await;
    let stillborn = call.patch(&next_etag, &wish).send().await.unwrap();
    assert_eq!(stillborn.status(), StatusCode::CONFLICT);
    let by_name = call.patch(&call.etag, &wish).send().await.unwrap();
    assert_eq!(by_name.status(), StatusCode::OK);
    let any = call.patch("*", &wish).send().await.unwrap();
    assert_eq!(any.status(), StatusCode::OK);
    let fragment = any.text().await.unwrap();
    assert_eq!(fragment, by_name.text().await.unwrap(), "asked again");
    call.peer.restarted(&call.answer, &fragment).await;
    let create = r#"{"type":"response.create"}"#;
    call.peer.send("oai-events", create).await;
    call.peer.hear().await;
}

/// A call that is connected.
struct Call {
    peer: Peer,
    url: String,
    etag: String,
    answer: String,
}

impl Call {
    async fn make(relay: &Relay) -> Self {
        let mut peer = Peer::new(&["oai-events"]).await;
        let secret = relay.secret_of("anna").await;
        let answer = relay.offer(&secret, "", &peer.offer().await).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(answer.headers()["accept-patch"], FRAGMENT);
        let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
        let (url, etag) = (relay.url(&header("location")), header("etag"));
        let answer = answer.text().await.unwrap();
        peer.connect(&answer).await;
        Self {
            peer,
            url,
            etag,
            answer,
        }
    }

    fn request(&self, credential: &str) -> RequestBuilder {
        Client::new().patch(&self.url).bearer_auth(credential)
    }

    fn patch(&self, etag: &str, fragment: &str) -> RequestBuilder {
        self.request(KEY)
            .header("content-type", FRAGMENT)
            .header("if-match", etag)
            .body(fragment.to_owned())
    }
}
