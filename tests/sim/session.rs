//! The session object: echoed with all defaults, merged in parts, refused as a whole.

use serde_json::{Value, json};

use crate::support::{Provider, fast};

#[tokio::test]
async fn session_created_shows_every_default() {
    let provider = Provider::start(fast());
    let client = provider.client().await;
    let mut session = client.seen[0]["session"].clone();
    let fields = session.as_object_mut().unwrap();
    let id = fields.remove("id").unwrap();
    assert!(id.as_str().unwrap().starts_with("sess_"));
    let expires_at = fields.remove("expires_at").unwrap();
    assert!(expires_at.as_u64().unwrap() > 1_700_000_000);
    let instructions = fields.remove("instructions").unwrap();
    assert!(instructions.as_str().unwrap().contains("line-test"));
    let pcm = json!({"type": "audio/pcm", "rate": 24000});
    let expected = json!({
        "type": "realtime",
        "object": "realtime.session",
        "model": "gpt-realtime-2.1",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": pcm,
                "transcription": null,
                "noise_reduction": null,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 200,
                    "idle_timeout_ms": null,
                    "create_response": true,
                    "interrupt_response": true,
                },
            },
            "output": {"format": pcm, "voice": "alloy", "speed": 1.0},
        },
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tools": [],
        "tool_choice": "auto",
        "tracing": null,
        "prompt": null,
        "include": null,
    });
    assert_eq!(session, expected);
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_echoes_everything() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let before = client.seen[0]["session"].clone();
    let update = json!({
        "model": "gpt-realtime-2.1",
        "instructions": "",
        "reasoning": {"effort": "low"},
        "parallel_tool_calls": false,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "audio": {
            "input": {
                "transcription": {"model": "gpt-live-transcribe", "delay": "low"},
                "noise_reduction": {"type": "near_field"},
                "turn_detection": {"type": "server_vad", "threshold": 0.6},
            },
            "output": {"voice": {"id": "voice_1"}},
        },
    });
    let after = client.update(update).await;
    let mut expected = before;
    expected["instructions"] = json!("");
    expected["reasoning"] = json!({"effort": "low"});
    expected["tools"] =
        json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    let input = &mut expected["audio"]["input"];
    input["transcription"] = json!({"model": "gpt-live-transcribe", "delay": "low"});
    input["noise_reduction"] = json!({"type": "near_field"});
    input["turn_detection"]["threshold"] = json!(0.6);
    expected["audio"]["output"]["voice"] = json!({"id": "voice_1"});
    assert_eq!(after, expected);

    let cleared = client
        .update(json!({"tools": [], "audio": {"input": {"transcription": null}}}))
        .await;
    assert_eq!(cleared["tools"], json!([]));
    assert_eq!(cleared["audio"]["input"]["transcription"], Value::Null);
    assert_eq!(
        cleared["audio"]["input"]["turn_detection"]["threshold"],
        0.6
    );
}

#[tokio::test]
async fn semantic_vad_is_echoed_with_the_fields_that_clients_read() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let detection = json!({"type": "semantic_vad"});
    let session = client
        .update(json!({"audio": {"input": {"turn_detection": detection}}}))
        .await;
    let expected = json!({
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": true,
        "interrupt_response": true,
    });
    assert_eq!(session["audio"]["input"]["turn_detection"], expected);
    // As one client does after each connect.
    let session = client.update(json!({"tracing": "auto"})).await;
    assert_eq!(session["tracing"], "auto");
    assert_eq!(session["audio"]["input"]["turn_detection"], expected);
}

#[tokio::test]
async fn an_update_with_one_fault_changes_nothing() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let before = client.seen[0]["session"].clone();
    let update = json!({
        "type": "realtime",
        "instructions": "Be brief.",
        "audio": {"output": {"voice": "cedar"}, "input": {"foo": 1}},
    });
    let error = client
        .refused(json!({"type": "session.update", "session": update}))
        .await;
    assert_eq!(error["code"], "unknown_parameter");
    assert_eq!(error["param"], "session.audio.input.foo");
    assert_eq!(client.update(json!({})).await, before);
}

#[tokio::test]
async fn each_fault_of_an_update_has_its_code_and_its_path() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    let cases = [
        (json!({}), "missing_required_parameter", "session.type"),
        (
            json!({"type": "transcription"}),
            "invalid_value",
            "session.type",
        ),
        (json!({"type": 1}), "invalid_type", "session.type"),
        (
            json!({"type": "realtime", "voice": "alloy"}),
            "unknown_parameter",
            "session.voice",
        ),
        (
            json!({"type": "realtime", "model": "gpt-realtime-1.5"}),
            "invalid_value",
            "session.model",
        ),
        (
            json!({"type": "realtime", "instructions": null}),
            "invalid_type",
            "session.instructions",
        ),
        (
            json!({"type": "realtime", "output_modalities": ["audio", "text"]}),
            "invalid_value",
            "session.output_modalities",
        ),
        (
            json!({"type": "realtime", "output_modalities": ["video"]}),
            "invalid_value",
            "session.output_modalities[0]",
        ),
        (
            json!({"type": "realtime", "max_output_tokens": 0}),
            "invalid_value",
            "session.max_output_tokens",
        ),
        (
            json!({"type": "realtime", "max_output_tokens": "all"}),
            "invalid_value",
            "session.max_output_tokens",
        ),
        (
            json!({"type": "realtime", "audio": {"output": {"speed": 2}}}),
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            json!({"type": "realtime", "audio": {"output": {"voice": "bob"}}}),
            "invalid_value",
            "session.audio.output.voice",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"format": "pcm16"}}}),
            "invalid_type",
            "session.audio.input.format",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"turn_detection": {}}}}),
            "missing_required_parameter",
            "session.audio.input.turn_detection.type",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": "high"}}}}),
            "invalid_type",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}}),
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 100}}}}),
            "invalid_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            json!({"type": "realtime", "audio": {"input": {"transcription": {"model": "ears"}}}}),
            "invalid_value",
            "session.audio.input.transcription.model",
        ),
        (
            json!({"type": "realtime", "tools": [{"type": "function"}]}),
            "missing_required_parameter",
            "session.tools[0].name",
        ),
        (
            json!({"type": "realtime", "tool_choice": "maybe"}),
            "invalid_value",
            "session.tool_choice",
        ),
        (
            json!({"type": "realtime", "truncation": {"type": "retention_ratio", "retention_ratio": 2}}),
            "invalid_value",
            "session.truncation.retention_ratio",
        ),
    ];
    for (session, code, param) in cases {
        let event = json!({"type": "session.update", "event_id": "mine", "session": session});
        let error = client.refused(event).await;
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some(code), Some(param)),
            "{error}"
        );
        assert_eq!(error["event_id"], "mine");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn models_that_do_not_reason_refuse_reasoning() {
    let provider = Provider::start(fast());
    for (model, accepted) in [
        ("gpt-realtime-2", true),
        ("gpt-realtime-2.1-mini", true),
        ("gpt-realtime-1.5", false),
        ("gpt-realtime-2025-08-28", false),
    ] {
        let mut client = provider
            .dial(provider.request(&format!("?model={model}")))
            .await;
        client.expect("session.created").await;
        let session = json!({"type": "realtime", "reasoning": {"effort": "high"}});
        client
            .send(json!({"type": "session.update", "session": session}))
            .await;
        let answer = client.next().await;
        assert_eq!(answer["type"] == "session.updated", accepted, "{answer}");
    }
}

#[tokio::test]
async fn the_voice_is_locked_once_it_has_been_heard() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client
        .update(json!({"audio": {"output": {"voice": "marin"}}}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;
    let session = json!({"type": "realtime", "audio": {"output": {"voice": "cedar"}}});
    let error = client
        .refused(json!({"type": "session.update", "session": session}))
        .await;
    assert_eq!(error["code"], "cannot_update_voice");
    client
        .update(json!({"audio": {"output": {"voice": "marin"}}}))
        .await;
}
