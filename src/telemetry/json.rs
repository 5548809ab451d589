//! One flat JSON object a line: what a field is called does not depend on the span it was recorded in.

use std::{fmt, io::Write as _};

use serde::{Serializer as _, ser::SerializeMap as _};
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        MakeWriter,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::Context,
    registry::{LookupSpan, Scope},
};

/// Writes `timestamp`, `level`, `target`, `message`, then the fields of all spans around the event and its own,
/// side by side. Of fields with one name the innermost counts.
///
/// Not `tracing_subscriber`'s own layer, which keeps a span's fields as text and reads all of it again for each that
/// is recorded later: for the status that every call ends with, that was a quarter of what a call's log cost.
pub(super) struct JsonLines<W> {
    writer: W,
}

/// Names that no field may take.
const RESERVED: [&str; 3] = ["timestamp", "level", "target"];

impl<W> JsonLines<W> {
    /// Lines to `writer`, each in one piece.
    pub(super) const fn to(writer: W) -> Self {
        Self { writer }
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(recorded) = span.extensions().get::<Fields>() {
                for (name, value) in &recorded.0 {
                    fields.set(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        if let Ok(line) = line(event, fields) {
            // Who cannot write logs has nowhere to say so.
            let _ = self
                .writer
                .make_writer_for(event.metadata())
                .write_all(&line);
        }
    }
}

fn line(event: &Event<'_>, mut fields: Fields) -> serde_json::Result<Vec<u8>> {
    let mut timestamp = String::new();
    // Writing to a string cannot fail, and a clock before 1970 is worth a line without a time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    // Records of the `log` crate arrive with their true target in a field.
    let target = fields.take("log.target");
    let target = target
        .as_ref()
        .and_then(Value::as_str)
        .unwrap_or(event.metadata().target());

    let mut text = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::new(&mut text);
    let mut line = serializer.serialize_map(None)?;
    line.serialize_entry("timestamp", &timestamp)?;
    line.serialize_entry("level", event.metadata().level().as_str())?;
    line.serialize_entry("target", target)?;
    if let Some(message) = fields.take("message") {
        line.serialize_entry("message", &message)?;
    }
    for (name, value) in &fields.0 {
        if !RESERVED.contains(name) && !name.starts_with("log.") {
            line.serialize_entry(name, value)?;
        }
    }
    line.end()?;
    text.push(b'\n');
    Ok(text)
}

/// Fields and their values, in the order in which they came first. They are few, so a list serves best.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(place).1)
    }

    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        self.set(field.name().trim_start_matches("r#"), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}"));
    }
}
