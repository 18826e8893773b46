//! JSON-RPC 2.0, one message to a line: the codec under Wire and ACP.
//!
//! Reads what peers really send: a missing `jsonrpc`, CRLF, blank lines, notices printed between messages. Such a line
//! is [`Line::Noise`] and never an error, because one stray `print` in an agent's plug-in must not
//! cost a turn that is paid for. Parameters stay JSON text until someone asks for them, so a line of several megabytes is
//! routed without being copied. Refuses batches: no peer sends them, and one of them exits when it is sent one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde_json::Value;
use serde_json::value::RawValue;

/// The peer does not know the method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are not the method's.
pub(super) const INVALID_PARAMS: i64 = -32602;
/// The peer failed in some other way.
pub(super) const INTERNAL_ERROR: i64 = -32603;
/// The message is no request.
pub(super) const INVALID_REQUEST: i64 = -32600;

/// What ties an answer to its request. A string or a number, kept as the peer wrote it: 0 is an id like any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    /// A number in the peer's own digits.
    Number(String),
    /// A string.
    Text(String),
}

impl Id {
    /// A string id, the only kind that every peer takes.
    pub(super) fn text(id: impl Into<String>) -> Id {
        Id::Text(id.into())
    }

    /// `None` for `null` and for what cannot be an id.
    fn read(raw: &RawValue) -> Option<Id> {
        match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw.get()).ok().map(Id::Text),
            Some(b'-' | b'0'..=b'9') => Some(Id::Number(raw.get().to_string())),
            _ => None,
        }
    }
}

impl fmt::Display for Id {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(digits) => f.write_str(digits),
            Id::Text(text) => write!(f, "{}", Value::from(text.as_str())),
        }
    }
}

/// A JSON value as text, not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Json<'a>(Cow<'a, str>);

impl Json<'_> {
    /// Reads it as a type, which may borrow from the line.
    ///
    /// # Errors
    ///
    /// The value does not have that shape.
    pub(super) fn read<'b, T: Deserialize<'b>>(&'b self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The JSON text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Json<'a> {
        Json(Cow::Borrowed(raw.get()))
    }
}

impl From<&Value> for Json<'static> {
    fn from(value: &Value) -> Json<'static> {
        Json(Cow::Owned(value.to_string()))
    }
}

/// The error of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RpcError<'a> {
    /// The code; 0 when the peer gave none.
    pub(super) code: i64,
    /// The message, as the peer wrote it: escape it before it is shown.
    pub(super) message: String,
    /// More about it; `null` counts as nothing.
    pub(super) data: Option<Json<'a>>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// Something that wants an answer.
    Request {
        /// To be repeated in the answer.
        id: Id,
        /// What is asked.
        method: String,
        /// With what.
        params: Option<Json<'a>>,
    },
    /// Something that wants none.
    Notification {
        /// What happened.
        method: String,
        /// With what.
        params: Option<Json<'a>>,
    },
    /// An answer.
    Response {
        /// The request's id; `None` when the peer could not read it.
        id: Option<Id>,
        /// The result, `null` included, or the error.
        result: Result<Json<'a>, RpcError<'a>>,
    },
}

impl Message<'_> {
    /// A request with parameters made here.
    pub(super) fn request(id: Id, method: &str, params: &Value) -> Message<'static> {
        Message::Request {
            id,
            method: method.to_string(),
            params: Some(params.into()),
        }
    }

    /// A notification with parameters made here.
    pub(super) fn notification(method: &str, params: &Value) -> Message<'static> {
        Message::Notification {
            method: method.to_string(),
            params: Some(params.into()),
        }
    }

    /// The answer to a request that went well.
    pub(super) fn result(id: Id, result: &Value) -> Message<'static> {
        Message::Response {
            id: Some(id),
            result: Ok(result.into()),
        }
    }

    /// The answer to a request that did not.
    pub(super) fn error(id: Id, code: i64, message: &str) -> Message<'static> {
        Message::Response {
            id: Some(id),
            result: Err(RpcError {
                code,
                message: message.to_string(),
                data: None,
            }),
        }
    }

    /// The message as one line, without its end.
    pub(super) fn encode(&self) -> String {
        match self {
            Message::Request { id, method, params } => {
                let method = Value::from(method.as_str());
                let params = Member("params", params.as_ref());
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#)
            }
            Message::Notification { method, params } => {
                let method = Value::from(method.as_str());
                let params = Member("params", params.as_ref());
                format!(r#"{{"jsonrpc":"2.0","method":{method}{params}}}"#)
            }
            Message::Response { id, result } => {
                let id = id
                    .as_ref()
                    .map_or_else(|| "null".to_string(), Id::to_string);
                match result {
                    Ok(Json(result)) => {
                        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
                    }
                    Err(RpcError {
                        code,
                        message,
                        data,
                    }) => {
                        let message = Value::from(message.as_str());
                        let data = Member("data", data.as_ref());
                        format!(
                            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#
                        )
                    }
                }
            }
        }
    }
}

/// A member that is left out when there is nothing to say.
struct Member<'a>(&'a str, Option<&'a Json<'a>>);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(Json(value)) => write!(f, r#","{}":{value}"#, self.0),
            None => Ok(()),
        }
    }
}

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A message.
    Message(Message<'a>),
    /// Nothing.
    Blank,
    /// Something else.
    Noise,
}

/// Reads one line, with or without its end. Fails on nothing.
pub(super) fn decode(line: &[u8]) -> Line<'_> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Line::Blank;
    }
    match serde_json::from_slice(line)
        .ok()
        .and_then(Envelope::into_message)
    {
        Some(message) => Line::Message(message),
        None => Line::Noise,
    }
}

/// Every member a message can have. `Some` means present, if only as `null`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<ErrorBody<'a>>,
}

/// The error of an answer, with everything in it optional: a peer that fails may fail at this too.
#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Unlike serde's own reading of an `Option`, tells `null` from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Envelope<'a> {
    fn into_message(self) -> Option<Message<'a>> {
        let id = self.id.and_then(Id::read);
        let params = self.params.map(Json::from);
        match (self.method, id) {
            (Some(method), Some(id)) => Some(Message::Request { id, method, params }),
            (Some(method), None) => Some(Message::Notification { method, params }),
            (None, id) => {
                let result = match (self.error, self.result) {
                    (Some(error), _) => Err(RpcError {
                        code: error.code,
                        message: error.message,
                        data: error.data.map(Json::from),
                    }),
                    (None, Some(result)) => Ok(Json::from(result)),
                    (None, None) => return None,
                };
                Some(Message::Response { id, result })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn message(line: &str) -> Message<'_> {
        match decode(line.as_bytes()) {
            Line::Message(message) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_three_kinds_are_told_apart() {
        let line = r#"{"id":0,"method":"session/request_permission","params":{"a":[1]}}"#;
        let Message::Request { id, method, params } = message(line) else {
            panic!("no request");
        };
        assert_eq!(id, Id::Number("0".to_string()));
        assert_eq!(method, "session/request_permission");
        assert_eq!(params.unwrap().as_str(), r#"{"a":[1]}"#);

        assert_eq!(
            message(r#"{"jsonrpc":"2.0","method":"event"}"#),
            Message::Notification {
                method: "event".to_string(),
                params: None
            }
        );
        assert_eq!(
            message("  {\"id\":\"x\",\"result\":null}\r\n"),
            Message::result(Id::text("x"), &Value::Null)
        );
    }

    #[test]
    fn an_error_may_have_no_id_and_little_in_it() {
        let line = r#"{"id":null,"error":{"code":-32600,"message":"Invalid request","data":null}}"#;
        assert_eq!(
            message(line),
            Message::Response {
                id: None,
                result: Err(RpcError {
                    code: INVALID_REQUEST,
                    message: "Invalid request".to_string(),
                    data: None
                })
            }
        );
        let Message::Response {
            result: Err(error), ..
        } = message(r#"{"error":{}}"#)
        else {
            panic!("no error");
        };
        assert_eq!((error.code, error.message.as_str()), (0, ""));
        // A result beside an error that is null counts.
        assert_eq!(
            message(r#"{"id":1,"error":null,"result":{}}"#),
            Message::result(Id::Number("1".to_string()), &json!({}))
        );
    }

    #[test]
    fn ids_go_back_as_they_came() {
        for id in [
            "0",
            "-1",
            "1.50",
            "18446744073709551616",
            r#""a\"b""#,
            r#""""#,
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            assert_eq!(message(&line).encode(), line);
        }
    }

    #[test]
    fn lines_of_other_kinds_are_quoted_not_fatal() {
        assert_eq!(decode(b" \r\n"), Line::Blank);
        for line in [
            "kimi-cli is no longer maintained.",
            "[]",
            "42",
            "{}",
            r#"{"id":1}"#,
            r#"{"method":7}"#,
            r#"{"method":"m""#,
        ] {
            assert_eq!(decode(line.as_bytes()), Line::Noise, "{line}");
        }
    }

    #[test]
    fn deep_nesting_is_routed_without_recursion() {
        let deep = format!(
            r#"{{"method":"m","params":{}{}}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        let Message::Notification {
            params: Some(params),
            ..
        } = message(&deep)
        else {
            panic!("no notification");
        };
        assert!(params.read::<Value>().is_err());
    }

    fn any_id() -> impl Strategy<Value = Id> {
        prop_oneof![
            any::<String>().prop_map(Id::Text),
            any::<i64>().prop_map(|n| Id::Number(n.to_string())),
        ]
    }

    fn any_json() -> impl Strategy<Value = Json<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
        .prop_map(|value| Json::from(&value))
    }

    fn any_message() -> impl Strategy<Value = Message<'static>> {
        let optional = || proptest::option::of(any_json());
        let not_null = optional().prop_map(|data| data.filter(|json| json.as_str() != "null"));
        prop_oneof![
            (any_id(), any::<String>(), optional())
                .prop_map(|(id, method, params)| Message::Request { id, method, params }),
            (any::<String>(), optional())
                .prop_map(|(method, params)| Message::Notification { method, params }),
            (proptest::option::of(any_id()), any_json()).prop_map(|(id, result)| {
                Message::Response {
                    id,
                    result: Ok(result),
                }
            }),
            (
                proptest::option::of(any_id()),
                any::<i64>(),
                any::<String>(),
                not_null
            )
                .prop_map(|(id, code, message, data)| Message::Response {
                    id,
                    result: Err(RpcError {
                        code,
                        message,
                        data
                    })
                }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_text_near_json_is_read(text in r#"[{}\[\]":,0-9a-z\\ ]{0,60}"#) {
            let _ = decode(text.as_bytes());
        }

        #[test]
        fn what_is_encoded_is_decoded_again(message in any_message()) {
            let line = message.encode();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(decode(line.as_bytes()), Line::Message(message));
        }
    }
}
