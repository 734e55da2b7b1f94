//! The provider over several links, which are lost, replaced, silent or slow; and what each of them
//! must know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use voxline::core::ids::{ItemId, ResponseId};
use voxline::core::port::{
    ClientEvent, DialFailure, FromClient, FromDialer, FromVoice, Json, LinkEnd, ToVoice,
    VoiceSession,
};
use voxline::core::session::{Input, Loss, Neighbor, RecoveryConfig, SessionConfig};

use crate::link::{Known, Link, Names, kind, speech};
use crate::record::Record;
use crate::{Random, World};

/// How much of the person's sound is kept where nobody speaks.
pub(crate) const LEAD_IN: u32 = 1_000;

/// How long a link takes at most to answer.
const ANSWERED_BY: Duration = Duration::from_secs(10);

/// An event of the client's that nobody has answered.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) event: ClientEvent,
    pub(crate) json: Json,
    /// How much of the person's sound was before it.
    pub(crate) at: u32,
    /// When the link was told.
    pub(crate) told: Instant,
}

pub(crate) struct Upstream {
    pub(crate) config: RecoveryConfig,
    pub(crate) session: VoiceSession,
    /// Nothing goes wrong.
    pub(crate) calm: bool,
    pub(crate) link: Option<Link>,
    pub(crate) next: Option<Link>,
    pub(crate) links: u64,
    pub(crate) dialing: bool,
    pub(crate) lost_at: Option<Instant>,
    pub(crate) names: Names,
    pub(crate) record: Record,
    /// What the person says: so many milliseconds, of which these have become no item.
    pub(crate) said: u32,
    pub(crate) floor: u32,
    pub(crate) need: u32,
    pub(crate) turn: bool,
    /// In order.
    pub(crate) pending: Vec<Pending>,
    pub(crate) events: u64,
    /// The words that the answer which is given was asked for with.
    pub(crate) request: Option<Json>,
    pub(crate) asked_again: bool,
    /// An answer is owed that was lost.
    pub(crate) owed: bool,
    /// The next link is told that an answer was cut off.
    pub(crate) cut_off: bool,
    pub(crate) asides: BTreeSet<ResponseId>,
    /// Responses that the client was shown, and whose end it was not, by the link they are of.
    pub(crate) shown: BTreeMap<ResponseId, u64>,
    pub(crate) ended: BTreeSet<ResponseId>,
    pub(crate) whole: Vec<ItemId>,
    pub(crate) calls: Vec<String>,
    /// What a link is told with which the session goes on.
    pub(crate) switched: Option<(Vec<ToVoice>, Option<Vec<Known>>)>,
    pub(crate) switches: u64,
    pub(crate) lost: u64,
}

impl Upstream {
    pub(crate) fn new(session: &mut SessionConfig, random: &mut Random) -> Self {
        let seconds = |most| Duration::from_secs(1 + most);
        let config = RecoveryConfig {
            window: seconds(random.below(30)),
            history: match random.below(3) {
                0 => 1 + random.below(6) as usize,
                _ => 100,
            },
            sound: seconds(random.below(10)),
            link_length: match random.below(3) {
                0 => Duration::from_secs(3600),
                _ => seconds(3 + random.below(60)),
            },
            rollover_lead: seconds(random.below(20)),
            ..RecoveryConfig::default()
        };
        session.seed = random.below(1_000);
        if random.below(2) == 0 {
            session.began = Duration::from_secs(1_000_000);
        }
        let detects = random.below(4) > 0;
        let voice = VoiceSession {
            detects,
            interrupts: detects && random.below(4) > 0,
            responds: detects && random.below(8) > 0,
            transcribes: random.below(2) == 0,
            silence: Duration::from_millis(200),
            expires_at: (random.below(4) == 0).then(|| 1_000_000 + 10 + random.below(60)),
            ..VoiceSession::default()
        };

        Self::with(session, config, voice, false)
    }

    /// A provider with whom all goes well.
    pub(crate) fn calm(session: &mut SessionConfig) -> Self {
        let voice = VoiceSession {
            detects: true,
            interrupts: true,
            responds: true,
            transcribes: true,
            silence: Duration::from_millis(200),
            ..VoiceSession::default()
        };

        Self::with(session, RecoveryConfig::default(), voice, true)
    }

    fn with(
        session: &mut SessionConfig,
        config: RecoveryConfig,
        voice: VoiceSession,
        calm: bool,
    ) -> Self {
        session.recovery = Some(config);

        Self {
            config,
            session: voice,
            calm,
            link: Some(Link::new(1, voice, calm)),
            next: None,
            links: 1,
            dialing: false,
            lost_at: None,
            names: Names::default(),
            record: Record::new(config.history),
            said: 0,
            floor: 0,
            need: 0,
            turn: false,
            pending: vec![],
            events: 0,
            request: None,
            asked_again: false,
            owed: false,
            cut_off: false,
            asides: BTreeSet::new(),
            shown: BTreeMap::new(),
            ended: BTreeSet::new(),
            whole: vec![],
            calls: vec![],
            switched: None,
            switches: 0,
            lost: 0,
        }
    }

    pub(crate) fn interrupts(&self) -> bool {
        self.session.interrupts
    }

    pub(crate) fn answered(&mut self, event: ClientEvent) -> Option<(Json, u32)> {
        let index = self.pending.iter().position(|it| it.event == event)?;
        let Pending { json, at, .. } = self.pending.remove(index);

        Some((json, at))
    }

    pub(crate) fn expects(&self, event: ClientEvent) -> bool {
        self.pending.iter().any(|it| it.event == event)
    }

    /// Who is there has answered by now.
    pub(crate) fn settle(&mut self, now: Instant) {
        self.pending.retain(|it| now < it.told + ANSWERED_BY);
    }

    pub(crate) fn forgive(&mut self) {
        self.owed = false;
        self.asked_again = false;
        self.request = None;
    }

    /// How much of the sound is kept from now on.
    pub(crate) fn keep(&mut self, linked: bool) {
        let most = match self.session.detects && linked && !self.turn {
            true => LEAD_IN,
            false => self.config.sound.as_millis() as u32,
        };
        self.need = self.need.max(self.said.saturating_sub(most));
    }

    /// The client says this to the provider.
    pub(crate) fn said_by_client(
        &mut self,
        event: ClientEvent,
        json: &Json,
        linked: bool,
        now: Instant,
    ) {
        if !linked || event != ClientEvent::Other {
            self.pending.push(Pending {
                event,
                json: json.clone(),
                at: self.said,
                told: now,
            });
        }
        if event == ClientEvent::CreateResponse {
            self.forgive();
        }
    }
}

impl World {
    /// The provider does, and says, what it does.
    pub(crate) fn provide(&mut self) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        let random = &mut self.random;
        let calm = upstream.calm;
        let fault = match random.below(160) {
            _ if calm => None,
            0 => Some(Input::Voice(FromVoice::Down(match random.below(4) {
                0 => LinkEnd::Expired,
                1 => LinkEnd::Refused,
                2 => LinkEnd::Garbled,
                _ => LinkEnd::Lost,
            }))),
            1 if random.below(2) == 0 => {
                let loss = match random.below(2) {
                    0 => Loss::Gone,
                    _ => Loss::Overrun,
                };
                Some(Input::Lost(Neighbor::Voice, loss))
            }
            2..6 if upstream.next.is_some() => Some(Input::Next(FromVoice::Down(LinkEnd::Lost))),
            6 | 7 if self.link_up => Some(Input::Voice(FromVoice::Error {
                code: "server_error".to_owned(),
                answers_relay: false,
                refuses: None,
                json: "trouble".into(),
            })),
            _ => None,
        };
        if let Some(link) = &mut upstream.link {
            match random.below(600) {
                _ if calm => {}
                0 => link.silent = true,
                1 => link.slow = true,
                2 => link.stubborn = true,
                _ => {}
            }
            link.work(&mut upstream.names, random);
        }
        match fault {
            Some(Input::Next(down)) => {
                upstream.next = None;
                self.saw("gone before it was used");
                self.put(Input::Next(down));
            }
            Some(Input::Voice(FromVoice::Down(end))) if end == LinkEnd::Expired && self.link_up => {
                self.put(Input::Voice(FromVoice::Error {
                    code: "session_expired".to_owned(),
                    answers_relay: false,
                    refuses: None,
                    json: "ending".into(),
                }));
                self.lose(Input::Voice(FromVoice::Down(end)));
            }
            Some(down @ (Input::Voice(FromVoice::Down(_)) | Input::Lost(..))) => self.lose(down),
            Some(other) => self.put(other),
            None => {}
        }
        self.deliver();
        self.answer_dialer();
    }

    fn lose(&mut self, down: Input) {
        if !self.link_up || self.closed {
            return;
        }
        if self.is_away() {
            self.saw("lost while nobody is there");
        }
        if matches!(down, Input::Lost(_, Loss::Overrun)) {
            self.saw("overrun");
        }
        if self.closing {
            self.saw("lost while ending");
        }
        self.put(down);
    }

    /// Some of what the links have said arrives.
    pub(crate) fn deliver(&mut self) {
        let count = match self.random.below(4) {
            0 => 0,
            _ => self.random.below(14),
        };
        for _ in 0..count {
            let Some(Upstream {
                link: Some(link), ..
            }) = &mut self.upstream
            else {
                break;
            };
            if link.silent || (link.slow && self.random.below(12) > 0) {
                break;
            }
            let Some(message) = link.outbox.pop_front() else {
                break;
            };
            self.put(Input::Voice(message));
        }
        for _ in 0..count {
            let next = self.upstream.as_mut().and_then(|it| it.next.as_mut());
            let Some(message) = next.and_then(|next| next.outbox.pop_front()) else {
                break;
            };
            self.put(Input::Next(message));
        }
    }

    fn answer_dialer(&mut self) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        if !upstream.dialing || self.random.below(8) > 0 {
            return;
        }
        upstream.dialing = false;
        let failure = match self.random.below(10) {
            _ if upstream.calm => None,
            0 => Some(DialFailure::Resting),
            1 => Some(DialFailure::Busy { retry_after: None }),
            2 => Some(DialFailure::Busy {
                retry_after: Some(Duration::from_millis(self.random.below(4_000))),
            }),
            3 => Some(DialFailure::Refused),
            4 => Some(DialFailure::Unreachable),
            5 => {
                // It is there, and is gone before it says so.
                self.saw("gone before it was there");
                return self.put(Input::Next(FromVoice::Down(LinkEnd::Lost)));
            }
            _ => None,
        };
        if let Some(failure) = failure {
            self.saw(match failure {
                DialFailure::Refused => "refused by the provider",
                other => other.name(),
            });
            return self.put(Input::Dialer(FromDialer::Failed(failure)));
        }
        upstream.links += 1;
        let mut session = upstream.session;
        if session.expires_at.is_some() {
            let elapsed = (self.now - self.origin).as_secs();
            session.expires_at = Some(1_000_000 + elapsed + 5 + self.random.below(60));
        }
        upstream.next = Some(Link::new(upstream.links, session, upstream.calm));
    }

    /// What the person and their client say.
    pub(crate) fn talk(&mut self) -> Vec<Input> {
        let Some(upstream) = &mut self.upstream else {
            return vec![];
        };
        let random = &mut self.random;
        if !self.ever_up {
            return vec![];
        }
        let detects = upstream.session.detects;
        upstream.events += 1;
        let number = upstream.events;
        let say = |words: String| {
            let json = Json::from(words);
            vec![Input::Client(FromClient::Event(kind(&json), json))]
        };
        match random.below(60) {
            0..12 => {
                let received = self.now;
                let mut inputs = vec![];
                let mut said = upstream.said;
                for _ in 0..random.below(12) {
                    let millis = 20 * (1 + random.below(3) as u32);
                    let payload = speech(said, millis);
                    said += millis;
                    let audio = FromClient::Audio { payload, received };
                    inputs.push(Input::Client(audio));
                }
                inputs
            }
            12..18 if detects => {
                if let Some(link) = upstream.link.as_mut().filter(|_| self.link_up) {
                    link.detect(&mut upstream.names, random);
                }
                vec![]
            }
            12..16 => say(format!("commit {number}")),
            16 => say(format!("clear {number}")),
            17 | 18 => say(format!("respond {number}")),
            19 => say(format!("aside {number}")),
            20 => say(format!("update {number}")),
            21 | 22 => say(format!("item c{number} text")),
            23 => match upstream.calls.pop() {
                Some(call) => say(format!("item c{number} output-{call}")),
                None => vec![],
            },
            24 => say(format!("retrieve {number}")),
            25 if random.below(3) == 0 => {
                let items = [&upstream.whole[..], &["u1".into(), "u2".into()]].concat();
                let item = &items[random.below(items.len() as u64) as usize];
                say(format!("delete {item}"))
            }
            26 if !upstream.whole.is_empty() => {
                let index = random.below(upstream.whole.len() as u64) as usize;
                let item = upstream.whole.swap_remove(index);
                let heard = &self.items[&item];
                if heard.settled || !self.flushed.contains(&heard.response) {
                    return vec![];
                }
                let heard = Duration::from_millis(1 + random.below(300));
                let json = format!("truncate {item} {}", heard.as_millis()).into();
                vec![Input::Client(FromClient::Truncate { item, heard, json })]
            }
            _ => vec![],
        }
    }

    /// All that was said arrives.
    pub(crate) fn deliver_all(&mut self) {
        let take = |link: &mut Option<Link>| link.as_mut().and_then(|it| it.outbox.pop_front());
        while let Some(upstream) = &mut self.upstream {
            if let Some(message) = take(&mut upstream.link) {
                self.put(Input::Voice(message));
            } else if let Some(message) = take(&mut upstream.next) {
                self.put(Input::Next(message));
            } else {
                break;
            }
        }
    }

    /// The person says something and is answered.
    pub(crate) fn turn(&mut self) {
        for moment in 0.. {
            if moment >= 250 && self.sounding.is_empty() {
                break;
            }
            self.wait_until(self.now + Duration::from_millis(100));
            let upstream = self.upstream.as_mut().expect("there is a provider");
            if moment < 20 {
                let payload = speech(upstream.said, 100);
                let received = self.now;
                self.put(Input::Client(FromClient::Audio { payload, received }));
            }
            let upstream = self.upstream.as_mut().expect("there is a provider");
            if let Some(link) = &mut upstream.link {
                if moment == 3 || moment == 20 {
                    link.detect(&mut upstream.names, &mut self.random);
                }
                link.work(&mut upstream.names, &mut self.random);
            }
            self.deliver_all();
            self.answer_dialer();
            self.check_sound();
        }
    }
}
