//! The calls of the model that one agent makes, each accounted for.
//!
//! An agent says when it asks the model, and later what the call used, or never. A call that began ends in one of three
//! ways: with its usage, without a usage although it may have cost something, or refused before it could cost anything. The
//! same rules hold for a protocol and for a log, while a turn runs and long after.

use crate::transport::agent::CallEnd;
use crate::transport::agent::Event;
use crate::transport::agent::Usage;
use crate::transport::agent::UsageSum;

/// The calls of one agent.
#[derive(Debug, Default)]
pub(super) struct Calls {
    sum: UsageSum,
    /// The call under way, and whether it has said something.
    open: Option<bool>,
    /// Tokens in the model's window after the last call.
    context: Option<u64>,
}

impl Calls {
    /// A call begins. One that was under way has reported nothing, and never will.
    pub(super) fn begin(&mut self, events: &mut Vec<Event>) {
        self.end(true, events);
        self.open = Some(false);
        events.push(Event::CallStarted {
            context: self.context,
        });
    }

    /// The call under way has said something, so it costs something.
    pub(super) fn said(&mut self) {
        if let Some(said) = &mut self.open {
            *said = true;
        }
    }

    /// Whether the call under way has said something.
    pub(super) fn has_said(&self) -> bool {
        self.open == Some(true)
    }

    /// Whether a call is under way.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The model's window holds that many tokens.
    pub(super) fn measured(&mut self, tokens: u64) {
        self.context = Some(tokens);
    }

    /// The call is over, with its usage or without.
    pub(super) fn report(&mut self, usage: Option<Usage>, events: &mut Vec<Event>) {
        self.open = None;
        self.sum.add(usage);
        events.push(Event::CallEnded(match usage {
            Some(usage) => CallEnd::Reported(usage),
            None => CallEnd::Unreported,
        }));
    }

    /// A call that is not the one under way, and of which nothing will be reported.
    pub(super) fn unreported(&mut self, events: &mut Vec<Event>) {
        let open = self.open;
        events.push(Event::CallStarted {
            context: self.context,
        });
        self.report(None, events);
        self.open = open;
    }

    /// The call under way, if there is one, is over without a report.
    pub(super) fn end(&mut self, may_have_charged: bool, events: &mut Vec<Event>) {
        if let Some(said) = self.open.take() {
            if said || may_have_charged {
                self.report(None, events);
            } else {
                events.push(Event::CallEnded(CallEnd::Refused));
            }
        }
    }

    /// What was reported, and how many calls were not.
    pub(super) fn sum(&self) -> &UsageSum {
        &self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_begins_ends() {
        let usage = Usage {
            input: 5,
            ..Usage::default()
        };
        let mut calls = Calls::default();
        let mut events = Vec::new();
        calls.begin(&mut events);
        calls.report(Some(usage), &mut events);
        calls.measured(7);
        // A call that another follows, one that is refused, one that breaks off, and one beside it.
        calls.begin(&mut events);
        calls.begin(&mut events);
        calls.end(false, &mut events);
        calls.begin(&mut events);
        calls.said();
        calls.unreported(&mut events);
        assert!(calls.has_said());
        calls.end(false, &mut events);
        calls.end(true, &mut events);
        let started = |context| Event::CallStarted { context };
        let none = Event::CallEnded(CallEnd::Unreported);
        let expected = [
            started(None),
            Event::CallEnded(CallEnd::Reported(usage)),
            started(Some(7)),
            none.clone(),
            started(Some(7)),
            Event::CallEnded(CallEnd::Refused),
            started(Some(7)),
            started(Some(7)),
            none.clone(),
            none,
        ];
        assert_eq!(events, expected);
        let sum = calls.sum();
        assert_eq!((sum.told, sum.calls, sum.unreported), (usage, 1, 3));
    }
}
