//! Files as rules name them and as they really are.
//!
//! A rule's pattern and the path that is asked for are both resolved, links included, before they are compared. So no link
//! leads out of what a pattern allows: neither one on the way, nor one in the place of the file.

use std::fs;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// Where an agent works, and what is not its business there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The work directory, links resolved.
    pub directory: PathBuf,
    /// Directories whose files count as those of the work directory, links resolved.
    pub more: Vec<PathBuf>,
    /// The user's home, which `~/` in a pattern stands for.
    pub home: Option<PathBuf>,
    /// Files and directories that only an exact name allows: omk's configuration and ledger, the agent's sessions.
    pub protected: Vec<PathBuf>,
}

impl Place {
    /// A work directory.
    pub fn new(directory: impl Into<PathBuf>) -> Place {
        let directory = directory.into();
        Place {
            directory: fs::canonicalize(&directory).unwrap_or(directory),
            more: Vec::new(),
            home: None,
            protected: Vec::new(),
        }
    }

    /// Adds what only an exact name allows.
    #[must_use]
    pub fn protecting(mut self, path: impl Into<PathBuf>) -> Place {
        let path = path.into();
        self.protected.push(resolve(&path).unwrap_or(path));
        self
    }

    /// The real path of a file that an agent names, whether or not it exists. `None` when a part of it cannot be followed,
    /// or leads up from something that does not exist.
    pub(super) fn real(&self, path: &str) -> Option<PathBuf> {
        let is_odd = path.is_empty() || path.contains('\0');
        (!is_odd).then(|| resolve(&self.directory.join(path)))?
    }

    /// Whether a file that an agent names is where its name says: no link leads to it or stands in its place.
    pub(super) fn is_plain(&self, path: &str) -> bool {
        let named = self.directory.join(path);
        let climbs = named.components().any(|part| part == Component::ParentDir);
        !climbs && self.real(path).as_deref() == Some(named.as_path())
    }

    /// The path as a rule would name it: relative to the work directory where it lies in it.
    pub(super) fn shown(&self, real: &Path) -> String {
        let shown = real.strip_prefix(&self.directory).unwrap_or(real);
        shown.to_string_lossy().into_owned()
    }

    /// Whether a file lies in a directory that the agent works in.
    pub(super) fn holds(&self, real: &Path) -> bool {
        self.directories()
            .any(|directory| real.starts_with(directory))
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.directory].into_iter().chain(&self.more)
    }

    /// Whether a file may be changed only by a rule that names it exactly.
    pub(super) fn is_sensitive(&self, real: &Path) -> bool {
        self.is_secret(real) || runs_something(self.own_part(real))
    }

    /// Whether a file may be read only by a rule that names it exactly.
    pub(super) fn is_secret(&self, real: &Path) -> bool {
        self.is_protected(real) || is_system(real) || is_key_file(self.own_part(real))
    }

    /// The part of a path that says what a file is: what the work directory is called says nothing.
    fn own_part<'a>(&self, real: &'a Path) -> &'a Path {
        let part = |directory| real.strip_prefix(directory).ok();
        self.directories().find_map(part).unwrap_or(real)
    }

    /// Whether it is omk's or the agent's own.
    pub(super) fn is_protected(&self, real: &Path) -> bool {
        self.protected.iter().any(|kept| real.starts_with(kept))
    }
}

impl Default for Place {
    /// The current directory.
    fn default() -> Place {
        Place::new(std::env::current_dir().unwrap_or_default())
    }
}

/// Follows every link of an absolute path up to the first part that does not exist.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut rest = Vec::new();
    let mut known = path;
    let mut real = loop {
        match fs::canonicalize(known) {
            Ok(real) => break real,
            // A link that leads nowhere is there all the same, and may lead somewhere in a moment.
            Err(_) if fs::symlink_metadata(known).is_ok() => return None,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return None,
            Err(_) => {
                // `file_name` has none for `..`.
                rest.push(known.file_name()?);
                known = known.parent()?;
            }
        }
    };
    real.extend(rest.into_iter().rev());
    Some(real)
}

/// What the system makes up, and devices.
fn is_system(real: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|root| real.starts_with(root))
}

fn names(real: &Path) -> impl Iterator<Item = &str> {
    real.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

/// Directories that hold keys and little else.
const KEY_DIRECTORIES: &[&str] = &[
    ".ssh",
    ".aws",
    ".gnupg",
    ".azure",
    ".kube",
    ".docker",
    "gcloud",
    ".password-store",
];
/// Files that hold keys.
const KEY_FILES: &[&str] = &[
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "shadow",
    "gshadow",
];
/// Endings of files that hold keys.
const KEY_ENDINGS: &[&str] = &["pem", "key", "p12", "pfx", "jks", "keystore", "kdbx"];

/// Whether a file by its name holds keys.
fn is_key_file(real: &Path) -> bool {
    let name = real
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let in_kimi = names(real).any(|part| part.starts_with(".kimi"))
        && names(real).any(|part| part.to_ascii_lowercase().contains("credential"));
    let ending = Path::new(&lower)
        .extension()
        .and_then(|ending| ending.to_str());
    names(real).any(|part| KEY_DIRECTORIES.contains(&part.to_ascii_lowercase().as_str()))
        || in_kimi
        // `.env`, `.env.local`; an example holds none.
        || (lower == ".env" || lower.starts_with(".env.")) && !lower.ends_with(".example") && !lower.ends_with(".sample")
        || KEY_FILES.contains(&lower.as_str())
        || ending.is_some_and(|ending| KEY_ENDINGS.contains(&ending))
}

/// Files that a shell or a tool runs by itself.
const RUN_FILES: &[&str] = &[
    ".envrc",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".inputrc",
    ".gitconfig",
    ".gitmodules",
    ".gitattributes",
    ".vimrc",
    ".exrc",
    ".gdbinit",
    ".lldbinit",
    ".gitlab-ci.yml",
    ".travis.yml",
    "azure-pipelines.yml",
    "jenkinsfile",
    ".pre-commit-config.yaml",
    "bitbucket-pipelines.yml",
    ".drone.yml",
    "config.fish",
    ".mcp.json",
    "crontab",
];
/// Directories of such files.
const RUN_DIRECTORIES: &[&str] = &[
    ".git",
    ".github",
    ".gitea",
    ".forgejo",
    ".circleci",
    ".buildkite",
    ".husky",
    ".githooks",
    ".vscode",
    ".idea",
    ".cargo",
    ".ci",
    ".devcontainer",
    ".kimi",
    ".kimi-code",
    ".claude",
    ".gnupg",
    "autostart",
    "systemd",
    "cron.d",
    "profile.d",
];

/// Whether something runs what a file says without being asked to: hooks, startup files, the definitions of CI.
fn runs_something(real: &Path) -> bool {
    // Case does not tell files apart everywhere.
    let is = |list: &[&str], name: &str| list.contains(&name.to_ascii_lowercase().as_str());
    let name = real.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| is(RUN_FILES, name))
        || names(real).any(|part| is(RUN_DIRECTORIES, part))
}

/// A rule's pattern for files: relative to the work directory or absolute; `**` stands for any number of directories, `*`
/// and `?` for what stands between two slashes. As in a `.gitignore`, but for one thing: a pattern without a slash means a
/// file of the work directory itself, not of every directory below.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<String>,
    /// Whether it names one file.
    pub(super) is_exact: bool,
    /// Whether it is about the work directory.
    pub(super) is_inside: bool,
}

impl Pattern {
    /// The pattern in its place. `None` when a link leads a relative one out of the work directory, or it climbs.
    pub(super) fn new(text: &str, place: &Place) -> Option<Pattern> {
        let in_home = text.strip_prefix("~/").zip(place.home.as_ref());
        let (root, text) = match in_home {
            Some((rest, home)) => (home.clone(), rest),
            None if text.starts_with('/') => (PathBuf::from("/"), text),
            None => (place.directory.clone(), text),
        };
        let is_relative = in_home.is_none() && !text.starts_with('/');
        let mut parts: Vec<&str> = text
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if text.ends_with('/') {
            parts.push("**");
        }
        if parts.contains(&"..") || parts.is_empty() {
            return None;
        }
        let is_wild = |part: &&&str| part.contains(['*', '?']);
        let literal = parts.iter().take_while(|part| !is_wild(part)).count();
        let base: PathBuf = [root.as_path()]
            .into_iter()
            .chain(parts.iter().take(literal).map(Path::new))
            .collect();
        let base = resolve(&base)?;
        let is_inside = place.holds(&base);
        if is_relative && !is_inside {
            return None;
        }
        let wild = parts.get(literal..).unwrap_or_default();
        let parts = names(&base).chain(wild.iter().copied());
        Some(Pattern {
            parts: parts.map(str::to_string).collect(),
            is_exact: wild.is_empty(),
            is_inside,
        })
    }

    /// Whether it is about this file, whose path is real.
    pub(super) fn matches(&self, real: &Path) -> bool {
        let Some(path) = real.to_str() else {
            return false;
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        matches_parts(&self.parts, &parts)
    }
}

/// Whether the parts of a pattern stand for those of a path. Each `**` is tried at every place once.
fn matches_parts(pattern: &[String], path: &[&str]) -> bool {
    // `reached[i]`: the pattern so far stands for the first i parts.
    let mut reached = vec![false; path.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for (at, part) in pattern.iter().enumerate() {
        let mut next = vec![false; path.len() + 1];
        if part == "**" {
            let is_last = at + 1 == pattern.len();
            let mut open = false;
            for (next, reached) in next.iter_mut().zip(&reached) {
                // At the end it stands for what is below a directory, not for the directory.
                *next = if is_last { open } else { open || *reached };
                open |= *reached;
            }
        } else {
            let steps = reached.iter().zip(path);
            for (next, (reached, name)) in next.iter_mut().skip(1).zip(steps) {
                *next = *reached && matches_name(part.as_bytes(), name.as_bytes());
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

/// Whether `*` and `?` can stand for something so that the pattern is the name.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                n += 1;
            }
            Some(byte) if name.get(n) == Some(byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            directory: PathBuf::from("/nonexistent/p"),
            more: Vec::new(),
            home: Some(PathBuf::from("/nonexistent/h")),
            protected: vec![PathBuf::from("/nonexistent/ledger")],
        }
    }

    #[test]
    fn a_pattern_stands_for_files_as_in_gitignore() {
        for (pattern, path, matches) in [
            ("src/*", "src/a.rs", true),
            ("src/*", "src/b/a.rs", false),
            ("src/**", "src/b/c/a.rs", true),
            ("src/**", "src", false),
            ("src/", "src/b/a.rs", true),
            ("src/**/a.rs", "src/a.rs", true),
            ("src/**/a.rs", "src/b/c/a.rs", true),
            ("src/**/a.rs", "src/b/c/b.rs", false),
            ("**/*.rs", "a.rs", true),
            ("**/*.rs", "b/c/a.rs", true),
            ("*.rs", "a.rs", true),
            ("*.rs", "b/a.rs", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("./src/./*", "src/a", true),
            ("src/a.rs", "src/a.rs", true),
            ("src/a.rs", "src/a.rs.bak", false),
            ("**", "a", true),
            ("a*b*c", "aXbXbXc", true),
            ("/nonexistent/q/*", "/nonexistent/q/a", true),
            ("~/x/*", "/nonexistent/h/x/a", true),
            ("../q/*", "/nonexistent/q/a", false),
            ("src/../*", "a", false),
        ] {
            let place = place();
            let real = place.real(path).unwrap();
            let found = Pattern::new(pattern, &place).is_some_and(|pattern| pattern.matches(&real));
            assert_eq!(found, matches, "{pattern}: {path}");
        }
    }

    #[test]
    fn a_path_that_climbs_out_of_what_does_not_exist_is_none() {
        let place = place();
        assert_eq!(place.real("src/../../x"), None);
        assert_eq!(place.real(""), None);
        assert_eq!(place.real("a\0b"), None);
        assert_eq!(
            place.real("/usr/../etc/x-that-is-missing"),
            Some(PathBuf::from("/etc/x-that-is-missing"))
        );
    }

    #[test]
    fn sensitive_files_are_known_by_their_names() {
        let place = place();
        for path in [
            ".git/hooks/pre-commit",
            ".git/config",
            "sub/.git/HEAD",
            ".GIT/config",
            ".envrc",
            ".bashrc",
            ".github/workflows/ci.yml",
            ".gitlab-ci.yml",
            "Jenkinsfile",
            "/nonexistent/ledger/runs",
            ".vscode/tasks.json",
            ".cargo/config.toml",
            "/proc/self/mem",
            ".husky/pre-push",
            ".ssh/authorized_keys",
            ".env",
        ] {
            assert!(place.is_sensitive(&place.real(path).unwrap()), "{path}");
        }
        for path in [
            "src/main.rs",
            "README.md",
            "git/config",
            "env.rs",
            ".gitignore",
            "Cargo.toml",
            "docs/environment.md",
        ] {
            assert!(!place.is_sensitive(&place.real(path).unwrap()), "{path}");
        }
        for path in [
            "/proc/self/environ",
            ".env.local",
            "a/b.pem",
            ".aws/credentials",
            "/etc/shadow",
            "/nonexistent/h/.ssh/id_rsa",
        ] {
            assert!(place.is_secret(&place.real(path).unwrap()), "{path}");
        }
        for path in [
            ".env.example",
            ".git/config",
            "src/key.rs",
            "monkey.txt",
            ".github/workflows/ci.yml",
        ] {
            assert!(!place.is_secret(&place.real(path).unwrap()), "{path}");
        }
    }
}
