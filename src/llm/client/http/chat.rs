//! The language of `POST /chat/completions`: a request as JSON, and the chunks of an answer read one by one.
//!
//! No input or output here. OpenAI's shapes with Moonshot's rules and the liberties that services take with them: usage in
//! three places, reasoning under three names, errors in the middle of a success. Unknown fields are ignored, known ones of
//! a wrong type are an error where text could get lost, and reported as a contradiction where a figure could. Usage is not
//! added up: each report replaces the one before, since services repeat themselves.
//!
//! Sources: Moonshot's OpenAPI description (2026-08) for the fields, its own clients' source (kimi-cli 1.49, kimi-code
//! 2026-08) for where usage and reasoning are found.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::catalog::money::Charge;
use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::client::Request;
use crate::llm::client::Thinking;
use crate::llm::error::LlmError;
use crate::llm::types::FinishReason;
use crate::llm::types::LlmResponse;
use crate::llm::types::Usage;
use crate::llm::types::UsageSource;
use crate::runtime::base64;
use crate::runtime::text;
use crate::tokens::usage::Contradiction;
use crate::tokens::usage::Figures;

/// Characters of a peer's text kept in an error.
const MAX_SHOWN_CHARS: usize = 300;
/// Contradictions that are reported of one answer.
const MAX_CONTRADICTIONS: usize = 8;

/// Whether a model takes a temperature. Kimi's since K2.5 refuse any but their own with a 400; the plan's short names mean
/// the same models.
pub(super) fn takes_temperature(model: &str) -> bool {
    let bare = model.rsplit_once('/').map_or(model, |(_, bare)| bare);
    let bare = bare.to_ascii_lowercase();
    let begins = |families: &[&str]| families.iter().any(|family| bare.starts_with(family));
    begins(&["kimi-k2-", "kimi-latest", "kimi-thinking-preview"]) || !begins(&["kimi", "k3"])
}

/// How a model is told to think, or `None` where it cannot be told so.
///
/// Source: Moonshot's OpenAPI description (2026-08). K3 always thinks and takes an effort; K2.5 and K2.6 can be switched;
/// K2.7-code always thinks and takes nothing. Others are taken for OpenAI's, with an effort and no switch.
pub(super) fn thinking(model: &str, thinking: Thinking) -> Option<Reasoning> {
    let bare = model.rsplit_once('/').map_or(model, |(_, bare)| bare);
    let begins = |families: &[&str]| families.iter().any(|family| bare.starts_with(family));
    let effort = match thinking {
        Thinking::On | Thinking::Off => None,
        Thinking::Low => Some("low"),
        Thinking::High => Some("high"),
        Thinking::Max => Some("max"),
    };
    if begins(&["kimi-k2.5", "kimi-k2.6"]) {
        let kind = match thinking {
            Thinking::Off => "disabled",
            _ => "enabled",
        };
        return Some(Reasoning::Switch(kind));
    }
    if begins(&["kimi-k2", "moonshot", "kimi-latest"]) {
        return None;
    }
    if thinking == Thinking::Max && !begins(&["kimi", "k3"]) {
        return None;
    }
    effort.map(Reasoning::Effort)
}

/// A model's setting for its reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// `thinking.type`.
    Switch(&'static str),
    /// `reasoning_effort`.
    Effort(&'static str),
}

/// The request as JSON. `max_output` is the limit that is left after everything was held against it.
pub(super) fn body(model: &str, request: &Request, max_output: Option<u64>) -> Vec<u8> {
    let mut messages = Vec::with_capacity(request.history.len().saturating_add(2));
    if let Some(system) = &request.system {
        messages.push(Message {
            role: "system",
            content: Content::Text(system),
        });
    }
    messages.extend(request.history.iter().map(|turn| Message {
        role: turn.role.name(),
        content: Content::Text(&turn.text),
    }));
    let content = if request.images.is_empty() {
        Content::Text(&request.text)
    } else {
        let images = request.images.iter().map(|image| {
            let mut url = format!("data:{};base64,", image.media_type);
            base64::encode_into(&mut url, &image.bytes);
            Part::ImageUrl {
                image_url: ImageUrl { url },
            }
        });
        let text = Part::Text {
            text: &request.text,
        };
        Content::Parts(images.chain([text]).collect())
    };
    messages.push(Message {
        role: "user",
        content,
    });
    let temperature = request.temperature.filter(|_| takes_temperature(model));
    let reasoning = request.thinking.and_then(|how| thinking(model, how));
    let body = Body {
        model,
        messages,
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
        max_completion_tokens: max_output,
        temperature,
        thinking: match reasoning {
            Some(Reasoning::Switch(kind)) => Some(Switch { kind }),
            _ => None,
        },
        reasoning_effort: match reasoning {
            Some(Reasoning::Effort(effort)) => Some(effort),
            _ => None,
        },
        response_format: request.schema.as_ref().map(|schema| ResponseFormat {
            kind: "json_schema",
            json_schema: JsonSchema {
                name: &schema.name,
                strict: true,
                schema: &schema.schema,
            },
        }),
        prompt_cache_key: request.cache_key.as_deref(),
    };
    // Every key is a string and every value plain, so there is nothing that could fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
}

#[derive(Serialize)]
struct Switch {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    strict: bool,
    schema: &'a Value,
}

/// One event's payload, or a whole answer that was not streamed: they differ in `delta` and `message`.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default, alias = "message")]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    /// What the model says where it declines to answer.
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    /// Text, or something that is none: then the one below has the text.
    #[serde(default)]
    reasoning: Option<Value>,
    /// A list of `{type, text}`, as Kimi's plan sends it outside China.
    #[serde(default)]
    reasoning_details: Option<Value>,
}

impl Delta<'_> {
    /// The reasoning, under the first name that has any: services that use two say the same under both.
    fn thinking(&self) -> Cow<'_, str> {
        let plain = self.reasoning_content.as_deref();
        let other = self.reasoning.as_ref().and_then(Value::as_str);
        if let Some(found) = plain
            .into_iter()
            .chain(other)
            .find(|found| !found.is_empty())
        {
            return Cow::Borrowed(found);
        }
        let details = self.reasoning_details.as_ref().and_then(Value::as_array);
        let texts = details
            .into_iter()
            .flatten()
            .filter_map(|part| part.get("text").and_then(Value::as_str));
        Cow::Owned(texts.collect())
    }
}

/// Reads usage in both spellings: Moonshot's own at the top, OpenAI's in the details. `None` when neither the prompt nor the
/// answer was counted; the contradiction where figures cannot all be true, of which the greater reading is taken.
fn read_usage(raw: &Value) -> (Option<Usage>, Option<Contradiction>) {
    if raw.is_null() {
        return (None, None);
    }
    let mut figures = match Figures::of(raw) {
        Ok(figures) => figures,
        Err(reason) => return (None, Some(Contradiction::new(&[reason], raw))),
    };
    let prompt = figures.count("prompt_tokens");
    let completion = figures.count("completion_tokens");
    let total = figures.count("total_tokens");
    let cached = [
        figures.count("cached_tokens"),
        figures.detail("prompt_tokens_details", "cached_tokens"),
    ];
    let written = [
        figures.count("cache_write_tokens"),
        figures.count("cache_creation_input_tokens"),
        figures.detail("prompt_tokens_details", "cache_write_tokens"),
        figures.detail("prompt_tokens_details", "cache_creation_input_tokens"),
    ];
    let reasoning = figures.detail("completion_tokens_details", "reasoning_tokens");
    let mut reasons = figures.reasons;
    if prompt == Some(0) && completion == Some(0) {
        reasons.push("no call uses 0 tokens".to_string());
        return (None, Some(Contradiction::new(&reasons, raw)));
    }
    let cached_tokens = match cached {
        [Some(top), Some(detail)] if top != detail => {
            reasons.push(format!("cached_tokens is {top} and {detail}"));
            // A cached token costs less than another.
            Some(top.min(detail))
        }
        [top, detail] => top.or(detail),
    };
    let written_tokens = written.into_iter().flatten().next();
    let mut usage = Usage::from_prompt_total(
        prompt,
        cached_tokens,
        written_tokens,
        completion,
        UsageSource::Provider,
    );
    usage.reasoning = reasoning;
    let of_cache = cached_tokens
        .unwrap_or(0)
        .saturating_add(written_tokens.unwrap_or(0));
    if let Some(prompt) = prompt.filter(|prompt| of_cache > *prompt) {
        reasons.push(format!(
            "{of_cache} tokens of the cache are more than the {prompt} of the prompt"
        ));
        // As if the prompt were counted without them.
        usage.input = Some(prompt);
    }
    if let (Some(completion), Some(reasoning)) = (completion, reasoning)
        && reasoning > completion
    {
        reasons.push(format!(
            "{reasoning} tokens of reasoning are more than the {completion} of the answer"
        ));
        usage.output = Some(completion.saturating_add(reasoning));
    }
    if let (Some(prompt), Some(completion), Some(total)) = (prompt, completion, total)
        && total != prompt.saturating_add(completion)
    {
        reasons.push(format!(
            "total_tokens is {total}, and prompt and answer have {}",
            prompt.saturating_add(completion)
        ));
        usage.output = usage.output.max(Some(total.saturating_sub(prompt)));
    }
    let contradiction = (!reasons.is_empty()).then(|| Contradiction::new(&reasons, raw));
    let is_counted = prompt.is_some() || completion.is_some();
    (is_counted.then_some(usage), contradiction)
}

/// An answer as far as it came.
#[derive(Debug, Default)]
pub(super) struct Answer {
    text: String,
    /// What the model said in place of an answer.
    refusal: String,
    thinking: String,
    model: Option<String>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    /// A report that could not be read: what was reported may not be all.
    is_distrusted: bool,
    contradictions: Vec<Contradiction>,
    /// The service said that there is no more.
    is_done: bool,
}

impl Answer {
    /// The answer without reasoning.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The reasoning.
    pub(super) fn thinking(&self) -> &str {
        &self.thinking
    }

    /// What the service reported last.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// Bytes kept.
    pub(super) fn len(&self) -> usize {
        self.text.len().saturating_add(self.thinking.len())
    }

    /// Whether the service said that nothing follows.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether the model was done, though usage may still follow.
    pub(super) fn has_ended(&self) -> bool {
        self.is_done || self.finish_reason.is_some()
    }

    /// Takes the data of one event, or the body of an answer that was not streamed.
    ///
    /// # Errors
    ///
    /// The error that the service put there, [`LlmError::Protocol`] for what is no chunk, and the observer's wish to stop.
    pub(super) fn take(&mut self, data: &str, emitter: &mut Emitter<'_>) -> Result<(), LlmError> {
        let data = data.trim();
        match data {
            // Some gateways keep the connection alive with events of nothing.
            "" => return Ok(()),
            "[DONE]" => {
                self.is_done = true;
                return Ok(());
            }
            _ => {}
        }
        let chunk: Chunk<'_> = serde_json::from_str(data).map_err(|error| {
            let shown = text::escape(data);
            LlmError::Protocol {
                detail: format!(
                    "an event is no chunk of an answer: {error}: {}",
                    text::truncate(&shown, MAX_SHOWN_CHARS)
                ),
            }
        })?;
        if chunk.error.is_some() {
            let error = LlmError::from_event(data.as_bytes());
            // Only before the model began is a refusal free of charge for certain.
            return Err(match error.may_have_charged() {
                Charge::No if self.len() > 0 => LlmError::Incomplete {
                    detail: error.to_string(),
                },
                _ => error,
            });
        }
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            self.model = Some(model.into_owned());
        }
        let reported = chunk.usage.filter(|usage| !usage.is_null());
        // A report that comes alone is the last one; beside text it may be one of many.
        let is_alone = chunk.choices.as_ref().is_none_or(Vec::is_empty);
        // We ask for one choice, so another is not ours; the last chunk may have none.
        let mut of_choice = None;
        let choice = chunk.choices.into_iter().flatten();
        for choice in choice.filter(|choice| choice.index.unwrap_or(0) == 0) {
            if let Some(delta) = &choice.delta {
                let thinking = delta.thinking();
                self.thinking.push_str(&thinking);
                emitter.emit(Event::Thinking(&thinking))?;
                let refusal = delta.refusal.as_deref().unwrap_or_default();
                self.refusal.push_str(refusal);
                let content = delta.content.as_deref().unwrap_or_default();
                self.text.push_str(content);
                emitter.emit(Event::Text(content))?;
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.finish_reason = Some(reason.into_owned());
            }
            of_choice = of_choice.or(choice.usage);
        }
        for raw in [reported, of_choice].into_iter().flatten() {
            let (usage, contradiction) = read_usage(&raw);
            if let Some(contradiction) = contradiction {
                self.is_distrusted |= usage.is_none();
                self.contradict(contradiction, emitter)?;
            }
            if let Some(usage) = usage {
                return self.take_usage(usage, is_alone, &raw, emitter);
            }
        }
        Ok(())
    }

    fn take_usage(
        &mut self,
        mut usage: Usage,
        is_alone: bool,
        raw: &Value,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), LlmError> {
        if !is_alone && !self.has_ended() {
            usage.unreported = 1;
        }
        if let Some(before) = self.usage
            && before.total() > usage.total()
        {
            let reason = format!(
                "it has fallen from {} tokens to {}",
                before.total(),
                usage.total()
            );
            let contradiction = Contradiction::new(&[reason], raw);
            self.contradict(contradiction, emitter)?;
            usage = Usage {
                unreported: usage.unreported,
                ..before
            };
        }
        if self.usage != Some(usage) {
            self.usage = Some(usage);
            emitter.emit(Event::Usage(&usage))?;
        }
        Ok(())
    }

    /// Reports a contradiction, each one once.
    fn contradict(
        &mut self,
        contradiction: Contradiction,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), LlmError> {
        if self.contradictions.contains(&contradiction)
            || self.contradictions.len() >= MAX_CONTRADICTIONS
        {
            return Ok(());
        }
        emitter.emit(Event::Contradiction(&contradiction))?;
        self.contradictions.push(contradiction);
        Ok(())
    }

    /// The answer, if the model was done and there is one.
    ///
    /// # Errors
    ///
    /// [`LlmError::Incomplete`] when it broke off, [`LlmError::ContentFiltered`] when the service ended it,
    /// [`LlmError::Refused`] when the model declined, [`LlmError::EmptyAnswer`] when there is no text.
    pub(super) fn into_response(self) -> Result<LlmResponse, LlmError> {
        if !self.has_ended() {
            let detail = match self.len() {
                0 => "the stream ended before the answer began".to_string(),
                _ => "the stream ended in the middle of the answer".to_string(),
            };
            return Err(LlmError::Incomplete { detail });
        }
        let reason = self.finish_reason.as_deref();
        if reason == Some("content_filter") {
            return Err(LlmError::ContentFiltered {
                status: None,
                detail: "the service ended the answer for its content".to_string(),
            });
        }
        if self.text.is_empty() && !self.refusal.is_empty() {
            let shown = text::escape(&self.refusal);
            return Err(LlmError::Refused {
                detail: text::truncate(&shown, MAX_SHOWN_CHARS).into_owned(),
            });
        }
        if self.text.is_empty() {
            return Err(LlmError::EmptyAnswer {
                detail: self.why_empty(),
            });
        }
        let mut warnings = Vec::new();
        if self.usage.is_none() && self.contradictions.is_empty() {
            warnings.push("the service did not report the usage".to_string());
        }
        if reason.is_none() {
            warnings.push("the service did not say why the answer ended".to_string());
        }
        Ok(LlmResponse {
            model: self.model,
            finish_reason: self.finish_reason.map(|reason| match reason.as_str() {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                _ => FinishReason::Other(reason),
            }),
            usage: match self.usage {
                // The answer is whole, so the last report is about all of it.
                Some(usage) => Usage {
                    unreported: u32::from(usage.counts().is_none() || self.is_distrusted),
                    ..usage
                },
                None => Usage::unknown(UsageSource::Provider),
            },
            warnings,
            ..LlmResponse::of(self.text)
        })
    }

    fn why_empty(&self) -> String {
        let output = self.usage.and_then(|usage| usage.output);
        let tokens = output.map_or(String::new(), |tokens| format!(" of {tokens} tokens"));
        match self.finish_reason.as_deref() {
            Some("length") => format!("the output limit{tokens} was spent on reasoning"),
            Some(reason) => {
                let shown = text::escape(reason);
                let shown = text::truncate(&shown, MAX_SHOWN_CHARS);
                format!("the model said nothing (finish_reason {shown})")
            }
            None => "the model said nothing".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::llm::client::Image;
    use crate::llm::client::Schema;
    use proptest::prelude::*;
    use serde_json::json;

    fn body_of(model: &str, request: &Request, max: Option<u64>) -> Value {
        serde_json::from_slice(&body(model, request, max)).unwrap()
    }

    /// What an answer of these chunks comes to.
    fn answer(chunks: &[&str]) -> Result<LlmResponse, LlmError> {
        let mut answer = Answer::default();
        let mut observer = ();
        let mut emitter = Emitter::new(&mut observer);
        for chunk in chunks {
            answer.take(chunk, &mut emitter)?;
        }
        answer.into_response()
    }

    const TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn a_plain_request_holds_nothing_superfluous() {
        assert_eq!(
            body_of("kimi-k3", &Request::new("hi"), None),
            json!({
                "model": "kimi-k3",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": true,
                "stream_options": {"include_usage": true},
            })
        );
    }

    #[test]
    fn a_full_request_holds_everything() {
        let request = Request::new("what?")
            .system("be terse")
            .image(Image {
                media_type: "image/png".to_string(),
                bytes: b"foob".to_vec(),
            })
            .temperature(0.5)
            .schema(Schema {
                name: "s".to_string(),
                schema: json!({"type": "object"}),
            })
            .cache_key("run-1");
        assert_eq!(
            body_of("moonshot-v1-8k", &request, Some(100)),
            json!({
                "model": "moonshot-v1-8k",
                "messages": [
                    {"role": "system", "content": "be terse"},
                    {"role": "user", "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,Zm9vYg=="}},
                        {"type": "text", "text": "what?"},
                    ]},
                ],
                "stream": true,
                "stream_options": {"include_usage": true},
                "max_completion_tokens": 100,
                "temperature": 0.5,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "strict": true, "schema": {"type": "object"}},
                },
                "prompt_cache_key": "run-1",
            })
        );
    }

    #[test]
    fn models_that_sample_in_one_way_are_sent_no_other() {
        for (model, takes) in [
            ("kimi-k3", false),
            ("kimi-k3.1-pro-highspeed", false),
            ("moonshotai/Kimi-K2.7-code", false),
            ("kimi-k2.5", false),
            ("kimi-for-coding", false),
            ("k3-256k", false),
            ("kimi-k2-0905-preview", true),
            ("kimi-k2-thinking", true),
            ("kimi-latest", true),
            ("moonshot-v1-auto", true),
            ("gpt-4o", true),
        ] {
            let request = Request::new("hi").temperature(0.3);
            let sent = body_of(model, &request, None).get("temperature").is_some();
            assert_eq!((sent, takes_temperature(model)), (takes, takes), "{model}");
        }
    }

    #[test]
    fn usage_is_found_in_each_place_and_spelling() {
        let usage =
            r#"{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}"#;
        let on_top = format!(r#"{{"choices":[],"usage":{usage}}}"#);
        let in_choice = format!(
            r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop","usage":{usage}}}]}}"#
        );
        for chunks in [
            vec![TEXT, STOP, &on_top],
            vec![TEXT, &in_choice],
            vec![TEXT, &in_choice, &on_top],
            vec![TEXT, &on_top, STOP],
        ] {
            let response = answer(&chunks).unwrap();
            let usage = response.usage;
            assert_eq!(
                (
                    usage.input,
                    usage.cache_read,
                    usage.cache_write,
                    usage.output
                ),
                (Some(9), Some(10), None, Some(21)),
                "{chunks:?}"
            );
            assert_eq!(usage.source, UsageSource::Provider);
            assert_eq!(response.warnings, Vec::<String>::new());
        }
    }

    #[track_caller]
    fn check_usage(usage: &str, expected: [Option<u64>; 5]) {
        let chunk = format!(r#"{{"choices":[],"usage":{usage}}}"#);
        let usage = answer(&[TEXT, STOP, &chunk]).unwrap().usage;
        let Usage {
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            ..
        } = usage;
        assert_eq!(
            [input, cache_read, cache_write, output, reasoning],
            expected
        );
    }

    #[test]
    fn usage_is_read_at_the_top_and_in_the_details() {
        let details = r#"{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30},"completion_tokens_details":{"reasoning_tokens":4}}"#;
        check_usage(details, [Some(10), Some(60), Some(30), Some(5), Some(4)]);
        let both = r#"{"prompt_tokens":100,"completion_tokens":5,"cached_tokens":50,"prompt_tokens_details":{"cached_tokens":50}}"#;
        check_usage(both, [Some(50), Some(50), None, Some(5), None]);
        let null = r#"{"prompt_tokens":100,"completion_tokens":5,"cached_tokens":null,"prompt_tokens_details":{"cached_tokens":60}}"#;
        check_usage(null, [Some(40), Some(60), None, Some(5), None]);
        let anthropic =
            r#"{"prompt_tokens":100,"completion_tokens":5,"cache_creation_input_tokens":7}"#;
        check_usage(anthropic, [Some(93), None, Some(7), Some(5), None]);
    }

    /// The contradictions that an answer with this usage reports.
    fn contradictions(usage: &str) -> Vec<Contradiction> {
        let chunk = format!(r#"{{"choices":[],"usage":{usage}}}"#);
        let mut found = Vec::new();
        let mut observer = |event: Event<'_>| {
            if let Event::Contradiction(contradiction) = event {
                found.push(contradiction.clone());
            }
            ControlFlow::Continue(())
        };
        let mut answer = Answer::default();
        let mut emitter = Emitter::new(&mut observer);
        for chunk in [TEXT, STOP, &chunk, &chunk] {
            answer.take(chunk, &mut emitter).unwrap();
        }
        found
    }

    #[test]
    fn the_greater_reading_of_contradictory_usage_counts_and_is_reported_once() {
        for (usage, expected, says) in [
            (
                r#"{"prompt_tokens":5,"completion_tokens":3,"cached_tokens":9}"#,
                [Some(5), Some(9), None, Some(3), None],
                "9 tokens of the cache are more than the 5 of the prompt",
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":120}"#,
                [Some(100), None, None, Some(50), None],
                "total_tokens is 120, and prompt and answer have 150",
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":190}"#,
                [Some(100), None, None, Some(90), None],
                "total_tokens is 190",
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":50,"completion_tokens_details":{"reasoning_tokens":60}}"#,
                [Some(100), None, None, Some(110), Some(60)],
                "60 tokens of reasoning are more than the 50 of the answer",
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":5,"cached_tokens":60,"prompt_tokens_details":{"cached_tokens":50}}"#,
                [Some(50), Some(50), None, Some(5), None],
                "cached_tokens is 60 and 50",
            ),
            (
                r#"{"prompt_tokens":"12","completion_tokens":5,"prompt_tokens_details":[7]}"#,
                [None, None, None, Some(5), None],
                "prompt_tokens is \"12\", not a number of tokens; prompt_tokens_details is an array",
            ),
            (
                r#"{"prompt_tokens":9,"completion_tokens":9223372036854775808}"#,
                [Some(9), None, None, None, None],
                "completion_tokens is 9223372036854775808",
            ),
            (
                r#"{"prompt_tokens":-1}"#,
                [None; 5],
                "prompt_tokens is -1, not a number of tokens",
            ),
            (r#"[1,2]"#, [None; 5], "an object is expected, not an array"),
            (
                r#"{"prompt_tokens":0,"completion_tokens":0}"#,
                [None; 5],
                "no call uses 0 tokens",
            ),
        ] {
            check_usage(usage, expected);
            let found = contradictions(usage);
            assert_eq!(found.len(), 1, "{usage}: {found:?}");
            assert!(found[0].detail.contains(says), "{}", found[0].detail);
            assert_eq!(found[0].raw, serde_json::from_str::<Value>(usage).unwrap());
        }
        let sound = r#"{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}"#;
        assert_eq!(contradictions(sound), []);
    }

    #[test]
    fn a_report_that_cannot_be_read_or_falls_takes_nothing_away() {
        let good = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
        let torn = r#"{"choices":[],"usage":[9]}"#;
        let usage = answer(&[TEXT, STOP, good, torn]).unwrap().usage;
        assert_eq!(
            (usage.input, usage.output, usage.unreported),
            (Some(9), Some(4), 1)
        );
        let less = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
        let usage = answer(&[TEXT, STOP, good, less]).unwrap().usage;
        assert_eq!((usage.output, usage.unreported), (Some(4), 0));
    }

    #[test]
    fn what_was_not_told_is_unknown_and_never_nothing() {
        check_usage(
            r#"{"completion_tokens":5}"#,
            [None, None, None, Some(5), None],
        );
        for usage in ["null", "{}", r#"{"total_tokens":7}"#] {
            check_usage(usage, [None; 5]);
        }
        let response = answer(&[TEXT, STOP, "[DONE]"]).unwrap();
        assert_eq!(response.usage, Usage::unknown(UsageSource::Provider));
        assert_eq!(response.warnings, ["the service did not report the usage"]);
    }

    #[test]
    fn a_later_report_replaces_and_an_empty_one_does_not() {
        let usage = |n: u64| {
            format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{n},"completion_tokens":1}}}}"#)
        };
        let told = answer(&[
            &usage(5),
            TEXT,
            &usage(8),
            STOP,
            r#"{"choices":[],"usage":null}"#,
        ]);
        assert_eq!(told.unwrap().usage.input, Some(8));
    }

    #[test]
    fn reasoning_is_read_under_three_names_but_once() {
        for delta in [
            r#"{"reasoning_content":"hm"}"#,
            r#"{"reasoning":"hm"}"#,
            r#"{"reasoning_content":"hm","reasoning":"hm","reasoning_details":[{"text":"hm"}]}"#,
            r#"{"reasoning_content":"","reasoning":null,"reasoning_details":[{"type":"reasoning.text","text":"h"},{"text":"m"},{}]}"#,
        ] {
            let mut answer = Answer::default();
            let mut thought = String::new();
            let mut observer = |event: Event<'_>| {
                if let Event::Thinking(text) = event {
                    thought.push_str(text);
                }
                ControlFlow::Continue(())
            };
            let chunk = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
            answer
                .take(&chunk, &mut Emitter::new(&mut observer))
                .unwrap();
            assert_eq!((answer.thinking(), &*thought), ("hm", "hm"), "{delta}");
        }
    }

    #[track_caller]
    fn check_error(chunks: &[&str], shown: &str, charged: Charge) {
        let error = answer(chunks).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.may_have_charged()),
            (shown, charged)
        );
    }

    #[test]
    fn an_answer_that_is_none_says_why() {
        let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
        let length = r#"{"choices":[{"delta":{"content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":16}}"#;
        check_error(
            &[thought, length, "[DONE]"],
            "empty answer: the output limit of 16 tokens was spent on reasoning",
            Charge::Yes,
        );
        check_error(
            &[STOP],
            "empty answer: the model said nothing (finish_reason stop)",
            Charge::Yes,
        );
        check_error(
            &["[DONE]"],
            "empty answer: the model said nothing",
            Charge::Yes,
        );
        check_error(
            &[],
            "incomplete answer: the stream ended before the answer began",
            Charge::Unknown,
        );
        check_error(
            &[TEXT],
            "incomplete answer: the stream ended in the middle of the answer",
            Charge::Unknown,
        );
        let filtered = r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#;
        check_error(
            &[TEXT, filtered],
            "content filtered: the service ended the answer for its content",
            Charge::Unknown,
        );
        check_error(
            &["{\"choices\":7}"],
            "protocol: an event is no chunk of an answer: invalid type: integer `7`, expected a sequence at line 1 column 12: {\"choices\":7}",
            Charge::Unknown,
        );
    }

    #[test]
    fn an_error_is_free_of_charge_only_before_the_model_began() {
        let busy = r#"{"error":{"type":"engine_overloaded_error","message":"busy"}}"#;
        check_error(
            &[busy],
            "rate limited: error inside a 200 answer: busy",
            Charge::No,
        );
        check_error(
            &[TEXT, busy],
            "incomplete answer: rate limited: error inside a 200 answer: busy",
            Charge::Unknown,
        );
        let boom = r#"{"error":{"type":"server_error","message":"boom"},"choices":null}"#;
        check_error(
            &[TEXT, boom],
            "server error: error inside a 200 answer: boom",
            Charge::Unknown,
        );
    }

    #[test]
    fn a_cut_answer_keeps_its_text_and_reason() {
        let length =
            r#"{"choices":[{"delta":{"content":"!"},"finish_reason":"length"}],"model":"kimi-k3"}"#;
        let response = answer(&[TEXT, length]).unwrap();
        assert_eq!((&*response.text, response.is_complete()), ("hi!", false));
        assert_eq!(response.finish_reason, Some(FinishReason::Length));
        assert_eq!(response.model.as_deref(), Some("kimi-k3"));
        let response = answer(&[TEXT, "[DONE]"]).unwrap();
        assert_eq!(response.finish_reason, None);
        assert!(response.warnings[1].contains("why the answer ended"));
    }

    #[test]
    fn what_services_add_does_no_harm() {
        let response = answer(&[
            "",
            r#"{"id":"x","object":"chat.completion.chunk","choices":null,"new":[1]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"other"}},{"index":0,"delta":{"role":"assistant","content":"a\u00e9\n","tool_calls":null}}]}"#,
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"b"},"finish_reason":"stop","logprobs":null}],"error":null}"#,
        ]);
        assert_eq!(response.unwrap().text, "aé\nb");
    }

    fn any_chunk() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "null", "\"hi\"", "7", "-1", "[]", "{}", "\"\"", "\"stop\"", "[{}]", "true",
        ]);
        let words = prop::collection::vec(word, 8);
        let chunk = words.prop_map(|w| format!(
            r#"{{"model":{},"choices":[{{"index":0,"delta":{{"content":{},"reasoning_content":{},"reasoning":{},"reasoning_details":{}}},"finish_reason":{},"usage":{}}}],"usage":{{"prompt_tokens":{}}}}}"#,
            w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7],
        ));
        prop_oneof![chunk, ".{0,40}", Just("[DONE]".to_string())]
    }

    proptest! {
        #[test]
        fn any_chunks_are_read_or_refused(chunks in prop::collection::vec(any_chunk(), 0..6)) {
            let mut shown = String::new();
            let mut observer = |event: Event<'_>| {
                if let Event::Text(text) = event {
                    shown.push_str(text);
                }
                ControlFlow::Continue(())
            };
            let mut answer = Answer::default();
            let mut emitter = Emitter::new(&mut observer);
            for chunk in &chunks {
                if let Err(error) = answer.take(chunk, &mut emitter) {
                    prop_assert!(!error.to_string().contains(char::is_control), "{}", error);
                }
            }
            // What was shown is what is kept, to the byte.
            prop_assert_eq!(emitter.has_output(), answer.len() > 0);
            prop_assert_eq!(answer.text(), shown.as_str());
        }
    }
}
