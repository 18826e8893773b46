//! What a planner is told of the repository it plans for.
//!
//! Data only; [`crate::plan::repo`] gathers it. Whatever was left out or not reached is counted, since nothing is cut
//! silently.

/// One language and how much there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// Its usual name, such as `Rust`.
    pub name: &'static str,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
}

/// Why a walk ended before it had seen everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It came to the bound on entries or on work.
    Steps,
    /// Its time was up.
    Time,
}

/// Names, the first of them, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The first, in the order found: what is nearer to the top comes first.
    pub names: Vec<String>,
    /// How many more there are.
    pub omitted: u64,
}

impl Listed {
    /// Adds a name while there are fewer than `most`, else counts it.
    pub(crate) fn add(&mut self, name: String, most: usize) {
        if self.names.len() < most {
            self.names.push(name);
        } else {
            self.omitted += 1;
        }
    }
}

/// A repository in a few lines: figures and names, no contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoContext {
    /// Languages by bytes, the largest first; the first is the primary one.
    pub languages: Vec<Language>,
    /// Files that are not ignored.
    pub files: u64,
    /// Entries of the top level in the order of names, directories with a `/` behind them.
    pub top_level: Listed,
    /// Where tests are: directories of tests, and files outside them that are named as tests are.
    pub tests: Listed,
    /// Files of continuous integration.
    pub ci: Listed,
    /// Build systems and the file that says so, such as `cargo (Cargo.toml)`.
    pub build: Listed,
    /// Entries that were ignored; what is below an ignored directory is not counted.
    pub ignored: u64,
    /// Directories and files of rules that could not be read, or not whole.
    pub unreadable: u64,
    /// Why the walk ended early, if it did: the figures are then a lower bound.
    pub stopped: Option<Stopped>,
}

impl RepoContext {
    /// The language with the most bytes.
    pub fn primary_language(&self) -> Option<&Language> {
        self.languages.first()
    }
}
