//! One turn of an agent over a link: the part that Wire and ACP have in common.
//!
//! It starts the agent, greets it, asks, answers what it asks back, watches the time and the budget, and ends the agent on
//! every path. What a line means is the state machine's to say, through [`Agent`]; where lines go is the link's. A turn
//! that is given up is cancelled and waited for, with a bound, since only then is known what it used. Refuses to say yes
//! to what nobody allowed, and to ask again once a tool was called: what a tool did is done.

mod failure;
mod tools;

use std::borrow::Cow;
use std::io;
use std::time::Duration;
use std::time::Instant;

use crate::catalog::money::Charge;
use crate::llm::client::Approval;
use crate::llm::client::Decision;
use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::client::LlmClientConfig;
use crate::llm::client::Observer;
use crate::llm::client::Permissions;
use crate::llm::client::Phase;
use crate::llm::client::Request;
use crate::llm::client::Rule;
use crate::llm::client::agent::failure::broken;
use crate::llm::client::agent::failure::ended;
use crate::llm::client::agent::failure::failed;
use crate::llm::client::agent::failure::failed_call;
use crate::llm::client::agent::failure::not_started;
use crate::llm::client::agent::tools::Tools;
use crate::llm::client::attempts::with_retries;
use crate::llm::error::LlmError;
use crate::llm::retry::Retry;
use crate::llm::types::Denial;
use crate::llm::types::DenialKind;
use crate::llm::types::FinishReason;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::llm::types::Usage;
use crate::llm::types::UsageSource;
use crate::runtime::base64;
use crate::runtime::clock::Timer;
use crate::runtime::signal;
use crate::tokens::usage::TokenCounts;
use crate::transport::agent;
use crate::transport::agent::Answer;
use crate::transport::agent::Answered;
use crate::transport::agent::Ask;
use crate::transport::agent::AskId;
use crate::transport::agent::Asked;
use crate::transport::agent::CallEnd;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Part;
use crate::transport::agent::Peer;
use crate::transport::agent::Permission;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::agent::fit;
use crate::transport::child::Child;
use crate::transport::child::Exit;
use crate::transport::child::Program;
use crate::transport::http::TransportError;
use crate::transport::link::Link;
use crate::transport::link::LinkError;
use crate::transport::link::Received;

/// How long a cancelled turn has to end, and then the agent once its input is closed.
#[derive(Clone, Copy)]
struct Grace {
    cancel: Duration,
    stop: Duration,
}

/// Measured: 1 to 25 ms for a cancelled turn, and up to 0.7 s for the agent.
const GRACE: Grace = Grace {
    cancel: Duration::from_secs(3),
    stop: Duration::from_millis(1500),
};
/// After a signal: whoever pressed Ctrl-C waits for at most two seconds to learn what the turn used.
const GRACE_AFTER_SIGNAL: Grace = Grace {
    cancel: Duration::from_secs(2),
    stop: Duration::from_millis(800),
};
/// After the deadline: an agent must be gone within a second, whatever it does.
const GRACE_AFTER_DEADLINE: Grace = Grace {
    cancel: Duration::from_millis(300),
    stop: Duration::from_millis(300),
};
/// The pause between two looks into a log that is awaited, to begin with: most of them are complete within 10 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// And at most.
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that an agent may still say after it was asked to end the turn.
const MORE_WHEN_QUIET: usize = 1024 * 1024;
/// Denials of a turn: one that is denied more does not stop by itself.
const MOST_DENIALS: usize = 1000;
/// Bytes of what was denied in a turn.
const MOST_DENIED_BYTES: usize = 8 * 1024 * 1024;
/// How long nothing happens until an observer is given an occasion to show that, or to stop.
const TICK: Duration = Duration::from_millis(250);
/// How long nothing must happen, after a turn that began sub-agents, until they are taken to be done.
const DELEGATED_QUIET: Duration = Duration::from_secs(1);
/// The longest wait for one line; who waits longer asks again. Further moments may not exist.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Starts agents and ends them.
pub trait Launch {
    /// How lines travel to them.
    type Link: Link;

    /// Starts one.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    fn launch(&mut self) -> Result<Self::Link, LinkError>;

    /// Ends one, giving it `grace` to end by itself. Says how it ended where that is known.
    fn stop(&mut self, link: &mut Self::Link, grace: Duration) -> Option<Exit>;
}

impl Launch for Program {
    type Link = Child;

    fn launch(&mut self) -> Result<Child, LinkError> {
        Child::spawn(self)
    }

    fn stop(&mut self, link: &mut Child, grace: Duration) -> Option<Exit> {
        Some(link.stop(grace))
    }
}

/// A state machine, and what its client knows beside it.
pub(crate) trait Agent {
    /// Who tells its usage.
    fn source(&self) -> UsageSource;
    /// How often [`Agent::look`] is worth it while the turn runs; never if `None`.
    fn look_every(&self) -> Option<Duration>;
    /// How long after a claimed end the truth may take.
    fn truth_delay(&self) -> Duration;

    fn start(&mut self) -> String;
    fn prompt(&mut self, prompt: &Prompt) -> String;
    fn cancel(&mut self) -> Option<String>;
    fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String>;
    fn receive(&mut self, line: &[u8]) -> Vec<Signal>;
    /// Bytes that it keeps of tools that are not over.
    fn held(&self) -> usize;
    fn closed(&mut self) -> Vec<Signal>;

    /// Reads or writes a text file that it handed over. Only what is permitted gets here.
    fn on_file(&mut self, what: &Asked) -> Answer;
    /// Whether a file is the agent's own, in which it keeps the session.
    fn owns(&self, path: &str) -> bool;

    /// The session is there and nothing was asked in it yet.
    fn ready(&mut self, peer: &Peer) -> Result<(), LlmError>;
    /// What has happened beside the link since the last look.
    fn look(&mut self) -> io::Result<Vec<agent::Event>>;
    /// The truth about a turn that is said to be over, once it is known.
    fn outcome(&self, answered: &Answered) -> Option<Outcome>;
    /// Why the truth may not be known, for an error.
    fn silence(&self) -> String;
    /// The usage of the turn so far, sub-agents' included.
    fn usage(&self) -> UsageSum;
    /// Whether a sub-agent is at work, or a turn that nobody asked for.
    fn is_busy(&self) -> bool;
    /// The agent is gone: what happened since the last look, and calls that will not report any more.
    fn close(&mut self) -> Vec<agent::Event>;
    /// The answer, as exactly as it is known.
    fn text(&self) -> &str;
    /// The answer as it was streamed.
    fn streamed(&self) -> &str;
    /// The model that answered, if that is told.
    fn model(&self) -> Option<&str>;
}

/// What all attempts of one run share.
pub(crate) struct Run<'a, L: Launch> {
    pub(crate) config: &'a LlmClientConfig,
    pub(crate) permissions: &'a Permissions,
    pub(crate) launcher: &'a mut L,
    pub(crate) request: &'a Request,
    pub(crate) budget: &'a mut TokenBudget,
}

impl<L: Launch> Run<'_, L> {
    /// Asks until there is an answer or no further attempt may be made; each has an agent of its own.
    pub(crate) fn ask<A: Agent>(
        &mut self,
        mut agent: impl FnMut() -> A,
        timer: &mut dyn Timer,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        self.config.allowance(self.request, self.budget)?;
        let prompt = prompt(self.request);
        let mut response = with_retries(
            &self.config.retry,
            self.config.timeout,
            timer,
            &mut Emitter::new(observer),
            |emitter, timer, left| self.attempt(&mut agent(), &prompt, left, timer, emitter),
        )?;
        for (asked, what) in [
            (self.request.temperature.is_some(), "temperature"),
            (self.request.max_output_tokens.is_some(), "output limit"),
        ] {
            if asked {
                let warning = format!("the {what} was left out: an agent takes none");
                response.warnings.push(warning);
            }
        }
        Ok(response)
    }

    fn attempt(
        &mut self,
        agent: &mut dyn Agent,
        prompt: &Prompt,
        left: Duration,
        timer: &mut dyn Timer,
        emitter: &mut Emitter<'_>,
    ) -> Result<LlmResponse, LlmError> {
        emitter.emit(Event::Phase(Phase::Starting))?;
        let mut link = self.launcher.launch().map_err(not_started)?;
        let now = timer.elapsed();
        let mut turn = Turn {
            agent: &mut *agent,
            link: &mut link,
            config: self.config,
            permissions: Cow::Borrowed(self.permissions),
            prompt,
            budget: &mut *self.budget,
            emitter: &mut *emitter,
            deadline: now.saturating_add(left),
            latest: now
                .saturating_add(left)
                .saturating_add(GRACE_AFTER_DEADLINE.cancel)
                .saturating_add(GRACE_AFTER_DEADLINE.stop),
            heard: now,
            looked: now,
            ticked: now,
            timer,
            tools: Tools::default(),
            asked: false,
            settled: false,
            quiet: false,
            told: UsageSum::default(),
            bytes: 0,
            session: None,
            retries: Vec::new(),
            denials: Vec::new(),
            denied: 0,
            grace: GRACE,
            distrusted: false,
        };
        let end = turn.run();
        let exited =
            matches!(&end, Ok(Outcome::Failed(failure)) if failure.kind == FailureKind::Exited);
        let distrusted = turn.distrusted;
        // The answer goes out before anything else is waited for.
        let (answer, told, grace) = turn.conclude(end);
        let exit = self.launcher.stop(&mut link, grace);
        let answer = self.account(agent, told, distrusted, answer, emitter);
        answer.map_err(|error| match &exit {
            Some(exit) if exited => ended(error, exit),
            // Kimi Code says why only there.
            Some(exit) if matches!(error, LlmError::NotLoggedIn { .. }) => {
                let why = exit.telling_lines();
                match why.is_empty() {
                    true => error,
                    false => error.with_detail(|detail| format!("{detail} ({})", why.join("; "))),
                }
            }
            _ => error,
        })
    }

    /// Takes in what the agent did until its end, and adds what all of it used to the answer or the error.
    fn account(
        &mut self,
        agent: &mut dyn Agent,
        told: UsageSum,
        distrusted: bool,
        answer: Result<LlmResponse, LlmError>,
        emitter: &mut Emitter<'_>,
    ) -> Result<LlmResponse, LlmError> {
        // Whether the observer wants more or not, its ledger does.
        let mut heard = Ok(());
        for event in agent.close() {
            if let Some(end) = of_call(&event, agent.source()) {
                heard = heard.and(end.emit(emitter));
            }
            if let agent::Event::Contradiction(contradiction) = &event {
                heard = heard.and(emitter.emit(Event::Contradiction(contradiction)));
            }
        }
        let mut usage = agent.usage();
        if distrusted {
            usage.unreported = usage.unreported.saturating_add(1);
        }
        let known = at_least(&usage, agent.source());
        self.budget.record_usage(known.total());
        if usage != told {
            heard = heard.and(emitter.emit(Event::Usage(&known)));
        }
        let charged = match (usage.calls, usage.unreported) {
            _ if distrusted => Charge::Unknown,
            (0, 0) => Charge::No,
            (0, _) => Charge::Unknown,
            _ => Charge::Yes,
        };
        let mut response = answer.map_err(|error| error.of_turn(charged))?;
        heard?;
        response.usage = known;
        if usage.unreported > 0 {
            response.warnings.push(format!(
                "calls of the model that did not report their usage: {}; the others used {} tokens",
                usage.unreported,
                known.total()
            ));
        }
        Ok(response)
    }
}

/// The request as a prompt. Agents have instructions of their own and no place for others, so ours go first.
fn prompt(request: &Request) -> Prompt {
    let text = match &request.system {
        Some(system) => format!("{system}\n\n{}", request.text),
        None => request.text.clone(),
    };
    let images = request.images.iter().map(|image| {
        let mut base64 = String::new();
        base64::encode_into(&mut base64, &image.bytes);
        Part::Image {
            mime: image.media_type.clone(),
            base64,
        }
    });
    let parts = [Part::Text(text)].into_iter().chain(images).collect();
    Prompt { parts }
}

/// A turn that runs.
struct Turn<'a, 'o, 'l> {
    agent: &'a mut dyn Agent,
    link: &'l mut dyn Link,
    config: &'a LlmClientConfig,
    /// What was allowed beforehand, and what a person has allowed since.
    permissions: Cow<'a, Permissions>,
    prompt: &'a Prompt,
    budget: &'a mut TokenBudget,
    emitter: &'a mut Emitter<'o>,
    timer: &'a mut dyn Timer,
    /// Moments by the timer: when it must be over, when the agent last gave a sign of life, when we last looked for one
    /// beside the link.
    deadline: Duration,
    /// When the agent must have been asked to end.
    latest: Duration,
    heard: Duration,
    looked: Duration,
    /// When the observer was last told that nothing happens.
    ticked: Duration,
    tools: Tools,
    /// The prompt is on its way.
    asked: bool,
    /// The truth about the end is known, or was waited for in vain.
    settled: bool,
    /// The turn was given up: the observer hears no more, and only the usage is of interest.
    quiet: bool,
    /// The usage that the observer was told last.
    told: UsageSum,
    /// Bytes of text and reasoning so far.
    bytes: usize,
    session: Option<String>,
    retries: Vec<Retry>,
    denials: Vec<Denial>,
    /// Bytes of what was denied.
    denied: usize,
    /// How long the turn and the agent have to end.
    grace: Grace,
    /// What the agent wrote about the turn was changed, so no figure in it is the whole truth.
    distrusted: bool,
}

impl Turn<'_, '_, '_> {
    fn run(&mut self) -> Result<Outcome, LlmError> {
        let hello = self.agent.start();
        let end = self.send(&hello).and_then(|()| self.listen());
        if end.is_err() {
            self.give_up();
        }
        end
    }

    /// Cancels the turn, if one runs, and waits for what it used to be known.
    fn give_up(&mut self) {
        self.quiet = true;
        let latest = self.deadline.saturating_add(GRACE_AFTER_DEADLINE.cancel);
        if signal::pending().is_some() {
            self.grace = GRACE_AFTER_SIGNAL;
            signal::acknowledge();
        } else if self.timer.elapsed() >= self.deadline {
            self.grace = GRACE_AFTER_DEADLINE;
        }
        let end = self.timer.elapsed().saturating_add(self.grace.cancel);
        self.deadline = end.min(latest);
        self.heard = self.timer.elapsed();
        // How it ends is settled by the error that led here; a second one has nothing to add.
        if let Some(cancel) = self.agent.cancel() {
            let _ = self.send(&cancel).and_then(|()| self.listen());
        } else if self.asked && !self.settled {
            let _ = self.settle(&Answered::Cancelled);
        }
    }

    /// Takes what the agent says until the turn is over.
    fn listen(&mut self) -> Result<Outcome, LlmError> {
        loop {
            for signal in self.signals()? {
                match signal {
                    Signal::Send(line) => self.send(&line)?,
                    Signal::Ready(peer) => self.on_ready(peer)?,
                    Signal::Event(event) => self.on_event(event)?,
                    Signal::Ask(ask) => self.on_ask(&ask)?,
                    Signal::Answered(answered) => return self.settle(&answered),
                    Signal::Ended(outcome) => {
                        self.settled = true;
                        self.look()?;
                        return Ok(outcome);
                    }
                    Signal::Failed(failure) => return Ok(Outcome::Failed(failure)),
                }
            }
        }
    }

    /// Waits for the agent's next signs of life.
    fn signals(&mut self) -> Result<Vec<Signal>, LlmError> {
        if !self.quiet {
            self.emitter.check()?;
        }
        let look_every = self.agent.look_every().filter(|_| self.asked);
        let now = self.timer.elapsed();
        // Before the next line: a retry voids what was said before it, not what comes after.
        if look_every.is_some_and(|every| now.saturating_sub(self.looked) >= every) {
            self.look()?;
        }
        let patience = self.heard.saturating_add(self.config.idle_timeout);
        let end = match self.tools.is_running() {
            // A tool may take its time in silence.
            true => self.deadline,
            false => self.deadline.min(patience),
        };
        if now >= end {
            let waiting = if self.asked {
                "waiting for the agent"
            } else {
                "starting the agent"
            };
            return Err(LlmError::Timeout {
                phase: waiting.to_string(),
                sent: self.asked,
            });
        }
        if now.saturating_sub(self.ticked) >= TICK {
            self.ticked = now;
            self.emit(Event::Tick)?;
        }
        let slice = look_every.unwrap_or(TICK).min(TICK).min(end - now);
        let (signals, heard) = match self.link.receive(after(slice)) {
            Ok(Received::Line(line)) => {
                let signals = self.agent.receive(line);
                self.check_length(self.agent.held())?;
                (signals, true)
            }
            Ok(Received::Timeout) => (Vec::new(), false),
            Ok(Received::Eof) => match self.agent.closed() {
                signals if signals.is_empty() => {
                    return Err(broken(LinkError::Closed, self.asked));
                }
                signals => (signals, true),
            },
            Err(error) => return Err(broken(error, self.asked)),
        };
        if heard {
            self.heard = self.timer.elapsed();
        }
        Ok(signals)
    }

    /// Takes in what happened beside the link.
    fn look(&mut self) -> Result<(), LlmError> {
        self.looked = self.timer.elapsed();
        let events = self.agent.look().map_err(|error| {
            self.distrusted |= error.kind() == io::ErrorKind::InvalidData;
            LlmError::Io {
                detail: format!("the session's log: {error}"),
            }
        })?;
        self.check_length(self.agent.text().len())?;
        if !events.is_empty() {
            self.heard = self.looked;
        }
        events
            .into_iter()
            .try_for_each(|event| self.on_event(event))
    }

    /// Waits for the truth about a turn that is said to be over.
    fn settle(&mut self, answered: &Answered) -> Result<Outcome, LlmError> {
        let end = self
            .timer
            .elapsed()
            .saturating_add(self.agent.truth_delay());
        let end = end.min(self.deadline);
        let mut pause = FIRST_PAUSE;
        loop {
            if !self.quiet {
                self.emitter.check()?;
            }
            self.look()?;
            if let Some(outcome) = self.agent.outcome(answered) {
                self.settled = true;
                return Ok(outcome);
            }
            let left = end.saturating_sub(self.timer.elapsed());
            if left.is_zero() {
                self.settled = true;
                return Err(LlmError::Protocol {
                    detail: self.agent.silence(),
                });
            }
            self.timer.sleep(pause.min(left));
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn on_ready(&mut self, peer: Peer) -> Result<(), LlmError> {
        self.agent.ready(&peer)?;
        self.session = peer.session;
        if let Some(session) = self.session.clone() {
            self.emit(Event::Session(&session))?;
        }
        self.emit(Event::Phase(Phase::Waiting))?;
        let line = self.agent.prompt(self.prompt);
        self.asked = true;
        self.send(&line)
    }

    fn on_event(&mut self, event: agent::Event) -> Result<(), LlmError> {
        match event {
            agent::Event::Step { step } => {
                self.tools.next_step();
                if let Some(most) = self.config.max_steps.filter(|most| step > *most)
                    && !self.quiet
                {
                    return Err(steps_used_up(most));
                }
                self.emit(Event::Step(step))?;
                self.emit(Event::Phase(Phase::Waiting))
            }
            agent::Event::Text { text, .. } => self.on_text(Event::Text(&text), text.len()),
            agent::Event::Thinking { text, .. } => self.on_text(Event::Thinking(&text), text.len()),
            agent::Event::Superseded { .. } => self.emit(Event::Superseded),
            agent::Event::Retry(retry) => {
                let retry = Retry {
                    attempt: retry.attempt,
                    of: retry.of,
                    wait: retry.wait,
                    error: failed_call(retry.status, retry.reason),
                };
                self.emit(Event::Retry(&retry))?;
                self.retries.push(retry);
                Ok(())
            }
            agent::Event::Tool { call, name, agent } => {
                self.tools.begin(call, name, agent, &self.permissions);
                self.emitter.mark_acted();
                Ok(())
            }
            agent::Event::ToolUsed { call, arguments } => {
                let emitter = (!self.quiet).then_some(&mut *self.emitter);
                let most = self.config.max_repeats;
                self.tools.used(&call, &arguments, most, emitter)
            }
            agent::Event::ToolDone { call, ok, output } => {
                let emitter = (!self.quiet).then_some(&mut *self.emitter);
                self.tools.done(&call, ok, &output, emitter)?;
                self.look_again()
            }
            agent::Event::CallStarted { .. } | agent::Event::CallEnded(_) => {
                if let Some(call) = of_call(&event, self.agent.source())
                    && !self.quiet
                {
                    call.emit(self.emitter)?;
                }
                self.on_usage()
            }
            agent::Event::Contradiction(contradiction) => {
                self.emit(Event::Contradiction(&contradiction))
            }
            agent::Event::PromptCut if !self.quiet => Err(LlmError::ContextLengthExceeded {
                detail: "the agent found the prompt too long for the window it was configured with, and would have asked \
                         with a part of it or with none"
                    .to_string(),
                status: None,
            }),
            _ => Ok(()),
        }
    }

    fn on_text(&mut self, event: Event<'_>, bytes: usize) -> Result<(), LlmError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.check_length(self.bytes)?;
        self.emit(event)
    }

    /// Fails if the agent has said more than is kept. One that is asked to end the turn may say a little more.
    fn check_length(&self, bytes: usize) -> Result<(), LlmError> {
        let more = match self.quiet {
            true => MORE_WHEN_QUIET,
            false => 0,
        };
        if bytes > self.config.max_answer_bytes.saturating_add(more) {
            let limit = u64::try_from(self.config.max_answer_bytes).unwrap_or(u64::MAX);
            return Err(TransportError::BodyTooLarge { limit }.into());
        }
        Ok(())
    }

    /// Tells the observer what was used so far, and gives the turn up where that is more than the budget has.
    fn on_usage(&mut self) -> Result<(), LlmError> {
        let usage = self.agent.usage();
        if self.quiet || usage == self.told {
            return Ok(());
        }
        self.told = usage;
        let told = at_least(&usage, self.agent.source());
        self.emit(Event::Usage(&told))?;
        let used = told.total();
        if self.budget.can_afford(used) {
            return Ok(());
        }
        Err(LlmError::BudgetExhausted {
            detail: format!(
                "the turn has used {used} tokens, and of {} there were {} left",
                self.budget.max_tokens(),
                self.budget.remaining()
            ),
            begun: true,
        })
    }

    /// Looks beside the link where that is worth it: before a tool runs and after, so that a turn that cannot pay for its next
    /// call does not begin it.
    fn look_again(&mut self) -> Result<(), LlmError> {
        match self.agent.look_every() {
            Some(_) if !self.quiet => self.look(),
            _ => Ok(()),
        }
    }

    fn on_ask(&mut self, ask: &Ask) -> Result<(), LlmError> {
        self.look_again()?;
        let (mut answer, denial) = match &ask.what {
            // What is asked of a turn that was given up is moot.
            _ if self.quiet => (Answer::Deny { reason: None }, None),
            Asked::WriteFile { permission, .. }
                if permission.paths.iter().all(|path| self.agent.owns(path)) =>
            {
                (Answer::Allow, None)
            }
            what => self.decide(what)?,
        };
        if answer == Answer::Allow {
            // Reading may be done again.
            if !matches!(ask.what, Asked::ReadFile { .. }) {
                self.emitter.mark_acted();
            }
            if let Some(file) = self.config.place.resolved(&ask.what) {
                answer = self.agent.on_file(&file);
            }
        }
        if let Some(denial) = denial {
            self.denied += denial.detail.len();
            self.denials.push(denial);
        }
        if self.denials.len() > MOST_DENIALS || self.denied > MOST_DENIED_BYTES {
            return Err(LlmError::Runaway {
                detail: format!(
                    "the agent was denied something {} times",
                    self.denials.len()
                ),
            });
        }
        match self.agent.answer(&ask.id, &answer) {
            Some(line) => self.send(&line),
            None => Ok(()),
        }
    }

    /// The decision on an ask: by the rules, and where they deny a tool by whoever watches.
    fn decide(&mut self, what: &Asked) -> Result<(Answer, Option<Denial>), LlmError> {
        let place = &self.config.place;
        let (answer, denial) = self.permissions.decide(what, place);
        let Some(denial) = denial else {
            if let Some(permission) = asked_for(what) {
                let rule = self.permissions.rule_for(permission, place);
                self.emit(Event::Decision(Decision {
                    kind: DenialKind::Tool,
                    tool: &permission.tool,
                    detail: &permission.action,
                    allowed: true,
                    rule: rule.as_deref(),
                    agent: permission.agent.as_deref(),
                }))?;
            }
            return Ok((answer, None));
        };
        let mut decision = Decision {
            kind: denial.kind,
            tool: &denial.tool,
            detail: &denial.detail,
            allowed: false,
            rule: denial.rule.as_deref(),
            agent: asked_for(what).and_then(|permission| permission.agent.as_deref()),
        };
        let mut approval = Approval::No;
        if denial.kind == DenialKind::Tool {
            let left = self.deadline.saturating_sub(self.timer.elapsed());
            approval = self.emitter.approve(&decision, left);
            // The agent waited for us, and not we for it.
            self.heard = self.timer.elapsed();
            self.emitter.check()?;
        }
        decision.allowed = approval != Approval::No;
        self.emit(Event::Decision(decision))?;
        if approval == Approval::No {
            return Ok((answer, Some(denial)));
        }
        if approval == Approval::Always
            && let Some(Ok(rules)) = denial.rule.as_deref().map(Rule::parse_list)
        {
            self.permissions.to_mut().add(rules);
        }
        if let Some(permission) = asked_for(what) {
            self.tools.allow(&permission.call);
        }
        Ok((Answer::Allow, None))
    }

    fn send(&mut self, line: &str) -> Result<(), LlmError> {
        let left = self.deadline.saturating_sub(self.timer.elapsed());
        match self.link.send(line, after(left)) {
            // Whoever does not read any more may have said why: its last words are still to be taken.
            Ok(()) | Err(LinkError::Closed) => Ok(()),
            Err(error) => Err(broken(error, self.asked)),
        }
    }

    fn emit(&mut self, event: Event<'_>) -> Result<(), LlmError> {
        if self.quiet {
            return Ok(());
        }
        self.emitter.emit(event)
    }

    /// Makes an answer or an error of the end, hands the answer over, and waits for what goes on after it. What was used is
    /// added when the agent is gone; here is only what the observer was told of it.
    fn conclude(
        mut self,
        end: Result<Outcome, LlmError>,
    ) -> (Result<LlmResponse, LlmError>, UsageSum, Duration) {
        let answer = end.and_then(|outcome| self.respond(outcome));
        if answer.is_ok() {
            self.follow();
        }
        // What is left until the agent must be gone.
        let latest = self.latest.saturating_sub(self.timer.elapsed());
        (answer, self.told, self.grace.stop.min(latest))
    }

    /// Waits for the sub-agents that work on after the turn, until the deadline or until the observer stops: they cost money.
    fn follow(&mut self) {
        let mut quiet_since = self.timer.elapsed();
        loop {
            let now = self.timer.elapsed();
            if self.agent.is_busy() {
                quiet_since = now;
            }
            // One that has only just been begun, or has only just ended, may be followed by more.
            let patience = match self.tools.delegated {
                true => DELEGATED_QUIET,
                false => Duration::ZERO,
            };
            if now.saturating_sub(quiet_since) >= patience && !self.agent.is_busy() {
                return;
            }
            self.heard = now;
            if now >= self.deadline {
                return;
            }
            let Ok(signals) = self.signals() else {
                if signal::pending().is_some() {
                    self.grace = GRACE_AFTER_SIGNAL;
                    signal::acknowledge();
                }
                return;
            };
            for signal in signals {
                let done = match signal {
                    Signal::Send(line) => self.send(&line),
                    Signal::Ask(ask) => self.on_ask(&ask),
                    Signal::Event(
                        event @ (agent::Event::CallStarted { .. } | agent::Event::CallEnded(_)),
                    ) => self.on_event(event),
                    _ => Ok(()),
                };
                if done.is_err() {
                    return;
                }
            }
            if self.look().is_err() {
                return;
            }
        }
    }

    fn respond(&mut self, outcome: Outcome) -> Result<LlmResponse, LlmError> {
        let finish = match outcome {
            Outcome::Finished(finish) => finish,
            // A refused tool may end a turn; the denial says more than that it ended.
            Outcome::GaveUp { .. } | Outcome::DeadEnd if !self.denials.is_empty() => {
                Finish::Unknown
            }
            Outcome::DeadEnd => {
                return Err(LlmError::DeadEnd {
                    detail: "the agent ended its turn in a tool call, without an answer"
                        .to_string(),
                });
            }
            Outcome::Refused => {
                let detail = match self.agent.text().trim() {
                    "" => "the model declined to answer".to_string(),
                    text => fit(text),
                };
                return Err(LlmError::Refused { detail });
            }
            Outcome::GaveUp { reason } => {
                return Err(LlmError::GaveUp {
                    detail: format!("the agent ended its turn without an answer: {reason}"),
                });
            }
            Outcome::Cancelled => return Err(LlmError::Interrupted { begun: true }),
            Outcome::MaxSteps { steps } => {
                if let Some(most) = self.config.max_steps {
                    return Err(steps_used_up(most));
                }
                let steps = steps.map_or(String::new(), |steps| format!(" of {steps}"));
                return Err(LlmError::BudgetExhausted {
                    detail: format!("the agent's limit{steps} on the steps of a turn"),
                    begun: true,
                });
            }
            Outcome::Failed(failure) => {
                let own = match self.asked && failure.may_have_charged {
                    true => Charge::Unknown,
                    false => Charge::No,
                };
                return Err(failed(failure, self.asked).of_turn(own));
            }
        };
        let finish_reason = match finish {
            Finish::Unknown => None,
            Finish::Stop => Some(FinishReason::Stop),
            Finish::Length => Some(FinishReason::Length),
            Finish::ToolCalls => Some(FinishReason::Other("tool_calls".to_string())),
            Finish::Other(reason) => Some(FinishReason::Other(reason)),
            Finish::Filtered => {
                let detail = "the service ended the answer".to_string();
                let status = None;
                return Err(LlmError::ContentFiltered { detail, status });
            }
        };
        let mut warnings = Vec::new();
        let mut text = self.agent.text().to_string();
        let streamed = self.agent.streamed().to_string();
        if text.trim().is_empty() && !streamed.trim().is_empty() {
            warnings.push(
                "the session's log has no text of the last step: the streamed text was taken"
                    .to_string(),
            );
            text.clone_from(&streamed);
        }
        if text.trim().is_empty() && self.denials.is_empty() {
            return Err(LlmError::EmptyAnswer {
                detail: "the agent ended its turn without a word".to_string(),
            });
        }
        if text != streamed {
            // What came before it may be a notice of the agent's own, or a try that broke.
            if !streamed.ends_with(text.as_str()) && !streamed.is_empty() {
                warnings.push(
                    "the streamed text differs from the session's log: the log's was taken"
                        .to_string(),
                );
            }
            if !streamed.is_empty() {
                self.emit(Event::Superseded)?;
            }
            self.emit(Event::Text(&text))?;
        }
        self.emit(Event::Answered)?;
        if !self.tools.disobeyed.is_empty() {
            warnings.push(format!(
                "the agent used {}, which was not allowed: check what it changed",
                self.tools.disobeyed.join(", ")
            ));
        }
        Ok(LlmResponse {
            model: self.agent.model().map(str::to_string),
            session_id: self.session.take(),
            finish_reason,
            retries: std::mem::take(&mut self.retries),
            denials: std::mem::take(&mut self.denials),
            warnings,
            ..LlmResponse::of(text)
        })
    }
}

/// The tool that an ask is about, if it is about one that was not decided on before.
fn asked_for(what: &Asked) -> Option<&Permission> {
    match what {
        Asked::Permission(permission)
        | Asked::WriteFile {
            permission,
            approved: false,
            ..
        } => Some(permission),
        _ => None,
    }
}

/// The error of a turn that asked for a tool in its last step.
fn steps_used_up(most: u32) -> LlmError {
    LlmError::BudgetExhausted {
        detail: format!("--max-steps {most}: the last step asked for a tool"),
        begun: true,
    }
}

/// What was reported of the usage, and how many calls were not.
fn at_least(usage: &UsageSum, source: UsageSource) -> Usage {
    let unreported = usage.unreported;
    match usage.calls {
        0 => Usage {
            unreported,
            ..Usage::unknown(source)
        },
        _ => Usage {
            unreported,
            ..told(&usage.told, source)
        },
    }
}

fn told(usage: &agent::Usage, source: UsageSource) -> Usage {
    let counts = TokenCounts {
        input_uncached: usage.input,
        cache_read: usage.cache_read,
        cache_write: usage.cache_write,
        output: usage.output,
    };
    Usage::exact(counts, source)
}

/// What an observer hears of a call.
enum OfCall {
    Started(Option<u64>),
    Ended(Option<Usage>, Charge),
}

impl OfCall {
    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), LlmError> {
        emitter.emit(match self {
            OfCall::Started(context) => Event::CallStarted { context: *context },
            OfCall::Ended(usage, charged) => Event::CallEnded {
                usage: usage.as_ref(),
                charged: *charged,
            },
        })
    }
}

fn of_call(event: &agent::Event, source: UsageSource) -> Option<OfCall> {
    Some(match event {
        agent::Event::CallStarted { context } => OfCall::Started(*context),
        agent::Event::CallEnded(CallEnd::Reported(usage)) => {
            OfCall::Ended(Some(told(usage, source)), Charge::Yes)
        }
        agent::Event::CallEnded(CallEnd::Unreported) => OfCall::Ended(None, Charge::Unknown),
        agent::Event::CallEnded(CallEnd::Refused) => OfCall::Ended(None, Charge::No),
        _ => return None,
    })
}

/// The moment after that wait, for a link.
fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
