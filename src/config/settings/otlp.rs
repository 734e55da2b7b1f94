//! Traces, as OpenTelemetry has them.

use crate::config::setting::{Fallback, Setting};

pub(super) const OTLP: &[Setting] = &[
    Setting {
        key: "otlp.endpoint",
        value: "URL",
        default: Fallback::Unset("nowhere: no spans are made"),
        range: None,
        about: "The OpenTelemetry collector that is told where the time of each turn went, as \
                [LATENCY.md](LATENCY.md#traces) describes, over OTLP in HTTP and protocol buffers: \
                `http://127.0.0.1:4318`. `/v1/traces` is added to it. What people say is in no span.",
        secret: false,
    },
    Setting {
        key: "otlp.headers",
        value: "NAME=VALUE[,NAME=VALUE...]",
        default: Fallback::Unset("none"),
        range: None,
        about: "Headers that are sent to it, such as its credential; percent-encoded where a value \
                has a comma or a blank. A list in the file.",
        secret: true,
    },
    Setting {
        key: "otlp.service",
        value: "NAME",
        default: Fallback::Value("voxline"),
        range: None,
        about: "What the relay is called there (`service.name`).",
        secret: false,
    },
    Setting {
        key: "otlp.sampling",
        value: "SHARE",
        default: Fallback::Value("1"),
        range: Some(("0", "1")),
        about: "The share of the turns that are told, from 0 to 1. Where the client sends a \
                `traceparent`, that decides: its turns are told if it keeps its own trace.",
        secret: false,
    },
    Setting {
        key: "otlp.queue",
        value: "COUNT",
        default: Fallback::Value("1000"),
        range: Some(("1", "100000")),
        about: "How many turns may wait to be told while the collector is slow or away; half a \
                kilobyte each. Those beyond are dropped, and their spans counted in \
                `voxline_otlp_spans_dropped_total`.",
        secret: false,
    },
    Setting {
        key: "otlp.timeout",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("100ms", "60s")),
        about: "How long the collector may take to answer one request. What fails is tried again for \
                a minute.",
        secret: false,
    },
];
