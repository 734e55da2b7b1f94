//! The items of a conversation, in order.
//!
//! **Invariants:** ids are unique; what the items keep in memory is bounded: beyond the bound the
//! oldest are forgotten, as a model's context forgets them.

use crate::sim::protocol::error::ApiError;
use crate::sim::protocol::item::Item;

/// The most that all items together may weigh: 64 MiB, or 22 minutes of a person's speech.
const MAX_WEIGHT: usize = 64 << 20;
/// The most items.
const MAX_ITEMS: usize = 4_096;

#[derive(Default)]
pub(crate) struct Conversation {
    items: Vec<Item>,
    weight: usize,
}

/// Where an item is inserted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position<'a> {
    End,
    Start,
    After(&'a str),
}

impl Conversation {
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(crate) fn item(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// Changes an item, if it is there.
    pub(crate) fn edit<T>(&mut self, id: &str, edit: impl FnOnce(&mut Item) -> T) -> Option<T> {
        let item = self.items.iter_mut().find(|item| item.id == id)?;
        self.weight -= item.weight();
        let result = edit(item);
        self.weight += item.weight();
        Some(result)
    }

    pub(crate) fn last_id(&self) -> Option<String> {
        self.items.last().map(|item| item.id.clone())
    }

    /// Returns the id of the item before this one.
    pub(crate) fn previous_id(&self, id: &str) -> Option<String> {
        let index = self.items.iter().position(|item| item.id == id)?;
        let previous = index.checked_sub(1)?;
        Some(self.items[previous].id.clone())
    }

    pub(crate) fn insert(&mut self, item: Item, position: Position<'_>) -> Result<(), ApiError> {
        if self.item(&item.id).is_some() {
            let message = format!(
                "Error adding item: an item with ID '{}' already exists.",
                item.id
            );
            return Err(ApiError::new("item_create_duplicate_item_id", message).at("item.id"));
        }
        let index = match position {
            Position::End => self.items.len(),
            Position::Start => 0,
            Position::After(id) => match self.items.iter().position(|item| item.id == id) {
                Some(index) => index + 1,
                None => {
                    let message = format!(
                        "Error adding item: the previous item with ID '{id}' does not exist."
                    );
                    let code = "item_create_invalid_previous_item_id";
                    return Err(ApiError::new(code, message).at("previous_item_id"));
                }
            },
        };
        self.weight += item.weight();
        self.items.insert(index, item);
        self.forget_oldest();
        Ok(())
    }

    /// Puts an item in the place of the one with its id, if that is still there.
    pub(crate) fn replace(&mut self, item: Item) {
        let id = item.id.clone();
        self.edit(&id, |slot| *slot = item);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Item> {
        let index = self.items.iter().position(|item| item.id == id)?;
        let item = self.items.remove(index);
        self.weight -= item.weight();
        Some(item)
    }

    /// Returns the tokens of text and of audio that the whole conversation costs as input.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        self.items
            .iter()
            .map(Item::tokens)
            .fold((0, 0), |sum, item| (sum.0 + item.0, sum.1 + item.1))
    }

    fn forget_oldest(&mut self) {
        let mut forgotten = 0;
        while self.weight > MAX_WEIGHT || self.items.len() - forgotten > MAX_ITEMS {
            self.weight -= self.items[forgotten].weight();
            forgotten += 1;
        }
        self.items.drain(..forgotten);
    }
}
