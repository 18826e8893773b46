//! What a person or a script sees while a model is asked.
//!
//! Text goes to standard output as it comes only where it can be nothing but the answer: a service's, or that of the last
//! step an agent may make. What an agent says before its last step goes to standard error, at the end of the step or as it
//! comes, as reasoning does where it is wanted.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;

use crate::catalog::Price;
use crate::cli::ask::terminal::Terminal;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::llm::client::{Approval, Decision, Event, Observer, Phase, Stop};
use crate::llm::types::Usage;
use crate::runtime::text;

/// Characters of a tool's arguments in the line of progress.
const MAX_SHOWN_ARGUMENTS: usize = 60;
/// Characters of a tool's arguments in an event.
const MAX_ARGUMENTS: usize = 4000;

/// What is printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// The answer.
    Text,
    /// The result.
    Json,
    /// Every event, and then the result.
    Stream,
}

/// When the answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prints {
    /// As it comes: nothing takes back what a service said.
    AsItComes,
    /// Once it is known to be the answer. What an agent says may turn out not to be.
    WhenWhole,
    /// Not here: it is still to be checked, or is part of a result.
    Never,
}

/// What of a run is shown beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shows {
    /// Reasoning, on standard error.
    pub(crate) thinking: bool,
    /// The text of each step as it comes, on standard error.
    pub(crate) steps: bool,
    /// The tools that an agent uses.
    pub(crate) tools: bool,
    /// What is waited for, the session and the usage.
    pub(crate) verbose: bool,
}

/// What is shown while the question is answered.
pub(crate) struct Screen<'a> {
    output: &'a mut Output,
    show: Show,
    shows: Shows,
    prints: Prints,
    /// A terminal watches.
    watched: bool,
    /// Who may allow what no rule allows.
    terminal: Option<Terminal>,
    /// The number of the last step that may be made.
    last_step: Option<u32>,
    /// The step under way is that one: its text can only be the answer.
    is_last_step: bool,
    /// A part of the answer was printed, and then the agent began again.
    restarted: bool,
    /// What was printed of the answer.
    shown: String,
    /// The text of the step so far, which may turn out not to be the last.
    step: String,
    /// The last thing on standard error is text of a model's, whose line is not ended.
    in_line: bool,
    phase: Phase,
    usage: Option<Usage>,
    /// The tools at work: the names of their calls, and what the line of progress says of them.
    tools: Vec<(String, String)>,
    /// The rates, for the amount beside the tokens.
    price: Option<Price>,
    started: std::time::Instant,
    /// How long the peer may be silent, where nothing happens in the meantime that the line could be drawn again at.
    silence: Option<Duration>,
    /// Why standard output takes no more.
    gone: Option<Failure>,
}

/// What a screen leaves behind.
pub(crate) struct Shown {
    /// What was printed of the answer.
    pub(crate) text: String,
    /// Why standard output took no more.
    pub(crate) gone: Option<Failure>,
    /// Where to ask about tools.
    pub(crate) terminal: Option<Terminal>,
}

impl<'a> Screen<'a> {
    /// A screen on which nothing happened yet.
    pub(crate) fn new(
        show: Show,
        shows: Shows,
        prints: Prints,
        price: Option<Price>,
        output: &'a mut Output,
    ) -> Screen<'a> {
        Screen {
            output,
            show,
            shows,
            prints,
            watched: std::io::stderr().is_terminal(),
            terminal: None,
            last_step: None,
            is_last_step: false,
            restarted: false,
            shown: String::new(),
            step: String::new(),
            in_line: false,
            phase: Phase::Starting,
            usage: None,
            tools: Vec::new(),
            price,
            started: std::time::Instant::now(),
            silence: None,
            gone: None,
        }
    }

    /// The same screen for a peer that says nothing at all until it answers, for so long at most.
    pub(crate) fn silent_for(self, silence: Option<Duration>) -> Screen<'a> {
        Screen { silence, ..self }
    }

    /// The same screen for an agent that may make so many steps.
    pub(crate) fn last_step(self, last_step: Option<u32>) -> Screen<'a> {
        Screen { last_step, ..self }
    }

    /// The same screen, asking here about tools that no rule allows.
    pub(crate) fn asking(self, terminal: Option<Terminal>) -> Screen<'a> {
        Screen { terminal, ..self }
    }

    /// Tells a person something in between.
    pub(crate) fn note(&mut self, text: &str) {
        self.end_line();
        self.output.note(text);
    }

    /// What was printed of the answer, and why standard output took no more.
    pub(crate) fn finish(mut self) -> Shown {
        self.end_line();
        self.output.status(None);
        Shown {
            text: self.shown,
            gone: self.gone,
            terminal: self.terminal,
        }
    }

    /// Shows an event.
    fn show(&mut self, event: &Event<'_>) -> ControlFlow<Stop> {
        if self.show == Show::Stream {
            return self.stream(event);
        }
        if self.shows.verbose {
            self.step_note(event);
        }
        match event {
            Event::Phase(phase) => self.phase = *phase,
            Event::Step(number) => {
                self.put_aside();
                self.tools.clear();
                self.is_last_step = self.last_step.is_some_and(|last| *number >= last);
            }
            Event::Superseded => {
                self.step.clear();
                self.end_line();
                self.restarted |= !self.shown.is_empty();
            }
            Event::Text(text) => return self.text(text),
            Event::Answered if self.prints == Prints::WhenWhole => return self.answered(),
            Event::Thinking(text) if self.shows.thinking => {
                self.aside(text);
                return ControlFlow::Continue(());
            }
            Event::Retry(retry) => self.note(&format!(
                "{}; attempt {} of {} in {:.1} s",
                retry.error,
                retry.attempt,
                retry.of,
                retry.wait.as_secs_f64()
            )),
            Event::Usage(usage) => self.usage = Some(**usage),
            Event::Tool(call) if self.shows.tools => {
                let arguments = text::truncate(call.arguments, MAX_SHOWN_ARGUMENTS);
                let label = format!("{} {arguments}", call.tool);
                if !self.watched {
                    self.note(&format!("tool: {label}"));
                }
                self.tools.push((call.call.to_string(), label));
            }
            Event::ToolDone(result) => self.tools.retain(|(call, _)| call != result.call),
            _ => {}
        }
        self.progress();
        ControlFlow::Continue(())
    }

    /// More of what may be the answer.
    fn text(&mut self, text: &str) -> ControlFlow<Stop> {
        if self.prints == Prints::AsItComes {
            self.end_line();
            return self.print(text);
        }
        self.step.push_str(text);
        if self.prints == Prints::WhenWhole && self.is_last_step {
            if self.restarted {
                return ControlFlow::Continue(());
            }
            self.end_line();
            return self.print(text);
        }
        match self.shows.steps && self.show == Show::Text {
            true => self.aside(text),
            false => self.progress(),
        }
        ControlFlow::Continue(())
    }

    /// The step's text is the answer.
    fn answered(&mut self) -> ControlFlow<Stop> {
        let answer = std::mem::take(&mut self.step);
        // Whoever has read it on this very screen need not read it twice.
        let is_read = self.shows.steps
            && self.watched
            && std::io::stdout().is_terminal()
            && self.in_line
            && !self.is_last_step;
        if is_read {
            self.in_line = false;
            self.shown = answer;
            return ControlFlow::Continue(());
        }
        self.end_line();
        match answer.strip_prefix(&self.shown) {
            Some(rest) => self.print(rest),
            None => ControlFlow::Continue(()),
        }
    }

    /// Prints a model's text to standard error, as it comes.
    fn aside(&mut self, text: &str) {
        self.output.aside(text);
        self.in_line = !text.ends_with('\n');
    }

    /// Ends a line of a model's text on standard error.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            self.output.aside("\n");
        }
    }

    /// The event as a line on standard error.
    fn step_note(&mut self, event: &Event<'_>) {
        let note = match event {
            Event::Session(session) => format!("session {session}"),
            Event::Phase(phase) if *phase != self.phase || *phase == Phase::Starting => {
                format!(
                    "{} ({:.1} s)",
                    phase.name(),
                    self.started.elapsed().as_secs_f64()
                )
            }
            Event::Usage(usage) => {
                let price = match (&self.price, usage.counts()) {
                    (Some(price), Some(counts)) => format!(", {}", price.cost(&counts).total()),
                    _ => String::new(),
                };
                format!("{} tokens{price}", usage.total())
            }
            _ => return,
        };
        self.note(&note);
    }

    /// The step that ends was not the last: what it said is no part of the answer.
    fn put_aside(&mut self) {
        let step = std::mem::take(&mut self.step);
        self.end_line();
        if self.show == Show::Text && !self.shows.steps && !step.trim().is_empty() {
            self.output.aside(&format!("{}\n", step.trim_end()));
        }
    }

    /// One line about how far it is, where someone watches and the answer is not on the same screen.
    fn progress(&mut self) {
        if !self.watched
            || self.in_line
            || (!self.shown.is_empty() && std::io::stdout().is_terminal())
        {
            return;
        }
        let mut line = format!("omk: {}", self.phase.name());
        match self.silence {
            // Seconds that stand still would look like a hang.
            Some(silence) if self.phase == Phase::Waiting => {
                line.push_str(&format!(", {} s at most", silence.as_secs()));
            }
            _ => line.push_str(&format!(" {} s", self.started.elapsed().as_secs())),
        }
        if let Some(usage) = &self.usage {
            line.push_str(&format!(", {} tokens", usage.total()));
            if let (Some(price), Some(counts)) = (&self.price, usage.counts()) {
                line.push_str(&format!(", {}", price.cost(&counts).total()));
            }
        }
        if let Some((_, label)) = self.tools.last() {
            line.push_str(&format!(": {label}"));
        }
        self.output.status(Some(&line));
    }

    /// The event as a line of JSON.
    fn stream(&mut self, event: &Event<'_>) -> ControlFlow<Stop> {
        let line = match event {
            Event::Session(session) => json!({"event": "session", "session_id": session}),
            Event::Phase(phase) => json!({"event": "phase", "phase": phase.name()}),
            Event::Step(step) => json!({"event": "step", "step": step}),
            Event::Text(text) => json!({"event": "text", "text": text}),
            Event::Thinking(text) if self.shows.thinking => {
                json!({"event": "thinking", "text": text})
            }
            Event::Superseded => json!({"event": "superseded"}),
            Event::Retry(retry) => json!({
                "event": "retry", "attempt": retry.attempt, "of": retry.of, "wait_s": retry.wait.as_secs_f64(),
                "kind": retry.error.kind(), "message": retry.error.to_string(),
                "http_status": retry.error.http_status(),
            }),
            Event::Usage(usage) => json!({
                "event": "usage", "input": usage.input, "cache_read": usage.cache_read,
                "cache_write": usage.cache_write, "output": usage.output, "reasoning": usage.reasoning,
                "source": usage.source.name(),
            }),
            Event::Tool(call) if self.shows.tools => json!({
                "event": "tool", "call": call.call, "tool": call.tool,
                "arguments": text::truncate(call.arguments, MAX_ARGUMENTS), "agent": call.agent,
            }),
            Event::Decision(decision) if self.shows.tools => json!({
                "event": "permission", "kind": decision.kind.name(), "tool": decision.tool,
                "detail": decision.detail, "allowed": decision.allowed, "rule": decision.rule,
                "agent": decision.agent,
            }),
            Event::ToolDone(result) if self.shows.tools => json!({
                "event": "tool_result", "call": result.call, "tool": result.tool, "ok": result.ok,
                "output": result.output, "agent": result.agent,
            }),
            _ => return ControlFlow::Continue(()),
        };
        let printed = self.output.json(&line).and_then(|()| self.output.flush());
        self.or_stop(printed)
    }

    /// Prints more of the answer, at once.
    fn print(&mut self, text: &str) -> ControlFlow<Stop> {
        self.shown.push_str(text);
        let printed = self.output.print(text).and_then(|()| self.output.flush());
        self.or_stop(printed)
    }

    fn or_stop(&mut self, printed: Result<(), Failure>) -> ControlFlow<Stop> {
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                let detail = failure.detail.clone();
                self.gone = Some(failure);
                ControlFlow::Break(Stop::Output(detail))
            }
        }
    }
}

impl Observer for Screen<'_> {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        // An answer without a reader need not be paid for.
        let is_read = self.output.check_reader();
        self.or_stop(is_read)?;
        self.show(&event)
    }

    fn approve(&mut self, what: &Decision<'_>, left: Duration) -> Approval {
        let Some(mut terminal) = self.terminal.take() else {
            return Approval::No;
        };
        self.end_line();
        self.output.status(None);
        let approval = terminal.approve(what, left);
        self.terminal = Some(terminal);
        approval
    }

    fn can_take_back(&self) -> bool {
        match self.show {
            Show::Stream => false,
            Show::Json => true,
            Show::Text => self.prints != Prints::AsItComes && self.shown.is_empty(),
        }
    }
}
