//! Gathers what a planner is told of a repository: names and figures, never contents.
//!
//! It stands on this floor and not with the command line because whoever plans with this library needs it as well; it
//! touches the file system through [`Tree`] alone, so that a test can give it a repository of any size. The walk is bounded
//! in steps and by whoever keeps the time, goes breadth first so that a bound cuts what is far from the top, and never
//! follows a symbolic link, so that it cannot go in circles or leave the tree. What the rules of `.gitignore` cover is not looked at, nor
//! are `.git`, `.hg`, `.svn`, `.jj` and `node_modules`.

pub mod context;
mod facts;
mod ignore;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use crate::plan::repo::context::Language;
use crate::plan::repo::context::RepoContext;
use crate::plan::repo::context::Stopped;
use crate::plan::repo::ignore::Rule;

/// Steps of a walk unless the caller says otherwise: a quarter of a million entries, a second or two on a cold disk.
pub const DEFAULT_STEPS: u64 = 250_000;

/// Rules looked at for the price of one step.
const RULES_PER_STEP: u64 = 32;

/// The largest file of rules, in bytes; what is behind that is not read, and counted as unreadable.
const MAX_RULE_BYTES: usize = 256 * 1024;

/// Entries between two looks at the clock.
const STEPS_PER_LOOK: u64 = 64;

/// Entries of the top level that are listed, and of each of the other lists.
const MAX_TOP_LEVEL: usize = 60;
const MAX_LISTED: usize = 12;

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file of that many bytes.
    File(u64),
    /// A symbolic link, a pipe or the like: counted, and no more.
    Other,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// A tree of files, below some root.
pub trait Tree {
    /// The entries of a directory, at most `most`, and whether there are more. The path is relative to the root.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn list(&mut self, directory: &Path, most: u64) -> io::Result<(Vec<Entry>, bool)>;

    /// The first bytes of a file, at most `most`.
    ///
    /// # Errors
    ///
    /// When it cannot be read; [`io::ErrorKind::NotFound`] when there is none.
    fn read(&mut self, file: &Path, most: usize) -> io::Result<Vec<u8>>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Tree for Directory {
    fn list(&mut self, directory: &Path, most: u64) -> io::Result<(Vec<Entry>, bool)> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.0.join(directory))? {
            if entries.len() as u64 >= most {
                return Ok((entries, true));
            }
            // What vanished since, or cannot be asked, is not there.
            let Ok(entry) = entry else { continue };
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let kind = if kind.is_dir() {
                Kind::Directory
            } else if kind.is_file() {
                Kind::File(entry.metadata().map_or(0, |metadata| metadata.len()))
            } else {
                Kind::Other
            };
            entries.push(Entry {
                name: entry.file_name(),
                kind,
            });
        }
        Ok((entries, false))
    }

    fn read(&mut self, file: &Path, most: usize) -> io::Result<Vec<u8>> {
        let path = self.0.join(file);
        // A pipe of that name would be waited for, and a link could lead anywhere.
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .take(most as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// What was found.
    pub context: RepoContext,
    /// Steps taken: one for each entry, and one for every 32 rules an entry was held against.
    pub steps: u64,
}

/// The rules in force in a directory: its own, and those above it.
struct Rules {
    own: Vec<Rule>,
    /// How many parts the path of their directory has.
    depth: usize,
    above: Option<Rc<Rules>>,
}

/// Walks a tree. It ends early after `max_steps`, or when `is_over` says so, which is asked now and then; the context tells.
pub fn walk(tree: &mut impl Tree, max_steps: u64, is_over: &mut dyn FnMut() -> bool) -> Walk {
    walk_files(tree, max_steps, is_over, &mut |_, _| {})
}

/// The same walk, which hands over each file that it counts: its path below the root and its length in bytes.
pub(crate) fn walk_files(
    tree: &mut impl Tree,
    max_steps: u64,
    is_over: &mut dyn FnMut() -> bool,
    on_file: &mut dyn FnMut(&Path, u64),
) -> Walk {
    let mut walk = Walking {
        on_file,
        context: RepoContext::default(),
        languages: BTreeMap::new(),
        steps: 0,
        max_steps,
        next_look: 0,
        is_over,
    };
    walk.run(tree);
    let mut context = walk.context;
    context.languages = walk
        .languages
        .into_iter()
        .map(|(name, (bytes, files))| Language { name, bytes, files })
        .collect();
    // Sorting is stable, so among equals the names decide.
    context
        .languages
        .sort_by_key(|language| std::cmp::Reverse(language.bytes));
    Walk {
        context,
        steps: walk.steps,
    }
}

struct Walking<'a> {
    context: RepoContext,
    languages: BTreeMap<&'static str, (u64, u64)>,
    steps: u64,
    max_steps: u64,
    next_look: u64,
    is_over: &'a mut dyn FnMut() -> bool,
    on_file: &'a mut dyn FnMut(&Path, u64),
}

/// A directory that is still to be looked at.
struct Open {
    path: PathBuf,
    /// The path as text, part by part.
    parts: Vec<String>,
    rules: Option<Rc<Rules>>,
    /// It, or one above it, is a directory of tests.
    in_tests: bool,
}

impl Walking<'_> {
    /// Whether the walk must end here.
    fn must_stop(&mut self) -> bool {
        if self.steps >= self.max_steps {
            self.context.stopped = Some(Stopped::Steps);
        } else if self.steps >= self.next_look {
            self.next_look = self.steps + STEPS_PER_LOOK;
            if (self.is_over)() {
                self.context.stopped = Some(Stopped::Time);
            }
        }
        self.context.stopped.is_some()
    }

    fn run(&mut self, tree: &mut impl Tree) {
        let mut open = VecDeque::from([Open {
            path: PathBuf::new(),
            parts: Vec::new(),
            rules: None,
            in_tests: false,
        }]);
        while let Some(directory) = open.pop_front() {
            if self.must_stop() {
                return;
            }
            let most = self.max_steps - self.steps;
            let Ok((mut entries, more)) = tree.list(&directory.path, most) else {
                self.context.unreadable += 1;
                continue;
            };
            // The order of a directory is the file system's own.
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let rules = self.rules(tree, &directory, &entries);
            for entry in entries {
                if self.must_stop() {
                    return;
                }
                self.steps += 1;
                if let Some(below) = self.entry(entry, &directory, rules.as_ref()) {
                    open.push_back(below);
                }
            }
            if more {
                self.context.stopped = Some(Stopped::Steps);
                return;
            }
        }
    }

    fn rules(
        &mut self,
        tree: &mut impl Tree,
        directory: &Open,
        entries: &[Entry],
    ) -> Option<Rc<Rules>> {
        const NAME: &str = ".gitignore";
        let above = directory.rules.clone();
        if !entries.iter().any(|entry| entry.name == NAME) {
            return above;
        }
        let own = match tree.read(&directory.path.join(NAME), MAX_RULE_BYTES + 1) {
            Ok(mut bytes) => {
                if bytes.len() > MAX_RULE_BYTES {
                    self.context.unreadable += 1;
                    bytes.truncate(MAX_RULE_BYTES);
                }
                ignore::parse(&String::from_utf8_lossy(&bytes))
            }
            Err(_) => {
                self.context.unreadable += 1;
                Vec::new()
            }
        };
        Some(Rc::new(Rules {
            own,
            depth: directory.parts.len(),
            above,
        }))
    }

    /// Whether an entry is ignored. The file of rules nearest to it is asked first.
    fn is_ignored(
        &mut self,
        parts: &[&str],
        is_directory: bool,
        mut rules: Option<&Rc<Rules>>,
    ) -> bool {
        let mut asked = 0;
        let mut verdict = None;
        while let Some(file) = rules
            && verdict.is_none()
        {
            asked += file.own.len() as u64;
            let below = parts.get(file.depth..).unwrap_or_default();
            verdict = ignore::verdict(&file.own, below, is_directory);
            rules = file.above.as_ref();
        }
        self.steps = self.steps.saturating_add(asked / RULES_PER_STEP);
        verdict.unwrap_or(false)
    }

    /// Notes an entry; gives back a directory that is to be looked into.
    fn entry(&mut self, entry: Entry, directory: &Open, rules: Option<&Rc<Rules>>) -> Option<Open> {
        let name = entry.name.to_string_lossy().into_owned();
        let is_directory = entry.kind == Kind::Directory;
        if facts::is_passed_over(&name) {
            self.context.ignored += 1;
            return None;
        }
        let mut parts: Vec<&str> = directory.parts.iter().map(String::as_str).collect();
        parts.push(&name);
        if self.is_ignored(&parts, is_directory, rules) {
            self.context.ignored += 1;
            return None;
        }
        let shown = parts.join("/");
        if directory.parts.is_empty() {
            let slash = if is_directory { "/" } else { "" };
            self.context
                .top_level
                .add(format!("{name}{slash}"), MAX_TOP_LEVEL);
        }
        match entry.kind {
            Kind::Other => None,
            Kind::File(bytes) => {
                (self.on_file)(&directory.path.join(&entry.name), bytes);
                self.file(&name, &shown, bytes, directory.in_tests);
                None
            }
            Kind::Directory => {
                let is_tests = facts::is_test_directory(&name);
                if is_tests && !directory.in_tests {
                    self.context.tests.add(format!("{shown}/"), MAX_LISTED);
                }
                if facts::is_ci_directory(&shown) {
                    self.context.ci.add(format!("{shown}/"), MAX_LISTED);
                }
                Some(Open {
                    path: directory.path.join(&entry.name),
                    parts: parts.into_iter().map(str::to_string).collect(),
                    rules: rules.cloned(),
                    in_tests: directory.in_tests || is_tests,
                })
            }
        }
    }

    fn file(&mut self, name: &str, shown: &str, bytes: u64, in_tests: bool) {
        self.context.files += 1;
        if let Some(language) = facts::language(name) {
            let (sum, files) = self.languages.entry(language).or_default();
            *sum = sum.saturating_add(bytes);
            *files += 1;
        }
        if let Some(system) = facts::build_system(name) {
            self.context
                .build
                .add(format!("{system} ({shown})"), MAX_LISTED);
        }
        if facts::is_ci_file(shown) {
            self.context.ci.add(shown.to_string(), MAX_LISTED);
        }
        if !in_tests && facts::is_test_file(name) {
            self.context.tests.add(shown.to_string(), MAX_LISTED);
        }
    }
}

#[cfg(test)]
mod tests;
