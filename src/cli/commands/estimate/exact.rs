//! `--exact`: asks the service for its own count of the text as one user message.
//!
//! The one part of an estimate that uses the network, and only when asked; the call is free of
//! charge. Source: `POST /v1/tokenizers/estimate-token-count` of Moonshot's OpenAPI description,
//! which takes the messages of a chat request and answers `{"data": {"total_tokens": N}}`; other
//! fields come and go between versions and are not looked at.

use serde::Deserialize;
use serde_json::json;

use crate::catalog::Model;
use crate::cli::commands::estimate::TextArgs;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::network;
use crate::runtime::secret::Secret;
use crate::runtime::text::truncate;
use crate::tokens::Vocabulary;

/// The service for accounts outside mainland China; `--base-url` names another.
const BASE_URL: &str = "https://api.moonshot.ai/v1";

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total_tokens: u64,
}

/// What the service counts for `text`.
///
/// # Errors
///
/// Exit 2 for a model that is not the service's, 78 for an address that would get the key unencrypted, 77 without a key or with a bad one, 75 for what
/// may pass, 124 at the end of the run's time.
pub(super) fn count(args: &TextArgs, model: &Model, text: &str, env: &Env) -> Result<u64, Failure> {
    if model.vocabulary != Vocabulary::Kimi && args.base_url.is_none() {
        let detail = format!(
            "--exact asks Moonshot's service, which does not serve {}",
            model.id
        );
        return Err(Failure::new(Exit::Usage, "usage", detail)
            .hint("leave the model out, or name its service with --base-url"));
    }
    let key = key(env)?;
    let base = args.base_url.as_deref().unwrap_or(BASE_URL);
    let url = format!(
        "{}/tokenizers/estimate-token-count",
        base.trim_end_matches('/')
    );
    if !args.insecure {
        network::check_encrypted(&url)?;
    }
    let request = json!({
        "model": model.id,
        "messages": [{"role": "user", "content": text}],
    });
    let response = network::http(env, args.deadline)?
        .post_json(&url, Some(&key), request.to_string().as_bytes())
        .map_err(|error| network::no_answer(&error, &url, args.deadline))?;
    if !response.is_success() {
        return Err(network::refused(&response, &url));
    }
    match serde_json::from_slice::<Answer>(&response.body) {
        Ok(answer) => Ok(answer.data.total_tokens),
        Err(_) => {
            let body = String::from_utf8_lossy(&response.body);
            let detail = format!(
                "{url} answers without data.total_tokens: {}",
                truncate(&body, 200)
            );
            Err(Failure::new(Exit::Failed, "service", detail)
                .hint("--base-url ends before /tokenizers, as in https://api.moonshot.ai/v1"))
        }
    }
}

fn key(env: &Env) -> Result<Secret, Failure> {
    let found = ["MOONSHOT_API_KEY", "KIMI_API_KEY"]
        .into_iter()
        .find_map(|name| Some((name, env.variable(name)?)));
    match found {
        None => Err(
            Failure::new(Exit::Permission, "authentication", "--exact needs a key")
                .hint("set MOONSHOT_API_KEY; leave --exact out to count offline"),
        ),
        Some((name, value)) => match value.into_string() {
            Ok(key) => Ok(Secret::new(key)),
            Err(_) => Err(Failure::new(
                Exit::Config,
                "configuration",
                format!("{name} is not UTF-8"),
            )),
        },
    }
}
