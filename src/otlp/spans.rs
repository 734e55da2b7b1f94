//! Turns -> spans, in the words of OpenTelemetry's conventions for generative AI where it has them.
//! What is the relay's own begins with `voxline.`.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::clock;
use crate::core::latency::budget::Breach;
use crate::core::latency::{Hop, Stretch};
use crate::otlp::{Conversation, Turn};

/// The flags of a span: kept, ...
const SAMPLED: u32 = 0x01;
/// ... and whether its parent is another program's.
const PARENT_IS_LOCAL: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x300;

/// Returns who the spans are from.
pub(crate) fn resource(service: &str) -> Resource {
    let instance = uuid::Uuid::new_v4().to_string();
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", instance),
        ],
        ..Resource::default()
    }
}

/// What a turn over the budget is called, as an error and as an event.
const BREACH: &str = "voxline.budget.breach";

/// How many spans a turn has.
pub(crate) fn count(turn: &Turn) -> u64 {
    1 + turn.measured.known().count() as u64
}

/// Puts turns into what a collector takes.
pub(crate) fn request(resource: &Resource, turns: &[Turn]) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = ScopeSpans {
        scope: Some(scope),
        spans: turns.iter().flat_map(of_turn).collect(),
        ..ScopeSpans::default()
    };
    let spans = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };

    ExportTraceServiceRequest {
        resource_spans: vec![spans],
    }
}

/// A span for the turn, and below it one for each hop that is known, one after the other.
fn of_turn(turn: &Turn) -> Vec<Span> {
    let whole = whole(turn);
    let mut spans = vec![];
    let mut began = turn.began;
    for (hop, stretch) in turn.measured.known() {
        let mut span = of_hop(turn, hop, stretch);
        span.parent_span_id.clone_from(&whole.span_id);
        span.start_time_unix_nano = nanos(began);
        began += stretch.took;
        span.end_time_unix_nano = nanos(began);
        spans.push(span);
    }
    spans.insert(0, whole);

    spans
}

fn whole(turn: &Turn) -> Span {
    let Turn {
        conversation,
        began,
        measured,
        ..
    } = turn;
    let mut attributes = generation(conversation);
    attributes.extend([
        text("gen_ai.response.id", measured.response.as_str()),
        text("voxline.transport", measured.transport.name()),
        integer("voxline.turn", measured.turn),
        seconds("voxline.clock.uncertainty", measured.uncertainty),
    ]);
    let mut span = Span {
        name: "turn".to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(*began),
        end_time_unix_nano: nanos(*began + measured.total),
        attributes,
        ..blank(turn)
    };
    if let Some(parent) = &conversation.parent {
        span.parent_span_id = parent.span.to_vec();
        span.flags = SAMPLED | PARENT_IS_REMOTE;
    }
    if let Some(breach) = &turn.breach {
        span.events.push(event(breach, span.end_time_unix_nano));
        blame(&mut span, breach);
    }

    span
}

fn of_hop(turn: &Turn, hop: Hop, stretch: Stretch) -> Span {
    let mut span = Span {
        name: hop.name().to_owned(),
        kind: SpanKind::Internal.into(),
        attributes: vec![text("voxline.source", stretch.source.name())],
        ..blank(turn)
    };
    if hop == Hop::Inference {
        let conversation = &turn.conversation;
        span.kind = SpanKind::Client.into();
        span.attributes.extend(generation(conversation));
        span.attributes.extend([
            text("gen_ai.response.id", turn.measured.response.as_str()),
            seconds("gen_ai.response.time_to_first_chunk", stretch.took),
        ]);
        if let Some((host, port)) = &conversation.server {
            span.attributes.extend([
                text("server.address", host.as_str()),
                integer("server.port", u64::from(*port)),
            ]);
        }
    }
    if let Some(breach) = turn.breach.filter(|breach| breach.hop == hop) {
        blame(&mut span, &breach);
    }

    span
}

/// Marks a span as one that made people wait.
fn blame(span: &mut Span, breach: &Breach) {
    let hop = breach.hop.name();
    span.attributes.push(text("error.type", BREACH));
    span.status = Some(Status {
        code: StatusCode::Error.into(),
        message: format!("over the latency budget: {hop}"),
    });
}

fn event(breach: &Breach, time_unix_nano: u64) -> Event {
    Event {
        time_unix_nano,
        name: BREACH.to_owned(),
        attributes: vec![
            text("voxline.hop", breach.hop.name()),
            seconds("voxline.hop.took", breach.took),
            seconds("voxline.hop.limit", breach.limit),
            seconds("voxline.total.over", breach.total_over),
        ],
        ..Event::default()
    }
}

/// What tools that know of generative AI look for.
fn generation(conversation: &Conversation) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("gen_ai.operation.name", "generate_content"),
        text("gen_ai.output.type", "speech"),
        text("gen_ai.provider.name", conversation.provider.as_str()),
        text("gen_ai.conversation.id", conversation.session.as_str()),
    ];
    let model = conversation.model.as_deref();
    attributes.extend(model.map(|model| text("gen_ai.request.model", model)));

    attributes
}

/// A span of the turn's trace, by a name of its own.
fn blank(turn: &Turn) -> Span {
    let vendors = turn.conversation.parent.as_ref();
    Span {
        trace_id: turn.trace.to_vec(),
        span_id: rand::random::<[u8; 8]>().to_vec(),
        trace_state: vendors.map_or_else(String::new, |parent| parent.state.clone()),
        flags: SAMPLED | PARENT_IS_LOCAL,
        ..Span::default()
    }
}

fn nanos(time: SystemTime) -> u64 {
    clock::since_1970(time)
        .as_nanos()
        .try_into()
        .unwrap_or(u64::MAX)
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn integer(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)))
}

fn seconds(key: &str, value: Duration) -> KeyValue {
    attribute(key, Value::DoubleValue(value.as_secs_f64()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
