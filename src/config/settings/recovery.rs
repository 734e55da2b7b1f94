//! How conversations outlive their links to the provider.

use crate::config::setting::{Fallback, Setting};

pub(super) const RECOVERY: &[Setting] = &[
    Setting {
        key: "recovery.window",
        value: "DURATION",
        default: Fallback::Value("2m"),
        range: Some(("0s", "1h")),
        about: "How long a conversation that has lost its link to the provider looks for another, \
                before it ends. With 0 it ends with its link.",
        secret: false,
    },
    Setting {
        key: "recovery.history",
        value: "COUNT",
        default: Fallback::Value("100"),
        range: Some(("1", "10000")),
        about: "How many items of the conversation the next link is told. A summary stands for those \
                before them.",
        secret: false,
    },
    Setting {
        key: "recovery.sound",
        value: "DURATION",
        default: Fallback::Value("30s"),
        range: Some(("1s", "5m")),
        about: "How much of what a person says is kept until the provider has answered it, to be told \
                to the next link; 48 kB for each second. Older sound is never told again.",
        secret: false,
    },
    Setting {
        key: "recovery.link_length",
        value: "DURATION",
        default: Fallback::Value("60m"),
        range: Some(("1s", "24h")),
        about: "How long the provider lets one of its sessions last, unless it says so itself. The \
                next one is opened before that, and takes over between two turns.",
        secret: false,
    },
    Setting {
        key: "recovery.rollover_lead",
        value: "DURATION",
        default: Fallback::Value("1m"),
        range: Some(("100ms", "10m")),
        about: "How long before the end of a provider's session the next one is opened; at most a \
                third of its life.",
        secret: false,
    },
    Setting {
        key: "recovery.failures",
        value: "COUNT",
        default: Fallback::Value("5"),
        range: Some(("1", "1000")),
        about: "After so many failures in a row to open a link, by all conversations together, the \
                provider is left alone for `recovery.rest`. Then one attempt finds out whether it is \
                back.",
        secret: false,
    },
    Setting {
        key: "recovery.rest",
        value: "DURATION",
        default: Fallback::Value("30s"),
        range: Some(("100ms", "10m")),
        about: "How long a provider that keeps failing is left alone.",
        secret: false,
    },
];
