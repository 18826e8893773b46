//! What the lines of a session's log say, whichever agent wrote them, and what that means for the calls of a turn.

use crate::tokens::usage::Contradiction;
use crate::transport::agent::Event;
use crate::transport::agent::Failure;
use crate::transport::agent::Finish;
use crate::transport::agent::Retry;
use crate::transport::agent::Usage;
use crate::transport::calls::Calls;

/// What a line of a session's log says, whichever agent wrote it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// A turn begins. Agents begin some by themselves, such as after a background agent's end.
    Turn {
        /// Its number, which counts all of them.
        turn: Option<u64>,
        /// Whether a prompt of the user's began it.
        user: bool,
        /// The agent's name for the prompt, the same in every copy of the log.
        prompt: Option<String>,
    },
    /// A step of a turn begins: one answer of the model and the tools it asks for.
    Step {
        /// The turn.
        turn: Option<u64>,
    },
    /// The model is asked.
    Call {
        /// Its name in the configuration.
        alias: Option<String>,
        /// Its name at the service.
        model: Option<String>,
    },
    /// The call has said something.
    Part {
        /// The text, where it is part of the answer.
        text: Option<String>,
        /// The turn.
        turn: Option<u64>,
    },
    /// The model asks for a tool.
    Tool {
        /// The turn.
        turn: Option<u64>,
        /// The call's name.
        call: String,
        /// The tool.
        name: String,
        /// Its arguments, as JSON text.
        arguments: String,
    },
    /// A tool is done.
    ToolDone {
        /// The call.
        call: String,
        /// Whether it worked.
        ok: bool,
        /// The start of its output.
        output: String,
    },
    /// A step is over.
    StepEnd {
        /// The turn.
        turn: Option<u64>,
        /// Why the model stopped.
        finish: Finish,
    },
    /// A call is over.
    Used {
        /// Its usage; `None` when the service did not report it.
        usage: Option<Usage>,
        /// The model's name in the configuration.
        alias: Option<String>,
        /// Whether the agent made the call to shorten its history.
        own: bool,
        /// Tokens in the model's window now.
        context: Option<u64>,
        /// Why the usage cannot be used, where it was reported and cannot.
        contradiction: Option<Contradiction>,
    },
    /// Tokens in the model's window now.
    Context(u64),
    /// A call was made whose usage is never reported.
    Unreported,
    /// The conversation was shortened.
    Compacted {
        /// Whether something that the user said was left out.
        elided: bool,
    },
    /// A call failed and will be made again. What it said is void.
    Retry(Retry),
    /// A turn is over.
    Ended {
        /// Its number.
        turn: Option<u64>,
        /// How.
        end: TurnEnd,
    },
    /// Something that a sub-agent did, in the log of the agent that waits for it.
    OfSubAgent {
        /// The sub-agent, by the name of its directory.
        agent: String,
        /// What it did.
        fact: Box<Fact>,
    },
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The agent was done.
    Completed,
    /// The agent stopped for a reason of its own, without an answer.
    GaveUp(String),
    /// It was cancelled.
    Cancelled,
    /// The limit on steps ended it.
    MaxSteps,
    /// It failed.
    Failed(Failure),
    /// The log does not say.
    Unknown,
}

impl TurnEnd {
    /// Whether a call that was under way may have cost something.
    fn may_have_charged(&self) -> bool {
        match self {
            TurnEnd::Failed(failure) => failure.may_have_charged,
            _ => true,
        }
    }
}

/// Takes a fact about calls. Facts about anything else are left alone.
pub(super) fn account(calls: &mut Calls, fact: &Fact, events: &mut Vec<Event>) {
    match fact {
        Fact::Call { .. } => calls.begin(events),
        Fact::Part { .. } | Fact::Tool { .. } => calls.said(),
        Fact::Used {
            usage,
            context,
            contradiction,
            ..
        } => {
            events.extend(contradiction.clone().map(Event::Contradiction));
            calls.report(*usage, events);
            if let Some(context) = context {
                calls.measured(*context);
            }
        }
        Fact::Context(tokens) => calls.measured(*tokens),
        Fact::Unreported => calls.unreported(events),
        Fact::Retry(retry) => calls.end(retry.may_have_charged(), events),
        Fact::Ended { end, .. } => calls.end(end.may_have_charged(), events),
        _ => {}
    }
}
