//! The turns in an agent's session log, with what each call of the model used.
//!
//! For an account that is made afterwards: of a run that was killed, or of a session that someone had without omk. The facts
//! of a log are assigned to the turn they belong to, with its times. A log may have hundreds of megabytes, so a line is read
//! at a time and only numbers are kept. A call that began and reported nothing is a call of unknown usage; a turn without an
//! end is not over.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::runtime::file;
use crate::tokens::usage::Contradiction;
use crate::transport::agent::CallEnd;
use crate::transport::agent::Event;
use crate::transport::agent::Usage;
use crate::transport::agents::Dialect;
use crate::transport::calls::Calls;
use crate::transport::fact::Fact;
use crate::transport::fact::account;

/// The longest line that is read: a prompt stands whole on one, and agents take 100 MB.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// Contradictions that are kept of one log.
pub const MAX_CONTRADICTIONS: usize = 8;

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
    /// Usage that cannot be used, at most [`MAX_CONTRADICTIONS`].
    pub contradictions: Vec<Contradiction>,
}

/// Takes a log line by line.
#[derive(Debug)]
pub struct TurnReader {
    dialect: &'static Dialect,
    found: Turns,
    calls: Calls,
    /// The sub-agents whose calls stand in this log.
    others: BTreeMap<String, Calls>,
    models: BTreeMap<String, String>,
    alias: Option<String>,
    model: Option<String>,
    /// Where the last line of interest began, and when it was written.
    last: (u64, Option<u64>),
}

impl TurnReader {
    /// A reader of such a log.
    pub fn new(dialect: &'static Dialect) -> TurnReader {
        TurnReader {
            dialect,
            found: Turns::default(),
            calls: Calls::default(),
            others: BTreeMap::new(),
            models: BTreeMap::new(),
            alias: None,
            model: None,
            last: (0, None),
        }
    }

    /// Takes a line that begins at this offset. One that is not understood is left out.
    pub fn read_line(&mut self, offset: u64, line: &[u8]) {
        let Some(fact) = self.dialect.fact(line) else {
            return;
        };
        let mut events = Vec::new();
        if let Fact::Turn { .. } = &fact {
            // What the last turn left under way will not report.
            self.calls.end(true, &mut events);
            self.add(std::mem::take(&mut events));
        }
        if let Fact::Turn { .. } | Fact::Ended { .. } = &fact {
            self.close_others();
        }
        let mark: Mark = serde_json::from_slice(line).unwrap_or_default();
        let time = mark.time.or(mark.timestamp.map(|seconds| seconds * 1000.0));
        self.last = (offset, time.and_then(whole_ms));
        match &fact {
            Fact::OfSubAgent { agent, fact } => {
                self.found.sub_agents.insert(agent.clone());
                let calls = self.others.entry(agent.clone()).or_default();
                account(calls, fact, &mut events);
            }
            Fact::Turn { user, prompt, .. } => {
                self.begin(*user, prompt.clone());
                return;
            }
            Fact::Call { alias, model } => {
                account(&mut self.calls, &fact, &mut events);
                self.add(std::mem::take(&mut events));
                if let (Some(alias), Some(model)) = (alias, model) {
                    self.models.insert(alias.clone(), model.clone());
                }
                self.alias.clone_from(alias);
                self.model.clone_from(model);
                return;
            }
            Fact::Used {
                alias: Some(alias), ..
            } => {
                self.model = self.models.get(alias).cloned();
                self.alias = Some(alias.clone());
                account(&mut self.calls, &fact, &mut events);
            }
            fact => account(&mut self.calls, fact, &mut events),
        }
        self.add(events);
        let (offset, time) = self.last;
        match fact {
            Fact::Ended { .. } => {
                let turn = self.turn(offset);
                turn.is_over = true;
                turn.ended_ms = time.or(turn.ended_ms);
            }
            Fact::Retry(_) => {
                let turn = self.turn(offset);
                turn.ended_ms = time.or(turn.ended_ms);
            }
            _ => {}
        }
    }

    /// What was found. A call that is under way at the end of the log is one without a report.
    pub fn finish(mut self) -> Turns {
        let mut events = Vec::new();
        self.calls.end(true, &mut events);
        self.add(events);
        self.close_others();
        self.found
    }

    /// A foreground sub-agent does not outlive the turn that waits for it.
    fn close_others(&mut self) {
        let mut events = Vec::new();
        for calls in self.others.values_mut() {
            calls.end(true, &mut events);
        }
        self.others.clear();
        self.add(events);
    }

    fn begin(&mut self, by_user: bool, prompt: Option<String>) {
        if let Some(last) = self.found.turns.last_mut() {
            last.is_over = true;
        }
        let (offset, time) = self.last;
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

    /// Adds the calls that are over to the turn.
    fn add(&mut self, events: Vec<Event>) {
        let (offset, time) = self.last;
        for event in events {
            let usage = match event {
                Event::CallEnded(CallEnd::Reported(usage)) => Some(usage),
                Event::CallEnded(CallEnd::Unreported) => None,
                Event::Contradiction(contradiction) => {
                    if self.found.contradictions.len() < MAX_CONTRADICTIONS {
                        self.found.contradictions.push(contradiction);
                    }
                    continue;
                }
                _ => continue,
            };
            let call = Call {
                alias: self.alias.clone(),
                model: self.model.clone(),
                usage,
            };
            let turn = self.turn(offset);
            turn.started_ms = turn.started_ms.or(time);
            turn.ended_ms = time.or(turn.ended_ms);
            turn.calls.push(call);
        }
    }
}

/// What a line says beside its fact.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    /// Milliseconds.
    #[serde(default)]
    time: Option<f64>,
    /// Seconds.
    #[serde(default)]
    timestamp: Option<f64>,
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
pub fn read_turns(path: &Path, dialect: &'static Dialect, from: u64) -> io::Result<Turns> {
    let mut file = file::Source::open_regular(path, None)?;
    if file.file().metadata()?.len() < from {
        let message = format!("{} has become shorter", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    file.seek(from)?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut reader = TurnReader::new(dialect);
    let (mut offset, mut line) = (from, Vec::new());
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
        let Some(whole) = line.strip_suffix(b"\n") else {
            if read as u64 == MAX_LINE {
                // No figure stands in a line like that: it is an answer, or what a tool put out.
                line.clear();
                offset += read as u64 + skip_line(&mut lines)?;
                continue;
            }
            return Ok(reader.finish());
        };
        reader.read_line(offset, whole);
        offset += read as u64;
    }
}

/// Reads up to the end of a line and keeps nothing of it. Gives its length.
fn skip_line(lines: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = lines.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(buffer.len(), |end| end + 1);
        lines.consume(count);
        skipped += count as u64;
        if end.is_some() || count == 0 {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::agents;
    use crate::transport::agents::KIMI_CLI;
    use crate::transport::agents::KIMI_CODE;

    fn fixture(name: &str) -> Turns {
        let path = format!(
            "{}/tests/fixtures/session_logs/{name}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        read_turns(Path::new(&path), &KIMI_CODE, 0).unwrap()
    }

    fn read(dialect: &'static Dialect, lines: &[&str]) -> Turns {
        let mut reader = TurnReader::new(dialect);
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
        // A service that answers that it failed does not charge for it, nor does one that refuses for want of balance.
        assert!(fixture("code_server_error").turns[0].calls.is_empty());
        assert!(fixture("code_no_balance").turns[0].calls.is_empty());
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
        let found = read(&KIMI_CODE, &lines);
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
        let found = read(&KIMI_CLI, &lines);
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
    fn a_call_that_was_interrupted_is_one_without_usage() {
        let status = |input: u64| {
            format!(
                r#"{{"timestamp":5,"message":{{"type":"StatusUpdate","payload":{{"token_usage":{{"input_other":{input},"output":1}},"message_id":"c"}}}}}}"#
            )
        };
        let event = |kind: &str| {
            format!(r#"{{"timestamp":5,"message":{{"type":"{kind}","payload":{{"n":1}}}}}}"#)
        };
        // Ctrl-C in the second step; and the same with no end in the log, as a killed agent leaves it.
        for ends in [true, false] {
            let mut lines = vec![
                event("TurnBegin"),
                event("StepBegin"),
                status(30_000),
                event("StepBegin"),
            ];
            if ends {
                lines.push(event("TurnEnd"));
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let found = read(&KIMI_CLI, &lines);
            let turn = &found.turns[0];
            assert_eq!(
                (turn.calls.len(), turn.is_told(), turn.is_over),
                (2, false, ends)
            );
            assert_eq!(turn.calls[0].usage.map(|usage| usage.input), Some(30_000));
        }
    }

    #[test]
    fn a_call_of_a_sub_agent_that_was_interrupted_is_one_without_usage() {
        let of_sub = |event: &str| {
            format!(
                r#"{{"timestamp":5,"message":{{"type":"SubagentEvent","payload":{{"agent_id":"a","event":{event}}}}}}}"#
            )
        };
        let lines = [
            r#"{"timestamp":5,"message":{"type":"TurnBegin","payload":{"user_input":"hi"}}}"#
                .to_string(),
            of_sub(r#"{"type":"StepBegin","payload":{"n":1}}"#),
            r#"{"timestamp":5,"message":{"type":"TurnEnd","payload":{}}}"#.to_string(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let turn = &read(&KIMI_CLI, &lines).turns[0];
        assert_eq!((turn.calls.len(), turn.is_told()), (1, false));
    }

    #[test]
    fn a_line_that_is_being_written_is_not_read() {
        let path = std::env::temp_dir().join(format!("omk-turns-{}.jsonl", std::process::id()));
        let line = r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#;
        std::fs::write(&path, format!("{line}\n{line}")).unwrap();
        let turns = |from| read_turns(&path, &KIMI_CODE, from).map(|found| found.turns.len());
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
            r#"{"type":"usage.record","model":7,"usage":[]}"#,
            r#"{"type":"usage.record","model":"a","usage"#,
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
            for dialect in agents::ALL {
                let mut reader = TurnReader::new(dialect);
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
