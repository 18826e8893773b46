//! The tool calls of one agent over Wire, put together from the pieces that they come in.

use serde_json::value::RawValue;

use crate::transport::agent::Event;
use crate::transport::agent::start_of;
use crate::transport::wire_message::ToolCall;
use crate::transport::wire_message::ToolCallPart;
use crate::transport::wire_message::ToolResult;
use crate::transport::wire_message::Typed;

/// Arguments up to this length, in bytes, are known to be whole as soon as they are JSON; to look at longer ones after each
/// piece would take time that grows with the square of their length.
const LOOKED_AT: usize = 64 * 1024;

/// The tool calls of one agent.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    id: String,
    arguments: String,
    /// The arguments were reported as a whole.
    is_reported: bool,
}

impl Call {
    fn is_whole(&self) -> bool {
        serde_json::from_str::<&RawValue>(&self.arguments).is_ok()
    }

    fn report(&mut self, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_reported, true) {
            events.push(Event::ToolUsed {
                call: self.id.clone(),
                arguments: self.arguments.clone(),
            });
        }
    }

    fn report_if_whole(&mut self, events: &mut Vec<Event>) {
        let may_end = self.arguments.ends_with('}') && self.arguments.len() <= LOOKED_AT;
        if may_end && self.is_whole() {
            self.report(events);
        }
    }
}

impl Tools {
    /// Takes an event of the agent; `agent` names it if it is a sub-agent. Those about anything else are left alone. Says
    /// whether it was the call of a tool.
    pub(super) fn take(
        &mut self,
        event: &Typed<'_>,
        agent: Option<&str>,
        events: &mut Vec<Event>,
    ) -> bool {
        match event.kind() {
            "ToolCall" => {
                let Some(call) = event.payload::<ToolCall>() else {
                    return false;
                };
                events.push(Event::Tool {
                    call: call.id.clone(),
                    name: call.function.name,
                    agent: agent.map(str::to_string),
                });
                let mut call = Call {
                    id: call.id,
                    arguments: call.function.arguments.unwrap_or_default(),
                    is_reported: false,
                };
                call.report_if_whole(events);
                self.calls.push(call);
                return true;
            }
            "ToolCallPart" => {
                if let Some(part) = event.payload::<ToolCallPart>()
                    && let Some(call) = self.calls.last_mut()
                {
                    let part = part.arguments_part.unwrap_or_default();
                    call.arguments.push_str(&part);
                    call.report_if_whole(events);
                }
            }
            "ToolResult" => {
                if let Some(result) = event.payload::<ToolResult>() {
                    self.report(&result.tool_call_id, events);
                    self.forget(&result.tool_call_id);
                    events.push(Event::ToolDone {
                        call: result.tool_call_id,
                        ok: !result.return_value.is_error,
                        output: start_of(&result.return_value.text()),
                    });
                }
            }
            _ => {}
        }
        false
    }

    /// Bytes of arguments of calls that are not over.
    pub(super) fn held(&self) -> usize {
        self.calls.iter().map(|call| call.arguments.len()).sum()
    }

    /// Drops the arguments of a call that is over.
    fn forget(&mut self, call: &str) {
        if let Some(call) = self.calls.iter_mut().rfind(|known| known.id == call) {
            call.arguments = String::new();
        }
    }

    /// Reports the arguments of a call that is about to run, unless they were.
    pub(super) fn report(&mut self, call: &str, events: &mut Vec<Event>) {
        if let Some(call) = self.calls.iter_mut().rfind(|known| known.id == call) {
            call.report(events);
        }
    }

    /// The arguments of a call, if they are whole.
    pub(super) fn arguments(&self, call: &str) -> Option<&str> {
        let call = self.calls.iter().rfind(|known| known.id == call)?;
        call.is_whole().then_some(call.arguments.as_str())
    }
}
