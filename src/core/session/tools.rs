//! The relay's own tools: which calls are carried out, and when the answer is asked for.
//!
//! **Invariants**
//! - A call is carried out at most once, and only if the provider has finished it in a response of
//!   the conversation.
//! - Every such call has an output, which the provider is told whatever has become of the turn, and
//!   the next link too, until one has confirmed it.
//! - The answer is asked for once for all calls of a response: by the client if some of them are its
//!   own, and not at all if the person has begun a new turn.
//! - Nothing waits for a tool for ever, and no model calls tools for ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::ids::{CallId, ResponseId};
use crate::core::item::Said;
use crate::core::port::{Json, ToTools, ToVoice};

/// The most calls of one session that run at one time, and outputs that are not confirmed.
const MAX_RUNNING: usize = 32;
/// How long a call may take until nobody waits for it, should the shell forget it. More than any tool
/// is given.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// The most answers in a row that are asked for without a word of the person's.
const MAX_ANSWERS: u32 = 16;

/// What a model is told of a call too many.
const TOO_MANY: &str = r#"{"error":"too_many_calls"}"#;

/// The calls of one session.
#[derive(Debug)]
pub(super) struct Tools {
    /// The functions that the relay carries out.
    names: Arc<[String]>,
    rounds: Vec<Round>,
    /// Outputs that no link has confirmed, the oldest first.
    unconfirmed: VecDeque<(CallId, Said)>,
    /// The client has asked for an answer while a tool runs.
    held: Option<Json>,
    /// Answers that the relay has asked for since the person's last turn.
    answers: u32,
}

/// The calls of one response.
#[derive(Debug)]
struct Round {
    response: ResponseId,
    running: Vec<CallId>,
    /// Some of its calls are the relay's.
    own: bool,
    /// Some are the client's, which then asks for the answer.
    shared: bool,
    /// The provider is done with the response.
    done: bool,
    /// The person still waits for the answer.
    wanted: bool,
    /// Nobody waits longer.
    until: Instant,
}

/// What becomes of a call.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Called {
    /// It is none of the relay's business.
    Foreign,
    Run(ToTools),
    /// It is not carried out: this is its output.
    Refused(Said),
}

/// What is to be done once no tool runs any more.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    Nothing,
    /// Pass on the client's own request for an answer.
    PassOn(Json),
    /// Ask for the answer.
    Ask,
}

impl Tools {
    pub(super) fn new(names: Arc<[String]>) -> Self {
        Self {
            names,
            rounds: Vec::new(),
            unconfirmed: VecDeque::new(),
            held: None,
            answers: 0,
        }
    }

    /// A function call of a response is complete.
    pub(super) fn call(
        &mut self,
        response: &ResponseId,
        call: ToTools,
        wanted: bool,
        now: Instant,
    ) -> Called {
        if self.names.is_empty() {
            return Called::Foreign;
        }
        let ToTools::Call { call: id, name, .. } = &call;
        let own = self.names.iter().any(|own| own == name);
        let running: usize = self.rounds.iter().map(|round| round.running.len()).sum();
        let known = self.rounds.iter().any(|round| round.running.contains(id));
        let round = self.round(response, wanted, now);
        if !own {
            round.shared = true;
            return Called::Foreign;
        }
        round.own = true;
        round.until = now + MAX_WAIT;
        if known {
            // A provider that says it twice means one call.
            return Called::Foreign;
        }
        if running >= MAX_RUNNING {
            return Called::Refused(TOO_MANY.into());
        }
        round.running.push(id.clone());
        Called::Run(call)
    }

    /// The provider is done with a response; `completed` as it meant to.
    pub(super) fn done(&mut self, response: &ResponseId, completed: bool) -> Next {
        let round = self.rounds.iter_mut();
        let Some(round) = round.into_iter().find(|round| round.response == *response) else {
            return Next::Nothing;
        };
        round.done = true;
        round.wanted &= completed;
        self.settle()
    }

    /// A tool has answered. Keeps the output until it is [confirmed](Self::confirm).
    pub(super) fn output(&mut self, call: &CallId, output: &Said) {
        for round in &mut self.rounds {
            round.running.retain(|running| running != call);
        }
        if self.unconfirmed.len() == MAX_RUNNING {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back((call.clone(), output.clone()));
    }

    /// The conversation has this output. Tells whether it is one of the relay's.
    pub(super) fn confirm(&mut self, call: &CallId) -> bool {
        let before = self.unconfirmed.len();
        self.unconfirmed.retain(|(kept, _)| kept != call);

        self.unconfirmed.len() < before
    }

    /// Returns what another link is to be told, which does not know of it.
    pub(super) fn unconfirmed(&self) -> Vec<ToVoice> {
        let outputs = self.unconfirmed.iter().cloned();
        outputs
            .map(|(call, output)| ToVoice::ToolOutput { call, output })
            .collect()
    }

    /// The link of a response is lost. What runs for it goes on, for the next link.
    pub(super) fn break_off(&mut self, response: &ResponseId) {
        for round in &mut self.rounds {
            round.done |= round.response == *response;
        }
        self.rounds
            .retain(|round| round.response != *response || !round.running.is_empty());
    }

    /// The person has begun a new turn, which is answered without the relay's asking.
    pub(super) fn on_new_turn(&mut self) {
        self.answers = 0;
        for round in &mut self.rounds {
            round.wanted = false;
        }
    }

    /// Keeps the client's request for an answer until the tools that run have answered; `false` if
    /// there is nothing to wait for.
    pub(super) fn hold(&mut self, json: &Json) -> bool {
        self.answers = 0;
        let waits = self.is_running() && self.held.is_none();
        if waits {
            self.held = Some(json.clone());
        }
        waits
    }

    /// Whether the person waits for an answer for which a tool runs.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        let mut rounds = self.rounds.iter();
        rounds.any(|round| {
            let answer = round.wanted && !round.shared || self.held.is_some();
            !round.running.is_empty() && answer && now < round.until
        })
    }

    /// Ends the rounds that are over, and tells what follows. To be called after an
    /// [output](Self::output) has been told.
    pub(super) fn settle(&mut self) -> Next {
        let is_over = |round: &Round| round.done && round.running.is_empty();
        let asks = |round: &Round| is_over(round) && round.own && round.wanted && !round.shared;
        let asks = self.rounds.iter().any(asks);
        self.rounds.retain(|round| !is_over(round));
        if self.is_running() {
            // The last of them asks for all.
            if asks {
                self.pass_the_wish();
            }
            return Next::Nothing;
        }
        if let Some(held) = self.held.take() {
            return Next::PassOn(held);
        }
        if !asks || self.answers >= MAX_ANSWERS {
            return Next::Nothing;
        }
        self.answers += 1;
        Next::Ask
    }

    fn pass_the_wish(&mut self) {
        if let Some(round) = self.rounds.iter_mut().find(|round| round.own) {
            round.wanted = true;
        }
    }

    fn is_running(&self) -> bool {
        self.rounds.iter().any(|round| !round.running.is_empty())
    }

    fn round(&mut self, response: &ResponseId, wanted: bool, now: Instant) -> &mut Round {
        let index = self
            .rounds
            .iter()
            .position(|round| round.response == *response);
        let index = index.unwrap_or_else(|| {
            // Responses that were never done are forgotten, unless something runs for them.
            self.rounds
                .retain(|round| !round.running.is_empty() || now < round.until);
            self.rounds.push(Round {
                response: response.clone(),
                running: Vec::new(),
                own: false,
                shared: false,
                done: false,
                wanted,
                until: now + MAX_WAIT,
            });
            self.rounds.len() - 1
        });
        &mut self.rounds[index]
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_asked_for_once_all_outputs_are_there() {
        let mut tools = tools();
        assert!(matches!(tools.run("r", "a", "mine"), Called::Run(_)));
        assert!(matches!(tools.run("r", "b", "mine"), Called::Run(_)));
        assert_eq!(tools.answered("a"), Next::Nothing);
        assert_eq!(tools.done(&"r".into(), true), Next::Nothing);
        assert_eq!(tools.answered("b"), Next::Ask);
        assert_eq!(tools.settle(), Next::Nothing);
    }

    #[test]
    fn a_tool_may_answer_before_its_response_is_done() {
        let mut tools = tools();
        tools.run("r", "a", "mine");
        assert_eq!(tools.answered("a"), Next::Nothing);
        assert_eq!(tools.done(&"r".into(), true), Next::Ask);
    }

    #[test]
    fn the_client_asks_if_some_of_the_calls_are_its_own_and_is_held_until_all_are_there() {
        let mut tools = tools();
        assert_eq!(tools.run("r", "theirs", "other"), Called::Foreign);
        tools.run("r", "a", "mine");
        tools.done(&"r".into(), true);
        assert!(!tools.is_awaited(Instant::now()));
        assert!(tools.hold(&"create".into()));
        assert!(tools.is_awaited(Instant::now()));
        assert_eq!(tools.answered("a"), Next::PassOn("create".into()));

        tools.run("s", "theirs", "other");
        tools.run("s", "b", "mine");
        tools.done(&"s".into(), true);
        assert_eq!(tools.answered("b"), Next::Nothing);
        assert!(
            !tools.hold(&"create".into()),
            "there is nothing to wait for"
        );
    }

    #[test]
    fn nothing_is_asked_for_if_the_person_has_begun_a_new_turn() {
        let mut tools = tools();
        tools.run("r", "a", "mine");
        tools.done(&"r".into(), true);
        tools.on_new_turn();
        assert_eq!(tools.answered("a"), Next::Nothing);
        assert_eq!(
            tools.unconfirmed.len(),
            1,
            "the output is told all the same"
        );
        tools.confirm(&"a".into());
        assert_eq!(tools.unconfirmed.len(), 0);
    }

    #[test]
    fn a_response_that_was_cut_asks_for_nothing() {
        let mut tools = tools();
        tools.run("r", "a", "mine");
        assert_eq!(tools.answered("a"), Next::Nothing);
        assert_eq!(tools.done(&"r".into(), false), Next::Nothing);
    }

    #[test]
    fn two_rounds_are_answered_at_once() {
        let mut tools = tools();
        tools.run("r", "a", "mine");
        tools.done(&"r".into(), true);
        tools.on_new_turn();
        tools.run("s", "b", "mine");
        tools.done(&"s".into(), true);
        assert_eq!(
            tools.answered("b"),
            Next::Nothing,
            "the other one still runs"
        );
        assert_eq!(tools.answered("a"), Next::Ask);
    }

    #[test]
    fn a_model_does_not_call_for_ever_and_the_person_begins_anew() {
        let mut tools = tools();
        let again = |tools: &mut Tools| {
            tools.run("r", "a", "mine");
            tools.done(&"r".into(), true);
            tools.answered("a")
        };
        for _ in 0..MAX_ANSWERS {
            assert_eq!(again(&mut tools), Next::Ask);
        }
        assert_eq!(again(&mut tools), Next::Nothing);
        tools.on_new_turn();
        assert_eq!(again(&mut tools), Next::Ask);
    }

    #[test]
    fn a_call_too_many_is_refused_and_one_said_twice_runs_once() {
        let mut tools = tools();
        for index in 0..MAX_RUNNING {
            let ran = tools.run("r", &index.to_string(), "mine");
            assert!(matches!(ran, Called::Run(_)));
        }
        assert_eq!(tools.run("r", "0", "mine"), Called::Foreign);
        let refused = tools.run("r", "more", "mine");
        assert_eq!(refused, Called::Refused(TOO_MANY.into()));
    }

    #[test]
    fn nobody_waits_for_a_tool_that_is_forgotten() {
        let mut tools = tools();
        tools.run("r", "a", "mine");
        tools.done(&"r".into(), true);
        let now = Instant::now();
        assert!(tools.is_awaited(now));
        assert!(!tools.is_awaited(now + MAX_WAIT + Duration::from_secs(1)));
    }

    fn tools() -> Tools {
        Tools::new(Arc::new(["mine".to_owned()]))
    }

    impl Tools {
        fn run(&mut self, response: &str, call: &str, name: &str) -> Called {
            let call = ToTools::Call {
                call: call.into(),
                name: name.to_owned(),
                arguments: "{}".into(),
            };
            self.call(&response.into(), call, true, Instant::now())
        }

        fn answered(&mut self, call: &str) -> Next {
            self.output(&call.into(), &"{}".into());
            self.settle()
        }
    }
}
