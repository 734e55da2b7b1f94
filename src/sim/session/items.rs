//! What a client does to the conversation's items.

use std::time::Duration;

use serde_json::Value;

use crate::sim::agent::Occasion;
use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::{Item, Sound, Spoken};
use crate::sim::protocol::reader::Read;
use crate::sim::protocol::server::ServerEvent;
use crate::sim::session::Session;
use crate::sim::session::conversation::Position;
use crate::sim::speech::{duration, samples};

impl Session {
    pub(crate) fn create_item(&mut self, item: Value, previous: Option<&str>) -> Read<()> {
        let format = self.config.audio.input.format;
        let item = Item::read(item, "item", format, || self.ids.next("item"))?;
        let position = match previous {
            None => Position::End,
            Some("root") => Position::Start,
            Some(id) => Position::After(id),
        };
        let typed = item.typed_text();
        let output = item.output().map(str::to_owned);
        self.add_item(item, position)?;
        if let Some(text) = typed {
            self.occasion = Some(Occasion::Typed(text));
        }
        if let Some(output) = output {
            self.on_output(output);
        }
        Ok(())
    }

    /// Adds an item that is complete, and tells the client.
    pub(crate) fn add_item(&mut self, item: Item, position: Position<'_>) -> Read<()> {
        let id = item.id.clone();
        let shown = item.to_json(Sound::Omitted);
        self.conversation.insert(item, position)?;
        let previous_item_id = self.conversation.previous_id(&id);
        self.emit(ServerEvent::ItemAdded {
            item: shown.clone(),
            previous_item_id: previous_item_id.clone(),
        });
        self.emit(ServerEvent::ItemDone {
            item: shown,
            previous_item_id,
        });
        Ok(())
    }

    pub(crate) fn retrieve_item(&mut self, id: &str) -> Read<()> {
        let sound = Sound::Included {
            input: self.config.audio.input.format,
            output: self.config.audio.output.format,
        };
        let Some(item) = self.conversation.item(id) else {
            return Err(no_such_item(
                "item_retrieve_invalid_item_id",
                "retrieving",
                id,
            ));
        };
        let item = item.to_json(sound);
        self.emit(ServerEvent::ItemRetrieved { item });
        Ok(())
    }

    pub(crate) fn delete_item(&mut self, id: String) -> Read<()> {
        if self.conversation.remove(&id).is_none() {
            return Err(no_such_item("item_delete_invalid_item_id", "deleting", &id));
        }
        self.agent.on_cut(&id, 0);
        self.emit(ServerEvent::ItemDeleted { item_id: id });
        Ok(())
    }

    pub(crate) fn truncate_item(
        &mut self,
        id: String,
        content_index: usize,
        audio_end_ms: u64,
    ) -> Read<()> {
        let to = (content_index, Duration::from_millis(audio_end_ms));
        let running = self
            .responses
            .iter_mut()
            .find(|running| running.writes(&id));
        let heard = match running {
            Some(response) => truncate(response.spoken_mut(), to),
            None => {
                let truncated = self
                    .conversation
                    .edit(&id, |item| truncate(item.spoken_mut(content_index), to));
                truncated.ok_or_else(|| {
                    no_such_item("item_truncate_invalid_item_id", "truncating", &id)
                })?
            }
        }?;
        self.agent.on_cut(&id, heard);
        self.tally.truncates += 1;
        self.emit(ServerEvent::ItemTruncated {
            item_id: id,
            content_index,
            audio_end_ms,
        });
        Ok(())
    }
}

/// Cuts what was said, and returns how many words of it were heard.
fn truncate(spoken: Option<&mut Spoken>, (index, end): (usize, Duration)) -> Read<usize> {
    let Some(spoken) = spoken.filter(|_| index == 0 && !end.is_zero()) else {
        let message = "Only model output audio messages can be truncated";
        return Err(ApiError::new("", message).without_code());
    };
    let length = duration(spoken.samples);
    if end > length {
        let message = format!(
            "Audio content of {}ms is already shorter than {}ms",
            length.as_millis(),
            end.as_millis()
        );
        return Err(ApiError::invalid_value("audio_end_ms", message));
    }
    spoken.samples = samples(end);
    spoken.transcript = None;
    Ok(spoken.speech.words_heard(spoken.samples))
}

fn no_such_item(code: &'static str, doing: &str, id: &str) -> ApiError {
    let message = format!("Error {doing} item: the item with id '{id}' does not exist.");
    ApiError::new(code, message).at("item_id")
}
