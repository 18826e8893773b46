//! The turns in an agent's session log, with what each call of the model used.
//!
//! For books that are kept afterwards: a run that was killed, a session that was someone's own. [`CodeLog`] and
//! [`legacy_usage`] know what counts; here it is told to which turn it belongs and when that was. Reads a line at a time,
//! since a log may have hundreds of megabytes, and keeps numbers only. Refuses to judge: a call that told nothing is a call
//! with unknown usage, and a turn without an end is one that is not over.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use serde::Deserialize;

use crate::transport::agent::Usage;
use crate::transport::session_log::CodeFact;
use crate::transport::session_log::CodeLog;
use crate::transport::session_log::legacy_usage;
use crate::transport::wire::Typed;

/// The longest line that is read: a prompt stands whole on one, and agents take 100 MB.
const MAX_LINE: u64 = 256 * 1024 * 1024;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Kimi Code's `agents/*/wire.jsonl`.
    Code,
    /// `wire.jsonl` of kimi-cli and kimi-agent.
    Legacy,
}

/// One call of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The model's name in the agent's configuration, where the log says it.
    pub alias: Option<String>,
    /// Its name at the service, where the log says it.
    pub model: Option<String>,
    /// What it used; `None` when nobody told.
    pub usage: Option<Usage>,
}

/// One turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Where its first line begins, in bytes.
    pub offset: u64,
    /// When it began, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// When the last thing of it was written that says what it used or how it ended.
    pub ended_ms: Option<u64>,
    /// Whether someone asked for it; agents begin some by themselves.
    pub by_user: bool,
    /// The agent's name for the prompt, the same in every copy of the log.
    pub prompt: Option<String>,
    /// Whether its end is in the log, or the beginning of another turn.
    pub is_over: bool,
    /// What it asked of models.
    pub calls: Vec<Call>,
}

impl Turn {
    /// Whether every call told what it used.
    pub fn is_told(&self) -> bool {
        self.calls.iter().all(|call| call.usage.is_some())
    }
}

/// The turns of one agent's log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// In the order of the log. The first may have no beginning: calls that were made before any.
    pub turns: Vec<Turn>,
    /// Sub-agents whose calls stand in this log already, as kimi-cli's do that work in the foreground.
    pub sub_agents: BTreeSet<String>,
}

/// Takes a log line by line.
#[derive(Debug)]
pub struct TurnReader {
    format: LogFormat,
    found: Turns,
    log: CodeLog,
    models: BTreeMap<String, String>,
    current: Option<(String, String)>,
}

impl TurnReader {
    /// A reader of such a log.
    pub fn new(format: LogFormat) -> TurnReader {
        TurnReader {
            format,
            found: Turns::default(),
            log: CodeLog::default(),
            models: BTreeMap::new(),
            current: None,
        }
    }

    /// Takes a line that begins at this offset. One that is not understood is none.
    pub fn read_line(&mut self, offset: u64, line: &[u8]) {
        match self.format {
            LogFormat::Code => self.read_code(offset, line),
            LogFormat::Legacy => self.read_legacy(offset, line),
        }
    }

    /// What was found.
    pub fn finish(self) -> Turns {
        self.found
    }

    fn read_code(&mut self, offset: u64, line: &[u8]) {
        let untold = self.log.usage().untold;
        let Some(fact) = self.log.read_line(line) else {
            return;
        };
        let mark: Mark = serde_json::from_slice(line).unwrap_or_default();
        let time = mark.time.and_then(whole_ms);
        match fact {
            CodeFact::Turn { user, .. } => {
                self.begin(offset, time, user, mark.prompt_id);
                return;
            }
            CodeFact::Call { alias, model } => {
                self.models.insert(alias.clone(), model.clone());
                self.current = Some((alias, model));
                return;
            }
            CodeFact::Used { usage, alias, .. } => {
                let alias = Some(alias).filter(|alias| !alias.is_empty());
                let model = alias
                    .as_ref()
                    .and_then(|alias| self.models.get(alias))
                    .cloned();
                self.add(
                    offset,
                    time,
                    Call {
                        alias,
                        model,
                        usage,
                    },
                );
                return;
            }
            CodeFact::Ended { .. } => self.turn(offset).is_over = true,
            CodeFact::Retry(_) => {}
            _ => return,
        }
        self.turn(offset).ended_ms = time.or(self.turn(offset).ended_ms);
        // A call that broke after it had said something may be on the bill, and leaves no other trace.
        if self.log.usage().untold > untold {
            let (alias, model) = self.current.clone().unzip();
            self.add(
                offset,
                time,
                Call {
                    alias,
                    model,
                    usage: None,
                },
            );
        }
    }

    fn read_legacy(&mut self, offset: u64, line: &[u8]) {
        #[derive(Deserialize)]
        struct Entry<'a> {
            #[serde(default)]
            timestamp: Option<f64>,
            #[serde(borrow)]
            message: Typed<'a>,
        }
        let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else {
            return;
        };
        let time = entry
            .timestamp
            .and_then(|seconds| whole_ms(seconds * 1000.0));
        match entry.message.kind() {
            "TurnBegin" => self.begin(offset, time, true, None),
            "TurnEnd" => {
                let turn = self.turn(offset);
                turn.is_over = true;
                turn.ended_ms = time.or(turn.ended_ms);
            }
            kind => {
                if kind == "SubagentEvent" {
                    self.found.sub_agents.extend(entry.message.sub_agent());
                }
                if let Some(usage) = legacy_usage(line) {
                    let call = Call {
                        usage,
                        ..Call::default()
                    };
                    self.add(offset, time, call);
                }
            }
        }
    }

    fn begin(&mut self, offset: u64, time: Option<u64>, by_user: bool, prompt: Option<String>) {
        if let Some(last) = self.found.turns.last_mut() {
            last.is_over = true;
        }
        self.found.turns.push(Turn {
            offset,
            started_ms: time,
            ended_ms: time,
            by_user,
            prompt,
            ..Turn::default()
        });
    }

    /// The turn under way; one without a beginning where there is none.
    fn turn(&mut self, offset: u64) -> &mut Turn {
        if self.found.turns.is_empty() {
            self.found.turns.push(Turn {
                offset,
                ..Turn::default()
            });
        }
        let last = self.found.turns.len() - 1;
        #[allow(clippy::indexing_slicing, reason = "it was pushed if it was not there")]
        &mut self.found.turns[last]
    }

    fn add(&mut self, offset: u64, time: Option<u64>, call: Call) {
        let turn = self.turn(offset);
        turn.started_ms = turn.started_ms.or(time);
        turn.ended_ms = time.or(turn.ended_ms);
        turn.calls.push(call);
    }
}

/// What a line says beside its fact.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    #[serde(default)]
    time: Option<f64>,
    #[serde(default)]
    prompt_id: Option<String>,
}

/// A moment from a log. One before 1970, or after the year 9999, is none.
fn whole_ms(ms: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    (0.0..=253_402_300_799_000.0)
        .contains(&ms)
        .then_some(ms as u64)
}

/// Reads a log from an offset to its end. A last line without its end is not read: it is being written.
///
/// # Errors
///
/// It cannot be read, is shorter than the offset, or has a line beyond all reason.
pub fn read_turns(path: &Path, format: LogFormat, from: u64) -> io::Result<Turns> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < from {
        let message = format!("{} has become shorter", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut reader = TurnReader::new(format);
    let (mut offset, mut line) = (from, Vec::new());
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
        let Some(whole) = line.strip_suffix(b"\n") else {
            if read as u64 == MAX_LINE {
                let message = format!("{} has a line of more than 256 MiB", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            return Ok(reader.finish());
        };
        reader.read_line(offset, whole);
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixture(name: &str) -> Turns {
        let path = format!(
            "{}/tests/fixtures/session_logs/{name}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        read_turns(Path::new(&path), LogFormat::Code, 0).unwrap()
    }

    fn read(format: LogFormat, lines: &[&str]) -> Turns {
        let mut reader = TurnReader::new(format);
        let mut offset = 0;
        for line in lines {
            reader.read_line(offset, line.as_bytes());
            offset += line.len() as u64 + 1;
        }
        reader.finish()
    }

    const USED: Usage = Usage {
        input: 600,
        cache_read: 400,
        cache_write: 0,
        output: 30,
    };

    #[test]
    fn a_turn_has_its_calls_by_their_real_name_and_its_times() {
        let found = fixture("code_tool");
        let [turn] = &found.turns[..] else {
            panic!("{found:?}")
        };
        let call = Call {
            alias: Some("__kimi_env_model__".to_string()),
            model: Some("kimi-k2".to_string()),
            usage: Some(USED),
        };
        assert_eq!(turn.calls, [call.clone(), call]);
        assert_eq!(
            turn.prompt.as_deref(),
            Some("msg_01M7W37PJDPC2WX4FMRX1NBHYS")
        );
        assert!(turn.by_user && turn.is_over && turn.is_told());
        assert_eq!(
            (turn.started_ms, turn.ended_ms),
            (Some(1_795_165_510_230), Some(1_795_165_510_383))
        );
    }

    #[test]
    fn a_sub_agents_turn_is_not_the_users() {
        let found = fixture("code_subagent.agent-0");
        assert_eq!(found.turns.len(), 1);
        assert!(!found.turns[0].by_user);
        assert_eq!(found.turns[0].calls.len(), 1);
    }

    #[test]
    fn a_call_that_told_nothing_is_one_of_unknown_usage() {
        for name in ["code_cancelled", "code_no_usage"] {
            let turn = &fixture(name).turns[0];
            assert!(turn.is_over && !turn.is_told(), "{name}");
            assert_eq!(turn.calls.len(), 1, "{name}");
        }
        // Refused before the model said anything: nothing was used.
        assert!(fixture("code_server_error").turns[0].calls.is_empty());
        // The first attempt broke after it had said something.
        let cut = &fixture("code_cut_once").turns[0];
        let told: Vec<bool> = cut.calls.iter().map(|call| call.usage.is_some()).collect();
        assert_eq!(told, [false, true]);
    }

    #[test]
    fn a_turn_that_another_follows_is_over() {
        let prompt = |turn, kind| {
            format!(
                r#"{{"type":"turn.prompt","turnId":{turn},"origin":{{"kind":"{kind}"}},"time":{turn}}}"#
            )
        };
        let used =
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":1,"output":2},"time":7}"#;
        let lines = [
            used,
            &prompt(1, "user"),
            used,
            &prompt(2, "background"),
            used,
        ];
        let found = read(LogFormat::Code, &lines);
        let shape: Vec<_> = found
            .turns
            .iter()
            .map(|turn| {
                (
                    turn.by_user,
                    turn.is_over,
                    turn.calls.len(),
                    turn.started_ms,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                (false, true, 1, Some(7)),
                (true, true, 1, Some(1)),
                (false, false, 1, Some(2))
            ]
        );
        assert_eq!(found.turns[1].offset, used.len() as u64 + 1);
        // No request named a model: the alias is all there is.
        assert_eq!(found.turns[1].calls[0].model, None);
    }

    #[test]
    fn the_older_agents_log_is_read_with_its_sub_agents() {
        let status = r#"{"type":"StatusUpdate","payload":{"token_usage":{"input_other":600,"output":30,"input_cache_read":400,"input_cache_creation":0},"message_id":"c1"}}"#;
        let lines = [
            r#"{"type":"metadata","protocol_version":"1.10"}"#.to_string(),
            r#"{"timestamp":1795165510.25,"message":{"type":"TurnBegin","payload":{"user_input":"hi"}}}"#.to_string(),
            format!(r#"{{"timestamp":1795165511.5,"message":{status}}}"#),
            format!(
                r#"{{"timestamp":1795165512,"message":{{"type":"SubagentEvent","payload":{{"agent_id":"ae3","event":{status}}}}}}}"#
            ),
            r#"{"timestamp":1795165513,"message":{"type":"TurnEnd","payload":{}}}"#.to_string(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let found = read(LogFormat::Legacy, &lines);
        assert_eq!(found.sub_agents.iter().collect::<Vec<_>>(), ["ae3"]);
        let turn = &found.turns[0];
        assert_eq!(
            (turn.started_ms, turn.ended_ms),
            (Some(1_795_165_510_250), Some(1_795_165_513_000))
        );
        assert!(turn.is_over && turn.by_user);
        let usages: Vec<_> = turn.calls.iter().map(|call| call.usage).collect();
        assert_eq!(usages, [Some(USED), Some(USED)]);
    }

    #[test]
    fn a_line_that_is_being_written_is_not_read() {
        let path = std::env::temp_dir().join(format!("omk-turns-{}.jsonl", std::process::id()));
        let line = r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#;
        std::fs::write(&path, format!("{line}\n{line}")).unwrap();
        let turns = |from| read_turns(&path, LogFormat::Code, from).map(|found| found.turns.len());
        assert_eq!(turns(0).unwrap(), 1);
        assert_eq!(turns(line.len() as u64 + 1).unwrap(), 0);
        assert!(turns(1000).is_err());
        let _ = std::fs::remove_file(path);
    }

    /// Lines that are nearly right, which is where readers break.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![
            r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"},"promptId":"p","time":1e300}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":18446744073709551615,"output":1},"time":-1}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":-1}}"#,
            r#"{"type":"llm.request","model":"m","modelAlias":"a"}"#,
            r#"{"type":"context.append_loop_event","event":{"type":"content.part"}}"#,
            r#"{"type":"turn.ended","turnId":0,"reason":"cancelled"}"#,
            r#"{"timestamp":1e18,"message":{"type":"TurnBegin","payload":null}}"#,
            r#"{"timestamp":1,"message":{"type":"StatusUpdate","payload":{"token_usage":null,"message_id":"c"}}}"#,
            r#"{"timestamp":1,"message":{"type":"SubagentEvent","payload":{"agent_id":7,"event":{"type":"SubagentEvent"}}}}"#,
        ]);
        prop_oneof![
            words.clone().prop_map(|line| line.as_bytes().to_vec()),
            (words, any::<usize>())
                .prop_map(|(line, at)| line.as_bytes()[..at % line.len()].to_vec()),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn any_lines_are_read_to_the_end(lines in prop::collection::vec(line(), 0..30)) {
            for format in [LogFormat::Code, LogFormat::Legacy] {
                let mut reader = TurnReader::new(format);
                for (offset, line) in lines.iter().enumerate() {
                    reader.read_line(offset as u64, line);
                }
                let found = reader.finish();
                prop_assert!(found.turns.len() <= lines.len() + 1);
                for pair in found.turns.windows(2) {
                    prop_assert!(pair[0].offset < pair[1].offset && pair[0].is_over);
                }
            }
        }
    }
}
