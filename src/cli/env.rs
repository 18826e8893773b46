//! The whole outside world as one value: variables, the three streams, the clock's start.
//!
//! It is built for real in `cli::main` and by hand in tests; nothing else in this layer asks the
//! process for anything. It refuses to interpret: what a variable means is decided where it is
//! resolved.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::deadline::Deadline;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::runtime::clock::Clock;

/// Finds a variable by its name.
type Lookup = dyn Fn(&str) -> Option<OsString>;

/// The outside world of one run.
pub(crate) struct Env {
    variable: Box<Lookup>,
    /// Where text comes from when no file is named.
    pub(crate) stdin: Stdin,
    /// Where results and messages go.
    pub(crate) output: Output,
    /// When the run began; a deadline counts from here.
    pub(crate) started: Instant,
    /// The time of day.
    pub(crate) clock: Clock,
    /// When the run has to be over, as far as the command line says.
    pub(crate) deadline: Deadline,
}

/// Standard input.
pub(crate) enum Stdin {
    /// That of the process.
    Process,
    /// A reader instead of it; never a terminal.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "the process always has a standard input")
    )]
    Given(Box<dyn Read>),
}

impl Stdin {
    /// Is there someone or something that means to be read: a pipe, a socket or a file, and no terminal or device?
    pub(crate) fn is_input(&self) -> bool {
        match self {
            Stdin::Process => is_stream_or_file(),
            Stdin::Given(_) => true,
        }
    }

    /// Is it a file of which a part has been read, as in `while read line; do omk ...; done < file`? What is left of it is
    /// for whoever began to read it.
    pub(crate) fn is_partly_read(&self) -> bool {
        match self {
            Stdin::Process => file_position().is_some_and(|position| position > 0),
            Stdin::Given(_) => false,
        }
    }

    /// Would reading wait for a person to type?
    pub(crate) fn is_terminal(&self) -> bool {
        match self {
            Stdin::Process => io::stdin().is_terminal(),
            Stdin::Given(_) => false,
        }
    }
}

/// `/dev/stdin` is on every system that omk's agents run on; where it is not, whatever is no terminal counts.
fn is_stream_or_file() -> bool {
    if io::stdin().is_terminal() {
        return false;
    }
    match std::fs::metadata("/dev/stdin") {
        Ok(metadata) => is_readable_kind(&metadata),
        // Linux cannot open a socket by that name, but says so in another way.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Where the next byte of standard input would be read from; `None` where it is no regular file.
#[cfg(unix)]
fn file_position() -> Option<u64> {
    use std::io::Seek;
    use std::os::fd::AsFd;

    let mut file = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let is_file = file.metadata().ok()?.is_file();
    is_file.then(|| file.stream_position().ok())?
}

#[cfg(not(unix))]
fn file_position() -> Option<u64> {
    None
}

/// What is said where a file was not taken since it was partly read.
const PARTLY_READ: &str = "standard input was partly read by another program, so it was ignored; `-` adds the rest of it, --no-stdin \
turns this warning off";

#[cfg(unix)]
fn is_readable_kind(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;

    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_file() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_readable_kind(_: &std::fs::Metadata) -> bool {
    true
}

impl Env {
    /// The environment of this process.
    pub(crate) fn process() -> Env {
        let started = Instant::now();
        let variable = |name: &str| std::env::var_os(name);
        let stderr = io::stderr();
        let colour = stderr.is_terminal() && non_empty(variable("NO_COLOR")).is_none();
        Env {
            variable: Box::new(variable),
            stdin: Stdin::Process,
            output: Output::new(Box::new(io::stdout().lock()), Box::new(stderr), colour)
                .of_process(io::stdout().is_terminal()),
            started,
            clock: Clock::System,
            deadline: Deadline::new(started, None),
        }
    }

    /// Is standard input part of what was asked, beside a text among the arguments? Warns where it could be, and is left to
    /// another program.
    pub(crate) fn takes_stdin(&mut self) -> bool {
        let taken = self.stdin.is_input() && !self.stdin.is_partly_read();
        if self.stdin.is_input() && !taken {
            self.output.warning(PARTLY_READ);
        }
        taken
    }

    /// The directory that the run works in.
    ///
    /// # Errors
    ///
    /// Exit 74 when it is gone.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        std::env::current_dir().map_err(|error| {
            let detail = format!("the current directory cannot be found: {error}");
            Failure::new(Exit::Io, "input", detail).hint("cd to a directory that exists")
        })
    }

    /// A directory of omk's own below one of the base directories of a user: `$XDG_CACHE_HOME/omk`, else
    /// `$HOME/.cache/omk`, for instance. `None` when neither is set; a relative base is ignored, as its specification asks.
    pub(crate) fn base_directory(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let base = self
            .variable(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(Path::new(&self.variable("HOME")?).join(below_home)))?;
        Some(base.join("omk"))
    }

    /// The directory of omk's configuration: `$XDG_CONFIG_HOME/omk`, else `$HOME/.config/omk`.
    pub(crate) fn config_directory(&self) -> Option<PathBuf> {
        self.base_directory("XDG_CONFIG_HOME", ".config")
    }

    /// The variable of that name. An empty one counts as unset, as in most programs: `OMK_MODEL=
    /// omk ...` unsets it.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        non_empty((self.variable)(name))
    }
}

fn non_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| value != OsStr::new(""))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::rc::Rc;
    use std::time::SystemTime;

    use super::*;

    /// A stream that a test can read back.
    #[derive(Clone, Default)]
    pub(crate) struct Capture(Rc<RefCell<Vec<u8>>>);

    impl Capture {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A world with these variables, this standard input, and streams that can be read back:
    /// output, then errors.
    pub(crate) fn world(variables: &[(&str, &str)], stdin: &[u8]) -> (Env, Capture, Capture) {
        let variables: Vec<(String, OsString)> = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.into()))
            .collect();
        let (out, err) = (Capture::default(), Capture::default());
        let env = Env {
            variable: Box::new(move |name| {
                variables
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
            }),
            stdin: Stdin::Given(Box::new(io::Cursor::new(stdin.to_vec()))),
            output: Output::new(Box::new(out.clone()), Box::new(err.clone()), false),
            started: Instant::now(),
            clock: Clock::Fixed(SystemTime::UNIX_EPOCH),
            deadline: Deadline::new(Instant::now(), None),
        };
        (env, out, err)
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let (env, ..) = world(&[("A", ""), ("B", "x")], b"");
        assert_eq!(env.variable("A"), None);
        assert_eq!(env.variable("B"), Some("x".into()));
        assert_eq!(env.variable("C"), None);
    }
}
