//! The prompts of a batch: JSONL, CSV with a header row, or plain lines.
//!
//! Read one record at a time, so memory does not grow with the file. What is wrong with a record is a [`Problem`] with its
//! line and column, and reading goes on behind it, so that one look finds them all.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::io::BufRead;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de;
use serde_json::Value;

/// The longest record, in bytes: far above any window.
pub const LONGEST_RECORD: usize = 64 * 1024 * 1024;

/// How the prompts are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header row.
    Csv,
    /// One prompt a line.
    Lines,
}

impl Format {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Lines => "lines",
        }
    }

    /// The format of a file by the ending of its name, or by how its text begins.
    pub fn detect(name: &str, beginning: &str) -> Format {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv,
            "jsonl" | "ndjson" | "json" => Format::Jsonl,
            "txt" => Format::Lines,
            _ if beginning.trim_start().starts_with('{') => Format::Jsonl,
            _ => Format::Lines,
        }
    }

    /// Whether a prompt without an id is named by its line.
    pub fn numbers(self) -> bool {
        self != Format::Jsonl
    }
}

/// A message of a conversation as it is written in the input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// One prompt.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the answer is found by; unique in the input.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// The question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A conversation that ends with the question, instead of `prompt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// The instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The model to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The JSON Schema that the answer must satisfy: an object, or what `--schema` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Files of pictures.
    #[serde(
        default,
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub image: Vec<String>,
    /// Values for the places of the template, or of the prompt itself.
    #[serde(
        default,
        deserialize_with = "texts",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub vars: BTreeMap<String, String>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Why it failed before, in a file of failed prompts; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// A text or a number.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) if text.trim().is_empty() => Err(de::Error::custom("the id is empty")),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(de::Error::custom("the id is no string or number")),
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let wrong = || de::Error::custom("`image` is no file name or list of file names");
    match Value::deserialize(deserializer)? {
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => many
            .into_iter()
            .map(|one| match one {
                Value::String(one) => Ok(one),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let texts = values.into_iter().map(|(name, value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        _ => Err(de::Error::custom(format!(
            "`vars.{name}` is no string, number or boolean"
        ))),
    });
    texts.collect()
}

/// What is wrong with a record, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// The character in it, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

/// A record of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The line that it begins on, from 1.
    pub line: u64,
    /// The byte that it begins at.
    pub offset: u64,
    /// The prompt, or what is wrong with it.
    pub row: Result<Row, Problem>,
}

/// Reads the records of an input one after the other.
pub struct Reader<R> {
    input: R,
    format: Format,
    /// Of CSV: the names of the columns.
    header: Option<Vec<String>>,
    line: u64,
    offset: u64,
    buffer: Vec<u8>,
    /// A header row is wrong, so nothing can be said about the rest.
    is_over: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader from the beginning of an input.
    pub fn new(input: R, format: Format) -> Reader<R> {
        Reader {
            input,
            format,
            header: None,
            line: 1,
            offset: 0,
            buffer: Vec::new(),
            is_over: false,
        }
    }

    /// The names of the columns of a CSV file, once its first record was read.
    pub fn columns(&self) -> &[String] {
        self.header.as_deref().unwrap_or_default()
    }

    /// The same for a record in the middle of the input, whose line and offset are known, read by these columns.
    pub fn resumed(mut self, line: u64, offset: u64, columns: &[String]) -> Reader<R> {
        (self.line, self.offset) = (line, offset);
        self.header = (self.format == Format::Csv).then(|| columns.to_vec());
        self
    }

    /// The next record that is not blank; `None` at the end.
    ///
    /// # Errors
    ///
    /// The input cannot be read, or a record is longer than [`LONGEST_RECORD`].
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            let (line, offset) = (self.line, self.offset);
            if self.is_over || !self.read_record()? {
                return Ok(None);
            }
            let bytes = match (offset, self.buffer.as_slice()) {
                (0, bytes) => bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes),
                (_, bytes) => bytes,
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let row = match self.format {
                Format::Jsonl => json(bytes, line),
                Format::Lines => plain(bytes, line),
                Format::Csv => match &self.header {
                    Some(header) => separated(bytes, line, header),
                    None => match columns(bytes, line) {
                        Ok(header) => {
                            self.header = Some(header);
                            continue;
                        }
                        Err(problem) => {
                            self.is_over = true;
                            Err(problem)
                        }
                    },
                },
            };
            return Ok(Some(Record { line, offset, row }));
        }
    }

    /// Fills the buffer with the next record and its line end; false at the end of the input.
    fn read_record(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let mut quotes = 0_usize;
        loop {
            let from = self.buffer.len();
            loop {
                let piece = self.input.fill_buf()?;
                let end = piece.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(piece.len(), |end| end.saturating_add(1));
                self.buffer
                    .extend_from_slice(piece.get(..taken).unwrap_or_default());
                self.input.consume(taken);
                if self.buffer.len() > LONGEST_RECORD {
                    let detail = format!("line {}: longer than 64 MiB", self.line);
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, detail));
                }
                if end.is_some() || taken == 0 {
                    break;
                }
            }
            let read = self.buffer.get(from..).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            self.line = self.line.saturating_add(1);
            quotes += read.iter().filter(|byte| **byte == b'"').count();
            // A line end between quotes belongs to the value.
            if self.format != Format::Csv || quotes.is_multiple_of(2) {
                break;
            }
        }
        let length = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(length);
        Ok(length > 0)
    }
}

/// The text of some bytes, or where it is none.
fn text(bytes: &[u8], line: u64) -> Result<&str, Problem> {
    let message = |what: &str, column: u64| Problem {
        line,
        column,
        message: what.to_string(),
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let valid = std::str::from_utf8(valid).unwrap_or_default();
        message("not UTF-8", characters(valid).saturating_add(1))
    })?;
    match text.split_once('\0') {
        Some((before, _)) => Err(message("a NUL", characters(before).saturating_add(1))),
        None => Ok(text),
    }
}

fn characters(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

fn json(bytes: &[u8], line: u64) -> Result<Row, Problem> {
    let text = text(bytes, line)?;
    let row: Row = serde_json::from_str(text).map_err(|error| {
        let before = text.get(..error.column().saturating_sub(1));
        let message = error.to_string();
        // Ours are the line and the column.
        let message = message
            .rsplit_once(" at line ")
            .map_or(message.as_str(), |(message, _)| message);
        Problem {
            line,
            column: before.map_or(1, |before| characters(before).saturating_add(1)),
            message: message.to_string(),
        }
    })?;
    check(row, line)
}

fn plain(bytes: &[u8], line: u64) -> Result<Row, Problem> {
    let text = text(bytes, line)?;
    Ok(Row {
        id: line.to_string(),
        prompt: Some(text.trim_end_matches(['\n', '\r']).to_string()),
        ..Row::default()
    })
}

/// What a prompt must be, whatever it was read from.
fn check(row: Row, line: u64) -> Result<Row, Problem> {
    let wrong = |message: &str| {
        Err(Problem {
            line,
            column: 1,
            message: message.to_string(),
        })
    };
    if row.prompt.is_some() && !row.messages.is_empty() {
        return wrong("`prompt` and `messages` exclude each other");
    }
    let mut previous = "";
    for (place, message) in row.messages.iter().enumerate() {
        match message.role.as_str() {
            "system" if place == 0 && row.system.is_none() => {}
            "system" => return wrong("`system` is given twice, or not as the first of `messages`"),
            "user" | "assistant" => {}
            other => {
                let message =
                    format!("the role `{other}` of a message is not system, user or assistant");
                return wrong(&message);
            }
        }
        if message.content.is_empty() {
            return wrong("a message without content, which services refuse");
        }
        previous = message.role.as_str();
    }
    if !row.messages.is_empty() && previous != "user" {
        return wrong("`messages` does not end with a message of the user");
    }
    if row.max_output_tokens == Some(0) {
        return wrong("`max_output_tokens` is 0");
    }
    Ok(row)
}

/// The columns of a header row.
fn columns(bytes: &[u8], line: u64) -> Result<Vec<String>, Problem> {
    let fields = fields(text(bytes, line)?, line)?;
    let mut names: Vec<String> = Vec::new();
    for field in fields {
        let name = field.text.trim().to_string();
        let message = match name.as_str() {
            "" => "a column without a name".to_string(),
            "messages" | "vars" | "error" => format!("a CSV file cannot have a column `{name}`"),
            _ if names.contains(&name) => format!("the column `{name}` stands twice"),
            _ => {
                names.push(name);
                continue;
            }
        };
        return Err(Problem {
            line,
            column: field.column,
            message,
        });
    }
    Ok(names)
}

/// A row of a CSV file.
fn separated(bytes: &[u8], line: u64, header: &[String]) -> Result<Row, Problem> {
    let fields = fields(text(bytes, line)?, line)?;
    if fields.len() != header.len() {
        return Err(Problem {
            line,
            column: fields.last().map_or(1, |field| field.column),
            message: format!(
                "{} fields, and the header has {}",
                fields.len(),
                header.len()
            ),
        });
    }
    let mut row = Row {
        id: line.to_string(),
        ..Row::default()
    };
    for (name, field) in header.iter().zip(fields) {
        let column = field.column;
        let wrong = |message: String| Problem {
            line,
            column,
            message,
        };
        let text = field.text;
        match name.as_str() {
            "id" if text.trim().is_empty() => return Err(wrong("the id is empty".to_string())),
            "id" => row.id = text,
            "prompt" => row.prompt = Some(text),
            // An empty field of the others is none.
            "system" => row.system = Some(text).filter(|text| !text.is_empty()),
            "model" => row.model = Some(text).filter(|text| !text.is_empty()),
            "schema" => {
                row.schema = Some(text)
                    .filter(|text| !text.is_empty())
                    .map(Value::String);
            }
            "image" => row.image.extend(Some(text).filter(|text| !text.is_empty())),
            "max_output_tokens" if text.is_empty() => {}
            "max_output_tokens" => {
                let tokens = text.trim().parse().ok().filter(|tokens| *tokens > 0);
                let tokens = tokens.ok_or_else(|| wrong(format!("`{text}` is no count of tokens")));
                row.max_output_tokens = Some(tokens?);
            }
            _ => {
                row.vars.insert(name.clone(), text);
            }
        }
    }
    check(row, line)
}

/// A field of a CSV file.
struct Field {
    text: String,
    /// The character that it begins at, counted from the beginning of the record.
    column: u64,
}

/// The fields of a record. Quotes enclose a field as a whole, and two of them within it stand for one.
fn fields(text: &str, line: u64) -> Result<Vec<Field>, Problem> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let mut found = Vec::new();
    let mut rest = text.chars().zip(1_u64..).peekable();
    loop {
        let column = rest
            .peek()
            .map_or(characters(text) + 1, |(_, column)| *column);
        let mut field = String::new();
        if rest.next_if(|(c, _)| *c == '"').is_some() {
            loop {
                match rest.next() {
                    Some(('"', _)) if rest.next_if(|(c, _)| *c == '"').is_some() => field.push('"'),
                    Some(('"', _)) => break,
                    Some((c, _)) => field.push(c),
                    None => {
                        return Err(Problem {
                            line,
                            column,
                            message: "a quote that is not closed".to_string(),
                        });
                    }
                }
            }
            if let Some((c, column)) = rest.next_if(|(c, _)| *c != ',') {
                return Err(Problem {
                    line,
                    column,
                    message: format!("`{}` after a closing quote", c.escape_default()),
                });
            }
        } else {
            while let Some((c, column)) = rest.next_if(|(c, _)| *c != ',') {
                if c == '"' {
                    return Err(Problem {
                        line,
                        column,
                        message: "a quote within a field that does not begin with one".to_string(),
                    });
                }
                field.push(c);
            }
        }
        found.push(Field {
            text: field,
            column,
        });
        if rest.next().is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn read(text: impl AsRef<[u8]>, format: Format) -> Vec<Record> {
        let mut reader = Reader::new(text.as_ref(), format);
        std::iter::from_fn(|| reader.next_record().unwrap()).collect()
    }

    fn rows(text: &str, format: Format) -> Vec<Row> {
        let records = read(text, format).into_iter();
        records.map(|record| record.row.unwrap()).collect()
    }

    fn problem(text: &str, format: Format) -> String {
        let problems = read(text, format).into_iter();
        let problems = problems.filter_map(|record| record.row.err());
        problems.map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn a_line_of_json_is_a_prompt() {
        let rows = rows(
            "{\"id\":\"a\",\"prompt\":\"hi\"}\n\n{\"id\":7,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\
             \"image\":\"a.png\",\"vars\":{\"n\":1},\"max_output_tokens\":5}",
            Format::Jsonl,
        );
        assert_eq!(
            rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(),
            ["a", "7"]
        );
        assert_eq!(rows[0].prompt.as_deref(), Some("hi"));
        assert_eq!(rows[1].image, ["a.png"]);
        assert_eq!(rows[1].vars["n"], "1");
        assert_eq!(rows[1].max_output_tokens, Some(5));
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_column() {
        let text = "{\"id\":\"ä\",\"promt\":\"hi\"}\n{\"prompt\":\"x\"}\n{\"id\":\"b\",\"prompt\":3}\n{\"id\":\"c\"\n\
                    {\"id\":\"d\",\"prompt\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n\
                    {\"id\":\"e\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}\n{\"id\":\"\"}\n";
        let found = problem(text, Format::Jsonl);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines.len(), 7, "{found}");
        assert!(
            lines[0].starts_with("line 1, column 17: unknown field `promt`"),
            "{found}"
        );
        assert!(
            lines[1].starts_with("line 2, column 14: missing field `id`"),
            "{found}"
        );
        assert!(
            lines[2].starts_with("line 3, column 20: invalid type: integer"),
            "{found}"
        );
        assert!(lines[3].starts_with("line 4, "), "{found}");
        assert!(
            lines[4].starts_with("line 5, column 1: `prompt` and `messages`"),
            "{found}"
        );
        assert!(
            lines[5].contains("does not end with a message of the user"),
            "{found}"
        );
        assert!(lines[6].contains("the id is empty"), "{found}");
    }

    #[test]
    fn a_row_of_csv_is_a_prompt_and_its_line_its_name() {
        let text = "prompt,lang\n\"one, \"\"two\"\"\nthree\",fr\nfour,de\r\n";
        let records = read(text, Format::Csv);
        let rows: Vec<Row> = records
            .iter()
            .map(|record| record.row.clone().unwrap())
            .collect();
        assert_eq!((rows[0].id.as_str(), rows[1].id.as_str()), ("2", "4"));
        assert_eq!(rows[0].prompt.as_deref(), Some("one, \"two\"\nthree"));
        assert_eq!(rows[1].vars["lang"], "de");
        assert_eq!(records[1].offset, 36);
        let named = super::tests::rows("id,prompt\nx,hi\n", Format::Csv);
        assert_eq!(named[0].id, "x");
    }

    #[test]
    fn mistakes_in_csv_have_a_place_too() {
        let cases = [
            (
                "a,a\nx,y\n",
                "line 1, column 3: the column `a` stands twice",
            ),
            (
                "prompt,x\none\n",
                "line 2, column 1: 1 fields, and the header has 2",
            ),
            (
                "prompt\n\"one\"x\n",
                "line 2, column 6: `x` after a closing quote",
            ),
            (
                "prompt\no\"ne\"\n",
                "line 2, column 2: a quote within a field",
            ),
            (
                "prompt\n\"one\n",
                "line 2, column 1: a quote that is not closed",
            ),
            (
                "prompt,max_output_tokens\nx,y\n",
                "line 2, column 3: `y` is no count of tokens",
            ),
        ];
        for (text, expected) in cases {
            let found = problem(text, Format::Csv);
            assert!(found.starts_with(expected), "{text:?}: {found}");
        }
    }

    #[test]
    fn plain_lines_are_named_by_their_lines() {
        let rows = rows("\u{feff}one\n\n  two\r\n", Format::Lines);
        let pairs: Vec<_> = rows
            .iter()
            .map(|row| (row.id.as_str(), row.prompt.as_deref().unwrap()))
            .collect();
        assert_eq!(pairs, [("1", "one"), ("3", "  two")]);
        let bad = read(b"ab\xff", Format::Lines);
        assert_eq!(
            bad[0].row.as_ref().unwrap_err().to_string(),
            "line 1, column 3: not UTF-8"
        );
    }

    #[test]
    fn the_format_follows_from_the_name_or_the_beginning() {
        for (name, beginning, format) in [
            ("a.csv", "{", Format::Csv),
            ("a.JSONL", "x", Format::Jsonl),
            ("-", " {\"id\"", Format::Jsonl),
            ("-", "one", Format::Lines),
            ("a.txt", "{", Format::Lines),
        ] {
            assert_eq!(Format::detect(name, beginning), format, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_every_offset_reads_again(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Jsonl, Format::Csv, Format::Lines] {
                let mut reader = Reader::new(bytes.as_slice(), format);
                let mut records = Vec::new();
                while let Some(record) = reader.next_record().unwrap() {
                    records.push(record);
                }
                let columns = reader.columns().to_vec();
                for record in records.into_iter().filter(|record| record.row.is_ok()) {
                    let from = usize::try_from(record.offset).unwrap();
                    let again = Reader::new(&bytes[from..], format);
                    let mut again = again.resumed(record.line, record.offset, &columns);
                    prop_assert_eq!(again.next_record().unwrap(), Some(record));
                }
            }
        }

        #[test]
        fn what_csv_quotes_comes_back(values in prop::collection::vec(prop::collection::vec("[a-c\",\n ]{0,6}", 3), 1..5)) {
            let quoted = |value: &String| format!("\"{}\"", value.replace('"', "\"\""));
            let mut text = "id,prompt,x\n".to_string();
            for (at, fields) in values.iter().enumerate() {
                text.push_str(&format!("{at},{},{}\n", quoted(&fields[1]), quoted(&fields[2])));
            }
            let rows = rows(&text, Format::Csv);
            prop_assert_eq!(rows.len(), values.len());
            for (row, fields) in rows.iter().zip(&values) {
                prop_assert_eq!(row.prompt.as_ref().unwrap(), &fields[1]);
                prop_assert_eq!(&row.vars["x"], &fields[2]);
            }
        }

        #[test]
        fn a_row_that_is_written_reads_back(id in "[a-z]{1,5}", prompt in ".{0,20}", tokens in prop::option::of(1_u64..99)) {
            let row = Row { id, prompt: Some(prompt), max_output_tokens: tokens, ..Row::default() };
            let line = serde_json::to_string(&row).unwrap();
            let read = read(&line, Format::Jsonl).remove(0).row;
            // A NUL is escaped, and so is no NUL in the line.
            prop_assert_eq!(read.unwrap(), row);
        }
    }
}
