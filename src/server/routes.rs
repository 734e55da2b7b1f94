//! What the relay serves: one table, from which the router is made and against which the
//! document at `/openapi.json` is checked.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tracing::Instrument;

use crate::server::{
    App, admin, calls, dashboard, discovery, error, histograms, inspection, metrics, origin, pages,
    realtime, secrets, whip,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// On every answer that does not say otherwise itself. What the relay answers is about now, and
/// often for one client alone.
const SECURITY: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// One thing that can be asked for.
struct Route {
    method: Method,
    path: &'static str,
    /// Pages of other origins, where they are allowed, may use it.
    shared: bool,
    serve: Serve,
}

type Serve = fn(MethodFilter) -> MethodRouter<Arc<App>>;

const fn api(method: Method, path: &'static str, serve: Serve) -> Route {
    Route {
        method,
        path,
        shared: true,
        serve,
    }
}

const fn own(method: Method, path: &'static str, serve: Serve) -> Route {
    Route {
        method,
        path,
        shared: false,
        serve,
    }
}

const DELETE: Method = Method::DELETE;
const GET: Method = Method::GET;
const OPTIONS: Method = Method::OPTIONS;
const PATCH: Method = Method::PATCH;
const POST: Method = Method::POST;

const ROUTES: &[Route] = &[
    api(GET, "/v1/realtime", |verb| on(verb, realtime::connect)),
    api(POST, "/v1/realtime/calls", |verb| on(verb, calls::create)),
    api(OPTIONS, "/v1/realtime/calls", |verb| {
        on(verb, whip::endpoint_options)
    }),
    api(DELETE, "/v1/realtime/calls/{call_id}", |verb| {
        on(verb, calls::hang_up)
    }),
    api(PATCH, "/v1/realtime/calls/{call_id}", |verb| {
        on(verb, whip::patch)
    }),
    api(OPTIONS, "/v1/realtime/calls/{call_id}", |verb| {
        on(verb, whip::call_options)
    }),
    api(POST, "/v1/realtime/calls/{call_id}/hangup", |verb| {
        on(verb, calls::hang_up)
    }),
    api(GET, "/.well-known/jwks.json", |verb| {
        on(verb, discovery::jwks)
    }),
    api(GET, "/openapi.json", |verb| on(verb, discovery::openapi)),
    api(POST, "/v1/realtime/client_secrets", |verb| {
        on(verb, secrets::create)
    }),
    own(GET, "/admin/latency", |verb| on(verb, dashboard::latency)),
    own(GET, "/admin/latency/events", |verb| {
        on(verb, dashboard::events)
    }),
    own(GET, "/admin/latency/histograms/{measure}", |verb| {
        on(verb, histograms::download)
    }),
    own(GET, "/admin/revocations", |verb| {
        on(verb, admin::revocations)
    }),
    own(POST, "/admin/revocations", |verb| on(verb, admin::revoke)),
    own(DELETE, "/admin/revocations/{id}", |verb| {
        on(verb, admin::lift)
    }),
    own(GET, "/admin/sessions", |verb| on(verb, inspection::list)),
    own(GET, "/admin/sessions/{id}", |verb| {
        on(verb, inspection::one)
    }),
    own(GET, "/healthz", |verb| on(verb, healthy)),
    own(GET, "/readyz", |verb| on(verb, ready)),
    own(GET, "/metrics", |verb| on(verb, metrics::metrics)),
];

/// Serves all of the table, and pages for the rest.
pub(crate) fn router(app: Arc<App>) -> Router {
    let wrong_method = async |method: Method, uri: Uri| error::method_not_allowed(&method, &uri);
    let all = |shared| {
        let routes = ROUTES.iter().filter(|route| route.shared == shared);
        let add = |router: Router<_>, route: &Route| {
            let verb = MethodFilter::try_from(route.method.clone());
            let verb = verb.expect("the table has methods of RFC 9110 and RFC 5789 only");
            router.route(route.path, (route.serve)(verb))
        };
        routes
            .fold(Router::new(), add)
            .method_not_allowed_fallback(wrong_method)
    };
    Router::new()
        .merge(all(true).layer(middleware::from_fn(origin::share)))
        .merge(all(false))
        .fallback(pages::page)
        .layer(DefaultBodyLimit::max(app.config.limits.body.0))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            origin::guard,
        ))
        .layer(middleware::from_fn(identify))
        .with_state(app)
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.sessions.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

/// Gives every request a name, on its log lines and on its answer.
async fn identify(request: Request, next: Next) -> Response {
    let id = format!("req_{}", uuid::Uuid::new_v4().simple());
    let span = tracing::info_span!("request", %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    tracing::debug!(parent: &span, %method, path, status, "Answered");
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// What operations are called in a path item of OpenAPI.
    const VERBS: [&str; 8] = [
        "get", "put", "post", "delete", "options", "head", "patch", "trace",
    ];

    #[test]
    fn the_document_lists_every_route_and_nothing_else() {
        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
            .collect();
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let listed: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, item)| {
                let verbs = item.as_object().unwrap().keys();
                let verbs = verbs.filter(|verb| VERBS.contains(&verb.as_str()));
                verbs.map(|verb| (path.clone(), verb.clone()))
            })
            .collect();
        assert_eq!(served, listed);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        assert!(used.len() > 20, "{used:?}");
        for reference in &used {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for kind in ["headers", "parameters", "responses", "schemas"] {
            let all = document["components"][kind].as_object().unwrap();
            for name in all.keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(used.contains(&reference), "{reference} is not used");
            }
        }
    }

    #[test]
    fn every_operation_of_the_document_says_who_may_use_it_and_how_it_fails() {
        let document = document();
        let schemes = document["components"]["securitySchemes"]
            .as_object()
            .unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let named = path.matches('{').count();
            let given = item["parameters"].as_array().map_or(0, Vec::len);
            assert_eq!(named, given, "{path}");
            let operations = item.as_object().unwrap().iter();
            for (verb, operation) in operations.filter(|(verb, _)| VERBS.contains(&verb.as_str())) {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} twice");
                let ways = operation["security"].as_array().unwrap();
                for way in ways.iter().flat_map(|way| way.as_object().unwrap().keys()) {
                    assert!(schemes.contains_key(way), "{name}: {way}");
                }
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.contains_key("403"), "{verb} {path}: origins");
                assert_eq!(
                    answers.contains_key("401"),
                    !ways.is_empty(),
                    "{verb} {path}"
                );
            }
        }
    }

    fn document() -> Value {
        serde_json::from_str(include_str!("openapi.json")).unwrap()
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
