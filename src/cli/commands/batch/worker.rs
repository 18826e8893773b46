//! A worker of a batch: asks the prompts that it is given, one after the other.
//!
//! It prints nothing: what comes of a prompt goes to the parent, or into the rescue file when there is no parent any more. The
//! pace is the parent's: between two attempts it waits for the parent's word.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use crate::batch::journal::{Outcome, Paths, Rescue, frame, may_be_billed};
use crate::batch::pool::{Message, Notice};
use crate::catalog::money::{Charge, Usd};
use crate::cli::ask::desk::Desk;
use crate::cli::ask::{ResultReport, status_of};
use crate::cli::commands::batch::args::BatchArgs;
use crate::cli::commands::batch::prepare::{Job, request};
use crate::cli::commands::batch::unusable;
use crate::cli::commands::prompt::{invalid_answer, judge, repair};
use crate::cli::commands::watch_signals;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::json;
use crate::cost::file_sink::{Fold, JsonFileCostSink};
use crate::cost::record::SessionStatus;
use crate::llm::client::{Event, LlmClient, Observer, Request, Stop};
use crate::llm::error::LlmError;
use crate::llm::retry::Repeats;
use crate::llm::schema::Validator;
use crate::llm::types::{FinishReason, LlmResponse};
use crate::run::Run;
use crate::runtime::clock::{SystemTimer, Timer};

/// Runs after which a worker looks whether the ledger is to be folded.
const FOLD_EVERY: u32 = 64;

/// The pipes to the parent.
struct Parent {
    input: Box<dyn BufRead>,
    output: Box<dyn Write>,
    /// It is gone, or wants nothing more.
    is_gone: bool,
    /// Why the last attempt failed.
    notice: Notice,
}

impl Parent {
    fn say(&mut self, message: &Message) -> io::Result<()> {
        self.output.write_all(&message.encode())?;
        self.output.flush()
    }

    /// The next line; `None` when there is none any more.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.input.read_line(&mut line);
        let is_whole = read.is_ok() && line.ends_with('\n');
        self.is_gone |= !is_whole;
        is_whole.then_some(line)
    }
}

/// Waits between attempts until the parent says so.
struct Paced {
    parent: Rc<RefCell<Parent>>,
    timer: SystemTimer,
}

impl Timer for Paced {
    fn elapsed(&self) -> Duration {
        self.timer.elapsed()
    }

    fn sleep(&mut self, duration: Duration) {
        let mut parent = self.parent.borrow_mut();
        let mut notice = parent.notice.clone();
        notice.wait_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match parent.say(&Message::Waiting(notice)) {
            Ok(()) => {
                parent.hear();
            }
            Err(_) => parent.is_gone = true,
        }
    }

    fn jitter(&mut self) -> u16 {
        self.timer.jitter()
    }
}

/// Notes why an attempt failed, and makes no further one without a parent.
struct Watch {
    parent: Rc<RefCell<Parent>>,
}

impl Observer for Watch {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        if let Event::Retry(retry) = event {
            let root = retry.error.root();
            let retry_after = root.retry_after();
            self.parent.borrow_mut().notice = Notice {
                kind: root.kind().to_string(),
                slows: matches!(root, LlmError::RateLimited { .. }) || retry_after.is_some(),
                retry_after_ms: retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
                wait_ms: 0,
            };
        }
        ControlFlow::Continue(())
    }

    fn before_attempt(&mut self, _: u32) -> ControlFlow<Stop, Option<u64>> {
        match self.parent.borrow().is_gone {
            true => ControlFlow::Break(Stop::Interrupted),
            false => ControlFlow::Continue(None),
        }
    }
}

/// Asks what the parent gives it until there is no more.
pub(super) fn run(args: &BatchArgs, env: &mut Env) -> Result<Exit, Failure> {
    watch_signals()?;
    let out = args.output.clone().unwrap_or_default();
    let paths = Paths::of(&out, args.ordered);
    // Held before anything is asked, so that a batch that is resumed knows of this process.
    let mut rescue = Rescue::hold(&paths).map_err(unusable)?;
    let mut desk = Desk::open(&args.ask, env)?;
    let parent = Rc::new(RefCell::new(Parent {
        input: Box::new(io::stdin().lock()),
        output: Box::new(io::stdout().lock()),
        is_gone: false,
        notice: Notice::default(),
    }));
    if parent.borrow_mut().say(&Message::Ready).is_err() {
        return Ok(Exit::Done);
    }
    let mut asked = 0_u32;
    loop {
        let line = parent.borrow_mut().hear();
        let Some(line) = line else {
            return Ok(Exit::Done);
        };
        let job: Job = serde_json::from_str(&line).map_err(|error| {
            let detail = format!("{} is for omk batch itself: {error}", super::WORKER);
            Failure::new(Exit::Usage, "usage", detail)
        })?;
        let (outcome, document) = ask(&job, &mut desk, args, &parent, env);
        let is_interrupted = outcome.kind == "interrupted";
        let message = Message::Done(outcome.clone(), document.clone());
        if parent.borrow_mut().say(&message).is_err() {
            rescue.leave(&frame(outcome, &document)).map_err(unusable)?;
            return Ok(Exit::Done);
        }
        if is_interrupted {
            return Ok(Exit::Done);
        }
        asked += 1;
        if asked.is_multiple_of(FOLD_EVERY)
            && let Ok(ledger) = crate::cli::ledger::open(env)
        {
            // Whoever reads the ledger would otherwise open a file for each run.
            let _ = ledger.into_sink().fold(Fold::IfDue);
        }
    }
}

/// Asks one prompt, and says what came of it.
fn ask(
    job: &Job,
    desk: &mut Desk,
    args: &BatchArgs,
    parent: &Rc<RefCell<Parent>>,
    env: &mut Env,
) -> (Outcome, Vec<u8>) {
    let timer = Paced {
        parent: Rc::clone(parent),
        timer: SystemTimer::default(),
    };
    let repeats = match args.retry_unknown {
        true => Repeats::All,
        false => Repeats::Unbilled,
    };
    let prepared = request(job, args, env).and_then(|request| {
        let model = desk.model(job.model.as_deref(), &args.ask)?;
        let attempts = (args.retries, repeats);
        let run = desk.run(&args.ask, model, &job.batch, attempts, timer, env)?;
        Ok((request, run))
    });
    let (request, mut run) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return (unsent(job, &failure), Vec::new()),
    };
    let mut watch = Watch {
        parent: Rc::clone(parent),
    };
    let asked = answer(job, &request, &mut run, &mut watch);
    conclude(job, args, run, asked)
}

/// What a prompt was answered.
struct Asked {
    answered: Result<LlmResponse, LlmError>,
    value: Option<serde_json::Value>,
    invalid: Option<String>,
}

/// Asks, and where there is a schema that the answer does not satisfy, asks once more.
fn answer(
    job: &Job,
    request: &Request,
    run: &mut Run<JsonFileCostSink>,
    watch: &mut Watch,
) -> Asked {
    let mut budget = run.token_budget();
    let mut asked = Asked {
        answered: run.run(request, &mut budget, watch),
        value: None,
        invalid: None,
    };
    let validator = job
        .schema
        .as_ref()
        .and_then(|schema| Validator::new(schema).ok());
    let (Some(validator), Ok(first)) = (validator, &asked.answered) else {
        return asked;
    };
    match judge(&first.text, &validator) {
        Ok(value) => asked.value = Some(value),
        Err(why) => {
            let again = repair(request, &first.text, &why);
            asked.invalid = Some(why);
            // A first answer was paid for, and is kept where there is no second.
            if let Ok(second) = run.run(&again, &mut budget, watch) {
                match judge(&second.text, &validator) {
                    Ok(value) => (asked.value, asked.invalid) = (Some(value), None),
                    Err(why) => asked.invalid = Some(why),
                }
                asked.answered = Ok(second);
            }
        }
    }
    asked
}

/// Closes the run, and puts the outcome and its document together.
fn conclude(
    job: &Job,
    args: &BatchArgs,
    mut run: Run<JsonFileCostSink>,
    asked: Asked,
) -> (Outcome, Vec<u8>) {
    let mut failure = match (&asked.answered, &asked.invalid) {
        (Ok(response), Some(why)) => Some(invalid_answer(why, response)),
        (Ok(_), None) => None,
        (Err(error), _) => Some(crate::cli::ask::explain(error, &run, args.ask.deadline)),
    };
    let exit = match (&asked.answered, &failure) {
        (_, Some(failure)) => failure.exit,
        (Ok(response), None) if response.finish_reason == Some(FinishReason::Length) => Exit::Cut,
        _ => Exit::Done,
    };
    let status = match &asked.answered {
        Ok(_) => SessionStatus::Settled,
        Err(error) => status_of(error, exit),
    };
    let mut warnings = run.progress().warnings.clone();
    if let Some(error) = run.close(status, exit.code()) {
        let detail = format!("the run is not in the ledger: {}", error.detail);
        if asked.answered.is_ok() {
            warnings.push(detail);
        } else {
            failure = failure.map(|failure| failure.hint(detail));
        }
    }
    let usage = run.usage().and_then(|usage| usage.counts());
    let usage = usage.unwrap_or_default();
    let known = run
        .known_usd()
        .filter(|_| run.at_least_usd() == run.at_most_usd());
    let kind = match &asked.answered {
        Ok(_) => "",
        Err(error) => error.root().kind(),
    };
    let outcome = Outcome {
        id: job.id.clone(),
        answered: asked.answered.is_ok(),
        exit: exit.code(),
        kind: kind.to_string(),
        message: failure
            .as_ref()
            .map(|failure| failure.detail.clone())
            .unwrap_or_default(),
        charged: may_be_billed(run.charged()),
        usd: match run.charged() {
            Charge::No => Some(Usd::ZERO),
            _ => known,
        }
        .map(Usd::exact_decimal),
        at_most_usd: run.at_most_usd().map(Usd::exact_decimal),
        input_tokens: u64::try_from(usage.prompt()).unwrap_or(u64::MAX),
        cached_tokens: usage.cache_read,
        output_tokens: usage.output,
        retries: u32::try_from(run.progress().retries.len()).unwrap_or(u32::MAX),
        length: 0,
    };
    let answer = asked
        .answered
        .as_ref()
        .ok()
        .map(|response| (response, asked.value.as_ref()));
    let report = ResultReport::new(&args.ask, &run, exit, answer, &warnings, failure.as_ref());
    let mut document = Vec::new();
    if outcome.answered {
        // A struct of texts and numbers into memory: there is nothing that could fail.
        let _ = json::write(&mut document, &report.of_prompt(&job.id));
    }
    (outcome, document)
}

/// The outcome of a prompt that could not be sent.
fn unsent(job: &Job, failure: &Failure) -> Outcome {
    Outcome {
        id: job.id.clone(),
        exit: failure.exit.code(),
        kind: failure.kind.to_string(),
        message: failure.detail.clone(),
        usd: Some(Usd::ZERO.exact_decimal()),
        at_most_usd: Some(Usd::ZERO.exact_decimal()),
        ..Outcome::default()
    }
}
