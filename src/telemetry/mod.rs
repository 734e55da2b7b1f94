//! Measures where the time goes, counts what happens, and sets up the log.
//!
//! Recording is for the audio path: it neither waits nor locks. Everything else is paid by whoever looks:
//! windows and quantiles ([`Latencies`]), Prometheus' text, the files of HdrHistogram's tools ([`export`]).

mod counters;
mod distribution;
pub mod export;
mod history;
mod key;
mod latencies;
mod live;
mod log;
pub mod prometheus;
mod scale;
mod series;
mod turns;
mod window;

pub use crate::telemetry::counters::{Counter, Counters};
pub use crate::telemetry::distribution::Distribution;
pub use crate::telemetry::key::Filter;
pub use crate::telemetry::latencies::{Interval, Latencies};
pub use crate::telemetry::log::start_log;
pub use crate::telemetry::series::Point;
pub use crate::telemetry::turns::{Turn, Turns};
pub use crate::telemetry::window::Window;
