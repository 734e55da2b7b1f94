//! The conversations that run, in a line each.

use futures_util::future::join_all;
use serde::Serialize;

use crate::clock;
use crate::driver::Seen;
use crate::server::dashboard::body::ms;
use crate::server::inspection::transport;
use crate::server::sessions::{Conversation, Sessions};

/// Conversations that are shown, the latest ones; of the others it is said how many there are.
const SHOWN: usize = 100;

/// Turns of each.
const TURNS: usize = 5;

/// The only way to be answered there is: by a voice provider.
const RUNG: &str = "voice";

#[derive(Serialize)]
pub(super) struct Call {
    id: String,
    state: &'static str,
    transport: &'static str,
    link: &'static str,
    rung: &'static str,
    began_at: u64,
    turns: u64,
    last_turns_ms: Vec<f64>,
}

/// Returns those that are shown, and how many there are besides.
pub(super) async fn running(sessions: &Sessions) -> (Vec<Call>, usize) {
    let all = sessions.running();
    let shown = all.iter().take(SHOWN);
    let calls = join_all(shown.map(|conversation| call(conversation))).await;

    (calls, all.len().saturating_sub(SHOWN))
}

async fn call(conversation: &Conversation) -> Call {
    let facts = match conversation.view.facts().await {
        Seen::Running(facts) | Seen::Ended(facts) => Some(facts),
        Seen::Silent => None,
    };
    let course = conversation.view.course();
    let last = course.turns.iter().map(|(_, turn)| ms(turn.total));
    let earlier = last.len().saturating_sub(TURNS);
    let state = facts.as_ref().and_then(|facts| facts.state);
    Call {
        id: conversation.id.to_string(),
        state: state.map_or("unknown", |state| state.name()),
        transport: transport(conversation, facts.as_ref()),
        link: facts.as_ref().map_or("unknown", |facts| facts.link.name()),
        rung: RUNG,
        began_at: clock::unix(conversation.began),
        turns: facts.as_ref().map_or(0, |facts| facts.turns),
        last_turns_ms: last.skip(earlier).collect(),
    }
}
