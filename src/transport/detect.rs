//! Which agent a `kimi` is, from what it says about itself.
//!
//! Four programs bear that name. The first line of `kimi --version` tells them apart, and two look at the file itself
//! save the process where they suffice. Pure: someone else runs the program and reads the file. Nothing here runs a bare
//! `kimi`, and nobody should: without arguments, the last kimi-cli fetches and runs an installer.

use std::error::Error;
use std::fmt;
use std::path::Path;

use crate::transport::agent;

/// The first kimi-cli that only prints a notice.
const FIRST_STUB: (u32, u32) = (1, 52);

/// How to talk to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Kimi Wire, [`crate::transport::wire`].
    Wire,
    /// The Agent Client Protocol, [`crate::transport::acp`].
    Acp,
}

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// kimi-cli up to 1.51, in Python: `kimi --wire`.
    KimiCli,
    /// kimi-agent, in Rust: speaks Wire whatever its arguments.
    KimiAgent,
    /// Kimi Code 2, on Node: `kimi acp`.
    KimiCode,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::KimiCli => "kimi-cli",
            Kind::KimiAgent => "kimi-agent",
            Kind::KimiCode => "Kimi Code",
        }
    }

    /// The program of that name, as [`Kind::name`] writes it.
    pub fn of_name(name: &str) -> Option<Kind> {
        [Kind::KimiCli, Kind::KimiAgent, Kind::KimiCode]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Its protocol.
    pub const fn protocol(self) -> Protocol {
        match self {
            Kind::KimiCli | Kind::KimiAgent => Protocol::Wire,
            Kind::KimiCode => Protocol::Acp,
        }
    }

    /// The arguments that make it speak its protocol.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Kind::KimiCli | Kind::KimiAgent => &["--wire"],
            Kind::KimiCode => &["acp"],
        }
    }
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Which program.
    pub kind: Kind,
    /// Its version, as it says.
    pub version: String,
}

/// Why a program cannot be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A kimi-cli from 1.52 on: it prints a notice whatever it is asked.
    Stub {
        /// Its version.
        version: String,
    },
    /// None of the programs that bear the name.
    Unknown {
        /// What it said, escaped.
        said: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Stub { version } => write!(
                f,
                "kimi-cli {version} is a stub that only says it is no longer maintained; install Kimi Code \
                 (npm install -g @moonshot-ai/kimi-code) or kimi-cli 1.51.0"
            ),
            Refusal::Unknown { said } if said.is_empty() => {
                f.write_str("--version says nothing, so this is no Kimi agent")
            }
            Refusal::Unknown { said } => write!(f, "--version says {said:?}: no known Kimi agent"),
        }
    }
}

impl Error for Refusal {}

/// The agent whose `--version` printed this, by the first line alone: the stub prints a notice after it.
///
/// # Errors
///
/// The program is a stub, or none that is known.
pub fn from_version(output: &str) -> Result<Agent, Refusal> {
    let line = output.lines().next().unwrap_or_default().trim();
    let agent = |kind, version: &str| {
        Ok(Agent {
            kind,
            version: version.to_string(),
        })
    };
    if let Some(version) = line.strip_prefix("kimi-agent, version ")
        && numbers(version).is_some()
    {
        return agent(Kind::KimiAgent, version);
    }
    if let Some(version) = line.strip_prefix("kimi, version ")
        && let Some((major, minor)) = numbers(version)
    {
        if (major, minor) >= FIRST_STUB {
            return Err(Refusal::Stub {
                version: version.to_string(),
            });
        }
        return agent(Kind::KimiCli, version);
    }
    if numbers(line).is_some_and(|(major, _)| major >= 2) {
        return agent(Kind::KimiCode, line);
    }
    Err(Refusal::Unknown {
        said: agent::fit(line),
    })
}

/// The kind that a file gives away, by its real path (links followed) and its first bytes. The version stays unknown,
/// so a kimi-cli must still be asked for it. `None` for a native program, which must be asked too.
pub fn from_file(real_path: &Path, head: &[u8]) -> Option<Kind> {
    let mut parts = real_path.components().map(|c| c.as_os_str());
    while let Some(part) = parts.next() {
        if part == "@moonshot-ai" && parts.next().is_some_and(|next| next == "kimi-code") {
            return Some(Kind::KimiCode);
        }
    }
    let first = head.split(|byte| *byte == b'\n').next()?;
    let interpreter = std::str::from_utf8(first.strip_prefix(b"#!")?).ok()?;
    let has = |name: &str| {
        let mut words = interpreter.split(['/', ' ', '\t', '\r']);
        words.any(|word| word.starts_with(name))
    };
    match (has("node"), has("python")) {
        (true, _) => Some(Kind::KimiCode),
        (_, true) => Some(Kind::KimiCli),
        _ => None,
    }
}

/// Major and minor of `1.51.0`; a suffix of the patch is fine, anything else is no version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.splitn(3, '.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let is_patch = patch.starts_with(|c: char| c.is_ascii_digit()) && !patch.contains(' ');
    is_patch.then_some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_version_tells_the_four_apart() {
        let table = [
            ("kimi, version 1.51.0\n", "kimi-cli 1.51.0"),
            ("kimi, version 0.9.12\r\n", "kimi-cli 0.9.12"),
            ("kimi-agent, version 1.8.0\n", "kimi-agent 1.8.0"),
            ("2.1.0\n", "Kimi Code 2.1.0"),
            ("10.0.0-beta.1\n", "Kimi Code 10.0.0-beta.1"),
        ];
        for (output, expected) in table {
            let agent = from_version(output).unwrap();
            assert_eq!(format!("{} {}", agent.kind.name(), agent.version), expected);
        }
    }

    #[test]
    fn the_stub_is_refused_with_what_to_do() {
        for version in ["1.52.0", "1.60.2", "2.0.0"] {
            let output = format!("kimi, version {version}\nkimi-cli is no longer maintained\n");
            let error = from_version(&output).unwrap_err().to_string();
            assert!(error.starts_with(&format!("kimi-cli {version} is a stub")));
            assert!(error.contains("npm install"), "{error}");
        }
    }

    #[test]
    fn other_programs_are_refused_with_what_they_said() {
        for said in [
            "",
            "kimi",
            "v2.1.0",
            "2.1",
            "1.51.0",
            "kimi, version x.y.z",
            "kimi, version +1.5.0",
            "GNU bash, version 5.2",
            "2.1.0 is out",
        ] {
            assert!(
                matches!(from_version(said), Err(Refusal::Unknown { .. })),
                "{said}"
            );
        }
        let error = from_version("\x1b[31m").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error}");
    }

    #[test]
    fn a_file_gives_away_what_it_can() {
        let code = "/usr/lib/node_modules/@moonshot-ai/kimi-code/dist/main.mjs";
        for (path, head, kind) in [
            (code, "", Some(Kind::KimiCode)),
            ("/bin/kimi", "#!/usr/bin/env node\n", Some(Kind::KimiCode)),
            ("/bin/kimi", "#!/venv/bin/python3.13\n", Some(Kind::KimiCli)),
            (
                "/bin/kimi",
                "#!/usr/bin/env -S python3 -u\nnode",
                Some(Kind::KimiCli),
            ),
            ("/bin/kimi", "#!/bin/sh\nexec node", None),
            ("/bin/kimi", "\x7fELF", None),
            ("/python/kimi", "", None),
        ] {
            assert_eq!(
                from_file(Path::new(path), head.as_bytes()),
                kind,
                "{path} {head}"
            );
        }
    }

    #[test]
    fn each_kind_has_its_protocol() {
        assert_eq!(Kind::KimiCli.protocol(), Protocol::Wire);
        assert_eq!(Kind::KimiAgent.arguments(), ["--wire"]);
        assert_eq!(Kind::KimiCode.protocol(), Protocol::Acp);
        assert_eq!(Kind::KimiCode.arguments(), ["acp"]);
    }
}
