//! What a link is told that takes over, and whether that is all.

use std::time::Duration;

use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::item::{Body, Item, Role, Words};
use voxline::core::port::{ClientEvent, Json, State, ToDialer, ToVoice};

use crate::upstream::{LEAD_IN, Pending, Upstream};
use crate::{World, link};

impl World {
    /// The link in use is lost, and the session wants another.
    pub(crate) fn check_lost(&mut self, owes: bool) {
        let open = self.works();
        let thinking = self.state == State::Thinking;
        let upstream = self.upstream.as_mut().expect("there is a provider");
        upstream.lost += 1;
        upstream.lost_at = Some(self.now);
        upstream.break_off(owes || open || thinking);
        self.end_open();
    }

    pub(crate) fn end_open(&mut self) {
        let ended = std::mem::take(&mut self.open);
        self.silenced.extend(ended);
    }

    /// The provider works on an answer that nobody has cut.
    pub(crate) fn works(&self) -> bool {
        self.open
            .iter()
            .any(|response| !self.silenced.contains(response))
    }

    pub(crate) fn check_restored(&mut self, after: Duration) {
        let upstream = self.upstream.as_ref().expect("there is a provider");
        let (in_time, lost) = (after <= upstream.config.window, upstream.lost_at.is_some());
        self.promise(in_time && !lost, "a link is found in time");
    }

    pub(crate) fn check_given_up(&mut self) {
        self.saw("given up");
        let upstream = self.upstream.as_ref().expect("there is a provider");
        let waited = upstream.lost_at.map(|at| self.now - at);
        let enough = waited.is_some_and(|waited| waited >= upstream.config.window);
        self.promise(enough, "no link is given up too early");
    }

    pub(crate) fn check_dialer(&mut self, question: &ToDialer) {
        match question {
            ToDialer::Open => {
                self.saw("dial");
                let upstream = self.upstream.as_mut().expect("there is a provider");
                let second = std::mem::replace(&mut upstream.dialing, true);
                let next = upstream.next.is_some();
                self.promise(!second && !next, "no more than one link is opened at once");
            }
            ToDialer::Adopt(_) => self.saw("adopt"),
        }
    }

    pub(crate) fn check_hang_up(&mut self) {
        self.saw("hang up");
        self.link_up = false;
        let upstream = self.upstream.as_mut().expect("there is a provider");
        upstream.link = None;
    }

    pub(crate) fn check_next(&mut self, message: &ToVoice) {
        self.saw("next told");
        let upstream = self.upstream.as_mut().expect("there is a provider");
        let Some(next) = &mut upstream.next else {
            return self.promise(false, "only who is there is told");
        };
        let told = next.tell(message, &mut self.random, &mut upstream.names);
        if let Err(wrong) = told {
            self.promise(false, wrong);
        }
    }

    pub(crate) fn check_switch(&mut self) {
        let unanswered = self.works() || self.state == State::Thinking;
        let upstream = self.upstream.as_mut().expect("there is a provider");
        if upstream.link.is_some() {
            upstream.settle(self.now);
            if unanswered {
                self.seen.insert("switch at the last moment");
            }
            upstream.break_off(unanswered);
        }
        upstream.switches += 1;
        upstream.turn |= upstream.said - upstream.need > LEAD_IN;
        let next = upstream.next.take();
        let there = next.is_some();
        upstream.link = next;
        upstream.switched = Some((vec![], None));
        upstream.lost_at = None;
        self.end_open();
        self.promise(there, "only who is there takes over");
        self.link_up = true;
    }

    /// The link in use is told this.
    pub(crate) fn tell_link(&mut self, message: &ToVoice) -> bool {
        let Some(upstream) = &mut self.upstream else {
            return false;
        };
        let Some(link) = &mut upstream.link else {
            self.promise(false, "nothing is said to a link that is not in use");
            return false;
        };
        let messages = match message {
            ToVoice::All(messages) => messages,
            one => std::slice::from_ref(one),
        };
        let mut wrong = None;
        for message in messages {
            let items = matches!(message, ToVoice::Restore(_) | ToVoice::Delete(_));
            if let Some((told, known)) = &mut upstream.switched {
                told.push(message.clone());
                if !items && known.is_none() {
                    *known = Some(link.items.clone());
                }
            }
            let told = link.tell(message, &mut self.random, &mut upstream.names);
            wrong = wrong.or_else(|| told.err());
        }
        let switched = upstream.switched.is_some();
        self.promise(wrong.is_none(), wrong.unwrap_or_default());

        switched
    }

    /// What the link that has taken over knows by now.
    pub(crate) fn check_taken_over(&mut self) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        let Some((told, known)) = upstream.switched.take() else {
            return;
        };
        let link = upstream.link.as_ref().expect("it has taken over");
        let number = link.number;
        let known = known.as_ref().unwrap_or(&link.items);
        let compared = upstream.record.compare(known);
        if let Err(wrong) = compared {
            self.promise(false, &format!("a link knows what was said: {wrong}"));
            return;
        }
        if upstream.cut_off {
            self.seen.insert("cut off");
        }
        if upstream.record.is_folded() {
            self.seen.insert("summary");
        }
        let ask = match (upstream.owed, &upstream.request) {
            (false, _) => None,
            (true, None) => Some(None),
            (true, Some(request)) => Some(Some(request.clone())),
        };
        let mut events = upstream.pending.clone().into_iter();
        let mut position = upstream.floor;
        let mut first = None;
        let mut asked = None;
        // How much sound was said before the last event that is told ahead of any.
        let mut before = 0;
        let mut wrong = None;
        for message in &told {
            match message {
                ToVoice::Audio { frame, .. } => {
                    self.seen.insert("sound told again");
                    for serial in link::serials(&frame.payload) {
                        let from = *first.get_or_insert(serial);
                        if from < before {
                            wrong = Some("sound and events are in order");
                        }
                        if (from == serial && serial >= position) || serial == position {
                            position = serial + 1;
                        } else {
                            wrong = Some("the person's sound is told once, in order");
                        }
                    }
                }
                ToVoice::Event(json) => match events.next() {
                    Some(Pending {
                        json: event, at, ..
                    }) if event == *json => {
                        self.seen.insert("event told again");
                        if first.is_none() {
                            before = at;
                        } else if position != at {
                            wrong = Some("sound and events are in order");
                        }
                    }
                    _ if asked.is_none() => asked = Some(Some(json.clone())),
                    _ => wrong = Some("events are told once, in order"),
                },
                ToVoice::Respond => asked = Some(None),
                ToVoice::Restore(restored) => {
                    self.seen.insert("restore");
                    if restored.sound.is_some() {
                        if !upstream.record.is_unanswered(&restored.item.id) {
                            wrong = Some("what is answered is not told to be heard");
                        }
                        self.seen.insert("a turn is told again as it was spoken");
                    }
                }
                ToVoice::Delete(_) => {
                    self.seen.insert("told anew");
                }
                _ => wrong = Some("a link that takes over is told no such thing"),
            }
        }
        let need = upstream.need;
        let complete = match first {
            Some(first) => first <= need && position == upstream.said,
            None => need == upstream.said,
        };
        let left = events.next();
        let all = left.is_none();
        let said = upstream.said;
        if asked.is_some() {
            self.seen.insert(match asked {
                Some(None) => "respond",
                _ => "asked again in the client's words",
            });
        }
        let right = asked == ask;
        if right && asked.is_some() {
            upstream.asked_again = true;
            upstream.owed = false;
        }
        upstream.pending.retain(|it| it.event != ClientEvent::Other);
        upstream
            .pending
            .iter_mut()
            .for_each(|it| it.told = self.now);
        let forgotten = upstream.shown.values().any(|of| *of < number);
        self.promise(wrong.is_none(), wrong.unwrap_or_default());
        let sound =
            format!("the person's sound is complete: {first:?}..{position}, not {need}..{said}");
        self.promise(complete, &sound);
        let left = left.map(|it| it.json.as_str().to_owned());
        self.promise(all, &format!("no event of the client's is lost: {left:?}"));
        self.promise(
            right,
            &format!("an answer is asked for again, once: {asked:?}, not {ask:?}"),
        );
        self.promise(!forgotten, "what was begun is shown to end");
    }

    /// An event reaches the client.
    pub(crate) fn check_shown(&mut self, json: &Json) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        let number = upstream.link.as_ref().map_or(0, |link| link.number);
        match json.as_str().split_once(' ') {
            Some(("created", response)) => {
                let before = upstream.shown.insert(response.into(), number);
                self.promise(before.is_none(), "what begins, begins once");
            }
            Some(("done", response)) => self.check_ended(&response.into()),
            _ => {}
        }
        let ends = json.as_str() == "ending";
        self.promise(!ends, "what another link mends is not shown");
    }

    pub(crate) fn check_ended(&mut self, response: &ResponseId) {
        let upstream = self.upstream.as_mut().expect("there is a provider");
        let was = upstream.shown.remove(response).is_some();
        let first = upstream.ended.insert(response.clone());
        self.promise(was && first, "what has begun ends once");
    }
}

impl Upstream {
    pub(crate) fn break_off(&mut self, unanswered: bool) {
        let told = self.record.break_off();
        let owed = unanswered && !self.asked_again && !self.expects(ClientEvent::CreateResponse);
        self.owed = owed;
        if owed && told {
            self.cut_off = true;
            let number = self.link_number();
            let body = Body::Message {
                role: Role::System,
                words: Words::written("cut off"),
            };
            let id = ItemId::from(format!("item_voxline_cut_off_{number}"));
            self.record.add(Item { id, body });
        }
    }

    fn link_number(&self) -> u64 {
        self.switches + 1
    }
}
