//! What the client says and does, and what happens to the relay.

use std::time::Duration;

use voxline::core::port::{ClientEvent, FromClient, Network, Played, Source, Stats, Ways};
use voxline::core::session::{Input, Loss, Neighbor};

use crate::World;
use crate::link::sound;

impl World {
    pub(crate) fn inputs(&mut self) -> Vec<Input> {
        match self.random.below(70) {
            5 if self.random.below(60) == 0 => vec![Input::Shutdown],
            6 if self.random.below(60) == 0 => vec![match self.random.below(3) {
                0 => Input::Revoked,
                1 => Input::HungUp,
                _ => Input::Client(FromClient::Hangup),
            }],
            7 if self.random.below(60) == 0 => vec![Input::Lost(Neighbor::Client, Loss::Overrun)],
            8..13 => self.mouth(),
            13 if self.random.below(3) == 0 => self.measure(),
            14 if !self.reports => vec![Input::Client(FromClient::Network(Network {
                round_trip: Duration::from_millis(self.random.below(600)),
                jitter: Duration::from_millis(self.random.below(60)),
            }))],
            13 => {
                vec![Input::Client(FromClient::ClearOutput)]
            }
            15 => self.speech(),
            14..17 if self.reports => vec![Input::Client(FromClient::Played(self.report()))],
            _ if self.upstream.is_some() => self.talk(),
            chance => self.say_anything(chance),
        }
    }

    /// What the client says without a script.
    fn mouth(&mut self) -> Vec<Input> {
        if self.upstream.is_some() {
            return self.talk();
        }
        match self.random.below(5) {
            0 => vec![Input::Client(FromClient::Event(
                ClientEvent::CreateResponse,
                "client".into(),
            ))],
            _ => vec![Input::Client(FromClient::Audio {
                payload: sound(0, 20),
                received: self.now,
            })],
        }
    }

    /// What a client may tell of its sound and its clock, true or not.
    fn measure(&mut self) -> Vec<Input> {
        let mut span = |most| Duration::from_millis(self.random.below(most));
        let ways = Ways {
            up: span(400),
            down: span(400),
            uncertainty: span(50),
            source: Source::Reported,
        };
        let stats = Stats {
            capture: Some(span(60)),
            output_latency: Some(span(100)),
            ..Stats::default()
        };

        vec![
            Input::Client(FromClient::Ways(ways)),
            Input::Client(FromClient::Stats(stats)),
        ]
    }

    fn report(&mut self) -> Played {
        let age = Duration::from_millis(self.random.below(300));
        let delay = Duration::from_millis(self.random.below(400));
        let at = self
            .now
            .checked_sub(age)
            .unwrap_or(self.origin)
            .max(self.origin);

        let position = (at - self.origin).saturating_sub(delay).min(self.played_to);

        Played {
            position,
            at,
            exact: self.random.below(2) == 0,
        }
    }
}
