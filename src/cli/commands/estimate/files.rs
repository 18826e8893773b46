//! The files of an estimate: directories become the files in them, as `.gitignore` has it, and files are put in order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Grouping;
use crate::cli::input::Source;
use crate::plan::repo::context::Stopped;
use crate::plan::repo::{Directory, Entry, Tree, walk_files};
use crate::runtime::text::escape_os;

/// Steps of a walk through a directory: far above what a tree of source files has.
const STEPS: u64 = 10_000_000;

/// An input that was read.
#[derive(Debug)]
pub(super) struct Input {
    /// As it was given on the command line.
    pub(super) name: String,
    /// Its length as read.
    pub(super) bytes: u64,
    /// Its tokens for each way of counting, in their order.
    pub(super) tokens: Vec<u64>,
    /// How many files it is, where files are added up.
    pub(super) files: Option<u64>,
}

/// What to read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The files, in order.
    pub(super) list: Vec<File>,
    /// Their length, as far as it is known before they are read.
    pub(super) bytes: u64,
    /// A directory was among what was given.
    pub(super) many: bool,
}

/// A file to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) source: Source,
    /// It was found in a directory, and not named.
    pub(super) found: bool,
}

/// What was given, with the files of its directories in their place.
///
/// # Errors
///
/// Exit 124 when the run's time is over, 66 for a directory that cannot be read.
pub(super) fn expand(
    given: &[Source],
    deadline: Deadline,
    env: &mut Env,
) -> Result<Files, Failure> {
    let mut files = Files::default();
    for source in given {
        let Source::File(path) = source else {
            files.list.push(named(source));
            continue;
        };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                files.many = true;
                directory(path, deadline, &mut files, env)?;
            }
            metadata => {
                let bytes = metadata.map_or(0, |metadata| metadata.len());
                files.bytes = files.bytes.saturating_add(bytes);
                files.list.push(named(source));
            }
        }
    }
    Ok(files)
}

fn named(source: &Source) -> File {
    File {
        source: source.clone(),
        found: false,
    }
}

fn directory(
    root: &Path,
    deadline: Deadline,
    files: &mut Files,
    env: &mut Env,
) -> Result<(), Failure> {
    let mut tree = Watched {
        tree: Directory(root.to_path_buf()),
        root_error: None,
    };
    let mut is_over = || deadline.left().is_some_and(|left| left.is_zero());
    let walk = walk_files(&mut tree, STEPS, &mut is_over, &mut |path, bytes| {
        files.bytes = files.bytes.saturating_add(bytes);
        files.list.push(File {
            source: Source::File(root.join(path)),
            found: true,
        });
    });
    let shown = escape_os(root);
    if let Some(error) = tree.root_error {
        let detail = format!("`{shown}` cannot be read: {error}");
        return Err(Failure::new(Exit::NoInput, "input", detail));
    }
    deadline.check(&format!("looking through `{shown}`"))?;
    let context = walk.context;
    if context.stopped == Some(Stopped::Steps) {
        env.output.warning(format!(
            "`{shown}` has more than {STEPS} entries: the rest of them is not counted"
        ));
    }
    if context.unreadable > 0 {
        env.output.warning(format!(
            "`{shown}`: {} directories or .gitignore files cannot be read; their content is not counted",
            context.unreadable
        ));
    }
    Ok(())
}

/// A directory that remembers when even its top cannot be read.
struct Watched {
    tree: Directory,
    root_error: Option<io::Error>,
}

impl Tree for Watched {
    fn list(&mut self, directory: &Path, most: u64) -> io::Result<(Vec<Entry>, bool)> {
        let listed = self.tree.list(directory, most);
        if let Err(error) = &listed
            && directory == Path::new("")
        {
            self.root_error = Some(error.kind().into());
        }
        listed
    }

    fn read(&mut self, file: &Path, most: usize) -> io::Result<Vec<u8>> {
        self.tree.read(file, most)
    }
}

/// Adds the inputs up, if that is wanted, and puts the largest first; among equals the names decide.
pub(super) fn arrange(inputs: &mut Vec<Input>, by: Option<Grouping>) {
    if let Some(by) = by {
        let mut groups: BTreeMap<String, Input> = BTreeMap::new();
        for input in inputs.drain(..) {
            let key = key(&input.name, by);
            let sum = groups.entry(key.clone()).or_insert_with(|| Input {
                name: key,
                bytes: 0,
                tokens: vec![0; input.tokens.len()],
                files: Some(0),
            });
            sum.bytes = sum.bytes.saturating_add(input.bytes);
            sum.files = sum.files.map(|files| files + 1);
            for (sum, tokens) in sum.tokens.iter_mut().zip(&input.tokens) {
                *sum = sum.saturating_add(*tokens);
            }
        }
        inputs.extend(groups.into_values());
    }
    inputs.sort_by(|a, b| {
        let size = |input: &Input| (input.tokens.first().copied(), input.bytes);
        size(b).cmp(&size(a)).then_with(|| a.name.cmp(&b.name))
    });
}

/// What a file is added up under.
fn key(name: &str, by: Grouping) -> String {
    let path = PathBuf::from(name);
    match by {
        Grouping::Ext => match path.extension() {
            Some(extension) => format!(".{}", escape_os(extension)),
            None => "no ending".to_string(),
        },
        Grouping::Dir => {
            let directory = path.parent().unwrap_or(Path::new(""));
            let mut parts = directory
                .components()
                .filter(|part| !matches!(part, std::path::Component::CurDir));
            let top: PathBuf = parts.by_ref().take(2).collect();
            match top.as_os_str().is_empty() {
                true => "./".to_string(),
                false => format!("{}/", escape_os(&top)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, tokens: u64) -> Input {
        Input {
            name: name.to_string(),
            bytes: tokens * 4,
            tokens: vec![tokens],
            files: None,
        }
    }

    fn arranged(inputs: &[(&str, u64)], by: Option<Grouping>) -> Vec<(String, u64, Option<u64>)> {
        let mut inputs: Vec<Input> = inputs.iter().map(|(name, n)| input(name, *n)).collect();
        arrange(&mut inputs, by);
        let row = |input: Input| (input.name, input.tokens[0], input.files);
        inputs.into_iter().map(row).collect()
    }

    #[test]
    fn the_largest_come_first() {
        let rows = arranged(&[("b", 1), ("a", 1), ("c", 5)], None);
        let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }

    #[test]
    fn files_are_added_up_by_ending_and_by_directory() {
        let files = [
            ("src/cli/a.rs", 10),
            ("src/b.rs", 1),
            ("src/cli/doc/c.md", 20),
            ("README", 2),
            ("./notes.md", 3),
        ];
        assert_eq!(
            arranged(&files, Some(Grouping::Ext)),
            [
                (".md".to_string(), 23, Some(2)),
                (".rs".to_string(), 11, Some(2)),
                ("no ending".to_string(), 2, Some(1)),
            ]
        );
        assert_eq!(
            arranged(&files, Some(Grouping::Dir)),
            [
                ("src/cli/".to_string(), 30, Some(2)),
                ("./".to_string(), 5, Some(2)),
                ("src/".to_string(), 1, Some(1)),
            ]
        );
    }
}
