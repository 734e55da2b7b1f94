//! Carries out the calls of the relay's own tools, over HTTP.
//!
//! **Invariants**
//! - Every call has an output within the tool's time, one that says what went wrong if nothing
//!   else; it is JSON, and no longer than the tool may answer.
//! - Only addresses are reached that the file allows; no redirect is followed and no proxy asked.
//! - Secrets go to their tool and nowhere else; neither they nor what is said reach a log.

mod file;
mod guard;
mod metrics;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::{Client, Response, redirect};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock;
use crate::core::ids::SessionId;
use crate::core::item::Said;
use crate::core::port::{FromTools, ToTools};
use crate::tools::file::{Declared, ToolsFile};
use crate::tools::guard::{Forbidden, Resolver};
use crate::tools::metrics::Metrics;
use crate::wire::realtime::Toolbox;

pub use file::{EXAMPLE, ToolsError};

/// Connections to one host that are kept for later, and how long.
const MAX_IDLE: usize = 8;
const IDLE: Duration = Duration::from_secs(60);

/// The tools of a relay. Cloning shares them.
#[derive(Clone)]
pub struct Tools(Arc<Inner>);

struct Inner {
    client: Client,
    tools: BTreeMap<String, Tool>,
    toolbox: Toolbox,
    metrics: Metrics,
}

struct Tool {
    declared: Declared,
    /// For calls that run or wait.
    places: Semaphore,
    /// For calls that run.
    running: Semaphore,
}

/// In whose conversation a tool is called.
#[derive(Clone, Debug)]
pub struct Caller {
    pub session: SessionId,
    /// As named when the user's client secret was made.
    pub user: Option<String>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Ok,
    /// The model's arguments are no JSON object.
    InvalidArguments,
    /// Too many calls wait.
    Busy,
    Timeout,
    /// Its host leads to no address that may be reached.
    Forbidden,
    Unreachable,
    HttpError(u16),
    TooLarge,
    NotJson,
}

impl Tools {
    /// None at all.
    pub fn none() -> Result<Self, ToolsError> {
        Self::new(ToolsFile::default())
    }

    /// Reads the file of tools; `variable` looks up what it wants of the environment.
    pub fn open(
        path: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ToolsError> {
        Self::new(ToolsFile::read(path, variable)?)
    }

    fn new(file: ToolsFile) -> Result<Self, ToolsError> {
        let functions = file.tools.iter().map(|tool| tool.function.clone());
        let toolbox = Toolbox::new(functions);
        let client = client(Resolver(file.networks), &file.tools);
        let tools = file.tools.into_iter().map(|declared| {
            let tool = Tool {
                places: Semaphore::new(declared.concurrency + declared.queue),
                running: Semaphore::new(declared.concurrency),
                declared,
            };
            (tool.declared.function.name.clone(), tool)
        });
        Ok(Self(Arc::new(Inner {
            client: client.map_err(|error| ToolsError::Client(error.to_string()))?,
            tools: tools.collect(),
            toolbox,
            metrics: Metrics::default(),
        })))
    }

    /// Returns what sessions are offered.
    pub fn toolbox(&self) -> &Toolbox {
        &self.0.toolbox
    }

    /// Returns the names of all.
    pub fn names(&self) -> Arc<[String]> {
        self.0.toolbox.names().map(str::to_owned).collect()
    }

    /// Carries out one call.
    pub async fn call(&self, call: ToTools, caller: Caller) -> FromTools {
        let ToTools::Call {
            call,
            name,
            arguments,
        } = call;
        let began = clock::now();
        let Some(tool) = self.0.tools.get(&name) else {
            return FromTools::Output {
                call,
                output: Said(Outcome::InvalidArguments.output()),
            };
        };
        let body = match serde_json::from_str(&arguments.0) {
            Ok(Value::Object(arguments)) => Some(body(call.as_str(), &name, arguments, &caller)),
            Ok(_) | Err(_) => None,
        };
        let key = format!("{}:{call}", caller.session);
        let carried = match body {
            Some(body) => {
                let asked = tool.ask(&self.0.client, body, &key);
                let asked = timeout(tool.declared.timeout, asked).await;
                asked.unwrap_or(Err(Outcome::Timeout))
            }
            None => Err(Outcome::InvalidArguments),
        };
        let (outcome, output) = match carried {
            Ok(output) => (Outcome::Ok, output),
            Err(outcome) => (outcome, outcome.output()),
        };
        let took = clock::now() - began;
        self.0.metrics.record(&name, outcome.name(), took);
        tracing::info!(tool = name, %call, outcome = outcome.name(), ?took, "Tool called");
        FromTools::Output {
            call,
            output: Said(output),
        }
    }

    /// Returns what was counted, in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.0.metrics.prometheus()
    }
}

impl Tool {
    async fn ask(&self, client: &Client, body: Value, key: &str) -> Result<String, Outcome> {
        let _place = self.places.try_acquire().map_err(|_| Outcome::Busy)?;
        let running = self.running.acquire().await;
        let _running = running.map_err(|_| Outcome::Busy)?;
        let request = client
            .post(self.declared.url.clone())
            .headers(self.declared.headers.clone())
            .header("idempotency-key", key)
            .json(&body);
        let response = request.send().await.map_err(|error| unsent(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(Outcome::HttpError(status.as_u16()));
        }
        let bytes = self.read(response).await?;
        // Written anew, so that it is one line and no more than JSON.
        let answer: Value = serde_json::from_slice(&bytes).map_err(|_| Outcome::NotJson)?;
        Ok(answer.to_string())
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Outcome> {
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| unsent(&error))? {
            if bytes.len() + piece.len() > self.declared.max_response {
                return Err(Outcome::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InvalidArguments => "invalid_arguments",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
            Self::HttpError(_) => "http_error",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
        }
    }

    /// What the model is told.
    fn output(self) -> String {
        let error = self.name();
        match self {
            Self::HttpError(status) => json!({"error": error, "status": status}),
            Self::Ok
            | Self::InvalidArguments
            | Self::Busy
            | Self::Timeout
            | Self::Forbidden
            | Self::Unreachable
            | Self::TooLarge
            | Self::NotJson => json!({"error": error}),
        }
        .to_string()
    }
}

fn body(
    call: &str,
    name: &str,
    arguments: serde_json::Map<String, Value>,
    caller: &Caller,
) -> Value {
    let mut body = json!({
        "call_id": call,
        "name": name,
        "arguments": arguments,
        "session_id": caller.session.as_str(),
    });
    if let Some(user) = &caller.user {
        body["user"] = user.as_str().into();
    }
    body
}

fn client(resolver: Resolver, tools: &[Declared]) -> Result<Client, reqwest::Error> {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| {
        // Whoever embeds the relay may have chosen before; then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = Client::builder()
        .user_agent(concat!("voxline/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(resolver))
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_idle_timeout(IDLE)
        .redirect(redirect::Policy::none())
        .no_proxy();
    if tools.iter().any(|tool| tool.declared_secure()) {
        builder.build()
    } else {
        // A system without root certificates can still have tools of its own.
        builder.tls_certs_only([]).build()
    }
}

impl Declared {
    fn declared_secure(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// Why there is no answer, or no end of it.
fn unsent(error: &reqwest::Error) -> Outcome {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.is::<Forbidden>() {
            return Outcome::Forbidden;
        }
        source = cause.source();
    }
    Outcome::Unreachable
}
