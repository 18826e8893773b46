//! What a person or a script sees while a model is asked.
//!
//! Text goes to standard output as it comes only where nothing can take it back. What an agent says before its last step is
//! thought aloud and goes to standard error, as reasoning does where it is wanted. It refuses to decide what the answer is.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;

use crate::catalog::Price;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::llm::client::{Event, Phase, Stop};
use crate::llm::types::Usage;

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

/// What is shown while the question is answered.
pub(crate) struct Screen<'a> {
    output: &'a mut Output,
    show: Show,
    show_thinking: bool,
    /// Each step is printed.
    verbose: bool,
    prints: Prints,
    /// A terminal watches.
    watched: bool,
    /// What was printed of the answer.
    shown: String,
    /// The text of the step so far, which may turn out not to be the last.
    step: String,
    /// The last thing on standard error is reasoning.
    thinking: bool,
    phase: Phase,
    usage: Option<Usage>,
    /// The rates, for the amount beside the tokens.
    price: Option<Price>,
    started: std::time::Instant,
    /// How long the peer may be silent, where nothing happens in the meantime that the line could be drawn again at.
    silence: Option<Duration>,
    /// Why standard output takes no more.
    gone: Option<Failure>,
}

impl<'a> Screen<'a> {
    /// A screen on which nothing happened yet.
    pub(crate) fn new(
        show: Show,
        show_thinking: bool,
        prints: Prints,
        price: Option<Price>,
        output: &'a mut Output,
    ) -> Screen<'a> {
        Screen {
            output,
            show,
            show_thinking,
            verbose: false,
            prints,
            watched: std::io::stderr().is_terminal(),
            shown: String::new(),
            step: String::new(),
            thinking: false,
            phase: Phase::Starting,
            usage: None,
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

    /// The same screen, printing each step.
    pub(crate) fn verbose(self, verbose: bool) -> Screen<'a> {
        Screen { verbose, ..self }
    }

    /// Tells a person something in between.
    pub(crate) fn note(&mut self, text: &str) {
        self.output.note(text);
    }

    /// Shows an event.
    pub(crate) fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        if self.show == Show::Stream {
            return self.stream(&event);
        }
        if self.verbose {
            self.step_note(&event);
        }
        match event {
            Event::Phase(phase) => self.phase = phase,
            Event::Step(_) => self.put_aside(),
            Event::Superseded => self.step.clear(),
            Event::Text(text) => {
                if std::mem::take(&mut self.thinking) {
                    self.output.aside("\n");
                }
                if self.prints == Prints::AsItComes {
                    return self.print(text);
                }
                self.step.push_str(text);
            }
            Event::Answered if self.prints == Prints::WhenWhole => {
                let answer = std::mem::take(&mut self.step);
                return self.print(&answer);
            }
            Event::Thinking(text) if self.show_thinking => {
                self.thinking = true;
                self.output.aside(text);
                return ControlFlow::Continue(());
            }
            Event::Retry(retry) => self.output.note(&format!(
                "{}; attempt {} of {} in {:.1} s",
                retry.error,
                retry.attempt,
                retry.of,
                retry.wait.as_secs_f64()
            )),
            Event::Usage(usage) => self.usage = Some(*usage),
            _ => {}
        }
        self.progress();
        ControlFlow::Continue(())
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
        self.output.note(&note);
    }

    /// What was printed of the answer, and why standard output took no more.
    pub(crate) fn finish(self) -> (String, Option<Failure>) {
        self.output.status(None);
        (self.shown, self.gone)
    }

    /// The step that ends was not the last: what it said is no part of the answer.
    fn put_aside(&mut self) {
        let step = std::mem::take(&mut self.step);
        if self.show == Show::Text && !step.trim().is_empty() {
            self.output.aside(&format!("{}\n", step.trim_end()));
        }
    }

    /// One line about how far it is, where someone watches and the answer is not on the same screen.
    fn progress(&mut self) {
        if !self.watched
            || self.thinking
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
        self.output.status(Some(&line));
    }

    /// The event as a line of JSON.
    fn stream(&mut self, event: &Event<'_>) -> ControlFlow<Stop> {
        let line = match event {
            Event::Session(session) => json!({"event": "session", "session_id": session}),
            Event::Phase(phase) => json!({"event": "phase", "phase": phase.name()}),
            Event::Step(step) => json!({"event": "step", "step": step}),
            Event::Text(text) => json!({"event": "text", "text": text}),
            Event::Thinking(text) if self.show_thinking => {
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
