//! How much of everything there may be.

use crate::config::setting::{Fallback, Setting};

pub(super) const LIMITS: &[Setting] = &[
    Setting {
        key: "limits.sessions",
        value: "COUNT",
        default: Fallback::Value("200"),
        range: Some(("1", "100000")),
        about: "Conversations at one time. The next one is told to come back (429).",
        secret: false,
    },
    Setting {
        key: "limits.tenant_sessions",
        value: "COUNT",
        default: Fallback::Unset("as many as `limits.sessions`"),
        range: Some(("1", "100000")),
        about: "Conversations at one time of one tenant, all its users together, unless the \
                tenant has a limit of its own.",
        secret: false,
    },
    Setting {
        key: "limits.user_sessions",
        value: "COUNT",
        default: Fallback::Value("8"),
        range: Some(("1", "100000")),
        about: "Conversations at one time of one user, as named when the user's client secret was \
                made, unless the tenant has a limit of its own.",
        secret: false,
    },
    Setting {
        key: "limits.handshakes",
        value: "COUNT",
        default: Fallback::Value("64"),
        range: Some(("1", "100000")),
        about: "Conversations that are being set up at one time: an offer is being answered, or \
                the provider's link opened. The next one is told to come back (429).",
        secret: false,
    },
    Setting {
        key: "limits.secrets_per_minute",
        value: "COUNT",
        default: Fallback::Value("600"),
        range: Some(("1", "1000000")),
        about: "Client secrets that one tenant may have made in a minute, unless it has a limit \
                of its own. The next one is told when to come back (429).",
        secret: false,
    },
    Setting {
        key: "limits.session_length",
        value: "DURATION",
        default: Fallback::Value("2h"),
        range: Some(("1s", "24h")),
        about: "How long a conversation may last, whatever the provider allows.",
        secret: false,
    },
    Setting {
        key: "limits.connections",
        value: "COUNT",
        default: Fallback::Value("1024"),
        range: Some(("1", "1000000")),
        about: "TCP connections at one time. The next one waits to be accepted.",
        secret: false,
    },
    Setting {
        key: "limits.request_time",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("100ms", "5m")),
        about: "How long a client may take to send the head of a request, and again its body.",
        secret: false,
    },
    Setting {
        key: "limits.body",
        value: "SIZE",
        default: Fallback::Value("1MiB"),
        range: Some(("1KiB", "64MiB")),
        about: "The largest body of a request.",
        secret: false,
    },
    Setting {
        key: "limits.sdp",
        value: "SIZE",
        default: Fallback::Value("64KiB"),
        range: Some(("1KiB", "1MiB")),
        about: "The largest SDP offer.",
        secret: false,
    },
    Setting {
        key: "limits.event",
        value: "SIZE",
        default: Fallback::Value("16MiB"),
        range: Some(("16KiB", "64MiB")),
        about: "The largest event on a client's WebSocket; a larger one is answered by an error, \
                and one of twice the size ends the connection. OpenAI takes 15 MiB of audio in \
                one.",
        secret: false,
    },
    Setting {
        key: "limits.write_time",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("100ms", "5m")),
        about: "How long a client may refuse to take an answer, or a message on its WebSocket, \
                before it counts as gone.",
        secret: false,
    },
    Setting {
        key: "limits.ping_interval",
        value: "DURATION",
        default: Fallback::Value("20s"),
        range: Some(("100ms", "5m")),
        about: "How often a client's WebSocket is pinged. A client that says nothing for two \
                intervals, not even a pong, counts as gone.",
        secret: false,
    },
    Setting {
        key: "limits.drain",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("0s", "1h")),
        about: "How long conversations may go on after SIGTERM or Ctrl-C. They are told at once.",
        secret: false,
    },
];
