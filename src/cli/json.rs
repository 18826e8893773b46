//! JSON documents in which every amount of money has one form: a number to reckon with, and beside it, under the same name
//! with `_exact`, its decimal as a string that loses no digit.
//!
//! It is the writer that does it, by the names of the members, so that no document can forget. Members that come from others,
//! such as a model's answer or the user's labels, stay as they are.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::CharEscape;
use serde_json::ser::Formatter;

use crate::catalog::money::{Currency, Usd};

/// Members with values that are not omk's own.
const FOREIGN: [&str; 5] = ["value", "raw", "tags", "response_schema", "properties"];
/// What the name of an exact amount ends with.
const EXACT: &str = "_exact";

/// Writes a document.
pub(crate) fn write(out: &mut impl io::Write, document: &impl Serialize) -> serde_json::Result<()> {
    document.serialize(&mut Serializer::with_formatter(out, Amounts::default()))
}

/// Whether the member of this name is an amount of money.
fn is_amount(name: &str) -> bool {
    name.split('_').any(|word| word == "usd" || word == "cny")
}

/// An object or array that is being written.
#[derive(Clone, Copy, Default)]
struct Level {
    /// It is not omk's own.
    is_foreign: bool,
    has_member: bool,
    /// Its amounts are in CNY, whatever they are named after.
    is_cny: bool,
}

/// Which form the member has that is being written.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Member {
    #[default]
    Plain,
    Foreign,
    Amount,
    /// The exact form of an amount, which is written with the amount itself.
    Exact,
    /// What the amounts after it are in.
    Currency,
}

#[derive(Default)]
struct Amounts {
    levels: Vec<Level>,
    key: String,
    in_key: bool,
    member: Member,
    /// The text of an amount, as far as it is known.
    text: Option<String>,
}

impl Amounts {
    fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_default()
    }

    fn open(&mut self) {
        let is_foreign = self.level().is_foreign || self.member == Member::Foreign;
        let is_cny = self.level().is_cny;
        self.member = Member::Plain;
        self.levels.push(Level {
            is_foreign,
            has_member: false,
            is_cny,
        });
    }

    /// Writes a plain value, or an amount in both forms.
    fn put<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        match self.member {
            Member::Exact => Ok(()),
            Member::Amount => self.put_amount(writer, text),
            _ => writer.write_all(text.as_bytes()),
        }
    }

    fn put_amount<W: ?Sized + io::Write>(&self, writer: &mut W, text: &str) -> io::Result<()> {
        let exact = match text {
            "null" => "null".to_string(),
            text => match Usd::parse(text) {
                Ok(usd) => format!("\"{}\"", usd.exact_decimal()),
                Err(_) => format!("\"{text}\""),
            },
        };
        if self.level().is_cny && self.key.contains("usd") {
            // It is no amount in US dollars, and nothing that reads those may take it for one.
            let (usd, cny) = (&self.key, self.key.replace("usd", "cny"));
            return write!(
                writer,
                "null,\"{usd}{EXACT}\":null,\"{cny}\":{text},\"{cny}{EXACT}\":{exact}"
            );
        }
        write!(writer, "{text},\"{}{EXACT}\":{exact}", self.key)
    }
}

impl Formatter for Amounts {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, "null")
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.put(writer, &value.to_string())
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.put(writer, &value.to_string())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // As every JSON writer does: the shortest text that reads as this number.
        let text = serde_json::to_string(&value).unwrap_or_default();
        self.put(writer, &text)
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.put(writer, fragment)
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.member {
            _ if self.in_key => Ok(()),
            Member::Amount => {
                self.text = Some(String::new());
                Ok(())
            }
            Member::Exact => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        match &mut self.text {
            _ if self.in_key => self.key.push_str(fragment),
            Some(text) => text.push_str(fragment),
            None if self.member == Member::Exact => {}
            None if self.member == Member::Currency => {
                if let Some(level) = self.levels.last_mut() {
                    level.is_cny = fragment == Currency::Cny.name();
                }
                writer.write_all(fragment.as_bytes())?;
            }
            None => writer.write_all(fragment.as_bytes())?,
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let mut text = Vec::new();
        serde_json::ser::CompactFormatter.write_char_escape(&mut text, escape)?;
        let text = String::from_utf8_lossy(&text);
        self.write_string_fragment(writer, &text)
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.in_key {
            return Ok(());
        }
        if let Some(text) = self.text.take() {
            let unsigned = text.strip_prefix('-').unwrap_or(&text);
            return match Usd::parse(unsigned) {
                Ok(_) => self.put_amount(writer, &text),
                Err(_) => write!(writer, "\"{text}\""),
            };
        }
        match self.member {
            Member::Exact => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.levels.pop();
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.levels.pop();
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.in_key = true;
        self.key.clear();
        Ok(())
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let of_amount = self.key.strip_suffix(EXACT).is_some_and(is_amount);
        self.member = match self.key.as_str() {
            _ if self.level().is_foreign => Member::Plain,
            key if FOREIGN.contains(&key) => Member::Foreign,
            _ if of_amount => Member::Exact,
            "currency" => Member::Currency,
            key if is_amount(key) => Member::Amount,
            _ => Member::Plain,
        };
        if self.member == Member::Exact {
            return Ok(());
        }
        if let Some(level) = self.levels.last_mut() {
            if level.has_member {
                writer.write_all(b",")?;
            }
            level.has_member = true;
        }
        write!(writer, "\"{}\":", self.key)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.member = Member::Plain;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    fn written(document: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, document).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_amount_is_a_number_and_its_decimal_whatever_it_was() {
        for (given, expected) in [
            (
                json!({"usd": "0.003723000001"}),
                r#"{"usd":0.003723000001,"usd_exact":"0.003723000001"}"#,
            ),
            (
                json!({"at_most_usd": 3}),
                r#"{"at_most_usd":3,"at_most_usd_exact":"3"}"#,
            ),
            (
                json!({"usd_p50": 1e-7}),
                r#"{"usd_p50":1e-7,"usd_p50_exact":"0.0000001"}"#,
            ),
            (
                json!({"usd": null, "z": 1}),
                r#"{"usd":null,"usd_exact":null,"z":1}"#,
            ),
            (
                json!({"change_usd": "-0.5"}),
                r#"{"change_usd":-0.5,"change_usd_exact":"-0.5"}"#,
            ),
            (
                json!({"spent_cny": "2"}),
                r#"{"spent_cny":2,"spent_cny_exact":"2"}"#,
            ),
            (
                json!({"a": {"currency": "CNY", "usd": "2", "z": [{"at_most_usd": null}]}, "usd": 1}),
                r#"{"a":{"currency":"CNY","usd":null,"usd_exact":null,"cny":2,"cny_exact":"2","z":[{"at_most_usd":null,"at_most_usd_exact":null,"at_most_cny":null,"at_most_cny_exact":null}]},"usd":1,"usd_exact":"1"}"#,
            ),
            // What has both forms keeps both once.
            (
                json!({"usd": 0.5, "usd_exact": "0.5"}),
                r#"{"usd":0.5,"usd_exact":"0.5"}"#,
            ),
            (json!({"usd": "a \"word\""}), r#"{"usd":"a \"word\""}"#),
        ] {
            let text = written(&given);
            assert_eq!(text, expected);
            serde_json::from_str::<Value>(&text).unwrap();
        }
    }

    #[test]
    fn what_is_not_omks_own_stays_as_it_is() {
        for document in [
            json!({"value": {"usd": "1", "list": [{"usd": 2}]}, "b": [[], {}, [1, "a\n\u{1}é"], true, -3, 1.5]}),
            json!({"tags": {"budget_usd": "5", "usd_exact": "x"}, "z": {"a\"b": null}}),
            json!({"raw": {"usd": 1}, "text": "usd", "usdt": "1"}),
            json!([]),
            json!("x"),
        ] {
            assert_eq!(written(&document), document.to_string());
        }
    }
}
