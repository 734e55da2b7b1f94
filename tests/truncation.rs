//! How far what the relay says was heard is from what was heard.
//!
//! In virtual time, with the real playout and all it knows of an ear, around a model of what lies
//! behind it: a network with its delay, both ways unlike, and jitter; a jitter buffer; a sound card.
//! What sounds is known to the millisecond. Prints distributions, over network delays of 0-300 ms
//! one way and jitter buffers of 20-200 ms.

#![expect(clippy::disallowed_methods, reason = "a test picks its origin")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use voxline::core::playout::{Playout, PlayoutConfig};
use voxline::core::port::{Network, Played};

const TRIALS: u64 = 2_000;
const FRAME: Duration = Duration::from_millis(20);

/// How often a client reports where its ear is.
const REPORTS: Duration = Duration::from_millis(100);

#[test]
fn what_was_heard_is_known() {
    println!("                                          p50     p90     p95     p99     max");
    let mut measured = vec![];
    for (device, flushes) in [
        ("plays what it was sent", false),
        ("drops it when told", true),
    ] {
        for (knowledge, reports) in [("with reports", true), ("without", false)] {
            let errors = errors(|seed| Trial::new(seed, reports, flushes).cut_error());
            println!("a cut, the device {device}, {knowledge}:");
            // The word to drop it meets the network's jitter, which nobody can know.
            let goal = match (reports, flushes) {
                (true, false) => 40.0,
                (true, true) => 60.0,
                (false, _) => 120.0,
            };
            measured.push((goal, print(errors)));
        }
    }
    for (knowledge, reports) in [("with reports", true), ("without", false)] {
        let errors = errors(|seed| Trial::new(seed, reports, false).ear_error());
        println!("where the ear is at any moment, {knowledge}:");
        let goal = if reports { 40.0 } else { 120.0 };
        measured.push((goal, print(errors)));
    }

    for (goal, p95) in measured {
        assert!(p95 <= goal, "{p95} > {goal}");
    }
}

/// A talk over one network with one device.
struct Trial {
    random: StdRng,
    origin: Instant,
    playout: Playout,
    down: Duration,
    up: Duration,
    /// The most that the network adds to a packet.
    jitter: Duration,
    buffer: Duration,
    card: Duration,
    reports: bool,
    flushes: bool,
    /// Where each frame lies on the timeline, and when it begins to sound.
    sounds: Vec<(Duration, Duration)>,
    /// Reports on their way, by their arrival.
    reporting: Vec<(Duration, Played)>,
}

impl Trial {
    fn new(seed: u64, reports: bool, flushes: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut between = |from: u64, to: u64| {
            Duration::from_micros(random.random_range(from * 1_000..=to * 1_000))
        };
        let down = between(0, 300);
        let (jitter, buffer, card) = (between(0, 60), between(20, 200), between(10, 50));
        let up = down.mul_f64(random.random_range(0.8..1.2));
        let origin = Instant::now();
        let config = PlayoutConfig {
            flushes,
            ..PlayoutConfig::default()
        };
        Self {
            playout: Playout::new(config, origin),
            random,
            origin,
            down,
            up,
            jitter,
            // It is at least what the jitter needs.
            buffer: buffer.max(jitter),
            card,
            reports,
            flushes,
            sounds: vec![],
            reporting: vec![],
        }
    }

    /// Interrupts; returns how far the relay is off, in ms.
    fn cut_error(mut self) -> f64 {
        let at = self.talk();
        let cut = self.playout.cut(self.origin + at);
        let told: Duration = cut.items.iter().map(|item| item.heard).sum();
        let until = if self.flushes {
            // What the card has taken sounds.
            at + self.arrival() + self.card
        } else {
            Duration::MAX
        };

        distance(told, self.heard(until))
    }

    /// Returns how far the relay is off about where the ear is at an instant.
    fn ear_error(mut self) -> f64 {
        let at = self.talk();
        let delay = self.playout.hearing(self.origin + at).delay;
        let position = self.sounds.iter().rev().find(|(_, sounds)| *sounds <= at);
        let Some((position, sounds)) = position else {
            return 0.0;
        };

        distance(at.saturating_sub(delay), *position + (at - *sounds))
    }

    /// Plays a long answer up to some instant, which is returned.
    fn talk(&mut self) -> Duration {
        let payload = Bytes::from(vec![0; 48 * 30_000]);
        let pushed = self
            .playout
            .push(&"r".into(), &"a".into(), 0, payload, self.origin);
        pushed.expect("it is no longer than may wait");
        let until = Duration::from_micros(self.random.random_range(3_000_000..15_000_000));
        let (mut next_report, mut next_check) = (Duration::ZERO, Duration::ZERO);
        // So long each packet waits in the buffer, those that are sent ahead of their time too.
        let lead = PlayoutConfig::default().lead;
        let begins = (self.down + self.buffer).saturating_sub(lead);
        let mut now = Duration::ZERO;
        while now < until {
            while let Some(release) = self.playout.poll_frame(self.origin + now) {
                let arrives = now + self.arrival();
                let sounds = begins.max(arrives.saturating_sub(release.position));
                self.sounds
                    .push((release.position, release.position + sounds + self.card));
            }
            if self.reports && now >= next_report {
                next_report = now + REPORTS;
                self.send_report(now);
            }
            if now >= next_check {
                next_check = now + Duration::from_secs(2);
                self.check(now);
            }
            let origin = self.origin;
            let playout = &mut self.playout;
            self.reporting.retain(|(arrives, played)| {
                if *arrives <= now {
                    playout.report(Played {
                        at: origin + (played.at - origin) + (now - *arrives),
                        ..*played
                    });
                }
                *arrives > now
            });
            now += Duration::from_millis(1);
        }

        until
    }

    /// Tells which packet is being taken from the buffer, and when that began.
    fn send_report(&mut self, now: Duration) {
        let taken = |(_, sounds): &&(Duration, Duration)| *sounds <= now + self.card;
        let Some((position, sounds)) = self.sounds.iter().rev().find(taken).copied() else {
            return;
        };
        // Browsers take 10 ms at a time, and name the packet they are from.
        let since = now + self.card - sounds;
        let age = Duration::from_millis(since.as_millis() as u64 % 10);
        let late = self.jitter.mul_f64(self.random.random());
        let arrives = now + self.up + late;
        // As the leg makes it: when it arrived, less the age.
        let played = Played {
            position: position.saturating_sub(self.card),
            at: self.origin + arrives.saturating_sub(age),
            exact: false,
        };
        self.reporting.push((arrives, played));
    }

    /// What the leg would have measured by now.
    fn check(&mut self, now: Duration) {
        let trip = self.arrival() + self.up + self.jitter.mul_f64(self.random.random());
        let network = Network {
            round_trip: trip,
            // Of delays spread evenly, neighbors differ by a third.
            jitter: self.jitter / 3,
        };
        self.playout.measure(network, self.origin + now);
    }

    fn arrival(&mut self) -> Duration {
        self.down + self.jitter.mul_f64(self.random.random())
    }

    /// How much has sounded by then.
    fn heard(&self, until: Duration) -> Duration {
        let parts = self.sounds.iter();
        parts
            .map(|(_, sounds)| until.saturating_sub(*sounds).min(FRAME))
            .sum()
    }
}

fn errors(trial: impl Fn(u64) -> f64) -> Vec<f64> {
    (0..TRIALS).map(trial).collect()
}

/// Returns the 95th of a hundred.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn print(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    let quantile = |part: f64| errors[((errors.len() - 1) as f64 * part) as usize];
    let [p50, p90, p95, p99, max] = [0.5, 0.9, 0.95, 0.99, 1.0].map(quantile);
    println!(
        "{:38}{p50:5.0} ms{p90:5.0} ms{p95:5.0} ms{p99:5.0} ms{max:5.0} ms",
        ""
    );

    p95
}

fn distance(a: Duration, b: Duration) -> f64 {
    a.abs_diff(b).as_secs_f64() * 1_000.0
}
