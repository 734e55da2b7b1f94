//! Who is told of a conversation's turns once they have been answered.

use std::sync::Arc;

use axum::http::Uri;

use crate::config::Provider;
use crate::core::ids::SessionId;
use crate::core::latency::Traces;
use crate::gateway::Opening;
use crate::otlp::{self, Parent};
use crate::server::{App, turns};

/// Returns where a conversation puts its turns.
pub(crate) fn traces(
    app: &Arc<App>,
    id: &SessionId,
    opening: Option<&Opening>,
    parent: Option<Parent>,
) -> Traces {
    let (provider, server) = match &app.config.provider {
        Provider::Embedded => ("embedded", None),
        // Whoever speaks as OpenAI does is told from it by where it is.
        Provider::OpenAi { base_url, .. } => ("openai", server(base_url.as_str())),
    };
    let conversation = otlp::Conversation {
        session: id.clone(),
        provider: provider.to_owned(),
        model: opening.and_then(Opening::model).map(str::to_owned),
        server,
        parent,
    };
    let told = app.otlp.traces(conversation, app.config.budget);
    let (app, id) = (Arc::clone(app), id.clone());

    Arc::new(move |turn| {
        turns::answered(&app, &id, turn);
        if let Some(tell) = &told {
            tell(turn);
        }
    })
}

/// The host and port of an address.
fn server(address: &str) -> Option<(String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let port = match uri.scheme_str() {
        Some("https" | "wss") => 443,
        Some(_) | None => 80,
    };

    Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_port_whether_it_is_named_or_not() {
        for (address, host, port) in [
            ("https://api.openai.com/v1", "api.openai.com", 443),
            ("ws://10.0.0.7", "10.0.0.7", 80),
            ("http://[::1]:9000/v1", "[::1]", 9000),
        ] {
            assert_eq!(server(address), Some((host.to_owned(), port)));
        }
    }
}
