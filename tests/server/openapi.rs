//! The document at `/openapi.json`, against the relay that serves it.

use reqwest::{Client, Method};
use serde_json::Value;

use crate::harness::{KEY, Relay};

#[tokio::test]
async fn the_relay_answers_as_its_document_says() {
    let relay = Relay::start(&[]).await;
    let answer = reqwest::get(relay.url("/openapi.json")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for verb in ["get", "post", "patch", "delete"] {
            let Some(responses) = item[verb]["responses"].as_object() else {
                continue;
            };
            for key in [None, Some("wrong-key"), Some(KEY)] {
                let url = relay.url(&path.replace(['{', '}'], ""));
                let verb = Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
                let mut request = Client::new().request(verb.clone(), url);
                if let Some(key) = key {
                    request = request.bearer_auth(key);
                }
                let answer = request.send().await.unwrap();
                let status = answer.status().as_str().to_owned();
                let documented = responses.contains_key(&status);
                assert!(documented, "{verb} {path} with {key:?}: {status}");
                asked += 1;
                if answer.status().is_success() {
                    continue;
                }
                let body: Value = answer.json().await.unwrap();
                assert!(body["error"]["code"].is_string(), "{verb} {path}: {body}");
                let code = body["error"]["code"].as_str().unwrap();
                assert_ne!(code, "unknown_url", "{verb} {path}");
                let described = described(&document, &responses[&status]);
                assert!(
                    described.contains(code),
                    "{verb} {path}: {code} in {described:?}"
                );
            }
        }
    }
    assert!(asked >= 30, "{asked}");
}

/// Reads what a response is described as, wherever it stands.
fn described(document: &Value, response: &Value) -> String {
    let reference = response["$ref"].as_str();
    let response = reference.map_or(response, |reference| {
        document.pointer(&reference[1..]).unwrap()
    });
    response["description"].as_str().unwrap().to_owned()
}
