//! JSON log lines that are written within a trace have its id.
//!
//! It is taken from the context of the trace and not from a field of a span: the spans of frequent calls are traced but not
//! logged, so a log line does not see them.

use std::fmt;

use opentelemetry::{
    Context,
    trace::{TraceContextExt as _, TraceId},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// The member, which the access line writes by itself.
const MEMBER: &str = "trace_id";

/// Adds the member `trace_id` to lines that do not have it.
#[derive(Debug)]
pub(super) struct WithTraceId(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTraceId
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let id = Context::map_current(|current| current.span().span_context().trace_id());
        if id == TraceId::INVALID || event.metadata().fields().field(MEMBER).is_some() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(members) => writeln!(writer, "{members},\"{MEMBER}\":\"{id}\"}}"),
            None => writer.write_str(&line),
        }
    }
}
