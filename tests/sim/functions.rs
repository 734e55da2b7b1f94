//! The model calls a function when it is told to, as OpenAI's would.

use serde_json::{Value, json};
use voxline::sim::{Settings, SpokenCall};

use crate::support::{Client, Provider, fast, slow, speech};

#[tokio::test]
async fn a_typed_message_is_answered_by_the_call_it_names() {
    let provider = Provider::start(fast());
    let mut client = client_with_tools(&provider).await;

    client
        .type_in("call weather {\"city\": \"Oslo, Norway\"}")
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("rate_limits.updated").await;

    let mut kinds = since_created(&client);
    kinds.dedup();
    let expected = [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ];
    assert_eq!(kinds, expected);
    let added = find(&client, "response.output_item.added");
    assert_eq!(added["item"]["arguments"], "");
    assert_eq!(added["item"]["status"], "in_progress");
    let pieces: String = client
        .seen
        .iter()
        .filter(|event| event["type"] == "response.function_call_arguments.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    let done = find(&client, "response.function_call_arguments.done");
    assert_eq!(done["arguments"], "{\"city\": \"Oslo, Norway\"}");
    assert_eq!(done["arguments"], pieces);
    assert_eq!(done["name"], "weather");
    let response = &find(&client, "response.done")["response"];
    assert_eq!(response["status"], "completed");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
    let item = &response["output"][0];
    assert_eq!(item["call_id"], done["call_id"]);
    assert_eq!(item["status"], "completed");
    assert_ne!(response["usage"]["output_tokens"], 0);
}

#[tokio::test]
async fn the_answer_to_an_output_tells_of_it() {
    for (settings, begins) in [
        (fast(), "[tool: 21 degrees] tone"),
        (
            Settings::default(),
            "The line is working. [tool: 21 degrees]",
        ),
    ] {
        let provider = Provider::start(settings);
        let mut client = client_with_tools(&provider).await;
        client.type_in("call weather").await;
        client.send(json!({"type": "response.create"})).await;
        let done = client.until("response.function_call_arguments.done").await;
        assert_eq!(done["arguments"], "{}");
        client.until("response.done").await;

        client.create(output(&done["call_id"], "21 degrees")).await;
        client.send(json!({"type": "response.create"})).await;
        let done = client.until("response.done").await;

        let said = done["response"]["output"][0]["content"][0]["transcript"].as_str();
        assert!(said.unwrap().starts_with(begins), "{said:?}");
    }
}

#[tokio::test]
async fn several_calls_and_something_said_before_them_are_one_response() {
    let provider = Provider::start(fast());
    let mut client = client_with_tools(&provider).await;

    client
        .type_in("say\ncall weather {}\ncall clock {\"zone\": \"UTC\"}")
        .await;
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;

    let output = done["response"]["output"].as_array().unwrap();
    let kinds: Vec<&str> = output
        .iter()
        .filter_map(|item| item["type"].as_str())
        .collect();
    assert_eq!(kinds, ["message", "function_call", "function_call"]);
    let indices: Vec<u64> = client
        .seen
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .filter_map(|event| event["output_index"].as_u64())
        .collect();
    assert_eq!(indices, [0, 1, 2]);

    client.create(output_of(&output[1], "rain")).await;
    client.create(output_of(&output[2], "noon")).await;
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;
    let said = done["response"]["output"][0]["content"][0]["transcript"].as_str();
    assert!(
        said.unwrap().starts_with("[tool: rain] [tool: noon] tone"),
        "{said:?}"
    );
}

#[tokio::test]
async fn nothing_is_called_that_the_session_does_not_have() {
    let provider = Provider::start(fast());
    let mut client = client_with_tools(&provider).await;
    for ask in [
        json!({"type": "response.create", "response": {"tool_choice": "none"}}),
        json!({"type": "response.create", "response": {"tools": []}}),
    ] {
        client.type_in("call weather {}").await;
        client.send(ask).await;
        let done = client.until("response.done").await;
        assert_eq!(done["response"]["output"][0]["type"], "message");
    }
    client.type_in("call nobody {}").await;
    client.send(json!({"type": "response.create"})).await;
    let done = client.until("response.done").await;
    assert_eq!(done["response"]["output"][0]["type"], "message");
}

#[tokio::test]
async fn a_spoken_turn_calls_if_the_settings_say_so() {
    let provider = Provider::start(Settings {
        spoken_call: Some(SpokenCall {
            turn: 2,
            name: "weather".to_owned(),
            arguments: "{\"city\": \"Oslo\"}".to_owned(),
        }),
        ..fast()
    });
    let mut client = client_with_tools(&provider).await;
    client.patient().await;
    for expected in ["message", "function_call", "message"] {
        client.append(&speech()).await;
        let done = client.until("response.done").await;
        assert_eq!(done["response"]["output"][0]["type"], expected);
    }
}

#[tokio::test]
async fn a_call_that_is_cut_off_is_incomplete() {
    let provider = Provider::start(slow());
    let mut client = client_with_tools(&provider).await;
    let long = "x".repeat(500);
    client
        .type_in(&format!("call weather {{\"city\": \"{long}\"}}"))
        .await;
    client.send(json!({"type": "response.create"})).await;
    client.until("response.function_call_arguments.delta").await;

    client.send(json!({"type": "response.cancel"})).await;
    let done = client.until("response.done").await;

    assert_eq!(done["response"]["status"], "cancelled");
    let item = &done["response"]["output"][0];
    assert_eq!(item["status"], "incomplete");
    let closed = find(&client, "response.function_call_arguments.done");
    assert_eq!(item["arguments"], closed["arguments"]);
    assert!(closed["arguments"].as_str().unwrap().len() < 500);
}

async fn client_with_tools(provider: &Provider) -> Client {
    let mut client = provider.client().await;
    let tools = ["weather", "clock"].map(|name| json!({"type": "function", "name": name}));
    client.update(json!({"tools": tools})).await;
    client
}

fn output(call_id: &Value, output: &str) -> Value {
    json!({"type": "function_call_output", "call_id": call_id, "output": output})
}

fn output_of(call: &Value, text: &str) -> Value {
    output(&call["call_id"], text)
}

fn find<'a>(client: &'a Client, kind: &str) -> &'a Value {
    client
        .seen
        .iter()
        .find(|event| event["type"] == kind)
        .unwrap()
}

fn since_created(client: &Client) -> Vec<String> {
    let kinds = client.kinds().into_iter();
    kinds
        .skip_while(|kind| kind != "response.created")
        .collect()
}
