//! A client that answers from a list: a double for tests, here and in programs that use this library.
//!
//! It behaves as the real ones do towards budget and observer, so what passes with it means something. It refuses to make
//! an answer up: when the list is used up, that is an error.

use std::collections::VecDeque;

use crate::catalog::money::Charge;
use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::client::LlmClient;
use crate::llm::client::LlmClientConfig;
use crate::llm::client::Observer;
use crate::llm::client::Phase;
use crate::llm::client::Request;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;

/// Canned answers and errors, given out in order, and the requests that got them.
///
/// ```
/// use omk::llm::client::{LlmClient, MockLlmClient};
/// use omk::llm::types::TokenBudget;
///
/// let mut client = MockLlmClient::default().reply("Paris.");
/// let answer = client.complete("The capital of France?", &mut TokenBudget::unlimited())?;
/// assert_eq!(answer.text, "Paris.");
/// assert_eq!(client.calls()[0].text, "The capital of France?");
/// # Ok::<(), omk::llm::error::LlmError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MockLlmClient {
    replies: VecDeque<Result<LlmResponse, LlmError>>,
    calls: Vec<Request>,
}

impl MockLlmClient {
    /// With one more answer, of which only the text is known.
    #[must_use]
    pub fn reply(self, text: impl Into<String>) -> MockLlmClient {
        self.outcome(Ok(LlmResponse::of(text)))
    }

    /// With one more answer or error.
    #[must_use]
    pub fn outcome(mut self, outcome: Result<LlmResponse, LlmError>) -> MockLlmClient {
        self.replies.push_back(outcome);
        self
    }

    /// The requests so far, in order.
    pub fn calls(&self) -> &[Request] {
        &self.calls
    }

    /// How many answers were not asked for.
    pub fn remaining(&self) -> usize {
        self.replies.len()
    }
}

impl LlmClient for MockLlmClient {
    /// Gives out the next answer or error. Errors are not retried: the list says what happens, attempt by attempt.
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let config = LlmClientConfig::for_model("kimi-k3");
        let allowance = config.allowance(request, budget)?;
        let mut emitter = Emitter::new(observer);
        emitter.before_attempt()?;
        self.calls.push(request.clone());
        emitter.emit(Event::Phase(Phase::Waiting))?;
        let Some(reply) = self.replies.pop_front() else {
            return Err(LlmError::AgentUnavailable {
                detail: format!("the mock has no reply for call {}", self.calls.len()),
            });
        };
        let response = reply.inspect_err(|error| {
            if error.may_have_charged() != Charge::No {
                budget.record_usage(allowance.at_most());
            }
        })?;
        budget.record_usage(response.usage.total());
        emitter.emit(Event::Text(&response.text))?;
        emitter.emit(Event::Usage(&response.usage))?;
        Ok(response)
    }
}
