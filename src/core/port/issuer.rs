//! Between a session and whoever issues its client's credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::core::ids::TokenId;
use crate::core::port::Fault;

/// A credential of the relay's own, which opens doors: it is shown to its owner only.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Arc<str>);

impl Token {
    /// Returns the text, for the one who must send or check it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a client holds, to connect again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// By which it is acknowledged.
    pub id: TokenId,
    pub token: Token,
    /// Attaches to this very session.
    pub resume: Token,
    pub expires_at: Instant,
    /// The same in seconds since 1970, for the client.
    pub expires_unix: u64,
}

/// Said to whoever issues this session's credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToIssuer {
    /// A token to attach to this session with, beside the one that the client holds.
    Resume,
    /// A fresh credential.
    Renew,
    /// The client has fetched a token by itself: is it one for this session's user?
    Check(Token),
}

/// Said by whoever issues this session's credentials; each request is answered at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromIssuer {
    Resume(Token),
    /// To be told to the client.
    Issued(Credential),
    /// The client's token is not accepted; it holds the one before.
    Refused(Fault),
    /// Nothing can be issued now.
    Unavailable,
}
