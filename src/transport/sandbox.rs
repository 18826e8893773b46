//! An agent in a sandbox of bubblewrap's: what it may do is then the kernel's to say, and not the agent's.
//!
//! The whole file system is read-only, the user's home is hidden but for what the agent needs, `/tmp` and `/run` are its own,
//! and it sees no process but its own: when it ends, so does everything that it started. Only the agent's home is writable,
//! and with [`Mode::Workspace`] the work directory. The network is left as it is, because the agent needs its service.
//!
//! What it cannot keep from an agent: to read what is world-readable outside of the homes, to send what it reads somewhere,
//! and to change its own sessions, on which its bill rests.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use crate::runtime::text;
use crate::transport::child::Program;

/// How a missing program is installed.
pub const INSTALL: &str = "install bubblewrap: apt-get install bubblewrap on Debian and Ubuntu, dnf install bubblewrap on Fedora";

/// What an agent may write to beside its own home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    ReadOnly,
    /// The work directory.
    Workspace,
}

/// What a sandbox is made of.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// What may be written to.
    pub mode: Mode,
    /// The work directory, absolute.
    pub directory: PathBuf,
    /// Directories that the agent works in beside it, absolute.
    pub more: Vec<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The agent's own home, which it writes its sessions to.
    pub agent_home: PathBuf,
    /// Directories of ours that an agent has no business with, such as the ledger.
    pub hidden: Vec<PathBuf>,
    /// Where programs are looked for.
    pub path: OsString,
}

/// Why there is no sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSandbox {
    /// What is wrong.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

fn none(detail: impl Into<String>, hint: impl Into<String>) -> NoSandbox {
    NoSandbox {
        detail: detail.into(),
        hint: hint.into(),
    }
}

impl Sandbox {
    /// The same program, run in the sandbox.
    ///
    /// # Errors
    ///
    /// There is no bubblewrap, the system forbids what it needs, or nothing of the home could be hidden.
    pub fn wrap(&self, program: Program) -> Result<Program, NoSandbox> {
        if !cfg!(target_os = "linux") {
            return Err(none(
                "--sandbox needs Linux: it uses bubblewrap",
                "leave --sandbox out, and run omk in a container or a virtual machine instead",
            ));
        }
        let Some(bwrap) = find("bwrap", &self.path) else {
            return Err(none(
                "--sandbox needs bubblewrap, and there is no `bwrap` on the path",
                INSTALL,
            ));
        };
        for home in self.homes() {
            if self
                .more
                .iter()
                .chain([&self.directory])
                .any(|all| home.starts_with(all))
            {
                let detail = format!(
                    "the work directory {} holds the home directory, which a sandbox is to hide",
                    text::escape(&self.directory.display().to_string())
                );
                return Err(none(detail, "run omk in a directory of its own"));
            }
        }
        let arguments = self.arguments(&program);
        probe(&bwrap, &arguments)?;
        let mut args = arguments;
        args.push("--".into());
        args.push(program.path.clone().into());
        args.extend(program.args);
        Ok(Program {
            path: bwrap,
            args,
            directory: None,
            ..program
        })
    }

    /// The homes that are hidden.
    fn homes(&self) -> Vec<PathBuf> {
        let mut homes: Vec<PathBuf> = ["/home", "/root"].iter().map(PathBuf::from).collect();
        homes.extend(self.home.clone());
        homes.retain(|home| home.is_dir() && home.as_path() != Path::new("/"));
        homes
    }

    /// The arguments of bubblewrap, up to the program. Later ones lie over earlier ones.
    fn arguments(&self, program: &Program) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&OsStr]| args.extend(words.iter().map(OsString::from));
        let word = OsStr::new;
        add(&[
            "--unshare-pid",
            "--unshare-ipc",
            "--die-with-parent",
            "--new-session",
        ]
        .map(word));
        add(&[
            "--cap-drop",
            "ALL",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ]
        .map(word));
        // Root may write to these without any capability.
        for settings in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"] {
            add(&["--ro-bind-try", settings, settings].map(word));
        }
        for own in ["/tmp", "/var/tmp", "/run"] {
            if Path::new(own).is_dir() {
                add(&[word("--tmpfs"), word(own)]);
            }
        }
        // Names are looked up with what lies there, and `/etc` links to it.
        for resolver in [
            "/run/systemd/resolve",
            "/run/resolvconf",
            "/run/NetworkManager",
            "/run/nscd",
        ] {
            add(&["--ro-bind-try", resolver, resolver].map(word));
        }
        let homes = self.homes();
        for hidden in homes
            .iter()
            .chain(self.hidden.iter().filter(|path| path.is_dir()))
        {
            add(&[word("--tmpfs"), hidden.as_os_str()]);
        }
        let is_hidden = |path: &Path| {
            let own = ["/tmp", "/var/tmp", "/run"].map(Path::new);
            homes
                .iter()
                .map(PathBuf::as_path)
                .chain(own)
                .any(|home| path.starts_with(home))
        };
        let mut needed = runtime(&program.path, &self.path);
        if let Some(home) = &self.home {
            needed.push(home.join(".gitconfig"));
            needed.push(home.join(".config/git"));
        }
        needed.retain(|path| path.exists() && is_hidden(path));
        for path in &needed {
            add(&[word("--ro-bind"), path.as_os_str(), path.as_os_str()]);
        }
        let bind = match self.mode {
            Mode::ReadOnly => "--ro-bind",
            Mode::Workspace => "--bind",
        };
        for directory in self.more.iter().chain([&self.directory]) {
            add(&[word(bind), directory.as_os_str(), directory.as_os_str()]);
        }
        let directory = self.directory.as_os_str();
        let agent_home = self.agent_home.as_os_str();
        add(&[word("--bind"), agent_home, agent_home]);
        // What omk keeps stays hidden when it lies in the work directory.
        for hidden in self.hidden.iter().filter(|path| {
            let mut all = self.more.iter().chain([&self.directory]);
            path.is_dir() && all.any(|directory| path.starts_with(directory))
        }) {
            add(&[word("--tmpfs"), hidden.as_os_str()]);
        }
        add(&[
            word("--setenv"),
            word("TMPDIR"),
            word("/tmp"),
            word("--chdir"),
            directory,
        ]);
        args
    }
}

/// Runs nothing in the sandbox, to tell a sandbox that fails from an agent that does.
fn probe(bwrap: &Path, arguments: &[OsString]) -> Result<(), NoSandbox> {
    let check = "bwrap --ro-bind / / --unshare-pid --proc /proc true";
    let output = Command::new(bwrap)
        .args(arguments)
        .args(["--", "true"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| none(format!("bwrap cannot be run: {error}"), INSTALL))?;
    if output.status.success() {
        return Ok(());
    }
    let said = text::escape_bytes(output.stderr.trim_ascii());
    let said = text::truncate(&said, 300);
    let is_forbidden = [
        "namespace",
        "uid map",
        "Operation not permitted",
        "Permission denied",
    ];
    if is_forbidden.iter().any(|words| said.contains(words)) {
        return Err(none(
            format!("the system forbids the namespaces that --sandbox needs: {said}"),
            format!(
                "`{check}` shows whether it does; see sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces and \
                 kernel.apparmor_restrict_unprivileged_userns, and in a container its seccomp profile"
            ),
        ));
    }
    Err(none(
        format!("bwrap fails: {said}"),
        format!("`{check}` shows whether bubblewrap works here"),
    ))
}

/// The bubblewrap on the path, once it has shown that it works here.
///
/// # Errors
///
/// As [`Sandbox::wrap`].
pub fn check(path: &OsStr) -> Result<PathBuf, NoSandbox> {
    if !cfg!(target_os = "linux") {
        return Err(none(
            "--sandbox needs Linux: it uses bubblewrap",
            "run omk in a container or a virtual machine instead",
        ));
    }
    let Some(bwrap) = find("bwrap", path) else {
        return Err(none("there is no `bwrap` on the path", INSTALL));
    };
    let arguments = ["--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc"];
    probe(&bwrap, &arguments.map(OsString::from))?;
    Ok(bwrap)
}

/// A program on the path.
pub(crate) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).map(|directory| directory.join(name));
    candidates.into_iter().find(|path| path.is_file())
}

/// The directories that a program needs to run: where it is installed, and where its interpreter is.
fn runtime(program: &Path, path: &OsStr) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut files = links(program);
    if let Some(interpreter) = files.last().and_then(|real| interpreter(real, path)) {
        files.extend(links(&interpreter));
    }
    for file in files {
        let directory = installation(&file);
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

/// A file, each file that it is a link to, and at last the real one.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    let mut at = path.to_path_buf();
    // As many as the kernel follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&at) else {
            break;
        };
        at = at.parent().unwrap_or(Path::new("/")).join(target);
        found.push(at.clone());
    }
    found.extend(fs::canonicalize(path));
    found
}

/// Where a program is installed: the directory that holds `bin` or `node_modules`, but never one that holds more than programs.
fn installation(file: &Path) -> PathBuf {
    let own = file.parent().unwrap_or(file);
    let modules = file
        .ancestors()
        .filter(|path| path.ends_with("node_modules"));
    if let Some(modules) = modules.last() {
        return modules.to_path_buf();
    }
    let above = own.parent().unwrap_or(own);
    let is_private = |path: &Path| {
        // A virtual environment, or an installation of an interpreter.
        path.join("pyvenv.cfg").is_file() || path.join("lib").is_dir()
    };
    let is_home =
        above.ends_with(".local") || above.join(".profile").exists() || above.join(".ssh").exists();
    match own.ends_with("bin") && is_private(above) && !is_home {
        true => above.to_path_buf(),
        false => own.to_path_buf(),
    }
}

/// The interpreter in a script's first line, looked up where `env` would.
fn interpreter(script: &Path, path: &OsStr) -> Option<PathBuf> {
    match first_line(script)? {
        (_, Some(name)) => find(&name, path),
        (first, None) => Some(PathBuf::from(first)),
    }
}

/// The name of the interpreter in a script's first line.
pub(crate) fn interpreter_name(script: &Path) -> Option<String> {
    let (first, named) = first_line(script)?;
    named.or_else(|| Some(Path::new(&first).file_name()?.to_str()?.to_string()))
}

/// The program in a script's first line, and the one that it looks up if it is `env`.
fn first_line(script: &Path) -> Option<(String, Option<String>)> {
    let mut bytes = Vec::new();
    let file = fs::File::open(script).ok()?;
    file.take(512).read_to_end(&mut bytes).ok()?;
    let line = bytes
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let first = words.next()?.to_string();
    if !first.ends_with("/env") {
        return Some((first, None));
    }
    let named = words.find(|word| !word.starts_with('-'))?;
    Some((first, Some(named.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("omk-sandbox-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::canonicalize(root).unwrap()
    }

    fn sandbox(root: &Path, path: &str) -> Sandbox {
        for directory in ["home/.kimi", "work"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        Sandbox {
            mode: Mode::Workspace,
            directory: root.join("work"),
            more: Vec::new(),
            home: Some(root.join("home")),
            agent_home: root.join("home/.kimi"),
            hidden: Vec::new(),
            path: path.into(),
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_bubblewrap_or_with_the_home_to_work_in_there_is_no_sandbox() {
        let root = scratch("none");
        let error = sandbox(&root, "/nonexistent")
            .wrap(Program::new("/bin/true"))
            .unwrap_err();
        assert!(error.detail.contains("no `bwrap` on the path"), "{error:?}");
        assert!(
            error.hint.contains("apt-get install bubblewrap"),
            "{error:?}"
        );
        fs::create_dir_all(root.join("bin")).unwrap();
        let bwrap = root.join("bin/bwrap");
        fs::write(
            &bwrap,
            "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n",
        )
        .unwrap();
        let mut permissions = fs::metadata(&bwrap).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&bwrap, permissions).unwrap();
        let path = format!("{}:/bin:/usr/bin", root.join("bin").display());
        let mut inside = sandbox(&root, &path);
        let error = inside.wrap(Program::new("/bin/true")).unwrap_err();
        assert!(error.detail.contains("forbids the namespaces"), "{error:?}");
        assert!(error.hint.contains("max_user_namespaces"), "{error:?}");
        inside.directory = root.join("home");
        let error = inside.wrap(Program::new("/bin/true")).unwrap_err();
        assert!(
            error.detail.contains("holds the home directory"),
            "{error:?}"
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_a_program_needs_is_found_through_links_and_first_lines() {
        let root = scratch("runtime");
        for directory in [
            "venv/bin",
            "venv/lib",
            "python/bin",
            "python/lib",
            "npm/lib/node_modules/kimi/dist",
            "local/bin",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("python/bin/python3"), "\x7fELF").unwrap();
        std::os::unix::fs::symlink(
            root.join("python/bin/python3"),
            root.join("venv/bin/python"),
        )
        .unwrap();
        fs::write(
            root.join("venv/bin/kimi"),
            format!("#!{}\n", root.join("venv/bin/python").display()),
        )
        .unwrap();
        std::os::unix::fs::symlink(root.join("venv/bin/kimi"), root.join("local/bin/kimi"))
            .unwrap();
        let found = runtime(&root.join("local/bin/kimi"), OsStr::new(""));
        let expected = ["local/bin", "venv", "python"].map(|path| root.join(path));
        assert_eq!(found, expected);
        fs::write(
            root.join("npm/lib/node_modules/kimi/dist/main.js"),
            "#!/usr/bin/env python3\n",
        )
        .unwrap();
        let path = root.join("python/bin");
        let found = runtime(
            &root.join("npm/lib/node_modules/kimi/dist/main.js"),
            path.as_os_str(),
        );
        assert_eq!(
            found,
            [root.join("npm/lib/node_modules"), root.join("python")]
        );
        fs::remove_dir_all(root).unwrap();
    }
}
