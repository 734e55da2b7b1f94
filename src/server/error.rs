//! Failed requests, in OpenAI's shape whatever went wrong.

use std::time::Duration;

use axum::http::header::{self, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::core::port::Fault;
use crate::wire::realtime::error_body;

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    fault: Box<Fault>,
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, fault: Fault) -> Self {
        Self {
            status,
            fault: Box::new(fault),
            retry_after: None,
        }
    }

    /// With a status as a leg tells it.
    pub(crate) fn of_leg(status: u16, fault: Fault) -> Self {
        let status = StatusCode::from_u16(status);
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), fault)
    }

    pub(crate) fn bad_request(fault: Fault) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fault)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_fault(self) -> Fault {
        *self.fault
    }

    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let content_type = (header::CONTENT_TYPE, "application/json");
        let mut response = (self.status, [content_type], error_body(&self.fault)).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = challenge(self.status, &self.fault) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs().max(1)),
            );
        }
        response
    }
}

/// Says what to show in place of what was shown, as RFC 6750 (3) has it.
fn challenge(status: StatusCode, fault: &Fault) -> Option<HeaderValue> {
    let error = match status {
        StatusCode::UNAUTHORIZED => "invalid_token",
        StatusCode::FORBIDDEN if fault.code == "insufficient_permissions" => "insufficient_scope",
        _ => return None,
    };
    let challenge = format!(
        "Bearer error=\"{error}\", error_description=\"{}\"",
        fault.code
    );
    HeaderValue::from_str(&challenge).ok()
}

/// Answers a request for something that is not there.
pub(crate) fn not_found(method: &Method, uri: &Uri) -> ApiError {
    let message = format!("There is no {method} {}.", uri.path());
    ApiError::new(
        StatusCode::NOT_FOUND,
        Fault::invalid("unknown_url", message),
    )
}

/// Answers a request that is not made of what is there.
pub(crate) fn method_not_allowed(method: &Method, uri: &Uri) -> ApiError {
    let message = format!("{method} is not allowed on {}.", uri.path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Fault::invalid("method_not_supported", message),
    )
}
