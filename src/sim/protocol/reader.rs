//! Reads JSON field by field, and says where it is wrong.
//!
//! **Invariant:** a field that nobody asked for is an error, so what a client misspells is told to
//! it instead of being ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::sim::protocol::error::ApiError;
use crate::wire::realtime::kind;

pub(crate) type Read<T> = Result<T, ApiError>;

/// An object of which fields are taken out one by one.
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn open(value: Value, path: &str) -> Read<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                path: path.to_owned(),
                map,
            }),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => Err(ApiError::invalid_type(path, "an object", kind(&other))),
        }
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Value, &str) -> Read<T>,
    ) -> Read<Option<T>> {
        match self.map.remove(key) {
            Some(value) => read(value, &self.path_of(key)).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Value, &str) -> Read<T>,
    ) -> Read<T> {
        self.optional(key, read)?
            .ok_or_else(|| ApiError::missing(&self.path_of(key)))
    }

    /// Overwrites `slot` if the field is present.
    pub(crate) fn set<T>(
        &mut self,
        key: &str,
        slot: &mut T,
        read: impl FnOnce(Value, &str) -> Read<T>,
    ) -> Read<()> {
        if let Some(value) = self.optional(key, read)? {
            *slot = value;
        }
        Ok(())
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Read<()> {
        match self.map.keys().next() {
            Some(key) => Err(ApiError::unknown(&self.path_of(key))),
            None => Ok(()),
        }
    }
}

pub(crate) fn string(value: Value, path: &str) -> Read<String> {
    match value {
        Value::String(text) => Ok(text),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => Err(ApiError::invalid_type(path, "a string", kind(&other))),
    }
}

/// A string of 1 to `longest` bytes.
pub(crate) fn short_string(longest: usize) -> impl FnOnce(Value, &str) -> Read<String> {
    move |value, path| {
        let text = string(value, path)?;
        if text.is_empty() || text.len() > longest {
            let message = format!(
                "Invalid '{path}': expected a string with 1 to {longest} bytes, but got one with {}.",
                text.len()
            );
            return Err(ApiError::invalid_value(path, message));
        }
        Ok(text)
    }
}

pub(crate) fn boolean(value: Value, path: &str) -> Read<bool> {
    value
        .as_bool()
        .ok_or_else(|| ApiError::invalid_type(path, "a boolean", kind(&value)))
}

pub(crate) fn integer(range: RangeInclusive<u64>) -> impl Fn(Value, &str) -> Read<u64> {
    move |value, path| {
        if !value.is_i64() && !value.is_u64() {
            return Err(ApiError::invalid_type(path, "an integer", kind(&value)));
        }
        value
            .as_u64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| out_of_range(path, &value, &range))
    }
}

pub(crate) fn number(range: RangeInclusive<f64>) -> impl Fn(Value, &str) -> Read<f64> {
    move |value, path| {
        let number = value
            .as_f64()
            .ok_or_else(|| ApiError::invalid_type(path, "a number", kind(&value)))?;
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(out_of_range(path, &value, &range))
        }
    }
}

pub(crate) fn nullable<T>(
    read: impl FnOnce(Value, &str) -> Read<T>,
) -> impl FnOnce(Value, &str) -> Read<Option<T>> {
    move |value, path| {
        if value.is_null() {
            return Ok(None);
        }
        read(value, path).map(Some)
    }
}

pub(crate) fn list<T>(
    read: impl Fn(Value, &str) -> Read<T>,
) -> impl FnOnce(Value, &str) -> Read<Vec<T>> {
    move |value, path| match value {
        Value::Array(values) => values
            .into_iter()
            .enumerate()
            .map(|(index, value)| read(value, &format!("{path}[{index}]")))
            .collect(),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => Err(ApiError::invalid_type(path, "an array", kind(&other))),
    }
}

/// Any object, kept as it is.
pub(crate) fn object(value: Value, path: &str) -> Read<Value> {
    if value.is_object() {
        Ok(value)
    } else {
        Err(ApiError::invalid_type(path, "an object", kind(&value)))
    }
}

/// One of these words.
pub(crate) fn word(words: &'static [&'static str]) -> impl Fn(Value, &str) -> Read<&'static str> {
    move |value, path| {
        let text = string(value, path)?;
        words
            .iter()
            .find(|word| **word == text)
            .copied()
            .ok_or_else(|| ApiError::unsupported(path, &text, words))
    }
}

fn out_of_range<T: std::fmt::Display>(
    path: &str,
    value: &Value,
    range: &RangeInclusive<T>,
) -> ApiError {
    let (least, most) = (range.start(), range.end());
    let message = format!(
        "Invalid '{path}': expected a value between {least} and {most}, but got {value} instead."
    );
    ApiError::invalid_value(path, message)
}

/// Declares an enum of words that are read from and written to JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
        pub(crate) enum $name {
            $(#[serde(rename = $word)] $variant),+
        }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            pub(crate) fn read(
                value: serde_json::Value,
                path: &str,
            ) -> $crate::sim::protocol::reader::Read<Self> {
                let text = $crate::sim::protocol::reader::string(value, path)?;
                match text.as_str() {
                    $($word => Ok(Self::$variant),)+
                    other => Err($crate::sim::protocol::error::ApiError::unsupported(
                        path,
                        other,
                        Self::WORDS,
                    )),
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_nobody_asked_for_is_named_by_its_path() {
        let mut fields = Fields::open(json!({"a": 1, "foo": 2}), "session.audio").unwrap();
        assert_eq!(fields.required("a", integer(0..=9)).unwrap(), 1);
        let error = fields.finish().unwrap_err();
        assert_eq!(error.code, Some("unknown_parameter"));
        assert_eq!(error.param.as_deref(), Some("session.audio.foo"));
    }

    #[test]
    fn a_wrong_type_deep_in_a_list_is_named_by_its_index() {
        let error = list(string)(json!(["a", 7]), "x").unwrap_err();
        assert_eq!(error.code, Some("invalid_type"));
        assert_eq!(error.param.as_deref(), Some("x[1]"));
    }

    #[test]
    fn numbers_outside_their_range_are_invalid_values_not_types() {
        for value in [json!(-1), json!(10), json!(u64::MAX)] {
            let error = integer(0..=9)(value, "n").unwrap_err();
            assert_eq!(error.code, Some("invalid_value"));
        }
        let error = integer(0..=9)(json!(1.5), "n").unwrap_err();
        assert_eq!(error.code, Some("invalid_type"));
    }
}
