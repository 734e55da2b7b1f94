//! Names of things, as types: an id of one kind cannot be passed for another.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// One conversation on this relay: `sess_…`, or `rtc_…` for a WebRTC call.
    SessionId
}
id! {
    /// A response of the provider: `resp_…`.
    ResponseId
}
id! {
    /// An item of the conversation: `item_…`.
    ItemId
}
id! {
    /// A conversation at the provider: `conv_…`; each link has its own.
    ConversationId
}
id! {
    /// A call of a function: `call_…`.
    CallId
}
id! {
    /// An event that a client was sent: its `event_id`.
    EventId
}
id! {
    /// A token of the relay's own, by its `jti`.
    TokenId
}
