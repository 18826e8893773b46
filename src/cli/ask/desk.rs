//! What many runs of one process share: the service, its connections, the prices and the budgets.
//!
//! `omk batch` asks thousands of prompts from a few processes. Each prompt is a run of its own, with its limits and its
//! record in the ledger; what does not differ between them is read once.

use std::collections::HashMap;
use std::time::Instant;

use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::cli::ask::peer::Peer;
use crate::cli::ask::{AskArgs, DEFAULT_MODEL, client, expected, in_fleet, run_config, unpriced};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{network, prices};
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::history::Expected;
use crate::cost::record::SessionType;
use crate::llm::client::{HttpLlmClient, LlmClientConfig};
use crate::llm::retry::{Repeats, RetryPolicy};
use crate::run::{LONGEST, Run};
use crate::runtime::clock::Timer;
use crate::transport::http::Http;

/// The service, ready to be asked any number of times.
pub(crate) struct Desk {
    catalog: Catalog,
    peer: Peer,
    http: Http,
    expected: HashMap<String, Option<Expected>>,
}

impl Desk {
    /// Chooses the service. Nothing is sent.
    ///
    /// # Errors
    ///
    /// There is no service to ask, or an agent is named.
    pub(crate) fn open(args: &AskArgs, env: &Env) -> Result<Desk, Failure> {
        let mut catalog = prices::load(&args.price_files, env)?;
        let (peer, _) = client::peer(args, env)?;
        let Peer::Http { base_url, key } = &peer else {
            let detail = "a batch asks a service over HTTP, and an agent is what there is to ask";
            return Err(Failure::new(Exit::NoService, "no service", detail)
                .hint("set MOONSHOT_API_KEY, or name a service of your own with --base-url"));
        };
        if key.is_some() && !args.insecure {
            network::check_encrypted(base_url)?;
        }
        if let (Some(price), Some((model, _))) = (&args.price, &args.model) {
            catalog.set_price(model, price.clone());
        } else if let Some(price) = &args.price {
            catalog.set_price(DEFAULT_MODEL, price.clone());
        }
        let http = network::http(env, args.deadline)?;
        Ok(Desk {
            catalog,
            peer,
            http,
            expected: HashMap::new(),
        })
    }

    /// The model of a prompt: its own, that of the arguments, or the default.
    ///
    /// # Errors
    ///
    /// Its price is not known, and a limit needs it.
    pub(crate) fn model(&self, named: Option<&str>, args: &AskArgs) -> Result<Model, Failure> {
        let of_args = args.model.as_ref().map(|(model, _)| model.as_str());
        let name = named.or(of_args).unwrap_or(DEFAULT_MODEL);
        let model = self.catalog.resolve(name).into_owned();
        if model.price.is_none() && (args.strict_prices || args.max_usd.is_some()) {
            return Err(unpriced(&self.catalog, Some(name), &model, args));
        }
        Ok(model)
    }

    /// The run of one prompt of a batch. `timer` waits between its attempts, as many as `retries` after the first.
    ///
    /// # Errors
    ///
    /// A variable that cannot be used.
    pub(crate) fn run<T: Timer + 'static>(
        &mut self,
        args: &AskArgs,
        model: Model,
        batch: &str,
        (retries, repeats): (u32, Repeats),
        timer: T,
        env: &Env,
    ) -> Result<Run<JsonFileCostSink>, Failure> {
        let Peer::Http { base_url, key } = &self.peer else {
            return Err(Failure::new(Exit::NoService, "no service", "no service"));
        };
        let mut config = LlmClientConfig::new(model.clone());
        config.retry = RetryPolicy {
            max_retries: retries,
            repeats,
            ..RetryPolicy::default()
        };
        if let Some(idle) = args.idle_timeout {
            config.idle_timeout = idle;
        }
        let client = HttpLlmClient::new(config, base_url, key.clone(), self.http.clone());
        let id = model.id.to_string();
        let known = self.expected.entry(id.clone());
        let expected = *known.or_insert_with(|| expected(args, &id, env));
        let what = (Some(id), self.catalog.clone(), model);
        let run = run_config(args, SessionType::Prompt, &self.peer, what, env)?
            .clock(env.clock, Instant::now())
            .timeout(LONGEST)
            .expected(expected)
            .labels(
                args.name.clone().unwrap_or_default(),
                [("batch".to_string(), batch.to_string())],
            );
        let run = in_fleet(run, args, env)?;
        let ledger = crate::cli::ledger::open(env).map(|tracker| tracker.into_sink());
        Ok(Run::with_ledger(
            Box::new(client.with_timer(timer)),
            run,
            ledger,
        ))
    }
}
