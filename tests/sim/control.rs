//! What goes wrong while the provider runs, and what it tells of its sessions.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use voxline::clock;
use voxline::sim::{Act, End, Fault, Settings};

use crate::support::{Client, Provider, fast, http, silence, slow, speech};

#[tokio::test]
async fn links_are_reset_ended_or_closed_on_command() {
    let provider = Provider::start(slow());

    let mut client = provider.client().await;
    assert_eq!(provider.control.act(&Act::Reset), 1);
    assert!(end(&mut client).await.is_none());

    let mut client = provider.client().await;
    assert_eq!(provider.control.act(&Act::HangUp), 1);
    assert!(end(&mut client).await.is_none());

    let mut client = provider.client().await;
    let reason = "Going away.".to_owned();
    provider.control.act(&Act::Close { code: 1012, reason });
    let frame = client.closed().await;
    assert_eq!(
        (frame.code.into(), &*frame.reason),
        (1012u16, "Going away.")
    );

    let ends: Vec<End> = provider
        .control
        .sessions()
        .await
        .into_iter()
        .map(|report| report.ended.unwrap().how)
        .collect();
    assert_eq!(ends, [End::Reset, End::HungUp, End::Closed]);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_wire() {
    let provider = Provider::start(fast());
    let (mut socket, _) = connect_async(provider.request("?model=gpt-realtime-2.1"))
        .await
        .unwrap();
    let session = provider.report().await.id;
    assert!(provider.control.act_on(&session, &Act::Reset));
    assert!(!provider.control.act_on("sess_nobody", &Act::Reset));

    let error = loop {
        match socket.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("ended in order"),
        }
    };
    let Error::Io(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_session_that_is_muted_says_nothing_and_the_next_one_does() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    provider.control.act(&Act::Mute);
    // The session has taken the command once it has told of itself.
    provider.report().await;
    client.send(json!({"type": "response.create"})).await;

    let mut other = provider.client().await;
    other.send(json!({"type": "response.create"})).await;
    other.until("response.done").await;

    let reports = provider.control.sessions().await;
    assert_eq!(reports[0].responses_created, 1);
    assert_eq!(client.kinds(), ["session.created"]);
}

#[tokio::test]
async fn a_running_response_stalls_or_fails_on_command() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    provider.control.act(&Act::Stall);
    provider.report().await;
    client.send(json!({"type": "response.cancel"})).await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["status"], "cancelled");

    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    provider.control.act(&Act::Fail);
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["status"], "failed");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_response_says_nothing_for_an_hour() {
    let provider = Provider::start(Settings {
        max_session: Duration::from_secs(2 * 60 * 60),
        ..slow()
    });
    let mut client = provider.client().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    provider.control.act(&Act::Stall);
    provider.report().await;
    let before = provider.report().await.items;
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    let after = provider.report().await.items;
    assert_eq!(before[0].audio_ms, after[0].audio_ms);
    assert_eq!(after[0].status, "in_progress");
}

#[tokio::test]
async fn a_session_expires_on_command_as_it_would_by_itself() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    provider.control.act(&Act::Expire);
    let error = client.expect("error").await;
    assert_eq!(error["error"]["code"], "session_expired");
    assert_eq!(u16::from(client.closed().await.code), 1001);
    let ended = provider.report().await.ended.unwrap();
    assert_eq!(ended.how, End::Closed);
    assert_eq!(ended.close.unwrap().0, 1001);
}

#[tokio::test]
async fn new_links_are_refused_with_any_status_until_the_fault_is_taken_away() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    for (status, retry_after) in [(401, None), (429, Some(1_500)), (503, None)] {
        provider.control.set_faults([Fault::Refuse {
            status,
            retry_after: retry_after.map(Duration::from_millis),
        }]);
        let refused = connect_async(provider.request("?model=gpt-realtime-2.1")).await;
        let Err(Error::Http(response)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(response.status().as_u16(), status);
        let header = response.headers().get("retry-after");
        assert_eq!(header.is_some(), retry_after.is_some());
        if let Some(header) = header {
            assert_eq!(header, "2");
        }
    }
    provider.control.set_faults([Fault::Unauthorized]);
    let mut refused = provider
        .dial(provider.request("?model=gpt-realtime-2.1"))
        .await;
    assert_eq!(u16::from(refused.closed().await.code), 3000);

    provider.control.set_faults([]);
    provider.client().await;
    // Who was there before has noticed nothing.
    client.send(json!({"type": "response.create"})).await;
    client.until("response.done").await;
}

#[tokio::test]
async fn a_session_may_never_be_created() {
    let provider = Provider::start(fast());
    let mut before = provider.client().await;
    provider.control.set_faults([Fault::NeverCreated]);
    let mut unborn = provider
        .dial(provider.request("?model=gpt-realtime-2.1"))
        .await;
    unborn.send(json!({"type": "response.create"})).await;
    while provider.control.sessions().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    before.send(json!({"type": "response.create"})).await;
    before.until("response.done").await;
    provider.control.act(&Act::HangUp);
    assert!(end(&mut unborn).await.is_none());
    assert!(unborn.seen.is_empty(), "{:?}", unborn.seen);
}

#[tokio::test(start_paused = true)]
async fn answers_are_as_slow_as_they_are_told_to_be() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    provider.control.set_faults([
        Fault::SlowFirstAudio {
            delay: Duration::from_secs(5),
        },
        Fault::SlowDeltas {
            interval: Duration::from_secs(2),
        },
    ]);
    provider.report().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.created").await;
    let created = clock::now();
    client.until("response.output_audio.delta").await;
    assert!(clock::now() - created >= Duration::from_secs(4));
    let first = clock::now();
    client.until("response.output_audio.delta").await;
    assert!(clock::now() - first >= Duration::from_secs(1));
}

#[tokio::test]
async fn garbage_comes_between_events_and_none_of_them_is_missing() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    provider.control.set_faults([Fault::Garbage { every: 3 }]);
    provider.report().await;
    client.send(json!({"type": "response.create"})).await;
    let (mut garbage, mut kinds) = (0, Vec::new());
    loop {
        let Some(text) = client.raw().await else {
            garbage += 1;
            continue;
        };
        match serde_json::from_str::<Value>(&text) {
            Ok(event) if event["type"] == "response.done" && event["response"].is_object() => break,
            Ok(event) if event["type"].is_string() => kinds.push(event["type"].to_string()),
            Ok(_) | Err(_) => garbage += 1,
        }
    }
    assert!(garbage > 0);
    let expected = "\"response.output_audio.done\"".to_owned();
    assert!(kinds.contains(&expected), "{kinds:?}");
}

#[tokio::test]
async fn events_overtake_each_other_on_command() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    provider.control.set_faults([Fault::Disorder { every: 2 }]);
    provider.report().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;
    let kinds = client.kinds();
    let at = |kind: &str| kinds.iter().position(|other| other == kind);
    let in_order = [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
    ];
    let places: Vec<_> = in_order.into_iter().map(at).collect();
    assert!(!places.is_sorted(), "{kinds:?}");
}

#[tokio::test]
async fn a_report_tells_the_whole_conversation_as_it_was_heard() {
    let provider = Provider::start(fast());
    let mut client = provider.client().await;
    client.manual().await;
    let tool = json!({"type": "function", "name": "weather"});
    client.update(json!({"tools": [tool]})).await;
    client.type_in("call weather {\"city\": \"Oslo\"}").await;
    client.send(json!({"type": "response.create"})).await;
    let call = client.until("response.function_call_arguments.done").await;
    client.until("response.done").await;
    let output =
        json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"});
    client.create(output).await;
    client.append(&silence(Duration::from_millis(400))).await;
    client
        .send(json!({"type": "input_audio_buffer.commit"}))
        .await;
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;
    let spoken = &done["response"]["output"][0]["id"];
    client
        .send(
            json!({"type": "conversation.item.truncate", "item_id": spoken,
            "content_index": 0, "audio_end_ms": 300}),
        )
        .await;
    client.until("conversation.item.truncated").await;

    let live = provider.report().await;
    assert_eq!(live.ended, None);
    drop(client);
    let ended = loop {
        let report = provider.report().await;
        if report.ended.is_some() {
            break report;
        }
        tokio::task::yield_now().await;
    };

    assert_eq!(ended.items, live.items);
    assert_eq!(ended.ended.as_ref().unwrap().how, End::Gone);
    let kinds: Vec<(&str, Option<&str>)> = ended
        .items
        .iter()
        .map(|item| (item.kind, item.role))
        .collect();
    let expected = [
        ("message", Some("user")),
        ("function_call", None),
        ("function_call_output", None),
        ("message", Some("user")),
        ("message", Some("assistant")),
    ];
    assert_eq!(kinds, expected);
    let [typed, call, output, said, answer] = &ended.items[..] else {
        panic!("{:?}", ended.items);
    };
    assert_eq!(
        typed.text.as_deref(),
        Some("call weather {\"city\": \"Oslo\"}")
    );
    assert_eq!(call.name.as_deref(), Some("weather"));
    assert_eq!(call.arguments.as_deref(), Some("{\"city\": \"Oslo\"}"));
    assert_eq!(call.call_id, output.call_id);
    assert_eq!(output.output.as_deref(), Some("rain"));
    assert_eq!((said.audio_ms, said.truncated), (Some(400), false));
    assert_eq!((answer.audio_ms, answer.truncated), (Some(300), true));
    assert_eq!((ended.responses_created, ended.responses_cancelled), (2, 0));
    assert_eq!((ended.input_audio_ms, ended.truncates), (400, 1));
    assert!(ended.began_at_ms > 0);
}

#[tokio::test]
async fn an_interrupted_response_is_counted() {
    let provider = Provider::start(slow());
    let mut client = provider.client().await;
    client.patient().await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.output_audio.delta").await;
    client.append(&speech()).await;
    client.until("response.done").await;
    let report = provider.report().await;
    assert_eq!(report.responses_cancelled, 1);
    assert!(report.input_audio_ms > 1_000);
}

#[tokio::test]
async fn only_the_last_ended_sessions_are_remembered() {
    let provider = Provider::start(fast());
    for _ in 0..40 {
        let mut client = provider.client().await;
        provider.control.act(&Act::HangUp);
        end(&mut client).await;
    }
    assert_eq!(provider.control.sessions().await.len(), 32);
}

#[tokio::test]
async fn the_same_is_there_over_http_for_who_has_a_key() {
    let provider = Provider::start(Settings {
        api_key: Some("sk-test".to_owned()),
        ..fast()
    });
    let client = provider.client().await;
    let faults = format!("http://{}/sim/faults", provider.addr);
    let sessions = format!("http://{}/sim/sessions", provider.addr);

    for key in ["", "sk-other"] {
        for request in [
            http().get(&sessions),
            http().get(&faults),
            http().post(&faults),
        ] {
            let refused = request.bearer_auth(key).send().await.unwrap();
            assert_eq!(refused.status(), 401);
        }
    }

    let command = json!({"faults": [
        {"kind": "refuse", "status": 429, "retry_after_ms": 2_000},
        {"kind": "unauthorized"},
        {"kind": "slow_deltas", "interval_ms": 10},
    ]});
    let answer = post(&faults, &command).await;
    assert_eq!(answer["faults"], command["faults"]);
    let shown: Value = (http()
        .get(&faults)
        .bearer_auth("sk-test")
        .send()
        .await
        .unwrap())
    .json()
    .await
    .unwrap();
    assert_eq!(shown["faults"], command["faults"]);

    let id = client.seen[0]["session"]["id"].clone();
    let answer = post(
        &faults,
        &json!({"faults": [], "now": [{"kind": "expire"}], "session": id}),
    )
    .await;
    assert_eq!(answer, json!({"faults": [], "sessions": 1}));
    let shown: Value = (http()
        .get(&sessions)
        .bearer_auth("sk-test")
        .send()
        .await
        .unwrap())
    .json()
    .await
    .unwrap();
    assert_eq!(shown["sessions"][0]["id"], id);
    assert_eq!(shown["sessions"].as_array().unwrap().len(), 1);

    let bad = json!({"faults": [{"kind": "gremlin"}]});
    let refused = http()
        .post(&faults)
        .bearer_auth("sk-test")
        .json(&bad)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 400);
}

async fn post(url: &str, command: &Value) -> Value {
    let answer = http()
        .post(url)
        .bearer_auth("sk-test")
        .json(command)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// Reads to the end, and returns the code of the close if there is one.
async fn end(client: &mut Client) -> Option<u16> {
    loop {
        if let Err(frame) = client.receive().await {
            return frame.map(|frame| frame.code.into());
        }
    }
}
