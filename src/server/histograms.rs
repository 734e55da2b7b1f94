//! `/admin/latency/histograms`: what was timed, as files for HdrHistogram's own tools.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::clock;
use crate::core::latency::Measure;
use crate::core::port::Fault;
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::form::malformed;
use crate::server::operator::Operator;
use crate::server::view::{Asked, View, refusal};
use crate::telemetry::export;

/// As it came.
#[derive(Debug, Deserialize)]
pub(crate) struct Parameters {
    format: Option<String>,
    #[serde(flatten)]
    view: Asked,
}

/// `GET /admin/latency/histograms/{measure}`
pub(crate) async fn download(
    _: Operator,
    State(app): State<Arc<App>>,
    measure: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(parameters) = parameters.map_err(|error| malformed("query", &error.body_text()))?;
    let measure = measure.map(|Path(name)| name).unwrap_or_default();
    let measure = Measure::ALL.into_iter().find(|one| one.name() == measure);
    let measure = measure.ok_or_else(unknown)?;
    let view = View::try_from(parameters.view).map_err(ApiError::bad_request)?;
    let View { window, filter } = view;

    let now = clock::now();
    let (text, ending) = match parameters.format.as_deref() {
        None | Some("hlog") => {
            let intervals = app.latencies.intervals(measure, window, &filter, now);
            let now = export::Now {
                instant: now,
                wall: clock::wall(),
            };
            let text = export::log(measure, &intervals, app.latencies.began(), now);
            (text, "hlog")
        }
        Some("percentiles") => {
            let all = app.latencies.distribution(measure, window, &filter, now);
            (export::percentiles(all.histogram()), "hgrm")
        }
        Some(_) => {
            let fault = refusal("format", "hlog or percentiles");
            return Err(ApiError::bad_request(fault));
        }
    };
    let name = format!("{}-{}.{ending}", measure.name(), window.name());
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];

    Ok((headers, text))
}

fn unknown() -> ApiError {
    let names = Measure::ALL.map(Measure::name).join(", ");
    let message = format!("There is no such measure. There are: {names}.");
    let fault = Fault::invalid("measure_not_found", message).at("measure");

    ApiError::new(StatusCode::NOT_FOUND, fault)
}
