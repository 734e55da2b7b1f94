//! How long an answer may take.

use crate::config::setting::{Fallback, Setting};

/// The longest that the histograms tell from longer ones.
const RANGE: Option<(&str, &str)> = Some(("1ms", "60s"));

pub(super) const BUDGET: &[Setting] = &[
    Setting {
        key: "budget.capture",
        value: "DURATION",
        default: Fallback::Value("150ms"),
        range: RANGE,
        about: "How much of an answer's time may pass on the device, from the person's last sound until \
                it is sent. A turn with a hop over its limit is over the budget, and so is one that \
                takes longer than `budget.end_to_end`; the dashboard and the metrics name the hop that \
                is to blame.",
        secret: false,
    },
    Setting {
        key: "budget.uplink",
        value: "DURATION",
        default: Fallback::Value("150ms"),
        range: RANGE,
        about: "The same on the network to the relay.",
        secret: false,
    },
    Setting {
        key: "budget.relay_in",
        value: "DURATION",
        default: Fallback::Value("60ms"),
        range: RANGE,
        about: "The same in the relay, on the way to the provider; its jitter buffer waits on purpose.",
        secret: false,
    },
    Setting {
        key: "budget.silence_wait",
        value: "DURATION",
        default: Fallback::Value("600ms"),
        range: RANGE,
        about: "The same until the provider says that the person has stopped. It waits for silence \
                as long as the session asks it to (`silence_duration_ms`).",
        secret: false,
    },
    Setting {
        key: "budget.inference",
        value: "DURATION",
        default: Fallback::Value("700ms"),
        range: RANGE,
        about: "The same from there to the first sound of the answer. A provider of which a fifth of \
                at least 20 turns in five minutes are over it counts as slow, until it is a tenth.",
        secret: false,
    },
    Setting {
        key: "budget.relay_out",
        value: "DURATION",
        default: Fallback::Value("40ms"),
        range: RANGE,
        about: "The same in the relay, on the way back.",
        secret: false,
    },
    Setting {
        key: "budget.downlink",
        value: "DURATION",
        default: Fallback::Value("120ms"),
        range: RANGE,
        about: "The same on the network to the device.",
        secret: false,
    },
    Setting {
        key: "budget.playback",
        value: "DURATION",
        default: Fallback::Value("250ms"),
        range: RANGE,
        about: "The same on the device, until the answer is at the ear.",
        secret: false,
    },
    Setting {
        key: "budget.end_to_end",
        value: "DURATION",
        default: Fallback::Value("1500ms"),
        range: RANGE,
        about: "How long all of it may take: from the person's last sound to the first sound of the \
                answer at the ear. Less than the sum of the hops' limits: not all are late at once.",
        secret: false,
    },
    Setting {
        key: "budget.percentile",
        value: "PERCENT",
        default: Fallback::Value("95"),
        range: Some(("50", "99")),
        about: "Which percentile of many turns is held against the limits.",
        secret: false,
    },
    Setting {
        key: "budget.objective",
        value: "SHARE",
        default: Fallback::Value("0.95"),
        range: Some(("0.5", "0.9999")),
        about: "The share of turns that is to be within the budget. The rest may be used up: at a burn \
                rate of 1 it just lasts.",
        secret: false,
    },
];
