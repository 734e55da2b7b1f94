//! Client events.

use serde_json::Value;

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::{LONGEST_ID, base64_bytes};
use crate::sim::protocol::reader::{Fields, Read, integer, nullable, object, short_string, string};

/// The longest base64 that one `input_audio_buffer.append` may carry.
const LARGEST_APPEND: usize = 15 << 20;

/// What a client asks for. What depends on the session's state is read when that is at hand.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    UpdateSession {
        session: Value,
    },
    AppendAudio {
        bytes: Vec<u8>,
    },
    CommitAudio,
    ClearAudio,
    CreateItem {
        item: Value,
        previous: Option<String>,
    },
    RetrieveItem {
        id: String,
    },
    DeleteItem {
        id: String,
    },
    TruncateItem {
        id: String,
        content_index: usize,
        audio_end_ms: u64,
    },
    CreateResponse {
        response: Option<Value>,
    },
    CancelResponse {
        id: Option<String>,
    },
}

/// A client event and the id that the client gave it, which errors echo.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) event_id: Option<String>,
    pub(crate) event: Read<ClientEvent>,
}

const TYPES: &[&str] = &[
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
];

/// Parses the text of a frame.
pub(crate) fn parse(text: &str) -> Received {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(fault) => {
            let message = format!("Invalid JSON in the body of the event: {fault}.");
            return Received {
                event_id: None,
                event: Err(ApiError::new("invalid_json", message)),
            };
        }
    };
    let event_id = value
        .get("event_id")
        .and_then(Value::as_str)
        .filter(|id| id.len() <= LONGEST_ID)
        .map(str::to_owned);
    Received {
        event_id,
        event: event(value),
    }
}

/// Binary frames carry nothing in this protocol.
pub(crate) fn binary() -> Received {
    let message = "Binary frames are not supported. Send events as JSON in text frames, and audio \
        in base64 with 'input_audio_buffer.append'.";
    Received {
        event_id: None,
        event: Err(ApiError::new("invalid_event", message)),
    }
}

fn event(value: Value) -> Read<ClientEvent> {
    if !value.is_object() {
        let message = "Invalid event: expected a JSON object with a 'type'.";
        return Err(ApiError::new("invalid_event", message));
    }
    let mut fields = Fields::open(value, "")?;
    let Some(kind) = fields.optional("type", string)? else {
        let message = "The 'type' field is missing.";
        return Err(ApiError::new("invalid_event", message));
    };
    fields.optional("event_id", nullable(short_string(LONGEST_ID)))?;
    let event = match kind.as_str() {
        "session.update" => ClientEvent::UpdateSession {
            session: fields.required("session", object)?,
        },
        "input_audio_buffer.append" => ClientEvent::AppendAudio {
            bytes: fields.required("audio", appended)?,
        },
        "input_audio_buffer.commit" => ClientEvent::CommitAudio,
        "input_audio_buffer.clear" => ClientEvent::ClearAudio,
        "conversation.item.create" => ClientEvent::CreateItem {
            item: fields.required("item", object)?,
            previous: fields
                .optional("previous_item_id", nullable(string))?
                .flatten(),
        },
        "conversation.item.retrieve" => ClientEvent::RetrieveItem {
            id: fields.required("item_id", string)?,
        },
        "conversation.item.delete" => ClientEvent::DeleteItem {
            id: fields.required("item_id", string)?,
        },
        "conversation.item.truncate" => ClientEvent::TruncateItem {
            id: fields.required("item_id", string)?,
            content_index: fields.required("content_index", integer(0..=u64::from(u32::MAX)))?
                as usize,
            audio_end_ms: fields.required("audio_end_ms", integer(0..=u64::from(u32::MAX)))?,
        },
        "response.create" => ClientEvent::CreateResponse {
            response: fields.optional("response", nullable(object))?.flatten(),
        },
        "response.cancel" => ClientEvent::CancelResponse {
            id: fields.optional("response_id", nullable(string))?.flatten(),
        },
        other => return Err(ApiError::unsupported("type", other, TYPES)),
    };
    fields.finish()?;
    Ok(event)
}

fn appended(value: Value, path: &str) -> Read<Vec<u8>> {
    if value
        .as_str()
        .is_some_and(|text| text.len() > LARGEST_APPEND)
    {
        let message = format!("Invalid '{path}': at most 15 MiB may be appended at once.");
        return Err(ApiError::invalid_value(path, message));
    }
    base64_bytes(value, path)
}
