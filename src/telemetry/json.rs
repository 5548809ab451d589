//! One flat JSON object a line: what a field is called does not depend on the span it was recorded in.

use std::fmt;

use serde::{Serializer as _, ser::SerializeMap as _};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes `timestamp`, `level`, `target`, `message`, then the fields of the event and of all spans
/// around it, side by side. Of fields with one name the innermost counts.
pub(super) struct FlatJson;

/// Names that no field may take.
const RESERVED: [&str; 3] = ["timestamp", "level", "target"];

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(recorded) = span.extensions().get::<FormattedFields<JsonFields>>() {
                fields.0.extend(parse(recorded));
            }
        }
        event.record(&mut fields);
        let line = line(event, fields.0).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// The fields of a span, which the subscriber keeps as JSON text.
fn parse(recorded: &str) -> Map<String, Value> {
    serde_json::from_str(recorded).unwrap_or_default()
}

fn line(event: &Event<'_>, mut fields: Map<String, Value>) -> serde_json::Result<String> {
    let mut timestamp = String::new();
    // Writing to a string cannot fail, and a clock before 1970 is worth a line without a time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    // Records of the `log` crate arrive with their true target in a field.
    let target = fields.remove("log.target");
    let target = target
        .as_ref()
        .and_then(Value::as_str)
        .unwrap_or(event.metadata().target());

    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    let mut line = serializer.serialize_map(None)?;
    line.serialize_entry("timestamp", &timestamp)?;
    line.serialize_entry("level", event.metadata().level().as_str())?;
    line.serialize_entry("target", target)?;
    if let Some(message) = fields.remove("message") {
        line.serialize_entry("message", &message)?;
    }
    for (name, value) in &fields {
        if !RESERVED.contains(&name.as_str()) && !name.starts_with("log.") {
            line.serialize_entry(name, value)?;
        }
    }
    line.end()?;
    Ok(String::from_utf8(text).unwrap_or_default())
}

/// Collects fields as JSON values.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name().trim_start_matches("r#");
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}
