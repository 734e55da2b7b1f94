//! The link in use is lost.
//!
//! **Invariant:** what was received of an answer sounds; what was not is asked for again once.

use std::time::Instant;

use crate::core::ids::ResponseId;
use crate::core::port::{
    ClientEvent, CloseReason, DialFailure, Fault, FromDialer, LinkEnd, Notice, ToClient, ToDialer,
};
use crate::core::resilience::Backoff;
use crate::core::session::recent::Recent;
use crate::core::session::recovery::{Cause, Fallback, Plan, Reason, RecoveryConfig, plan};
use crate::core::session::upstream::{CUT_OFF, Link, Next, Outage, Owed};
use crate::core::session::{Effect, Phase, Session};
use crate::core::tally::Tally;

impl Session {
    /// The link in use has ended, or does not do what a link is for.
    pub(in crate::core::session) fn on_link_lost(&mut self, cause: Cause, now: Instant) {
        let end = match cause {
            Cause::LinkEnded(end) => end,
            Cause::LinkOverrun
            | Cause::LinkSilent
            | Cause::ClientLost
            | Cause::ClientOverrun
            | Cause::TokenExpired
            | Cause::Refusal => LinkEnd::Lost,
        };
        match (self.voice, plan(cause), self.upstream.config) {
            (Link::Lost(_) | Link::Down, ..) => {}
            (Link::Up(_), Plan::Session { reason }, Some(config)) if !self.is_ending() => {
                self.recover(reason, config, now);
            }
            (Link::Up(_) | Link::Opening, ..) => self.on_down(end, now),
        }
    }

    pub(super) fn recover(&mut self, reason: Reason, config: RecoveryConfig, now: Instant) {
        let outage = Outage {
            since: now,
            until: now + config.window,
            reason,
        };
        self.voice = Link::Lost(outage);
        self.effects.push_back(Effect::HangUp);
        self.count(Tally::LinkLost(reason));
        self.drop_answers(reason == Reason::Silent, now);
        if let Next::Ready { .. } = self.upstream.next {
            return self.switch(now);
        }
        match self.fallback() {
            Fallback::Wait => {
                let fallback = Fallback::Wait;
                self.notice(Notice::Degraded { reason, fallback });
            }
        }
        self.dial();
        if self.speaker.is_silent() {
            self.enter(Phase::Recovering {
                until: outage.until,
            });
        } else if let Phase::Recovering { .. } = self.phase {
            self.settle(now);
        }
    }

    /// There is no link yet for what was said on another.
    pub(in crate::core::session) fn look_for_link(&mut self, now: Instant) {
        let Some(config) = self.upstream.config else {
            return;
        };
        let until = now + config.window;
        self.voice = Link::Lost(Outage {
            since: now,
            until,
            reason: Reason::Lost,
        });
        self.enter(Phase::Recovering { until });
        self.dial();
    }

    /// What to do without a link.
    pub(super) fn fallback(&self) -> Fallback {
        Fallback::Wait
    }

    /// What the link was saying ends here; what was received of it sounds. `owes` if it is known to
    /// owe an answer.
    pub(super) fn drop_answers(&mut self, owes: bool, now: Instant) {
        let thinking = matches!(self.phase, Phase::Thinking { .. });
        // While a tool runs the answer is not owed yet: it is asked for once the output is there.
        let waits = self.tools.is_awaited(now);
        let unanswered = !waits && (owes || thinking || !self.open.is_empty());
        let told = self.upstream.history.break_off();
        let lost: Vec<_> = std::mem::take(&mut self.open)
            .into_iter()
            .chain(std::mem::take(&mut self.aside))
            .chain(std::mem::take(&mut self.cut))
            .chain(std::mem::take(&mut self.unconfirmed))
            .collect();
        self.fail(lost);
        self.hearing = false;
        let upstream = &mut self.upstream;
        if !unanswered
            || upstream.asked_again
            || upstream.uplink.expects(ClientEvent::CreateResponse)
        {
            upstream.owed = Owed::Nothing;
            return;
        }
        upstream.owed = Owed::Answer;
        if told {
            let note = format!("item_voxline_cut_off_{}", upstream.number);
            upstream.history.add_note(note.into(), CUT_OFF);
        }
    }

    /// The client is told, once each, that nothing more will come of these responses.
    pub(super) fn fail(&mut self, lost: impl IntoIterator<Item = ResponseId>) {
        let mut seen = Recent::default();
        for response in lost {
            if seen.insert(response.clone()) {
                self.speaker.finish(&response);
                self.tools.break_off(&response);
                self.over.insert(response.clone());
                self.show(ToClient::Failed(response));
            }
        }
    }

    pub(super) fn dial(&mut self) {
        let Some(config) = self.upstream.config else {
            return;
        };
        if let Next::Unwanted = self.upstream.next {
            self.upstream.next = Next::Dialing(Backoff::new(config.backoff));
            self.effects.push_back(Effect::Dialer(ToDialer::Open));
        }
    }

    pub(in crate::core::session) fn on_dialer(
        &mut self,
        FromDialer::Failed(failure): FromDialer,
        now: Instant,
    ) {
        let Next::Dialing(backoff) = &mut self.upstream.next else {
            return;
        };
        let asked = match failure {
            DialFailure::Busy { retry_after } => retry_after,
            DialFailure::Resting | DialFailure::Refused | DialFailure::Unreachable => None,
        };
        let wait = backoff.next(asked, &mut self.upstream.random);
        self.upstream.next = Next::Resting(backoff.clone(), now + wait);
    }

    pub(super) fn give_up(&mut self, outage: Outage) {
        self.count(Tally::LinkGivenUp);
        self.show(ToClient::Fault(Fault::server(
            "provider_gone",
            "The connection to the voice provider was lost and could not be made again in time; the call ends. Call again.",
        )));
        let reason = match outage.reason {
            Reason::Expired => CloseReason::Expired,
            Reason::Lost | Reason::Silent | Reason::Refused | Reason::Garbled => {
                CloseReason::ProviderGone
            }
        };
        self.close(reason);
    }
}
