//! `tools`, `tool_choice`, and the smaller fields that a session and a response share.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::reader::{
    Fields, Read, list, nullable, object, short_string, string, word, words,
};
use crate::wire::realtime::kind;

words! {
    /// `reasoning.effort`
    Effort { Minimal = "minimal", Low = "low", Medium = "medium", High = "high", XHigh = "xhigh" }
}

/// `reasoning`
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Reasoning {
    pub(crate) effort: Option<Effort>,
}

impl Reasoning {
    pub(crate) fn read(value: Value, path: &str) -> Read<Self> {
        let mut fields = Fields::open(value, path)?;
        let effort = fields.optional("effort", Effort::read)?;
        fields.finish()?;
        Ok(Self { effort })
    }
}

/// What a response is made of. The API never has both in one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Modality {
    Audio,
    Text,
}

impl Modality {
    pub(crate) fn read(value: Value, path: &str) -> Read<Self> {
        let modalities = list(word(&["text", "audio"]))(value, path)?;
        match modalities.as_slice() {
            ["audio"] => Ok(Self::Audio),
            ["text"] => Ok(Self::Text),
            _ => Err(ApiError::invalid_value(
                path,
                format!(
                    "Invalid modalities: {modalities:?}. Supported combinations are: ['text'] and ['audio']."
                ),
            )),
        }
    }
}

impl Serialize for Modality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Audio => ["audio"].serialize(serializer),
            Self::Text => ["text"].serialize(serializer),
        }
    }
}

/// `max_output_tokens`: a number or `"inf"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MaxTokens {
    Limit(u64),
    Infinite,
}

impl MaxTokens {
    pub(crate) fn read(value: Value, path: &str) -> Read<Self> {
        if value == "inf" {
            return Ok(Self::Infinite);
        }
        if value.is_string() {
            return Err(ApiError::unsupported(
                path,
                value.as_str().unwrap_or_default(),
                &["inf"],
            ));
        }
        crate::sim::protocol::reader::integer(1..=4_096)(value, path).map(Self::Limit)
    }

    pub(crate) fn reached_by(self, tokens: u64) -> bool {
        match self {
            Self::Limit(limit) => tokens >= limit,
            Self::Infinite => false,
        }
    }
}

impl Serialize for MaxTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Limit(limit) => limit.serialize(serializer),
            Self::Infinite => "inf".serialize(serializer),
        }
    }
}

/// A tool, checked and then kept as it came: it is only ever echoed.
pub(crate) fn tool(value: Value, path: &str) -> Read<Value> {
    let kept = value.clone();
    let mut fields = Fields::open(value, path)?;
    match fields.required("type", word(&["function", "mcp"]))? {
        "function" => {
            fields.required("name", short_string(64))?;
            fields.optional("description", string)?;
            fields.optional("parameters", object)?;
        }
        _ => {
            fields.required("server_label", string)?;
            for text in [
                "server_url",
                "connector_id",
                "tunnel_id",
                "authorization",
                "server_description",
            ] {
                fields.optional(text, string)?;
            }
            for any in [
                "headers",
                "allowed_tools",
                "allowed_callers",
                "require_approval",
                "defer_loading",
            ] {
                fields.optional(any, |_, _| Ok(()))?;
            }
        }
    }
    fields.finish()?;
    Ok(kept)
}

/// `tool_choice`, checked and then kept as it came.
pub(crate) fn tool_choice(value: Value, path: &str) -> Read<Value> {
    if value.is_string() {
        return word(&["auto", "none", "required"])(value, path).map(Value::from);
    }
    let kept = value.clone();
    let mut fields = Fields::open(value, path)?;
    match fields.required("type", word(&["function", "mcp"]))? {
        "function" => {
            fields.required("name", short_string(64))?;
        }
        _ => {
            fields.required("server_label", string)?;
            fields.optional("name", nullable(string))?;
        }
    }
    fields.finish()?;
    Ok(kept)
}

/// `metadata`: at most 16 pairs of short strings.
pub(crate) fn metadata(value: Value, path: &str) -> Read<BTreeMap<String, String>> {
    let Value::Object(map) = value else {
        return Err(ApiError::invalid_type(path, "an object", kind(&value)));
    };
    if map.len() > 16 {
        let message = format!(
            "Invalid '{path}': expected at most 16 pairs, but got {}.",
            map.len()
        );
        return Err(ApiError::invalid_value(path, message));
    }
    map.into_iter()
        .map(|(key, value)| {
            let param = format!("{path}.{key}");
            let value = string(value, &param)?;
            if key.len() > 64 || value.len() > 512 {
                let message = format!(
                    "Invalid '{path}': keys have at most 64 characters and values at most 512."
                );
                return Err(ApiError::invalid_value(path, message));
            }
            Ok((key, value))
        })
        .collect()
}

/// `prompt`: a reference to a stored prompt, of which there are none here.
pub(crate) fn prompt(value: Value, path: &str) -> Read<Value> {
    let kept = value.clone();
    let mut fields = Fields::open(value, path)?;
    fields.required("id", string)?;
    fields.optional("version", nullable(string))?;
    fields.optional("variables", nullable(object))?;
    fields.finish()?;
    Ok(kept)
}
