//! An answer is cut, in one transaction: the device falls silent, the provider stops and learns how
//! much was heard, the response is forgotten.
//!
//! **Invariant:** nothing of a cut response is heard or read after that.

use std::time::Instant;

use crate::core::ids::ResponseId;
use crate::core::playout::{CutItem, Hearing};
use crate::core::port::{Notice, Output, ToClient, ToVoice};
use crate::core::session::recent::Recent;
use crate::core::session::{Phase, Session};
use crate::core::tally::Tally;

impl Session {
    /// The person speaks over an answer, and the provider stops by itself: all but what is beside
    /// the conversation, of which nothing is open here unless the relay plays it.
    pub(super) fn interrupt(&mut self, now: Instant) {
        for response in self.take_open() {
            if self.aside.contains(&response) {
                self.cancel(response);
            } else {
                self.over.insert(response.clone());
                self.cut.insert(response);
            }
        }
        self.cut_speaker(now);
        self.expect_cancellation(now);
    }

    /// The client asks for silence; what is still being made would be heard next, so it ends too.
    pub(super) fn clear_output(&mut self, now: Instant) {
        if self.is_direct() {
            return self.say(ToVoice::ClearOutput);
        }
        if self.speaker.is_silent() {
            return;
        }
        self.tools.on_new_turn();
        for response in self.take_open() {
            self.cancel(response);
        }
        self.cut_speaker(now);
        self.expect_cancellation(now);
    }

    pub(super) fn expect_cancellation(&mut self, now: Instant) {
        match self.phase {
            Phase::Listening | Phase::Thinking { .. } | Phase::Speaking { .. } => {
                let until = now + self.config.cancel_timeout;
                self.count(Tally::Interrupted);
                self.enter(Phase::Cancelling { until });
                self.settle_cancelling();
            }
            Phase::Idle | Phase::Cancelling { .. } | Phase::Recovering { .. } | Phase::Closed => {}
        }
    }

    /// Ends a response that the provider is working on, once.
    pub(super) fn cancel(&mut self, response: ResponseId) {
        if self.over.insert(response.clone()) {
            self.open.remove(&response);
            self.cut.insert(response.clone());
            self.say(ToVoice::Cancel(response));
        }
    }

    pub(super) fn take_open(&mut self) -> Recent {
        std::mem::take(&mut self.open)
    }

    /// Silences the device and tells the provider what was heard.
    pub(super) fn cut_speaker(&mut self, now: Instant) {
        if self.speaker.is_silent() {
            return;
        }
        let Some(cut) = self.speaker.cut(now) else {
            return;
        };
        self.tell(ToClient::Flush);
        self.on_cut(&cut, now);
        let Hearing { accuracy, .. } = cut.hearing;
        for (response, heard) in cut.silenced {
            self.show(ToClient::Output(Output::Cleared, response.clone()));
            self.notice(Notice::Interrupted {
                response,
                heard,
                accuracy,
            });
        }
        for CutItem {
            item,
            content_index,
            heard,
            whole,
        } in cut.items
        {
            if !whole {
                self.cut_item(item, content_index, heard);
            }
        }
    }
}
