//! The tools of a turn: which are at work, which were not allowed, and what an observer hears of them.

use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::client::Permissions;
use crate::llm::client::ToolCall;
use crate::llm::client::ToolResult;
use crate::llm::client::permissions;
use crate::llm::error::LlmError;
use crate::runtime::text;
use crate::transport::agents::common_tool;

/// Characters of a tool's arguments that an error shows.
const MAX_SHOWN_ARGUMENTS: usize = 200;

/// The tools of a turn.
#[derive(Default)]
pub(super) struct Tools {
    calls: Vec<Call>,
    /// Calls at work, during which the agent may be silent.
    running: Vec<String>,
    /// Calls that change files and are not allowed, until they are over.
    forbidden: Vec<String>,
    /// The tools of those that ran all the same.
    pub(super) disobeyed: Vec<String>,
    /// A tool was used that begins sub-agents.
    pub(super) delegated: bool,
    /// How often each tool was used with the same arguments.
    repeats: Vec<(u64, u32)>,
}

/// A call of a tool.
struct Call {
    id: String,
    name: String,
    /// The sub-agent that makes it.
    agent: Option<String>,
    /// The observer has heard of it.
    is_reported: bool,
}

impl Call {
    fn report(&mut self, arguments: &str, emitter: &mut Emitter<'_>) -> Result<(), LlmError> {
        self.is_reported = true;
        emitter.emit(Event::Tool(ToolCall {
            call: &self.id,
            tool: &self.name,
            arguments,
            agent: self.agent.as_deref(),
        }))
    }
}

impl Tools {
    /// Whether one is at work.
    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whatever ran in the step before is over, reported or not.
    pub(super) fn next_step(&mut self) {
        self.running.clear();
    }

    /// The model asks for one.
    pub(super) fn begin(
        &mut self,
        id: String,
        name: String,
        agent: Option<String>,
        permissions: &Permissions,
    ) {
        // A version may come that neither asks nor hands over the file. That is at least said.
        if permissions::writes(&name) && !permissions.covers(&name) {
            self.forbidden.push(id.clone());
        }
        self.delegated |= common_tool(&name) == "agent";
        self.running.push(id.clone());
        self.calls.push(Call {
            id,
            name,
            agent,
            is_reported: false,
        });
    }

    /// A call was allowed.
    pub(super) fn allow(&mut self, id: &str) {
        self.forbidden.retain(|known| known != id);
    }

    /// The arguments of a call are known.
    ///
    /// # Errors
    ///
    /// The agent did the same more often than `max_repeats`; what the observer stops for.
    pub(super) fn used(
        &mut self,
        id: &str,
        arguments: &str,
        max_repeats: u32,
        emitter: Option<&mut Emitter<'_>>,
    ) -> Result<(), LlmError> {
        let call = self.calls.iter_mut().rfind(|call| call.id == id);
        let name = call.as_ref().map_or("a tool", |call| call.name.as_str());
        let mut hasher = DefaultHasher::new();
        (name, arguments).hash(&mut hasher);
        let hash = hasher.finish();
        let count = match self.repeats.iter_mut().find(|(known, _)| *known == hash) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                self.repeats.push((hash, 1));
                1
            }
        };
        let Some(emitter) = emitter else {
            return Ok(());
        };
        if count > max_repeats {
            let arguments = text::escape(arguments);
            let shown = text::truncate(&arguments, MAX_SHOWN_ARGUMENTS);
            return Err(LlmError::Runaway {
                detail: format!(
                    "the agent used {name} {count} times with the same arguments: {shown}"
                ),
            });
        }
        call.map_or(Ok(()), |call| call.report(arguments, emitter))
    }

    /// A call is over.
    ///
    /// # Errors
    ///
    /// What the observer stops for.
    pub(super) fn done(
        &mut self,
        id: &str,
        ok: bool,
        output: &str,
        emitter: Option<&mut Emitter<'_>>,
    ) -> Result<(), LlmError> {
        self.running.retain(|running| running != id);
        let call = self.calls.iter_mut().rfind(|call| call.id == id);
        if let Some(at) = self.forbidden.iter().position(|known| known == id) {
            self.forbidden.swap_remove(at);
            let name = call.as_ref().map(|call| call.name.clone());
            self.disobeyed.extend(name.filter(|_| ok));
        }
        let (Some(call), Some(emitter)) = (call, emitter) else {
            return Ok(());
        };
        if !call.is_reported {
            call.report("", emitter)?;
        }
        emitter.emit(Event::ToolDone(ToolResult {
            call: &call.id,
            tool: &call.name,
            ok,
            output,
            agent: call.agent.as_deref(),
        }))
    }
}
