//! Which samples a request looks at: `?window=&provider=&transport=`.

use serde::Deserialize;

use crate::core::latency::Transport;
use crate::core::port::Fault;
use crate::telemetry::{Filter, Window};

/// As it came; what is empty was not asked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Asked {
    window: Option<String>,
    provider: Option<String>,
    transport: Option<String>,
}

/// What is looked at.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct View {
    pub(crate) window: Window,
    pub(crate) filter: Filter,
}

impl TryFrom<Asked> for View {
    type Error = Fault;

    fn try_from(asked: Asked) -> Result<Self, Fault> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let window = given(asked.window).map(|name| {
            let window = Window::named(&name);
            window.ok_or_else(|| refusal("window", "1m, 5m, 1h or all"))
        });
        let transport = given(asked.transport).map(|name| {
            let known = Transport::ALL.into_iter().find(|one| one.name() == name);
            known.ok_or_else(|| refusal("transport", "webrtc, websocket or direct"))
        });

        Ok(Self {
            window: window.transpose()?.unwrap_or_default(),
            filter: Filter {
                provider: given(asked.provider),
                transport: transport.transpose()?,
            },
        })
    }
}

/// Says what a parameter may be.
pub(crate) fn refusal(name: &str, what: &str) -> Fault {
    Fault::invalid("invalid_value", format!("`{name}` must be {what}.")).at(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_five_minutes_of_everything() {
        let empty = Asked {
            window: Some(String::new()),
            provider: Some(String::new()),
            transport: None,
        };
        for asked in [Asked::default(), empty] {
            let view = View::try_from(asked).unwrap();
            assert_eq!(view, View::default());
            assert_eq!(view.window, Window::FiveMinutes);
        }
    }

    #[test]
    fn a_word_that_is_none_is_refused_by_name() {
        for (name, asked) in [
            (
                "window",
                Asked {
                    window: Some("2m".to_owned()),
                    ..Asked::default()
                },
            ),
            (
                "transport",
                Asked {
                    transport: Some("pigeon".to_owned()),
                    ..Asked::default()
                },
            ),
        ] {
            let fault = View::try_from(asked).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(name));
        }
    }
}
