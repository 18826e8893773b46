//! Whether the Node on the path can run an agent that is written for Node. An older one fails with a syntax error deep in the
//! agent's code, which says nothing to a user.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::runtime::file;
use crate::runtime::text::{escape, escape_os, truncate};
use crate::transport::child::{Child, Program};
use crate::transport::link::{Link, Received};
use crate::transport::sandbox;

/// Node answers within 100 ms.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest package file that is read.
const LARGEST: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Package {
    engines: Option<Engines>,
}

#[derive(Deserialize)]
struct Engines {
    node: Option<String>,
}

/// Why Node cannot run a program, links followed; `None` if it can, or if the program is not for Node.
pub(crate) fn problem(program: &Path, path: &OsStr) -> Option<String> {
    let interpreter = sandbox::interpreter_name(program)?;
    if interpreter != "node" {
        return None;
    }
    let wanted = required(program).map_or("Node".to_string(), |wanted| format!("Node {wanted}"));
    let Some(node) = sandbox::find("node", path) else {
        return Some(format!(
            "it needs {wanted}, and there is no `node` on the path"
        ));
    };
    let version = version(&node)?;
    let least = required(program)?;
    let is_old =
        numbers(version.trim_start_matches('v'))? < numbers(least.trim_start_matches(">="))?;
    is_old.then(|| {
        let shown = escape(&version);
        format!(
            "it needs {wanted}, and {} is {}",
            escape_os(&node),
            truncate(&shown, 40)
        )
    })
}

/// The version of Node that a program's package asks for, such as `>=22.19.0`.
fn required(program: &Path) -> Option<String> {
    let packages = program
        .ancestors()
        .skip(1)
        .map(|path| path.join("package.json"));
    let bytes = packages
        .take(4)
        .find_map(|path| file::read_regular(&path, LARGEST).ok())?;
    let package: Package = serde_json::from_slice(&bytes).ok()?;
    let wanted = package.engines?.node?;
    numbers(wanted.trim_start_matches(">=")).map(|_| wanted)
}

/// What `node --version` says.
fn version(node: &Path) -> Option<String> {
    let mut program = Program::new(node);
    program.args = vec!["--version".into()];
    let mut child = Child::spawn(&program).ok()?;
    let said = match child.receive(Instant::now() + PATIENCE) {
        Ok(Received::Line(line)) => Some(String::from_utf8_lossy(line).trim().to_string()),
        _ => None,
    };
    child.stop(Duration::ZERO);
    said
}

/// The numbers of `22.19.0`; missing ones are 0.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut parts = version.trim().split('.');
    for number in &mut numbers {
        let Some(part) = parts.next() else { break };
        let digits = part.split(['-', '+']).next().unwrap_or_default();
        *number = digits.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("9.0.0") < numbers("22.19.0"));
        assert!(numbers("22.9.1") < numbers("22.19.0"));
        assert_eq!(numbers("22.19.0-nightly"), numbers("22.19"));
        assert_eq!(numbers("latest"), None);
    }
}
