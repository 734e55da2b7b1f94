//! What an event is called.

use std::borrow::Cow;

use serde::Deserialize;

use crate::core::journal::Word;
use crate::core::port::Json;

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Returns the event's `type`, if it has one that is a name.
pub fn event_name(event: &Json) -> Word {
    let named: Result<Named<'_>, _> = serde_json::from_str(event.as_str());

    named.map_or(Word::new("?"), |named| Word::of(&named.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_called_by_its_own_type_and_not_by_one_inside() {
        let name = |text: &str| event_name(&Json::from(text)).as_str().to_owned();

        assert_eq!(
            name(r#"{"item":{"type":"message"},"type":"conversation.item.added"}"#),
            "conversation.item.added"
        );
        assert_eq!(name(r#"{"type":"a word that was said"}"#), "?");
        assert_eq!(name(r#"{"type":7}"#), "?");
        assert_eq!(name("no event"), "?");
    }
}
