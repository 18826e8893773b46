//! From a prompt of the input to a request: templates, schemas, pictures, and whether it can be sent at all.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batch::input::{Format, Message, Row};
use crate::catalog::money::Usd;
use crate::catalog::{Model, TokenCounts};
use crate::cli::ask::desk::Desk;
use crate::cli::commands::batch::args::BatchArgs;
use crate::cli::commands::prompt::{append, demand, media_type, read_image, read_schema};
use crate::cli::env::Env;
use crate::cli::exit::Failure;
use crate::cli::flags::value;
use crate::cli::template;
use crate::llm::client::{Request, Turn};
use crate::llm::schema::Validator;
use crate::llm::secrets;
use crate::llm::types::Role;
use crate::run::Limits;
use crate::run::account::Account;
use crate::run::limits::{Counted, RESERVED_OUTPUT, Situation, admit};
use crate::runtime::file;

/// A prompt as a worker gets it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Job {
    pub(super) id: String,
    /// The batch that it belongs to.
    pub(super) batch: String,
    pub(super) model: Option<String>,
    pub(super) system: Option<String>,
    pub(super) history: Vec<Message>,
    pub(super) text: String,
    pub(super) image: Vec<String>,
    pub(super) schema: Option<Value>,
    pub(super) max_output_tokens: Option<u64>,
}

/// What a prompt takes.
pub(super) struct Size {
    pub(super) input: u64,
    /// Of prompt and answer together, for the limit of tokens a minute.
    pub(super) tokens: u64,
    /// The price of the prompt alone.
    pub(super) usd: Option<Usd>,
    /// The most that prompt and answer can cost.
    pub(super) bound: Option<Usd>,
}

/// Makes requests of prompts.
pub(super) struct Preparer<'a> {
    args: &'a BatchArgs,
    format: Format,
    /// Of the arguments.
    schema: Option<Value>,
    /// The last schema of a prompt that was found in order.
    checked: Option<Value>,
    /// Answers need a bound: for a cap, a budget or the pace.
    bounded: bool,
    /// The model of the last prompt, by its name there.
    model: Option<(Option<String>, Model)>,
}

impl<'a> Preparer<'a> {
    /// For the prompts of this input.
    ///
    /// # Errors
    ///
    /// The schema of the arguments cannot be used.
    pub(super) fn new(
        args: &'a BatchArgs,
        format: Format,
        has_budgets: bool,
        env: &mut Env,
    ) -> Result<Preparer<'a>, Failure> {
        let schema = match &args.schema {
            Some(source) => Some(read_schema(source, env)?.0),
            None => None,
        };
        Ok(Preparer {
            args,
            format,
            schema,
            checked: None,
            bounded: has_budgets || args.ask.max_usd.is_some() || args.tpm.is_some(),
            model: None,
        })
    }

    /// The prompt as a worker gets it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub(super) fn job(&mut self, row: Row, batch: &str, env: &Env) -> Result<Job, String> {
        let (mut system, mut history) = (row.system, row.messages);
        let mut text = match history.pop() {
            Some(last) => last.content,
            None => row.prompt.clone().unwrap_or_default(),
        };
        if history
            .first()
            .is_some_and(|first| first.role == Role::System.name())
        {
            system = Some(history.remove(0).content);
        }
        let mut vars: Vec<(String, String)> = row.vars.into_iter().collect();
        match &self.args.template {
            Some(body) => {
                let places = template::places(body);
                if self.format == Format::Csv {
                    // A table may have more columns than a template has places.
                    vars.retain(|(name, _)| places.contains(name.as_str()));
                }
                let takes_text = places.contains("text");
                if takes_text && !text.is_empty() {
                    vars.push(("text".to_string(), std::mem::take(&mut text)));
                }
                let mut filled = template::fill(body, &vars)?;
                if !text.is_empty() {
                    filled.truncate(filled.trim_end().len());
                    append(&mut filled, &text);
                }
                text = filled;
            }
            None if self.format == Format::Lines => {
                return Err("plain lines need a --template; --as jsonl reads JSON".to_string());
            }
            None if !vars.is_empty() => {
                if self.format == Format::Csv {
                    let places = template::places(&text);
                    vars.retain(|(name, _)| places.contains(name.as_str()));
                }
                if !vars.is_empty() {
                    text = template::fill(&text, &vars)?;
                }
            }
            None => {}
        }
        if text.trim().is_empty() {
            return Err("the prompt is empty".to_string());
        }
        let schema = match row.schema {
            Some(schema) => Some(self.schema_of(schema, env)?),
            None => self.schema.clone(),
        };
        for path in &row.image {
            check_image(path)?;
        }
        if !self.args.ask.allow_secrets {
            let texts = system.iter().chain([&text]);
            let turns = history.iter().map(|message| &message.content);
            if let Some(found) = texts.chain(turns).find_map(|text| secrets::find(text)) {
                return Err(format!(
                    "a {} stands in it; --allow-secrets sends it all the same",
                    found.kind
                ));
            }
        }
        Ok(Job {
            id: row.id,
            batch: batch.to_string(),
            model: row.model,
            system: system.or_else(|| self.args.system.clone()),
            history,
            text,
            image: row.image,
            schema,
            max_output_tokens: row
                .max_output_tokens
                .or(self.args.max_output_tokens)
                .or(self.bounded.then_some(RESERVED_OUTPUT)),
        })
    }

    /// The schema of a prompt: an object, or what `--schema` takes.
    fn schema_of(&mut self, schema: Value, env: &Env) -> Result<Value, String> {
        if self.checked.as_ref() == Some(&schema) {
            return Ok(schema);
        }
        let found = match &schema {
            Value::String(written) => {
                let source =
                    value::schema(written.as_ref()).map_err(|error| format!("schema: {error}"))?;
                read_schema(&source, env)
                    .map_err(|failure| failure.detail)?
                    .0
            }
            Value::Object(_) => {
                Validator::new(&schema).map_err(|error| format!("schema: {error}"))?;
                self.checked = Some(schema.clone());
                schema
            }
            _ => return Err("`schema` is no object, file or list of fields".to_string()),
        };
        Ok(found)
    }

    /// What a prompt takes, by the model that it is for.
    ///
    /// # Errors
    ///
    /// Its price is not known and a limit needs it, or it does not fit the window.
    pub(super) fn size(&mut self, job: &Job, desk: &Desk) -> Result<Size, String> {
        let known = self.model.take().filter(|(name, _)| *name == job.model);
        let (name, model) = match known {
            Some(known) => known,
            None => {
                let model = desk.model(job.model.as_deref(), &self.args.ask);
                (job.model.clone(), model.map_err(|failure| failure.detail)?)
            }
        };
        let size = self.size_for(job, &model);
        self.model = Some((name, model));
        size
    }

    fn size_for(&self, job: &Job, model: &Model) -> Result<Size, String> {
        let mut request = request_of(job);
        // Only whether there are pictures matters: the bound is then the window.
        if !job.image.is_empty() {
            request.images.push(crate::llm::client::Image {
                media_type: String::new(),
                bytes: Vec::new(),
            });
        }
        let price = model.price.as_ref();
        let counted = Counted::of(&request, model);
        let allowance = admit(
            &request,
            &counted,
            Situation {
                limits: Limits::default(),
                model,
                price,
                is_agent: false,
                has_budgets: false,
                account: &Account::new(model.vocabulary, None),
            },
        )
        .map_err(|error| error.to_string())?;
        let output = allowance.bound.map_or(0, |bound| bound.output);
        let tokens = counted.input.saturating_add(output);
        if let Some(tpm) = self.args.tpm.filter(|tpm| tokens > *tpm) {
            return Err(format!(
                "{tokens} tokens with the longest answer, and --tpm allows {tpm}; a smaller --max-output-tokens needs less"
            ));
        }
        Ok(Size {
            input: counted.input,
            tokens,
            usd: price.map(|price| {
                let counts = TokenCounts {
                    input_uncached: counted.input,
                    ..TokenCounts::default()
                };
                price.cost(&counts).total()
            }),
            bound: allowance
                .bound
                .zip(price)
                .map(|(bound, price)| price.most(bound.input, bound.output)),
        })
    }
}

/// The request, without its pictures.
fn request_of(job: &Job) -> Request {
    let mut request = Request::new(job.text.as_str());
    request.system.clone_from(&job.system);
    request.history = job
        .history
        .iter()
        .map(|message| Turn {
            role: match message.role.as_str() {
                "assistant" => Role::Assistant,
                _ => Role::User,
            },
            text: message.content.clone(),
        })
        .collect();
    request.max_output_tokens = job.max_output_tokens;
    if let Some(schema) = &job.schema {
        demand(&mut request, schema);
    }
    request
}

/// The request as it is sent.
///
/// # Errors
///
/// A picture cannot be read any more.
pub(super) fn request(job: &Job, args: &BatchArgs, env: &Env) -> Result<Request, Failure> {
    let mut request = request_of(job);
    request.thinking = args.thinking;
    request.temperature = args.temperature;
    for path in &job.image {
        request.images.push(read_image(Path::new(path), env)?);
    }
    Ok(request)
}

/// Whether there is a picture of a kind that services take; its bytes are read when it is sent.
fn check_image(path: &str) -> Result<(), String> {
    let read = || {
        let mut source = file::Source::open_regular(Path::new(path), None)?;
        let mut beginning = [0; 16];
        let count = source.read(&mut beginning)?;
        Ok::<_, std::io::Error>(beginning.get(..count).unwrap_or_default().to_vec())
    };
    let beginning = read().map_err(|error| format!("the picture `{path}`: {error}"))?;
    match media_type(&beginning) {
        Some(_) => Ok(()),
        None => Err(format!("`{path}` is no PNG, JPEG, GIF or WebP")),
    }
}
