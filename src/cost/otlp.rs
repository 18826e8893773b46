//! Runs as OpenTelemetry spans: the body of an OTLP request in JSON, and the answer to it.
//!
//! A run is one span, with the attributes of the GenAI semantic conventions: who was asked, what it used. Spans and not
//! metrics, because a span has a name of its own: its ids are made from the run's, so whoever is sent one twice can tell,
//! while a counter that is raised twice is wrong for good. The conventions have no word for money; what they leave out is
//! named `omk.*`, with the amount as a number for sums and as its exact decimal beside it.
//!
//! Follows the JSON encoding of OTLP 1.x where it differs from that of protocol buffers: ids in hexadecimal, enums as
//! numbers; 64-bit numbers as strings, as both have it. Refuses runs that are open: a span has an end.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::catalog::money::Usd;
use crate::cost::fingerprint::fingerprint;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::Transport;
use crate::runtime::clock;

/// The client of a request over the network.
const KIND_CLIENT: u32 = 3;
/// Work within this machine.
const KIND_INTERNAL: u32 = 1;
const STATUS_ERROR: u32 = 2;

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: Value,
}

fn text(key: impl Into<String>, value: impl Into<String>) -> Attribute {
    let value: String = value.into();
    Attribute {
        key: key.into(),
        value: json!({ "stringValue": value }),
    }
}

fn int(key: impl Into<String>, value: u64) -> Attribute {
    // What no signed number holds is no count of tokens that ever was.
    let value = i64::try_from(value).unwrap_or(i64::MAX).to_string();
    Attribute {
        key: key.into(),
        value: json!({ "intValue": value }),
    }
}

fn amount(key: &str, usd: Usd) -> [Attribute; 2] {
    [
        Attribute {
            key: key.to_string(),
            value: json!({ "doubleValue": usd.as_f64() }),
        },
        text(format!("{key}_exact"), usd.exact_decimal()),
    ]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    name: String,
    kind: u32,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

/// The body of a request with these runs, for `/v1/traces`. Runs that are open are left out.
pub fn request<'a>(runs: impl IntoIterator<Item = &'a SessionCost>) -> Value {
    // A resource is what made the span: the machine, which an imported or a shared ledger has several of.
    let mut hosts: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for run in runs {
        if run.status != SessionStatus::Open {
            hosts.entry(&run.owner.host).or_default().push(span(run));
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let resources = hosts.into_iter().map(|(host, spans)| {
        let mut attributes = vec![
            text("service.name", "omk"),
            text("service.version", version),
        ];
        if !host.is_empty() {
            attributes.push(text("host.name", host));
        }
        json!({
            "resource": { "attributes": attributes },
            "scopeSpans": [{ "scope": { "name": "omk", "version": version }, "spans": spans }],
        })
    });
    json!({ "resourceSpans": resources.collect::<Vec<_>>() })
}

fn span(run: &SessionCost) -> Span {
    let over_http = run.transport == Some(Transport::Http);
    let operation = if over_http { "chat" } else { "invoke_agent" };
    let of = if over_http {
        run.model.best()
    } else {
        Some(run.peer.as_str())
    };
    let name = match of.filter(|of| !of.is_empty()) {
        Some(of) => format!("{operation} {of}"),
        None => operation.to_string(),
    };
    let start = nanos(&run.started_at).unwrap_or(0);
    let end = run.ended_at.as_deref().and_then(nanos).unwrap_or(start);
    let failed = matches!(
        run.status,
        SessionStatus::Failed | SessionStatus::Interrupted | SessionStatus::Unknown
    );
    Span {
        trace_id: fingerprint(["omk trace", &run.id]),
        span_id: fingerprint(["omk span", &run.id])
            .chars()
            .take(16)
            .collect(),
        name,
        kind: if over_http {
            KIND_CLIENT
        } else {
            KIND_INTERNAL
        },
        start_time_unix_nano: start.to_string(),
        end_time_unix_nano: end.max(start).to_string(),
        attributes: attributes(run, operation, over_http),
        status: failed.then(|| json!({ "code": STATUS_ERROR, "message": run.status.name() })),
    }
}

fn attributes(run: &SessionCost, operation: &str, over_http: bool) -> Vec<Attribute> {
    let mut out = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.provider.name", provider(&run.peer, over_http)),
    ];
    let mut optional = |key: &str, value: Option<&str>| {
        out.extend(
            value
                .filter(|value| !value.is_empty())
                .map(|value| text(key, value)),
        );
    };
    optional("gen_ai.request.model", run.model.requested.as_deref());
    optional("gen_ai.response.model", run.model.reported.as_deref());
    optional("gen_ai.conversation.id", run.session_id.as_deref());
    match over_http {
        true => optional("server.address", Some(&run.peer)),
        false => optional("gen_ai.agent.name", Some(&run.peer)),
    }
    optional("omk.run.name", Some(&run.name));
    if let Some(usage) = run.usage {
        // The convention's figure is the whole prompt; without its main part it would say too little.
        let rest = usage
            .cache_read
            .unwrap_or(0)
            .saturating_add(usage.cache_write.unwrap_or(0));
        let figures = [
            (
                "gen_ai.usage.input_tokens",
                usage.input.map(|fresh| fresh.saturating_add(rest)),
            ),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            (
                "gen_ai.usage.cache_creation.input_tokens",
                usage.cache_write,
            ),
            ("gen_ai.usage.output_tokens", usage.output),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ];
        out.extend(
            figures
                .into_iter()
                .filter_map(|(key, tokens)| Some(int(key, tokens?))),
        );
        out.push(text("omk.usage.source", usage.source.name()));
    }
    let unit = run.currency.name().to_ascii_lowercase();
    out.extend(
        run.actual_usd
            .into_iter()
            .flat_map(|usd| amount(&format!("omk.cost.{unit}"), usd)),
    );
    let bound = run
        .at_most_usd()
        .filter(|bound| Some(*bound) != run.actual_usd);
    out.extend(
        bound
            .into_iter()
            .flat_map(|usd| amount(&format!("omk.cost.at_most_{unit}"), usd)),
    );
    out.extend([
        text("omk.cost.kind", run.kind.label()),
        text("omk.cost.charged", run.charged.name()),
        text("omk.run.id", run.id.as_str()),
        text("omk.run.type", run.session_type.name()),
        text("omk.run.status", run.status.name()),
        text(
            "omk.run.transport",
            run.transport.map_or("", Transport::name),
        ),
        int("omk.run.retries", u64::from(run.retries)),
    ]);
    out.extend(run.exit.map(|exit| int("omk.run.exit", u64::from(exit))));
    if run.status != SessionStatus::Settled {
        out.push(text("error.type", run.status.name()));
    }
    out.extend(
        run.tags
            .iter()
            .map(|(key, value)| text(format!("omk.tag.{key}"), value)),
    );
    out
}

/// The provider by the conventions' list; a service that is not on it goes by its host.
fn provider(peer: &str, over_http: bool) -> &str {
    let is_of = |domains: &[&str]| {
        domains.iter().any(|domain| {
            peer == *domain
                || peer
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.ends_with('.'))
        })
    };
    if !over_http || is_of(&["moonshot.ai", "moonshot.cn", "kimi.com", "kimi.ai"]) {
        "moonshot_ai"
    } else if is_of(&["openai.com"]) {
        "openai"
    } else if is_of(&["anthropic.com"]) {
        "anthropic"
    } else if is_of(&["deepseek.com"]) {
        "deepseek"
    } else if is_of(&["mistral.ai"]) {
        "mistral_ai"
    } else if is_of(&["groq.com"]) {
        "groq"
    } else if is_of(&["x.ai"]) {
        "x_ai"
    } else if peer.is_empty() {
        "unknown"
    } else {
        peer
    }
}

/// Nanoseconds since 1970; `None` for a time before it or an invalid one.
fn nanos(moment: &str) -> Option<u128> {
    let moment = clock::parse_rfc3339(moment).ok()?;
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_nanos())
}

/// What a collector says of a request that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// So many spans it did not keep. They must not be sent again.
    pub rejected: u64,
    /// Why, or what else it wants to say; empty for nothing.
    pub message: String,
}

/// Reads the answer to a request that was taken. One without a body, or without a word about it, took everything.
pub fn answer(body: &[u8]) -> Taken {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        partial_success: Option<Partial>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Partial {
        #[serde(default)]
        rejected_spans: Value,
        #[serde(default)]
        error_message: String,
    }
    let partial = serde_json::from_slice::<Answer>(body)
        .ok()
        .and_then(|answer| answer.partial_success);
    partial.map_or_else(Taken::default, |partial| Taken {
        // A 64-bit number is a string there, and a number is taken too.
        rejected: match &partial.rejected_spans {
            Value::String(text) => text.parse().unwrap_or(0),
            other => other.as_u64().unwrap_or(0),
        },
        message: partial.error_message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::Charge;
    use crate::cost::record::CostKind;
    use crate::cost::record::SessionType;
    use crate::cost::record::Usage;
    use crate::cost::record::UsageSource;

    fn run() -> SessionCost {
        let mut run = SessionCost::open(
            "20261120T104759Z-1",
            SessionType::Prompt,
            "2026-11-20T10:47:59.5Z",
        );
        run.ended_at = Some("2026-11-20T10:48:00Z".to_string());
        run.status = SessionStatus::Settled;
        run.kind = CostKind::Metered;
        run.charged = Charge::Yes;
        run.transport = Some(Transport::Http);
        run.peer = "api.moonshot.ai".to_string();
        run.model.requested = Some("kimi-k3".to_string());
        run.actual_usd = Usd::parse("0.0123").ok();
        run.owner.host = "here".to_string();
        run.tags.insert("ci".to_string(), "1".to_string());
        run.usage = Some(Usage {
            input: Some(600),
            cache_read: Some(400),
            cache_write: None,
            output: Some(30),
            reasoning: Some(10),
            source: UsageSource::Provider,
            unreported: 0,
        });
        run
    }

    fn value(span: &Value, key: &str) -> Option<Value> {
        let attributes = span["attributes"].as_array()?;
        let found = attributes
            .iter()
            .find(|attribute| attribute["key"] == key)?;
        Some(found["value"].clone())
    }

    #[test]
    fn a_run_is_a_span_in_the_words_of_the_conventions() {
        let body = request([&run()]);
        let resource = &body["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][2],
            json!({"key": "host.name", "value": {"stringValue": "here"}})
        );
        let span = &resource["scopeSpans"][0]["spans"][0];
        assert_eq!(
            (&span["name"], &span["kind"]),
            (&json!("chat kimi-k3"), &json!(3))
        );
        assert_eq!(
            (&span["startTimeUnixNano"], &span["endTimeUnixNano"]),
            (&json!("1795171679500000000"), &json!("1795171680000000000"))
        );
        assert_eq!(span["traceId"].as_str().map(str::len), Some(32));
        assert_eq!(span["spanId"].as_str().map(str::len), Some(16));
        assert_eq!(span.get("status"), None);
        for (key, expected) in [
            ("gen_ai.operation.name", json!({"stringValue": "chat"})),
            (
                "gen_ai.provider.name",
                json!({"stringValue": "moonshot_ai"}),
            ),
            ("gen_ai.usage.input_tokens", json!({"intValue": "1000"})),
            (
                "gen_ai.usage.cache_read.input_tokens",
                json!({"intValue": "400"}),
            ),
            ("gen_ai.usage.output_tokens", json!({"intValue": "30"})),
            ("omk.cost.usd", json!({"doubleValue": 0.0123})),
            ("omk.cost.usd_exact", json!({"stringValue": "0.0123"})),
            ("omk.tag.ci", json!({"stringValue": "1"})),
            ("server.address", json!({"stringValue": "api.moonshot.ai"})),
        ] {
            assert_eq!(value(span, key), Some(expected), "{key}");
        }
        for absent in [
            "gen_ai.usage.cache_creation.input_tokens",
            "omk.cost.at_most_usd",
            "error.type",
        ] {
            assert_eq!(value(span, absent), None, "{absent}");
        }
    }

    #[test]
    fn the_same_run_is_the_same_span_and_another_is_another() {
        let ids = |id: &str| {
            let body = request([&SessionCost {
                id: id.to_string(),
                ..run()
            }]);
            let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
            (span["traceId"].clone(), span["spanId"].clone())
        };
        assert_eq!(ids("a"), ids("a"));
        assert_ne!(ids("a"), ids("b"));
    }

    #[test]
    fn open_runs_are_left_out_and_hosts_kept_apart() {
        let mut open = run();
        open.status = SessionStatus::Open;
        let mut elsewhere = run();
        elsewhere.owner.host = "there".to_string();
        elsewhere.transport = Some(Transport::Acp);
        elsewhere.peer = "Kimi Code 2.1.0".to_string();
        elsewhere.status = SessionStatus::Unknown;
        elsewhere.worst_case_usd = Some(Usd::from_usd(2));
        let body = request([&open, &run(), &elsewhere]);
        assert_eq!(body["resourceSpans"].as_array().map(Vec::len), Some(2));
        let span = &body["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["name"], "invoke_agent Kimi Code 2.1.0");
        assert_eq!(span["status"], json!({"code": 2, "message": "unknown"}));
        assert_eq!(
            value(span, "omk.cost.at_most_usd"),
            Some(json!({"doubleValue": 2.0}))
        );
    }

    #[test]
    fn what_a_collector_did_not_keep_is_read_in_either_form() {
        for (body, rejected, message) in [
            ("", 0, ""),
            ("{}", 0, ""),
            (r#"{"partialSuccess":{}}"#, 0, ""),
            (
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"full"}}"#,
                3,
                "full",
            ),
            (r#"{"partialSuccess":{"rejectedSpans":2}}"#, 2, ""),
            ("<html>", 0, ""),
        ] {
            let expected = Taken {
                rejected,
                message: message.to_string(),
            };
            assert_eq!(answer(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_provider_is_known_by_its_domain_and_not_by_a_part_of_it() {
        for (peer, over_http, expected) in [
            ("api.moonshot.cn", true, "moonshot_ai"),
            ("notmoonshot.cn", true, "notmoonshot.cn"),
            ("127.0.0.1", true, "127.0.0.1"),
            ("kimi-cli 1.51.0", false, "moonshot_ai"),
            ("", true, "unknown"),
        ] {
            assert_eq!(provider(peer, over_http), expected, "{peer}");
        }
    }
}
