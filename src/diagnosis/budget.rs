//! How long each part of an answer may take.

use serde::{Deserialize, Serialize};

use crate::core::latency::{Hop, TurnTrace};

/// A part of the way from the person's last sound to the first sound of the answer, as far as the
/// relay sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Until the provider says that the person has stopped: a part of `inference`.
    SilenceWait,
    /// From there to the first sound of the answer.
    Inference,
    /// From there to its release: a part of `downlink`.
    RelayOut,
    /// All of it.
    EndToEnd,
}

/// The greatest time of a part, in milliseconds. What happens on the device (`capture`,
/// `playback`) and on the network (`uplink`, most of `downlink`) is not in the relay's view.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of `silence_wait` and `inference` together.
    pub inference: u64,
    pub downlink: u64,
    pub end_to_end: u64,
}

pub const BUDGET: Limits = Limits {
    inference: 700,
    downlink: 120,
    end_to_end: 1500,
};

/// Names the part that broke the budget, if one did.
pub(super) fn broken_by(turn: &TurnTrace) -> Option<Part> {
    let ms = |part: std::time::Duration| part.as_millis() as u64;
    let hop = |hop| {
        turn.hop(hop)
            .map(|stretch| stretch.took)
            .unwrap_or_default()
    };
    let (silence_wait, inference) = (hop(Hop::SilenceWait), hop(Hop::Inference));
    if ms(silence_wait + inference) > BUDGET.inference {
        // A provider that waits long for silence is not slow to answer.
        return Some(if silence_wait > inference {
            Part::SilenceWait
        } else {
            Part::Inference
        });
    }
    if ms(hop(Hop::RelayOut)) > BUDGET.downlink {
        return Some(Part::RelayOut);
    }

    (ms(turn.total) > BUDGET.end_to_end).then_some(Part::EndToEnd)
}

impl Part {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SilenceWait => "silence_wait",
            Self::Inference => "inference",
            Self::RelayOut => "relay_out",
            Self::EndToEnd => "end_to_end",
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test picks an origin")]
mod tests {
    use super::*;
    use crate::core::latency::{Stretch, Transport};
    use crate::core::port::Source;
    use std::time::{Duration, Instant};

    #[test]
    fn the_part_that_broke_the_budget_is_named() {
        for (parts, broken) in [
            ([200, 400, 0], None),
            ([200, 500, 120], None),
            ([500, 300, 0], Some(Part::SilenceWait)),
            ([200, 600, 0], Some(Part::Inference)),
            ([200, 400, 121], Some(Part::RelayOut)),
        ] {
            let [silence_wait, inference, relay_out] = parts.map(Duration::from_millis);
            let known = |took| {
                Some(Stretch {
                    took,
                    source: Source::Reported,
                })
            };
            let mut hops = [None; 8];
            hops[3..6].copy_from_slice(&[known(silence_wait), known(inference), known(relay_out)]);
            let turn = TurnTrace {
                turn: 1,
                response: "resp".into(),
                transport: Transport::WebRtc,
                began: Instant::now(),
                hops,
                total: silence_wait + inference + relay_out,
                uncertainty: Duration::ZERO,
            };
            assert_eq!(broken_by(&turn), broken, "{parts:?}");
        }
    }
}
