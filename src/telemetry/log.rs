//! Sets up the log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts the log on standard error. The filter is one that `EnvFilter` understands.
pub fn start_log(filter: &str, json: bool) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // There is a log already only if a test has started one.
    let _ = if json {
        tracing::subscriber::set_global_default(log.json().with_span_list(false).finish())
    } else {
        tracing::subscriber::set_global_default(log.finish())
    };
}
