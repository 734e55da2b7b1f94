//! Posts spans to a collector, as OTLP/HTTP says, and again if it is told or seems to be of use.

use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Response, StatusCode, redirect};

use crate::clock;
use crate::core::random::Random;
use crate::core::resilience::{Backoff, BackoffConfig};
use crate::otlp::metrics::Loss;
use crate::otlp::{Settings, Turn, spans};

/// For how long a batch is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the pauses between tries grow.
const BACKOFF: BackoffConfig = BackoffConfig {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(15),
};

/// The longest answer that is read.
const ANSWER: usize = 64 << 10;

/// Who takes the spans.
#[derive(Debug)]
pub(crate) struct Collector {
    client: Client,
    url: String,
    headers: HeaderMap,
    resource: Resource,
    random: Random,
    /// Whether it failed the last time, which has been said.
    is_failing: bool,
}

/// Why one request has not delivered a batch.
enum Failure {
    /// Another one may.
    Passing {
        why: String,
        asked: Option<Duration>,
    },
    /// None will.
    Final { why: String },
}

impl Collector {
    pub(crate) fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        let Settings {
            url,
            mut headers,
            service,
            timeout,
            ..
        } = settings;
        let protobuf = header::HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, protobuf);

        Ok(Self {
            client: client(&url, timeout)?,
            url,
            headers,
            resource: spans::resource(&service),
            random: Random::new(rand::random()),
            is_failing: false,
        })
    }

    /// Delivers a batch, and tries again for a while if that fails. Returns how many spans the
    /// collector has refused to keep.
    pub(crate) async fn deliver(&mut self, batch: &[Turn]) -> Result<u64, Loss> {
        let body = self.encode(batch);
        let until = clock::now() + PATIENCE;
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let failure = match self.post(body.clone()).await {
                Ok(refused) => return Ok(refused),
                Err(failure) => failure,
            };
            self.say(&failure);
            let again = match failure {
                Failure::Final { .. } => return Err(Loss::Refused),
                Failure::Passing { asked, .. } => {
                    clock::now() + backoff.next(asked, &mut self.random)
                }
            };
            if again > until {
                return Err(Loss::Unreachable);
            }
            clock::sleep_until(Some(again)).await;
        }
    }

    /// The same with one try.
    pub(crate) async fn deliver_once(&mut self, batch: &[Turn]) -> Result<u64, Loss> {
        let body = self.encode(batch);
        self.post(body).await.map_err(|failure| {
            self.say(&failure);
            match failure {
                Failure::Final { .. } => Loss::Refused,
                Failure::Passing { .. } => Loss::Unreachable,
            }
        })
    }

    fn encode(&self, batch: &[Turn]) -> Bytes {
        spans::request(&self.resource, batch).encode_to_vec().into()
    }

    async fn post(&mut self, body: Bytes) -> Result<u64, Failure> {
        let request = self.client.post(&self.url).headers(self.headers.clone());
        let answer = request.body(body).send().await.map_err(lost)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(&answer));
        }
        let refused = partial(answer).await;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("The collector takes spans again");
        }
        Ok(refused)
    }

    /// Says once that it fails, until it does not.
    fn say(&mut self, failure: &Failure) {
        let (Failure::Passing { why, .. } | Failure::Final { why }) = failure;
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%why, "The collector does not take spans");
        }
    }
}

fn lost(error: reqwest::Error) -> Failure {
    // Its address may hold a credential.
    let error = error.without_url();
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Failure::Passing { why, asked: None }
}

/// Only these four are worth another try (OTLP 1.x, "Failures").
fn refusal(answer: &Response) -> Failure {
    let status = answer.status();
    let why = format!("it answers {status}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let asked = answer.headers().get(header::RETRY_AFTER);
            let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
            let asked = asked.map(Duration::from_secs);
            Failure::Passing { why, asked }
        }
        _ => Failure::Final { why },
    }
}

/// Reads how many spans the collector has refused, of a batch that it has taken.
async fn partial(mut answer: Response) -> u64 {
    let mut body = vec![];
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > ANSWER {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    // Some collectors answer in words of their own: then they have taken all.
    let answer = ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default();
    let refused = answer
        .partial_success
        .map_or(0, |partial| partial.rejected_spans);
    let refused = u64::try_from(refused).unwrap_or(0);
    if refused > 0 {
        tracing::warn!(refused, "The collector has refused spans");
    }
    refused
}

fn client(url: &str, timeout: Duration) -> Result<Client, reqwest::Error> {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| {
        // Whoever embeds the relay may have chosen before; then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = Client::builder()
        .user_agent(concat!("voxline/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .pool_max_idle_per_host(1)
        // Its headers are for the collector alone.
        .redirect(redirect::Policy::none())
        .no_proxy();
    if url.starts_with("https:") {
        builder.build()
    } else {
        // A system without root certificates can still have a collector of its own.
        builder.tls_certs_only([]).build()
    }
}
