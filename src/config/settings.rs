//! Every setting there is: its name, what it may be, what it does.
//!
//! This table is the only place that lists them. The configuration file, the environment, the
//! command line, `voxline config` and `docs/CONFIGURATION.md` are all made from it.

use crate::config::setting::{Fallback, Setting};

mod budget;
mod limits;
mod otlp;
mod recovery;

/// In the order in which they are documented.
const GROUPS: &[&[Setting]] = &[
    ACCESS,
    limits::LIMITS,
    recovery::RECOVERY,
    budget::BUDGET,
    CONVERSATIONS,
    otlp::OTLP,
];

/// All settings.
pub const SETTINGS: &[Setting] = &joined::<{ count(GROUPS) }>(GROUPS);

/// Where the relay is, who may use it, who answers.
const ACCESS: &[Setting] = &[
    Setting {
        key: "listen",
        value: "ADDRESS",
        default: Fallback::Value("127.0.0.1:8080"),
        range: None,
        about: "Where HTTP and WebSockets are served: the page, the API, health. Port 0 takes any \
                free port.",
        secret: false,
    },
    Setting {
        key: "udp",
        value: "ADDRESS",
        default: Fallback::Unset("the address and port of `listen`"),
        range: None,
        about: "Where WebRTC's sound and data channels arrive: every call shares this one UDP \
                port. Open it in the firewall beside the port of `listen`.",
        secret: false,
    },
    Setting {
        key: "public_addr",
        value: "IP",
        default: Fallback::Unset("the address of `udp`, or those of all interfaces"),
        range: None,
        about: "What WebRTC answers announce in place of the address of `udp`, for a relay behind \
                address translation or in a container. The port must be the same outside.",
        secret: false,
    },
    Setting {
        key: "api_key",
        value: "KEY[,KEY...]",
        default: Fallback::Unset("on a loopback address, a development key made at each start"),
        range: None,
        about: "The keys that clients of the relay may show. Several allow for changing a key \
                without a break. Off loopback there must be one. A list in the file.",
        secret: true,
    },
    Setting {
        key: "tenants",
        value: "FILE",
        default: Fallback::Unset("only the tenant `default`, whose keys are those of `api_key`"),
        range: None,
        about: "A TOML file of tenants, their keys and limits, as described under \"Tenants\" below. \
                It is read again when it changes; a file with a mistake is refused, and what was \
                there before stays.",
        secret: false,
    },
    Setting {
        key: "tools",
        value: "FILE",
        default: Fallback::Unset("none"),
        range: None,
        about: "A TOML file of tools that the relay carries out itself, over HTTP, when the model \
                calls them, as described in [TOOLS.md](TOOLS.md). It is read at the start.",
        secret: false,
    },
    Setting {
        key: "admin_key",
        value: "KEY",
        default: Fallback::Unset("none, and no admin API"),
        range: None,
        about: "The key that opens the admin API, such as the list of revocations.",
        secret: true,
    },
    Setting {
        key: "origins",
        value: "ORIGIN[,ORIGIN...]",
        default: Fallback::Unset(
            "any loopback origin if `listen` is a loopback address, else none",
        ),
        range: None,
        about: "The web sites whose pages may use the relay, such as `https://app.example`; `*` \
                allows all. The relay's own pages always may. A list in the file.",
        secret: false,
    },
    Setting {
        key: "provider",
        value: "auto|openai|embedded",
        default: Fallback::Value("auto"),
        range: None,
        about: "Who answers. `embedded` is a line-test agent inside the relay, which needs no key \
                and no network. `auto` is `openai` if `openai.api_key` or `openai.base_url` is \
                set, else `embedded`.",
        secret: false,
    },
    Setting {
        key: "openai.api_key",
        value: "KEY",
        default: Fallback::Unset("none"),
        range: None,
        about: "The key shown to the provider. It never leaves the relay otherwise.",
        secret: true,
    },
    Setting {
        key: "openai.base_url",
        value: "URL",
        default: Fallback::Unset("`https://api.openai.com/v1`"),
        range: None,
        about: "Where the provider's API is: any server that speaks OpenAI's Realtime API will \
                do. `http`, `https`, `ws` or `wss`.",
        secret: false,
    },
    Setting {
        key: "openai.model",
        value: "NAME",
        default: Fallback::Value("gpt-realtime-2.1"),
        range: None,
        about: "The model for calls whose offer names none.",
        secret: false,
    },
    Setting {
        key: "openai.connect_timeout",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("100ms", "60s")),
        about: "How long opening a session at the provider may take, from the first packet to \
                its `session.created`.",
        secret: false,
    },
    Setting {
        key: "tokens.ttl",
        value: "DURATION",
        default: Fallback::Value("5m"),
        range: Some(("10s", "2h")),
        about: "How long a client secret is valid if nothing else is asked for; `tokens.max_ttl` \
                caps it.",
        secret: false,
    },
    Setting {
        key: "tokens.max_ttl",
        value: "DURATION",
        default: Fallback::Value("2h"),
        range: Some(("10s", "2h")),
        about: "How long a client secret may be valid. Asking for longer is refused. The same for \
                all relays that share their signing keys.",
        secret: false,
    },
    Setting {
        key: "tokens.skew",
        value: "DURATION",
        default: Fallback::Value("5s"),
        range: Some(("0s", "1m")),
        about: "How far the clocks of relays that share signing keys may differ: so long is a \
                token taken after its end, and before its beginning.",
        secret: false,
    },
    Setting {
        key: "tokens.issuer",
        value: "NAME",
        default: Fallback::Value("voxline"),
        range: None,
        about: "Who tokens say they are from. A token of another issuer is refused.",
        secret: false,
    },
    Setting {
        key: "tokens.keys",
        value: "DIRECTORY",
        default: Fallback::Unset(
            "a key made at the start and changed daily, which no other relay has",
        ),
        range: None,
        about: "Where the Ed25519 keys are that sign tokens: each `*.pem` in it, in PKCS#8, as \
                `voxline signing-key` and `openssl genpkey -algorithm ed25519` write. All verify; \
                the one whose name sorts last signs, once it has been there for `auth.reload`, so \
                that every relay knows it first. One that is removed verifies until its last \
                token has expired.",
        secret: false,
    },
    Setting {
        key: "auth.reload",
        value: "DURATION",
        default: Fallback::Value("10s"),
        range: Some(("100ms", "1h")),
        about: "How often `tenants` and `tokens.keys` are looked at again.",
        secret: false,
    },
    Setting {
        key: "auth.revocations",
        value: "FILE",
        default: Fallback::Unset("in memory only: a restart forgets them"),
        range: None,
        about: "Where revocations are kept, so that a restart does not forgive. Each relay needs \
                a file of its own, in a directory that it may write to.",
        secret: false,
    },
    Setting {
        key: "tls.listen",
        value: "ADDRESS",
        default: Fallback::Unset("nowhere"),
        range: None,
        about: "Where the same is served over TLS (1.2 and 1.3), beside `listen`: `https` and \
                `wss`. OpenAI's client for Node.js connects to nothing else.",
        secret: false,
    },
    Setting {
        key: "tls.certificate",
        value: "FILE",
        default: Fallback::Unset("on a loopback address, one made at each start"),
        range: None,
        about: "The certificate that is shown there, followed by those between it and its root, \
                as PEM. `voxline certificate` makes one for development.",
        secret: false,
    },
    Setting {
        key: "tls.key",
        value: "FILE",
        default: Fallback::Unset("that of the certificate made at the start"),
        range: None,
        about: "The certificate's private key, as PEM.",
        secret: false,
    },
    Setting {
        key: "tls.reload",
        value: "DURATION",
        default: Fallback::Value("30s"),
        range: Some(("100ms", "24h")),
        about: "How often the two files are read again. A new certificate is shown to whoever \
                connects next; one that cannot be used is logged as an error, and the one before \
                it stays.",
        secret: false,
    },
    Setting {
        key: "media.mode",
        value: "relay|direct",
        default: Fallback::Value("relay"),
        range: None,
        about: "Which way the sound of a WebRTC call takes if the request does not say \
                (`?media=`): through the relay, or straight between the client and the provider, \
                which the relay then follows from beside. Direct needs a provider that takes calls \
                (`POST /v1/realtime/calls`).",
        secret: false,
    },
];

/// How conversations go, the embedded provider, the log.
const CONVERSATIONS: &[Setting] = &[
    Setting {
        key: "session.thinking_timeout",
        value: "DURATION",
        default: Fallback::Value("20s"),
        range: Some(("1s", "5m")),
        about: "How long the provider may take from the end of speech to the first sound of its \
                answer, before the person is told that none is coming.",
        secret: false,
    },
    Setting {
        key: "session.cancel_timeout",
        value: "DURATION",
        default: Fallback::Value("2s"),
        range: Some(("100ms", "1m")),
        about: "How long the provider may take to confirm that it has stopped an answer.",
        secret: false,
    },
    Setting {
        key: "session.barge_in_wait",
        value: "DURATION",
        default: Fallback::Value("700ms"),
        range: Some(("0ms", "5s")),
        about: "How long an answer pauses when the relay itself hears the person, for the provider \
                to hear them too: it is cut then, else it sounds on. `0ms` leaves interruptions to \
                the provider. Where that cuts nothing by itself nothing is paused.",
        secret: false,
    },
    Setting {
        key: "session.idle_timeout",
        value: "DURATION",
        default: Fallback::Value("10m"),
        range: Some(("1s", "1h")),
        about: "How long both sides may be silent before the conversation is ended.",
        secret: false,
    },
    Setting {
        key: "session.playout_lead",
        value: "DURATION",
        default: Fallback::Value("40ms"),
        range: Some(("0ms", "500ms")),
        about: "How far ahead of its time sound is sent to a WebRTC client. More survives a \
                busier relay; less leaves less to be heard after an interruption.",
        secret: false,
    },
    Setting {
        key: "session.websocket_lead",
        value: "DURATION",
        default: Fallback::Value("150ms"),
        range: Some(("0ms", "1s")),
        about: "The same to a WebSocket client that has the relay own the playback \
                (`voxline.playout`): TCP may hold sound up for a round trip or more.",
        secret: false,
    },
    Setting {
        key: "session.resume_window",
        value: "DURATION",
        default: Fallback::Value("30s"),
        range: Some(("0s", "5m")),
        about: "How long a conversation waits for a client of `voxline.v1` that has lost its \
                connection. Such a client comes back with its resume token.",
        secret: false,
    },
    Setting {
        key: "session.renewal",
        value: "in-band|fetch",
        default: Fallback::Value("in-band"),
        range: None,
        about: "How a client of `voxline.v1` comes by its next token while it talks: the relay \
                sends it one (`in-band`), or tells it when to fetch one from your own server \
                (`fetch`).",
        secret: false,
    },
    Setting {
        key: "diagnosis.events",
        value: "COUNT",
        default: Fallback::Value("512"),
        range: Some(("16", "10000")),
        about: "How many of a session's last events the relay keeps for `/admin/sessions/{id}`: \
                names, ids, sizes and times, nothing that people say. What streams is one event \
                for ten seconds of it; an event takes some 200 bytes.",
        secret: false,
    },
    Setting {
        key: "diagnosis.ended",
        value: "COUNT",
        default: Fallback::Value("100"),
        range: Some(("0", "10000")),
        about: "How many sessions that are over `/admin/sessions` still shows.",
        secret: false,
    },
    Setting {
        key: "diagnosis.ended_for",
        value: "DURATION",
        default: Fallback::Value("15m"),
        range: Some(("0s", "24h")),
        about: "For how long it shows them.",
        secret: false,
    },
    Setting {
        key: "sim.agent",
        value: "line-test|tone|sweep|marks",
        default: Fallback::Value("line-test"),
        range: None,
        about: "Who answers in the embedded provider: a partner to test the line with, or for \
                measuring the same tone every time, one that rises, or a new one each 20 ms.",
        secret: false,
    },
    Setting {
        key: "sim.first_audio",
        value: "DURATION",
        default: Fallback::Value("250ms"),
        range: Some(("0ms", "1m")),
        about: "How long the embedded provider thinks before the first sound of an answer.",
        secret: false,
    },
    Setting {
        key: "sim.delta",
        value: "DURATION",
        default: Fallback::Value("100ms"),
        range: Some(("1ms", "5s")),
        about: "How much sound is in one delta of the embedded provider.",
        secret: false,
    },
    Setting {
        key: "sim.delta_interval",
        value: "DURATION",
        default: Fallback::Value("25ms"),
        range: Some(("0ms", "1m")),
        about: "The time from one delta to the next: with the defaults sound is made four times \
                faster than it is heard, as at OpenAI.",
        secret: false,
    },
    Setting {
        key: "sim.tone_length",
        value: "DURATION",
        default: Fallback::Value("2s"),
        range: Some(("0ms", "10m")),
        about: "How long an answer of the agents `tone` and `sweep` is.",
        secret: false,
    },
    Setting {
        key: "sim.call",
        value: "none|TURN:NAME[:JSON]",
        default: Fallback::Value("none"),
        range: None,
        about: "A spoken turn that the embedded provider answers by calling a function, if the \
                session has one of this name: `2:weather:{\"city\":\"Oslo\"}` is the second turn \
                of each session.",
        secret: false,
    },
    Setting {
        key: "sim.session_length",
        value: "DURATION",
        default: Fallback::Value("60m"),
        range: Some(("1s", "60m")),
        about: "How long a session of the embedded provider lasts, as OpenAI's last 60 minutes. Its \
                `expires_at` says so.",
        secret: false,
    },
    Setting {
        key: "sim.fault",
        value: "FAULT",
        default: Fallback::Value("none"),
        range: None,
        about: "What the embedded provider does wrong from the start: `none`; `refuse:STATUS` and \
                `refuse:STATUS:DURATION` answer the upgrade with an HTTP status, and when to come \
                back; `unauthorized` takes no key; `mute` and `never-created` never say anything; \
                `stall:DURATION` and `drop:DURATION` fall silent, or break the connection, after \
                so much sound of an answer; `fail` fails every answer.",
        secret: false,
    },
    Setting {
        key: "log.filter",
        value: "FILTER",
        default: Fallback::Value("warn,voxline=info"),
        range: None,
        about: "What is logged: `error`, `warn`, `info`, `debug` or `trace`, for all or by \
                module. What people say shows at `debug` and below only.",
        secret: false,
    },
    Setting {
        key: "log.format",
        value: "pretty|json",
        default: Fallback::Value("pretty"),
        range: None,
        about: "How log lines look. They go to standard error.",
        secret: false,
    },
];

const fn count(groups: &[&[Setting]]) -> usize {
    let (mut group, mut count) = (0, 0);
    while group < groups.len() {
        count += groups[group].len();
        group += 1;
    }

    count
}

const fn joined<const COUNT: usize>(groups: &[&[Setting]]) -> [Setting; COUNT] {
    let mut all = [groups[0][0]; COUNT];
    let (mut group, mut next, mut at) = (0, 0, 0);
    while at < COUNT {
        if next == groups[group].len() {
            (group, next) = (group + 1, 0);
        } else {
            all[at] = groups[group][next];
            (next, at) = (next + 1, at + 1);
        }
    }

    all
}

/// Returns the setting of this name.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
