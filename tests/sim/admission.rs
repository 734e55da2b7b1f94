//! Who may come in. Faults are told after the upgrade, by an `error` event and a close.

use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::Request;
use voxline::sim::{Fault, Settings};

use crate::support::{Provider, fast, http};

#[tokio::test]
async fn faults_of_key_model_and_shape_are_told_in_band_with_their_close_codes() {
    let provider = Provider::start(Settings {
        api_key: Some("sk-right".to_owned()),
        ..fast()
    });
    let request = |key: &str, query: &str, beta: bool| {
        let mut request = provider.request(query);
        let headers = request.headers_mut();
        match key {
            "" => headers.remove("authorization"),
            key => headers.insert("authorization", format!("Bearer {key}").parse().unwrap()),
        };
        if beta {
            headers.insert("openai-beta", "realtime=v1".parse().unwrap());
        }
        request
    };
    let model = "?model=gpt-realtime-2.1";
    let cases = [
        (request("sk-wrong", model, false), "invalid_api_key", 3000),
        (request("", model, false), "invalid_api_key", 3000),
        (request("sk-right", "", false), "missing_model", 4000),
        (request("sk-right", "?model=", false), "missing_model", 4000),
        (
            request("sk-right", "?model=gpt-4o", false),
            "invalid_model",
            4000,
        ),
        (
            request("sk-right", model, true),
            "beta_api_shape_disabled",
            4000,
        ),
    ];
    for (request, code, close) in cases {
        let mut client = provider.dial(request).await;
        let error = client.expect("error").await;
        assert_eq!(error["error"]["code"], code);
        assert_eq!(error["error"]["type"], "invalid_request_error");
        let frame = client.closed().await;
        assert_eq!(u16::from(frame.code), close, "{code}");
        assert_eq!(frame.reason, format!("invalid_request_error.{code}"));
    }
    let mut client = provider.dial(request("sk-right", model, false)).await;
    client.expect("session.created").await;
}

#[tokio::test]
async fn a_browser_brings_its_key_as_a_subprotocol_and_gets_realtime_selected() {
    let provider = Provider::start(Settings {
        api_key: Some("ek_right".to_owned()),
        ..fast()
    });
    let offer = "realtime, openai-insecure-api-key.ek_right, openai-agents-sdk.0.20.0";
    let (_socket, response) = connect_async(browser(&provider, offer)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "realtime");
    let mut client = provider.dial(browser(&provider, offer)).await;
    client.expect("session.created").await;

    let beta = format!("{offer}, openai-beta.realtime-v1");
    let mut client = provider.dial(browser(&provider, &beta)).await;
    let error = client.expect("error").await;
    assert_eq!(error["error"]["code"], "beta_api_shape_disabled");
}

#[tokio::test]
async fn no_subprotocol_is_selected_unless_it_is_offered() {
    let provider = Provider::start(fast());
    let request = provider.request("?model=gpt-realtime-2.1");
    let (_socket, response) = connect_async(request).await.unwrap();
    assert!(response.headers().get("sec-websocket-protocol").is_none());
}

#[tokio::test]
async fn without_a_key_of_its_own_any_key_serves_but_an_empty_one() {
    let provider = Provider::start(fast());
    provider.client().await;
    let mut request = provider.request("?model=gpt-realtime-2.1");
    let header = "Bearer ".parse().unwrap();
    request.headers_mut().insert("authorization", header);
    let mut client = provider.dial(request).await;
    assert_eq!(
        client.expect("error").await["error"]["code"],
        "invalid_api_key"
    );
}

#[tokio::test]
async fn other_paths_and_plain_requests_get_errors_in_openais_shape() {
    let provider = Provider::start(fast());
    for (path, status) in [("/v1/models", 404), ("/v1/realtime", 400)] {
        let url = format!("http://{}{path}", provider.addr);
        let response = http().get(url).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body: serde_json::Value = response.json().await.unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn it_refuses_the_upgrade_or_the_key_on_command() {
    let provider = Provider::start(Settings {
        fault: Some(Fault::Refuse {
            status: 429,
            retry_after: None,
        }),
        ..fast()
    });
    let request = provider.request("?model=gpt-realtime-2.1");
    match connect_async(request).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{other:?}"),
    }
    let provider = Provider::start(Settings {
        fault: Some(Fault::Unauthorized),
        ..fast()
    });
    let request = provider.request("?model=gpt-realtime-2.1");
    let mut client = provider.dial(request).await;
    client.expect("error").await;
    assert_eq!(u16::from(client.closed().await.code), 3000);
}

#[tokio::test]
async fn it_stalls_drops_and_fails_on_command() {
    let after = std::time::Duration::from_millis(300);
    let stalling = Provider::start(Settings {
        fault: Some(Fault::Stall { after }),
        ..fast()
    });
    let mut client = stalling.client().await;
    client.send(json!({"type": "response.create"})).await;
    for _ in 0..3 {
        client.until("response.output_audio.delta").await;
    }
    // It listens, but the response has fallen silent.
    client.update(json!({})).await;

    let dropping = Provider::start(Settings {
        fault: Some(Fault::Drop { after }),
        ..fast()
    });
    let mut client = dropping.client().await;
    client.send(json!({"type": "response.create"})).await;
    while let Ok(event) = client.receive().await {
        assert_ne!(event["type"], "response.done");
    }

    let failing = Provider::start(Settings {
        fault: Some(Fault::FailResponses),
        ..fast()
    });
    let mut client = failing.client().await;
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["status"], "failed");
    let error = &done["response"]["status_details"]["error"];
    assert_eq!(error["code"], "server_error");
}

fn browser(provider: &Provider, offer: &str) -> Request<()> {
    let mut request = provider.request("?model=gpt-realtime-2.1");
    let headers = request.headers_mut();
    headers.remove("authorization");
    headers.insert("sec-websocket-protocol", offer.parse().unwrap());
    request
}
