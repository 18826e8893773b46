//! The only place that prints: results to standard output, everything else to standard error.
//!
//! Standard output is buffered. It is flushed before a message, so that a terminal shows both in their order, and by
//! `cli::main` at the end. A reader that goes away ends the run quietly; any other write error is exit 74, because a result
//! that was cut silently is worse than none. A write error on standard error is ignored: there is nowhere left to report it. Control
//! characters in messages are escaped, because file names and values come from outside and a terminal obeys them; results
//! are printed byte for byte into files and pipes, and without control sequences on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::cli::exit::{ErrorReport, Exit, Failure};
use crate::runtime::text::{escape, neutralize, neutralize_json};

/// What every JSON document has. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    ok: bool,
    exit: u8,
    #[serde(flatten)]
    body: &'a T,
    warnings: &'a [String],
    error: Option<ErrorReport<'a>>,
}

/// The two output streams of the process, or of a test.
pub(crate) struct Output {
    stdout: BufWriter<Box<dyn Write>>,
    stderr: Box<dyn Write>,
    /// Has anything been printed on standard output?
    printed: bool,
    colour: bool,
    /// Standard output is a terminal, which would obey what stands in a result.
    terminal: bool,
    quiet: bool,
    warnings: Vec<String>,
    /// Failures to say when the result is out.
    later: Vec<Failure>,
    /// Is a line of progress on the terminal, which the next message has to take away?
    status: bool,
    /// Is `stdout` that of the process?
    is_process: bool,
}

impl Output {
    /// Output to these streams; `colour` says whether standard error shows it.
    pub(crate) fn new(stdout: Box<dyn Write>, stderr: Box<dyn Write>, colour: bool) -> Output {
        Output {
            stdout: BufWriter::with_capacity(64 * 1024, stdout),
            stderr,
            printed: false,
            colour,
            terminal: false,
            quiet: false,
            warnings: Vec::new(),
            later: Vec::new(),
            status: false,
            is_process: false,
        }
    }

    /// The same output, where `stdout` is that of the process.
    pub(crate) fn of_process(self, is_terminal: bool) -> Output {
        Output {
            is_process: true,
            terminal: is_terminal,
            ..self
        }
    }

    /// Checks that someone reads standard output.
    ///
    /// # Errors
    ///
    /// The silent [`Failure::reader_gone`] when it is a pipe without a reader.
    pub(crate) fn check_reader(&self) -> Result<(), Failure> {
        #[cfg(unix)]
        if self.is_process {
            use std::os::fd::AsFd;

            if crate::runtime::signal::is_hung_up(io::stdout().as_fd()) {
                return Err(Failure::reader_gone());
            }
        }
        Ok(())
    }

    /// Shows one line of progress on standard error in place of the one before, or takes it away. Only for a terminal.
    pub(crate) fn status(&mut self, line: Option<&str>) {
        match line {
            Some(line) if !self.quiet => {
                let _ = write!(self.stderr, "\r\x1b[K{}", escape(line));
                self.status = true;
            }
            _ if self.status => {
                let _ = self.stderr.write_all(b"\r\x1b[K");
                self.status = false;
            }
            _ => {}
        }
    }

    /// Prints a piece of text from a model to standard error, for whoever watches. Line ends stay, and whatever else moves
    /// a cursor is escaped.
    pub(crate) fn aside(&mut self, text: &str) {
        self.status(None);
        let lines: Vec<_> = text.split('\n').map(escape).collect();
        let _ = self.stderr.write_all(lines.join("\n").as_bytes());
    }

    /// From here on warnings and notes are not shown (`--quiet`); they are still kept for JSON.
    pub(crate) fn silence(&mut self) {
        self.quiet = true;
    }

    /// Prints part of the result, byte for byte unless it goes to a terminal.
    ///
    /// # Errors
    ///
    /// Exit 74 when it cannot be written; the silent [`Failure::reader_gone`] when nobody reads any
    /// more.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.printed = true;
        self.status(None);
        let text = match self.terminal {
            true => neutralize(text),
            false => Cow::Borrowed(text),
        };
        self.stdout
            .write_all(text.as_bytes())
            .map_err(|error| write_failure(&error))
    }

    /// Prints a result as one JSON document: `body` between how the run went and what is to be said about it. The run was
    /// a success unless there is a `failure`; some commands have an exit code that is none, as `diff` has.
    pub(crate) fn document(
        &mut self,
        schema: &'static str,
        exit: Exit,
        body: &impl Serialize,
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        let warnings = std::mem::take(&mut self.warnings);
        let printed = self.json(&Document {
            schema,
            ok: failure.is_none(),
            exit: exit.code(),
            body,
            warnings: &warnings,
            error: failure.map(Failure::report),
        });
        self.warnings = warnings;
        printed
    }

    /// Prints one JSON document and the end of its line.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        self.printed = true;
        if self.terminal {
            let mut bytes = Vec::new();
            crate::cli::json::write(&mut bytes, document)
                .map_err(|error| write_failure(&io::Error::from(error)))?;
            let text = String::from_utf8_lossy(&bytes);
            return self.print(&format!("{}\n", neutralize_json(&text)));
        }
        match crate::cli::json::write(&mut self.stdout, document) {
            Ok(()) => self.print("\n"),
            Err(error) => Err(write_failure(&io::Error::from(error))),
        }
    }

    /// Has anything been printed on standard output?
    pub(crate) fn has_printed(&self) -> bool {
        self.printed
    }

    /// Hands everything printed so far to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| write_failure(&error))
    }

    /// Prints help to standard error, for a command line that asked for nothing.
    pub(crate) fn help(&mut self, text: &str) {
        // Nobody is left to tell when standard error itself fails; so it is below.
        let _ = self.stderr.write_all(text.as_bytes());
    }

    /// Warns: something is doubtful, and the run goes on.
    pub(crate) fn warning(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.quiet {
            self.message("\x1b[33m", "warning", &text, &[]);
        }
        self.warnings.push(text);
    }

    /// The warnings so far, for the `warnings` member of a JSON result.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Tells a person what the program is doing, as `omk: text`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.settle_stdout();
            self.status(None);
            let _ = writeln!(self.stderr, "omk: {}", escape(text));
        }
    }

    /// Says why the run failed, with its hints; nothing for a silent failure.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if !failure.is_silent() {
            self.message("\x1b[1;31m", failure.kind, &failure.detail, &failure.hints);
        }
    }

    /// Says why the run failed when its result has been printed: a reader sees what it is about first.
    pub(crate) fn failure_after_result(&mut self, failure: &Failure) {
        self.later.push(failure.clone());
    }

    /// Says what [`Output::failure_after_result`] kept.
    pub(crate) fn say_failures(&mut self) {
        for failure in std::mem::take(&mut self.later) {
            self.failure(&failure);
        }
    }

    /// One write for the whole message, so that lines of parallel runs do not mix.
    fn message(&mut self, colour: &str, kind: &str, detail: &str, hints: &[String]) {
        let (on, off) = if self.colour {
            (colour, "\x1b[0m")
        } else {
            ("", "")
        };
        let mut lines = format!("omk: {on}{kind}:{off} {}\n", escape(detail));
        for hint in hints {
            let _ = writeln!(lines, "hint: {}", escape(hint));
        }
        self.settle_stdout();
        self.status(None);
        let _ = self.stderr.write_all(lines.as_bytes());
    }

    /// What was printed before a message comes before it. Where that fails, the flush at the end says so.
    fn settle_stdout(&mut self) {
        if !self.stdout.buffer().is_empty() {
            let _ = self.stdout.flush();
        }
    }
}

fn write_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::reader_gone();
    }
    Failure::new(
        Exit::Io,
        "output",
        format!("cannot write to standard output: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::Capture;

    struct Refuses(io::ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(colour: bool) -> (Output, Capture, Capture) {
        let (out, err) = (Capture::default(), Capture::default());
        (
            Output::new(Box::new(out.clone()), Box::new(err.clone()), colour),
            out,
            err,
        )
    }

    #[test]
    fn results_and_messages_go_their_own_way() {
        let (mut output, out, err) = output(false);
        output.print("1\x1b\n").unwrap();
        output.warning("no price");
        output.failure(&Failure::new(Exit::NoInput, "input", "`a\nb` is missing").hint("look"));
        output.flush().unwrap();
        assert_eq!(out.text(), "1\x1b\n");
        assert_eq!(
            err.text(),
            "omk: warning: no price\nomk: input: `a\\nb` is missing\nhint: look\n"
        );
    }

    #[test]
    fn a_message_comes_after_what_was_printed_before_it() {
        let both = Capture::default();
        let mut output = Output::new(Box::new(both.clone()), Box::new(both.clone()), false);
        output.print("result\n").unwrap();
        output.note("saved");
        output.print("more\n").unwrap();
        output.failure(&Failure::new(Exit::Budget, "budget", "spent"));
        output.flush().unwrap();
        assert_eq!(
            both.text(),
            "result\nomk: saved\nmore\nomk: budget: spent\n"
        );
    }

    #[test]
    fn a_document_has_its_body_within_the_envelope() {
        #[derive(Serialize)]
        struct Body {
            runs: [u8; 2],
        }
        let (mut output, out, _) = output(false);
        output.warning("no price");
        let body = Body { runs: [1, 2] };
        output
            .document("omk.x/1", Exit::Failed, &body, None)
            .unwrap();
        let failure = Failure::new(Exit::Budget, "budget", "spent");
        output
            .document("omk.x/1", Exit::Budget, &body, Some(&failure))
            .unwrap();
        output.flush().unwrap();
        assert_eq!(
            out.text(),
            r#"{"schema":"omk.x/1","ok":true,"exit":1,"runs":[1,2],"warnings":["no price"],"error":null}
{"schema":"omk.x/1","ok":false,"exit":5,"runs":[1,2],"warnings":["no price"],"error":{"kind":"budget","message":"spent","hint":null,"retryable":false,"retry_after_s":null,"http_status":null}}
"#
        );
    }

    #[test]
    fn quiet_keeps_warnings_for_json_only() {
        let (mut output, _, err) = output(false);
        output.silence();
        output.warning("no price");
        output.note("waiting");
        assert_eq!(err.text(), "");
        assert_eq!(output.warnings(), ["no price"]);
    }

    #[test]
    fn colour_marks_the_kind_alone() {
        let (mut output, _, err) = output(true);
        output.failure(&Failure::new(Exit::Usage, "usage", "x"));
        assert_eq!(err.text(), "omk: \x1b[1;31musage:\x1b[0m x\n");
    }

    #[test]
    fn a_reader_that_left_is_silent_and_a_full_disk_is_not() {
        for (kind, exit) in [
            (io::ErrorKind::BrokenPipe, Exit::Done),
            (io::ErrorKind::StorageFull, Exit::Io),
        ] {
            let mut output = Output::new(Box::new(Refuses(kind)), Box::new(io::sink()), false);
            output.print("x").unwrap();
            assert_eq!(output.flush().unwrap_err().exit, exit);
            let mut output = Output::new(Box::new(Refuses(kind)), Box::new(io::sink()), false);
            let long = "x".repeat(100_000);
            assert_eq!(output.json(&long).unwrap_err().exit, exit);
        }
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let (mut output, _, err) = output(false);
        let detail = "a\x1b[2J\r\u{202e}é\u{9b}";
        output.failure(&Failure::new(Exit::Usage, "usage", detail));
        assert_eq!(err.text(), "omk: usage: a\\u{1b}[2J\\r\\u{202e}é\\u{9b}\n");
    }
}
