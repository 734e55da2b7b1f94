//! A provider's calls: WebRTC sessions whose sound goes straight between a device and the
//! provider. The relay sets them up and ends them over HTTP.
//!
//! **Invariants**
//! - A request ends within [`Patience::open`], and no more than [`MAX_BODY`] is read of its answer.
//! - The relay's credential goes to the upstream and nowhere else: no redirect is followed.
//! - A call that was created and cannot be used is hung up.

use std::fmt;
use std::sync::Once;

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use crate::core::port::Fault;
use crate::provider::refusal::http_refusal;
use crate::provider::{OpenError, Patience, Upstream, query_value};

/// The largest answer that is read: as much as the relay takes of a client's offer by default.
const MAX_BODY: usize = 64 << 10;
/// Connections that are kept for later.
const MAX_IDLE: usize = 16;
/// How a server answers that has no calls.
const NOT_SERVED: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
/// The longest name of a call.
const MAX_NAME: usize = 256;

/// The calls of one upstream. Its connections are kept for the next request.
pub struct Calls {
    client: Result<Client, String>,
    upstream: Upstream,
}

/// A call that waits for its device.
#[derive(Clone)]
pub struct Created {
    /// The provider's SDP answer.
    pub answer: String,
    /// The provider's name for the call.
    pub call: String,
}

impl Calls {
    pub fn new(upstream: Upstream, patience: Patience) -> Self {
        let client = client(&upstream, patience).map_err(|error| reason(&error));

        Self { client, upstream }
    }

    /// Posts a device's offer and a session object (JSON, with its `type` and `model`).
    pub async fn create(&self, offer: &str, session: &str) -> Result<Created, OpenError> {
        let part = |text: &str, kind| Part::text(text.to_owned()).mime_str(kind);
        let form = (part(offer, "application/sdp"))
            .and_then(|sdp| Ok((sdp, part(session, "application/json")?)))
            .map(|(sdp, session)| Form::new().part("sdp", sdp).part("session", session))
            .map_err(|error| unreachable(&error))?;
        let request = self
            .post("")?
            .header(header::ACCEPT, "application/sdp")
            .multipart(form);
        let response = send(request).await?;
        let is_served = !NOT_SERVED.contains(&response.status());
        let response = match succeeded("creating a call", response).await {
            Err(OpenError::Refused(fault)) if is_served || names_a_mistake(&fault) => {
                return Err(OpenError::Refused(fault));
            }
            Err(OpenError::Refused(_) | OpenError::Unreachable(_)) if !is_served => {
                return Err(not_served());
            }
            other => other?,
        };
        let call = name(response.headers()).ok_or_else(|| {
            OpenError::Unreachable("the provider does not name the call it created".to_owned())
        })?;
        match answer(response).await {
            Ok(answer) => Ok(Created { answer, call }),
            Err(error) => {
                // If this fails as well, the provider ends it by itself in time.
                let _ = self.hang_up(&call).await;
                Err(error)
            }
        }
    }

    /// Ends a call. One that the provider does not know has ended.
    pub async fn hang_up(&self, call: &str) -> Result<(), OpenError> {
        let path = format!("/{}/hangup", query_value(call));
        let response = send(self.post(&path)?).await?;
        if response.status() != StatusCode::NOT_FOUND {
            succeeded("hanging up", response).await?;
        }

        Ok(())
    }

    fn post(&self, path: &str) -> Result<RequestBuilder, OpenError> {
        let client = self.client.as_ref();
        let client = client.map_err(|why| OpenError::Unreachable(why.clone()))?;
        let base = self.upstream.base_url.trim_end_matches('/');
        let base = match base.split_once("://") {
            Some(("http" | "ws", rest)) => format!("http://{rest}"),
            Some(("https" | "wss", rest)) => format!("https://{rest}"),
            Some(_) | None => return Err(OpenError::Unreachable(format!("`{base}` is not a URL"))),
        };
        let request = client.post(format!("{base}/realtime/calls{path}"));

        Ok(request.bearer_auth(&self.upstream.api_key))
    }
}

fn client(upstream: &Upstream, patience: Patience) -> Result<Client, reqwest::Error> {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| {
        // Whoever embeds the relay may have chosen before; then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let secure = upstream.base_url.starts_with("https:") || upstream.base_url.starts_with("wss:");
    let builder = Client::builder()
        .user_agent(concat!("voxline/", env!("CARGO_PKG_VERSION")))
        .timeout(patience.open)
        .pool_max_idle_per_host(MAX_IDLE)
        .redirect(reqwest::redirect::Policy::none())
        // As on the WebSocket, which knows of no proxy either.
        .no_proxy();
    if secure {
        builder.build()
    } else {
        // A system without root certificates can still use a provider of its own.
        builder.tls_certs_only([]).build()
    }
}

async fn send(request: RequestBuilder) -> Result<Response, OpenError> {
    request.send().await.map_err(|error| unreachable(&error))
}

async fn succeeded(what: &str, response: Response) -> Result<Response, OpenError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
    let retry_after = retry_after.as_ref().and_then(|value| value.to_str().ok());
    let body = body(response).await.unwrap_or_default();

    Err(http_refusal(what, status.as_u16(), retry_after, &body))
}

/// Tells a mistake in the request from a URL that leads nowhere, for which there is no code.
fn names_a_mistake(fault: &Fault) -> bool {
    !["provider_refused", "unknown_url", "method_not_supported"].contains(&fault.code.as_ref())
}

fn not_served() -> OpenError {
    let message = "The provider takes no calls (`POST /v1/realtime/calls`): make this one without \
                   `media=direct`, by way of the relay.";
    OpenError::Refused(Fault::invalid("media_mode_not_supported", message).at("media"))
}

/// Returns the last segment of the `Location`.
fn name(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let path = location.split(['?', '#']).next()?.trim_end_matches('/');
    let name = path.rsplit('/').next()?;
    let usable = !name.is_empty() && name.len() <= MAX_NAME;

    usable.then(|| name.to_owned())
}

async fn answer(response: Response) -> Result<String, OpenError> {
    let status = response.status();
    let body = body(response).await?;
    match String::from_utf8(body.into()) {
        Ok(answer) if answer.starts_with("v=0") => Ok(answer),
        Ok(_) | Err(_) => Err(OpenError::Unreachable(format!(
            "creating a call got {status}, and no SDP"
        ))),
    }
}

async fn body(mut response: Response) -> Result<Bytes, OpenError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error))?
    {
        if body.len() + chunk.len() > MAX_BODY {
            let why = format!("the provider's answer is larger than {MAX_BODY} bytes");
            return Err(OpenError::Unreachable(why));
        }
        body.extend_from_slice(&chunk);
    }

    Ok(body.freeze())
}

fn unreachable(error: &reqwest::Error) -> OpenError {
    OpenError::Unreachable(reason(error))
}

/// An error with what caused it: reqwest's own words are only where it happened.
fn reason(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }

    reason
}

/// An SDP answer says where a person is.
impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::Router;
    use axum::extract::{Multipart, State};
    use axum::http::{HeaderMap, Uri};
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::post;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n";
    const CREATED: (&str, &str) = ("location", "/v1/realtime/calls/rtc_1?x=/y");

    #[tokio::test]
    async fn a_call_is_created_with_offer_session_and_credential_and_hung_up_by_its_name() {
        let provider = Provider::answers(|| (StatusCode::CREATED, [CREATED], ANSWER)).await;
        let calls = provider.calls();

        let created = calls.create("v=0 offer", r#"{"model":"m"}"#).await.unwrap();
        assert_eq!(
            (created.answer.as_str(), created.call.as_str()),
            (ANSWER, "rtc_1")
        );
        calls.hang_up("a/../b").await.unwrap();

        let heard = provider.heard();
        assert_eq!(
            heard,
            [
                "/v1/realtime/calls",
                "authorization: Bearer sk-test",
                "accept: application/sdp",
                "sdp (application/sdp): v=0 offer",
                "session (application/json): {\"model\":\"m\"}",
                "/v1/realtime/calls/a%2F..%2Fb/hangup",
                "authorization: Bearer sk-test",
            ]
        );
    }

    #[tokio::test]
    async fn refusals_say_who_can_mend_them() {
        let refused = async |status: u16, body: &'static str| {
            let answer = move || {
                let status = StatusCode::from_u16(status).unwrap();
                (status, [("retry-after", "3")], body)
            };
            let provider = Provider::answers(answer).await;
            provider.calls().create("v=0", "{}").await.unwrap_err()
        };
        let error = r#"{"error":{"code":"invalid_offer","message":"m","param":"sdp"}}"#;

        let OpenError::Refused(fault) = refused(400, error).await else {
            panic!("not refused");
        };
        assert_eq!(
            (fault.code.as_ref(), fault.message.as_str()),
            ("invalid_offer", "m")
        );
        assert_eq!(fault.param.as_deref(), Some("sdp"));
        assert!(matches!(refused(401, "").await, OpenError::Credential(_)));
        let OpenError::Busy { retry_after, .. } = refused(429, "").await else {
            panic!("not busy");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(3)));
        assert!(matches!(
            refused(500, error).await,
            OpenError::Unreachable(_)
        ));
        // This is no provider of calls.
        let OpenError::Refused(fault) = refused(404, "<html>").await else {
            panic!("not refused");
        };
        assert_eq!(fault.code, "media_mode_not_supported");
        assert!(matches!(
            refused(200, ANSWER).await,
            OpenError::Unreachable(_)
        ));
    }

    #[tokio::test]
    async fn a_call_whose_answer_is_of_no_use_is_hung_up() {
        for answer in ["<html>", &"v=0".repeat(MAX_BODY)] {
            let answer = answer.to_owned();
            let answer = move || (StatusCode::CREATED, [CREATED], answer.clone());
            let provider = Provider::answers(answer).await;

            let error = provider.calls().create("v=0", "{}").await.unwrap_err();

            assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
            let heard = provider.heard();
            assert!(heard.contains(&"/v1/realtime/calls/rtc_1/hangup".to_owned()));
        }
    }

    #[tokio::test]
    async fn hanging_up_a_call_that_is_over_is_no_error_and_any_other_failure_is() {
        for (status, ended) in [(404, true), (200, true), (401, false), (500, false)] {
            let status = StatusCode::from_u16(status).unwrap();
            let provider = Provider::answers(move || status).await;
            assert_eq!(
                provider.calls().hang_up("rtc_1").await.is_ok(),
                ended,
                "{status}"
            );
        }
    }

    #[tokio::test]
    async fn the_credential_does_not_follow_a_redirect() {
        let other = Provider::answers(|| StatusCode::OK).await;
        let target = format!("{}/realtime/calls", other.base_url);
        let provider = Provider::answers(move || Redirect::temporary(&target)).await;

        let error = provider.calls().create("v=0", "{}").await.unwrap_err();

        assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
        assert!(other.heard().is_empty());
    }

    #[tokio::test]
    async fn a_provider_that_does_not_answer_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream {
            base_url: format!("ws://{}/v1", silent.local_addr().unwrap()),
            api_key: "sk-test".to_owned(),
        };
        let patience = Patience {
            open: Duration::from_millis(50),
            ..Patience::default()
        };

        let error = Calls::new(upstream, patience).create("v=0", "{}").await;

        let Err(OpenError::Unreachable(why)) = error else {
            panic!("{error:?}");
        };
        assert!(why.contains("timed out"), "{why}");
    }

    /// A server that answers every request alike.
    struct Provider {
        base_url: String,
        heard: Arc<Mutex<Vec<String>>>,
        _tasks: JoinSet<()>,
    }

    impl Provider {
        async fn answers<R: IntoResponse>(
            answer: impl Fn() -> R + Clone + Send + Sync + 'static,
        ) -> Self {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let handle = async move |State(heard): State<Arc<Mutex<Vec<String>>>>,
                                     uri: Uri,
                                     headers: HeaderMap,
                                     parts: Option<Multipart>| {
                let mut lines = vec![uri.to_string()];
                for name in ["authorization", "accept"] {
                    let value = headers.get(name).map(|value| value.to_str().unwrap());
                    lines.extend(
                        value
                            .filter(|value| *value != "*/*")
                            .map(|value| format!("{name}: {value}")),
                    );
                }
                if let Some(mut parts) = parts {
                    while let Some(part) = parts.next_field().await.unwrap() {
                        let (name, kind) = (part.name().unwrap(), part.content_type().unwrap());
                        let head = format!("{name} ({kind})");
                        lines.push(format!("{head}: {}", part.text().await.unwrap()));
                    }
                }
                heard.lock().unwrap().extend(lines);
                answer()
            };
            let router = Router::new()
                .route("/{*path}", post(handle))
                .with_state(heard.clone());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
            let mut tasks = JoinSet::new();
            tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
            Self {
                base_url,
                heard,
                _tasks: tasks,
            }
        }

        fn calls(&self) -> Calls {
            let upstream = Upstream {
                base_url: self.base_url.clone(),
                api_key: "sk-test".to_owned(),
            };
            Calls::new(upstream, Patience::default())
        }

        fn heard(&self) -> Vec<String> {
            self.heard.lock().unwrap().clone()
        }
    }
}
