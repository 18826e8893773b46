//! etcd over its JSON gateway, `/v3/kv/range` and `/v3/kv/txn`.
//!
//! The document is the key `/NAME/budget`; the version is its `mod_revision`. A transaction compares that and, in one step,
//! puts the document and the record, or returns the document that is there instead. Records are keys
//! `/NAME/runs/DAY/ID`. A token from `/v3/auth/authenticate` is fetched when the first request needs it and again when etcd
//! no longer takes it; tokens live five minutes by default.
//!
//! The gateway cannot tell users by their certificate's name: a client certificate opens the connection, and where roles
//! are in force a user and a password are needed beside it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::fleet::store::Current;
use crate::fleet::store::Days;
use crate::fleet::store::Entry;
use crate::fleet::store::Put;
use crate::fleet::store::Store;
use crate::fleet::store::StoreError;
use crate::fleet::store::Trouble;
use crate::runtime::base64;
use crate::runtime::secret::Secret;
use crate::runtime::text;
use crate::transport::http::Http;
use crate::transport::http::HttpResponse;
use crate::transport::http::TransportError;

/// Records in one answer: some megabytes.
const PAGE: usize = 4000;

/// A user of etcd.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The engine.
#[derive(Debug)]
pub struct Etcd {
    http: Http,
    base: String,
    prefix: String,
    login: Option<Login>,
    token: Option<Secret>,
}

#[derive(Deserialize)]
struct RangeAnswer<'a> {
    #[serde(borrow, default)]
    header: Header<'a>,
    #[serde(borrow, default)]
    kvs: Vec<Pair<'a>>,
    #[serde(default)]
    more: bool,
}

#[derive(Default, Deserialize)]
struct Header<'a> {
    #[serde(borrow, default)]
    revision: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
    #[serde(borrow, default)]
    mod_revision: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TxnAnswer<'a> {
    #[serde(borrow, default)]
    header: Header<'a>,
    #[serde(default)]
    succeeded: bool,
    #[serde(borrow, default)]
    responses: Vec<TxnPart<'a>>,
}

#[derive(Deserialize)]
struct TxnPart<'a> {
    #[serde(borrow)]
    response_range: Option<RangeAnswer<'a>>,
}

/// What etcd says when it refuses.
#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: u32,
}

impl Etcd {
    /// An engine over a client; nothing is sent yet.
    pub fn new(
        http: Http,
        base: impl Into<String>,
        prefix: impl Into<String>,
        login: Option<Login>,
    ) -> Etcd {
        Etcd {
            http,
            base: base.into(),
            prefix: prefix.into(),
            login,
            token: None,
        }
    }

    fn key(&self, name: &str) -> String {
        encoded(&format!("{}{name}", self.prefix))
    }

    /// Sends a request and returns the body of its answer.
    fn ask(&mut self, path: &str, body: &Value) -> Result<Vec<u8>, StoreError> {
        if self.login.is_some() && self.token.is_none() {
            self.authenticate()?;
        }
        let answer = self.send(path, body)?;
        if answer.is_success() {
            return Ok(answer.body);
        }
        // A token that has expired, or that a restarted etcd has forgotten.
        if self.login.is_some() && is_about_token(&answer) {
            self.authenticate()?;
            let answer = self.send(path, body)?;
            if answer.is_success() {
                return Ok(answer.body);
            }
            return Err(self.refused(&answer));
        }
        Err(self.refused(&answer))
    }

    fn send(&self, path: &str, body: &Value) -> Result<HttpResponse, StoreError> {
        let url = format!("{}{path}", self.base);
        let headers: Vec<(String, Secret)> = self
            .token
            .iter()
            .map(|token| ("authorization".to_string(), token.clone()))
            .collect();
        let bytes = body.to_string().into_bytes();
        self.http
            .post_json_with(&url, &headers, &bytes)
            .map_err(|error| self.no_answer(&error))
    }

    fn authenticate(&mut self) -> Result<(), StoreError> {
        let Some(login) = &self.login else {
            return Ok(());
        };
        self.token = None;
        let body = json!({"name": login.user, "password": login.password.expose()});
        let answer = self.send("/v3/auth/authenticate", &body)?;
        if !answer.is_success() {
            let refused = refusal(&answer);
            // Without roles in force nobody needs a token.
            if refused.error.contains("authentication is not enabled") {
                self.login = None;
                return Ok(());
            }
            return Err(self.refused(&answer));
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        let token: Token = serde_json::from_slice(&answer.body)
            .map_err(|_| self.odd("the answer to authenticate has no token"))?;
        self.token = Some(Secret::new(token.token));
        Ok(())
    }

    fn no_answer(&self, error: &TransportError) -> StoreError {
        let trouble = match error {
            TransportError::Timeout(_)
            | TransportError::Silence { .. }
            | TransportError::Dns { .. }
            | TransportError::Connect { .. }
            | TransportError::Io { .. }
            | TransportError::Protocol { .. } => Trouble::Unreachable,
            _ => Trouble::Broken,
        };
        let failed = StoreError::new(trouble, format!("{}: {error}", self.describe()));
        match (error.hint(), trouble) {
            (_, Trouble::Broken) if matches!(error, TransportError::Tls { .. }) => failed.hint(
                "OMK_FLEET_CA names the PEM file of etcd's root certificate; OMK_FLEET_CERT and OMK_FLEET_KEY the client's",
            ),
            (Some(hint), _) => failed.hint(hint),
            (None, _) => failed,
        }
    }

    fn refused(&self, answer: &HttpResponse) -> StoreError {
        let refused = refusal(answer);
        let said = text::escape(text::truncate(&refused.error, 300).as_ref()).into_owned();
        let what = match said.is_empty() {
            true => format!("HTTP {}", answer.status),
            false => said,
        };
        let detail = format!("{}: {what}", self.describe());
        let is_login = refused.error.contains("user name is empty")
            || refused.error.contains("authentication failed")
            || answer.status == 401;
        if is_login {
            return StoreError::new(Trouble::Denied, detail)
                .hint("set OMK_FLEET_USER and OMK_FLEET_PASSWORD to a user of this etcd");
        }
        if refused.code == 7 || answer.status == 403 {
            let prefix = &self.prefix;
            return StoreError::new(Trouble::Denied, detail).hint(format!(
                "etcdctl role grant-permission ROLE --prefix=true readwrite {prefix}"
            ));
        }
        let trouble = match answer.status {
            // No leader, too many requests, a proxy in trouble.
            429 | 500..=599 => Trouble::Unreachable,
            _ => Trouble::Broken,
        };
        StoreError::new(trouble, detail)
    }

    fn odd(&self, why: &str) -> StoreError {
        let detail = format!("{}: {why}", self.describe());
        StoreError::new(Trouble::Broken, detail)
            .hint("the address must be an etcd of version 3.4 or later with its JSON gateway")
    }

    fn current(&self, pair: &Pair<'_>) -> Result<Current, StoreError> {
        let bytes = base64::decode(pair.value.as_bytes());
        Ok(Current {
            bytes: bytes.ok_or_else(|| self.odd("a value is not base64"))?,
            version: pair.mod_revision.to_string(),
        })
    }

    fn runs(&self, days: &Days) -> (String, String) {
        let runs = format!("{}runs/", self.prefix);
        let from = match &days.from {
            Some(day) => format!("{runs}{day}/"),
            None => runs.clone(),
        };
        // `0` is the character after `/`.
        let end = match &days.to {
            Some(day) => format!("{runs}{day}0"),
            None => format!("{}runs0", self.prefix),
        };
        (from, end)
    }
}

impl Store for Etcd {
    fn describe(&self) -> String {
        format!("etcd {}, key {}budget", self.base, self.prefix)
    }

    fn set_timeout(&mut self, timeout: Duration) {
        self.http.set_timeout(timeout);
    }

    fn get(&mut self) -> Result<Option<Current>, StoreError> {
        let body = json!({"key": self.key("budget")});
        let bytes = self.ask("/v3/kv/range", &body)?;
        let answer: RangeAnswer<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| self.odd(&format!("not the answer of an etcd: {error}")))?;
        let pair = answer.kvs.first();
        pair.map(|pair| self.current(pair)).transpose()
    }

    fn put_if(
        &mut self,
        bytes: &[u8],
        expected: Option<&str>,
        entry: Option<&Entry>,
    ) -> Result<Put, StoreError> {
        let key = self.key("budget");
        let put = |key: &str, bytes: &[u8]| json!({"requestPut": {"key": key, "value": encoded_bytes(bytes)}});
        let mut success = vec![put(&key, bytes)];
        if let Some(entry) = entry {
            let key = self.key(&format!("runs/{}/{}", entry.day, entry.run));
            success.push(put(&key, &entry.bytes));
        }
        let body = json!({
            // The revision of a key that is not there is 0.
            "compare": [{
                "key": key,
                "target": "MOD",
                "result": "EQUAL",
                "modRevision": expected.unwrap_or("0"),
            }],
            "success": success,
            "failure": [{"requestRange": {"key": key}}],
        });
        let bytes = self.ask("/v3/kv/txn", &body)?;
        let answer: TxnAnswer<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| self.odd(&format!("not the answer of an etcd: {error}")))?;
        if answer.succeeded {
            return Ok(Put::Done(answer.header.revision.to_string()));
        }
        let found = answer.responses.first();
        let found = found.and_then(|part| part.response_range.as_ref());
        let Some(found) = found else {
            return Ok(Put::Conflict(None));
        };
        let pair = found.kvs.first();
        let current = pair.map(|pair| self.current(pair)).transpose()?;
        Ok(Put::Conflict(Some(current)))
    }

    fn contains(&mut self, day: &str, run: &str) -> Result<bool, StoreError> {
        let key = self.key(&format!("runs/{day}/{run}"));
        let body = json!({"key": key, "keysOnly": true});
        let bytes = self.ask("/v3/kv/range", &body)?;
        let answer: RangeAnswer<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| self.odd(&format!("not the answer of an etcd: {error}")))?;
        Ok(!answer.kvs.is_empty())
    }

    fn entries(
        &mut self,
        days: &Days,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (mut from, end) = self.runs(days);
        let end = encoded(&end);
        // All pages show the store at the same moment.
        let mut revision: Option<String> = None;
        loop {
            let mut body = json!({"key": encoded(&from), "rangeEnd": end, "limit": PAGE});
            if let (Some(revision), Some(object)) = (&revision, body.as_object_mut()) {
                object.insert("revision".to_string(), json!(revision));
            }
            let bytes = self.ask("/v3/kv/range", &body)?;
            let answer: RangeAnswer<'_> = serde_json::from_slice(&bytes)
                .map_err(|error| self.odd(&format!("not the answer of an etcd: {error}")))?;
            for pair in &answer.kvs {
                let value = base64::decode(pair.value.as_bytes())
                    .ok_or_else(|| self.odd("a value is not base64"))?;
                if visit(&value).is_break() {
                    return Ok(());
                }
            }
            let last = answer.kvs.last().filter(|_| answer.more);
            let Some(last) = last else {
                return Ok(());
            };
            let last = base64::decode(last.key.as_bytes())
                .and_then(|key| String::from_utf8(key).ok())
                .ok_or_else(|| self.odd("a key is not base64"))?;
            from = format!("{last}\u{0}");
            revision.get_or_insert_with(|| answer.header.revision.to_string());
        }
    }

    fn remove_before(&mut self, day: &str) -> Result<(), StoreError> {
        let runs = format!("{}runs/", self.prefix);
        let body = json!({"key": encoded(&runs), "rangeEnd": encoded(&format!("{runs}{day}/"))});
        self.ask("/v3/kv/deleterange", &body).map(|_| ())
    }
}

fn refusal(answer: &HttpResponse) -> Refused {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn is_about_token(answer: &HttpResponse) -> bool {
    let refused = refusal(answer);
    answer.status == 401 || refused.code == 16 || refused.error.contains("invalid auth token")
}

fn encoded(text: &str) -> String {
    encoded_bytes(text.as_bytes())
}

fn encoded_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    base64::encode_into(&mut text, bytes);
    text
}
